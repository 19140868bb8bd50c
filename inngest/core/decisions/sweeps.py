"""Bulk cancellations, worked off in pages by whichever runner has the item (wire protocol section 6)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inngest.core.decisions.advance import cancel
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.starting import runner_item
from inngest.core.expr import EvaluationError, Expression, compile_expression
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.runs import Item, Kind, Run, runner_items
from inngest.core.model.transition import Complete, Effect, Enqueue, Retry, Transition, lease_of


class Sweep(Struct, omit_defaults=True):
    """The payload of a sweep's item: what was ordered, and how far it has come (a store's cursor)."""

    order: Cancellation
    cursor: str = ""
    cancelled: int = 0


_decode = msgspec.json.Decoder(Sweep).decode


def sweep_job(order_id: str) -> str:
    return f"sweep:{order_id}"


def order_sweep(order: Cancellation, at: Moment) -> Transition:
    """Queue the first page. One that was carried out already finds nothing more to cancel."""
    payload = msgspec.json.encode(Sweep(order=order))
    item = runner_item(order.fn, Kind.SWEEP, sweep_job(order.id), at.now, payload=payload)
    effects: list[Effect] = [Enqueue(item=item, partition=runner_items(order.fn))]
    return Transition(fn=order.fn, run="", effects=effects)


def sweep_of(item: Item) -> Sweep:
    return _decode(item.payload)


def sweep(item: Item, runs: Sequence[Run], following: str, at: Moment) -> list[Transition]:
    """Cancel those of a page of runs that the condition holds for, and go on at ``following``, or be done
    when it is empty. To be committed in this order.
    """
    this = sweep_of(item)
    order = this.order
    condition = compile_expression(order.condition) if order.condition and runs else None
    chosen = [run for run in runs if _applies(order, condition, run, at)]
    transitions = [cancel(run, at) for run in chosen]
    effects: list[Effect] = [Complete()]
    if following:
        further = replace(this, cursor=following, cancelled=this.cancelled + len(chosen))
        effects = [Retry(due=at.now, attempt=item.attempt, payload=msgspec.json.encode(further))]
    transitions.append(Transition(fn=item.fn, run="", effects=effects, lease=lease_of(item)))
    return transitions


def _applies(order: Cancellation, condition: Expression | None, run: Run, at: Moment) -> bool:
    if not order.started_after <= run.created <= order.started_before:
        return False
    if condition is None:
        return True
    try:
        event = msgspec.json.decode(run.events[0])
        return condition.is_true({"event": event}, at.now)
    except EvaluationError:
        return False
