"""Finished steps: what is remembered of them, and what their history tells (wire protocol section 3.4)."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.json import Encoder

from inngest.core.decisions.draft import Call, error_json
from inngest.core.decisions.moment import Moment
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import Item, Run
from inngest.core.model.transition import Effect, Record, SaveStep
from inngest.core.policy import MAX_STEP_OUTPUT
from inngest.core.sdk.responses import Op, Step

DONE = frozenset({Op.RUN, Op.STEP, Op.FAILED})

_NULL = b"null"
_encode = Encoder().encode


class StepTooLarge(ValueError):
    """A reported step result is over the limit."""


def saved(run: Run, item: Item, step: Step, at: Moment, call: Call) -> Callable[[int], list[Effect]]:
    """The effects that keep the result of a step of `DONE`, given how many precede them in their transition.

    Raises `StepTooLarge`.
    """
    value, outcome, shown = _saved_value(step)
    if len(value) > MAX_STEP_OUTPUT:
        raise StepTooLarge(f"output of step {step.label!r} is {len(value)} bytes; 4 MiB are allowed")
    entry = step_entry(run, item, step, at, call, outcome, shown)
    return lambda place: [SaveStep(step=step.id, value=value), Record(entry=entry, when=place)]


def step_entry(
    run: Run, item: Item, step: Step, at: Moment, call: Call, outcome: Outcome, value: bytes | None
) -> History:
    """History of an attempt at a step. Its own times count where it has some, else those of the call."""
    started = step.started or call.started
    info = {"type": step.opts["type"]} if isinstance(step.opts.get("type"), str) else {}
    if isinstance(step.opts.get("input"), list):
        # As text: it may hold any numbers, and no store has to know.
        info["input"] = _encode(step.opts["input"]).decode()
    return History(
        id=at.new_id(),
        what=What.ATTEMPT,
        run=run.id,
        fn=run.fn,
        at=started + step.duration if step.duration else call.ended,
        step=step.id,
        name=step.label,
        op=Op.RUN,
        attempt=item.attempt,
        outcome=outcome,
        queued=item.due,
        started=started,
        value=value,
        info=info or None,
    )


def _saved_value(step: Step) -> tuple[bytes, Outcome, bytes]:
    """Memoised value, outcome, shown value."""
    if step.op is Op.STEP:
        value = step.data or _NULL
        return value, Outcome.OK, value
    if step.op is Op.RUN:
        value = step.data or _NULL
        return b'{"data":' + value + b"}", Outcome.OK, value
    error = step.error or error_json("Error", "Step failed")
    return b'{"error":' + error + b"}", Outcome.FAILED, error
