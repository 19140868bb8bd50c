"""What operators and applications do to runs and apps, by whichever API they ask."""

from __future__ import annotations

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from inngest.api.answers import ApiError
from inngest.api.context import ApiContext
from inngest.api.publishing import encoded
from inngest.core.decisions.advance import cancel, resume
from inngest.core.decisions.rerun import Kept, rerun, results_before
from inngest.core.decisions.sweeps import order_sweep
from inngest.core.errors import ExpressionError, InvalidEvent
from inngest.core.expr import Expression, compile_expression
from inngest.core.json.border import UNREADABLE
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.events import INVOKED, Event, Inbound, accept, parse_body
from inngest.core.model.functions import App
from inngest.core.model.ids import is_ulid
from inngest.core.model.records import RunRecord, record_of
from inngest.core.model.runs import Run, RunStatus, signal_name

CANCEL_AHEAD = 5_000
"""How far (ms) in the future a bulk cancellation may end: clocks differ."""
_SIGNAL_TRIES = 3


def check_ulid(text: str, what: str) -> str:
    """Raises `ApiError` 400 unless ``text`` is a ULID; it is returned in its canonical form."""
    canonical = text.upper()
    if not is_ulid(canonical):
        raise ApiError(400, f"Invalid {what}: {text[:64]!r} is not a ULID")
    return canonical


# -- looking --


async def find_record(ctx: ApiContext, run_id: str) -> RunRecord | None:
    """A run's record, also when its history has not arrived in the data store yet."""
    record = await ctx.data.run(run_id)
    if record is None:
        run = await find_run(ctx, run_id)
        record = record_of(run) if run is not None else None
    return record


async def find_run(ctx: ApiContext, run_id: str) -> Run | None:
    """The state of a run that has not ended."""
    fn = await ctx.engine.locate(run_id)
    return await ctx.engine.run(fn, run_id) if fn is not None else None


async def get_record(ctx: ApiContext, run_id: str) -> RunRecord:
    """The same; `ApiError` 404 if there is no such run."""
    record = await find_record(ctx, run_id)
    if record is None:
        raise ApiError(404, "Run not found")
    return record


async def payloads(ctx: ApiContext, record: RunRecord) -> list[bytes]:
    """The events of a run as its function sees them; those that nobody knows any more are left out."""
    if record.payload is not None:
        return [record.payload]
    events = await ctx.data.events_by_id(record.events)
    if len(events) < len(record.events):
        run = await ctx.engine.run(record.fn, record.id)
        if run is not None:
            return run.events
    return [event.payload for event in events]


# -- one run --


async def cancel_run(ctx: ApiContext, run_id: str) -> RunRecord:
    """End a run; to cancel it twice is no error.

    Raises `ApiError`: 404 for an unknown run, 409 for one that ended otherwise.
    """
    run = await find_run(ctx, run_id)
    if run is not None:
        await ctx.commit([cancel(run, ctx.moment())])
        return replace(record_of(run), status=RunStatus.CANCELLED, ended=ctx.clock())
    await ctx.commit([])  # its end may be known here, and not be durable yet
    record = await ctx.data.run(run_id)
    if record is None:
        raise ApiError(404, "Run not found")
    if record.ended and record.status is not RunStatus.CANCELLED:
        raise ApiError(409, f"The run has ended already: {record.status}", code="run_ended")
    return record


async def rerun_run(ctx: ApiContext, run_id: str, from_step: str = "") -> str:
    """Repeat a run, from a step (its hashed id) on if one is named; the new run's id is returned.

    Raises `ApiError`: 404 for what is unknown, 410 if the run's events are not stored any more.
    """
    record = await get_record(ctx, run_id)
    fn = ctx.registry.by_slug(record.fn)
    if fn is None:
        raise ApiError(404, f"The run's function {record.slug!r} is not registered any more")
    events = await _events(ctx, record)
    try:
        kept = await _kept(ctx, run_id, from_step) if from_step else ()
    except ValueError as error:
        raise ApiError(404, f"Cannot run from that step: {error}") from None
    transition = rerun(
        fn,
        events,
        ctx.moment(),
        original=record.id,
        cron=record.cron,
        batch=record.batch and ctx.new_id(),
        kept=kept,
    )
    await ctx.commit([transition])
    return transition.run


async def _kept(ctx: ApiContext, run_id: str, before: str) -> list[Kept]:
    history = await ctx.data.history([run_id])
    return results_before(history[run_id], before)


class _Payload(msgspec.Struct):
    name: str
    ts: int
    id: str = ""
    data: Raw = Raw(b"{}")
    user: Raw = Raw(b"{}")
    v: str | None = None


async def _events(ctx: ApiContext, record: RunRecord) -> list[Event]:
    events = await ctx.data.events_by_id(record.events)
    if len(events) == len(record.events) and events:
        return events
    found = await payloads(ctx, record)
    if not found or len(found) < len(record.events):
        raise ApiError(410, "The events of this run are not stored any more", code="events_gone")
    try:
        told = [msgspec.json.decode(raw, type=_Payload) for raw in found]
    except UNREADABLE as error:  # the data store is not ours alone
        raise ApiError(410, f"The events of this run cannot be read: {error}", code="events_gone") from None
    return [
        Event(
            id=internal,
            name=each.name,
            ts=each.ts,
            received=each.ts,
            data=each.data,
            external_id=each.id,
            v=each.v,
            user=each.user,
        )
        for internal, each in zip(record.events, told, strict=True)
    ]


async def send_signal(ctx: ApiContext, signal: str, data: bytes) -> str:
    """Resume the run that waits for a signal; its id is returned. Raises `ApiError` 404 if none does."""
    value = b'{"data":{"signal":%b,"data":%b}}' % (msgspec.json.encode(signal), data)
    for _ in range(_SIGNAL_TRIES):  # a waiter may be resumed otherwise, and another take its place
        pause = await ctx.engine.signal(signal_name(signal))
        if pause is None:
            break
        (committed,) = await ctx.commit([resume(pause, value, ctx.moment())])
        if committed.won[0]:
            return pause.run
    raise ApiError(404, f"No run waits for the signal {signal!r}", code="signal_not_found")


# -- many runs --


def parse_condition(source: str) -> Expression | None:
    """The condition of a bulk cancellation; None for none. Raises `ApiError` 400."""
    if not source:
        return None
    try:
        return compile_expression(source)
    except ExpressionError as error:
        raise ApiError(400, f"Invalid expression: {error}", code="invalid_expression") from None


async def cancel_matching(ctx: ApiContext, cancellation: Cancellation) -> None:
    """Order a bulk cancellation, which the runners carry out. Raises `ApiError` 400 for its condition."""
    parse_condition(cancellation.condition)
    await ctx.engine.put_cancellation(cancellation)
    await ctx.commit([order_sweep(cancellation, ctx.moment())])


# -- functions and apps --


async def invoke(ctx: ApiContext, slug: str, body: bytes, internal_id: str = "") -> Event:
    """Start a function by name (wire protocol section 2.6). ``body`` is an event without a name, which gets
    ``internal_id`` if that is given.

    Raises `ApiError`: 404 for an unknown function, 400 for what is no event, 413 for one that is too large.
    """
    fn = ctx.registry.by_slug(slug)
    if fn is None:
        raise ApiError(404, f"could not find function with ID: {slug}")
    meta = {"fn_id": fn.slug, "source_app_id": fn.app_id, "name": fn.name}
    try:
        inbound = parse_body(body or b"{}")
        if len(inbound) != 1:
            raise InvalidEvent("An invocation takes one event object")
        most = ctx.limits.of(fn.id).max_event
        event = accept(_named(inbound[0]), internal_id or ctx.new_id(), ctx.clock(), most)
    except InvalidEvent as error:
        raise ApiError(400, str(error)) from None
    data = msgspec.json.decode(event.data, type=dict[str, Raw])
    data["_inngest"] = Raw(msgspec.json.encode(meta))
    event = replace(event, name=INVOKED, data=Raw(msgspec.json.encode(data)))
    await ctx.stream.publish(encoded([event], ctx.stream.largest))
    return event


def _named(inbound: Inbound) -> Inbound:
    # Any name that is acceptable: the event is renamed when the rest of it has passed.
    if inbound.raw is not None:
        inbound.raw.name = "invocation"
    return inbound


async def remove_app(ctx: ApiContext, app: App) -> None:
    """Archive an app with its functions: their schedules stop, running runs go on."""
    await ctx.engine.put_app(replace(app, archived=True), [])
