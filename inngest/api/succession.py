"""An application that registers under a new id at the URL of another one takes its place.

What answers at a URL is one program. When it calls itself something else, nothing is left there of what it
was: the former app is archived, so that no event or schedule starts its functions, and its runs, whose next
call could only fail, are cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog
from msgspec.structs import replace

from inngest.core.decisions.moment import Moment
from inngest.core.decisions.sweeps import order_sweep
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.functions import App, Function
from inngest.core.sdk.registration import normalise_url
from inngest.ports.engine import EngineStore, Registered

log = structlog.get_logger("inngest.register")


class SuccessionContext(Protocol):
    """What it needs of the server. The clock tells Unix epoch milliseconds."""

    @property
    def engine(self) -> EngineStore: ...
    def clock(self) -> int: ...
    def new_id(self) -> str: ...


def others_at(known: Registered, app: App) -> list[App]:
    """The other apps that are registered at the URL of this one."""
    url = normalise_url(app.url)
    return [
        each
        for each in known.apps.values()
        if each.id != app.id and not each.archived and normalise_url(each.url) == url
    ]


async def succeed(ctx: SuccessionContext, app: App) -> list[App]:
    """End the apps whose place this one has taken, which is registered. Returns them.

    Of apps that register at one URL at the same time the one with the later ``synced`` stays, whoever looks
    first. Raises `StoreUnavailable`; repeating is safe.
    """
    known = await ctx.engine.registry()
    former = [each for each in others_at(known, app) if (each.synced, each.id) < (app.synced, app.id)]
    for each in former:
        functions = [fn for fn in known.functions.values() if fn.app_id == each.id]
        orders = await _orders(ctx, functions)
        await ctx.engine.put_app(replace(each, archived=True), [])
        moment = Moment(now=ctx.clock(), new_id=ctx.new_id, slack=ctx.engine.slack())
        # One that dies before this leaves them to the reaper, which finds them listed.
        await ctx.engine.commit([order_sweep(order, moment) for order in orders])
        log.warning(
            "app has taken the place of another one at its URL, whose runs are cancelled",
            action="app.succeeded",
            app=app.name,
            former=each.name,
            url=app.url,
            functions=len(functions),
            cancelled=len(orders),
        )
    return former


async def _orders(ctx: SuccessionContext, functions: Sequence[Function]) -> list[Cancellation]:
    """Bulk cancellations, listed, for those of the functions that have runs."""
    orders = []
    for fn in functions:
        now = ctx.clock()
        page = await ctx.engine.runs(fn.id, 0, now + 1, "", 1)
        if not page.found and not page.cursor:
            continue
        order = Cancellation(
            id=ctx.new_id(), fn=fn.id, slug=fn.slug, app_id=fn.app_id, created=now, started_before=now
        )
        await ctx.engine.put_cancellation(order)
        orders.append(order)
    return orders
