"""Steps that an application reports while its call goes on (wire protocol section 5.7)."""

from __future__ import annotations

from inngest.core.decisions.draft import Call
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.starting import begun
from inngest.core.decisions.steps import DONE, saved
from inngest.core.model.runs import Item, Run
from inngest.core.model.transition import Effect, ResetAttempts, Transition, lease_of
from inngest.core.sdk.responses import LAZY, Op, Step


def checkpoint(
    run: Run,
    item: Item,
    steps: list[Step],
    at: Moment,
    ms: int,
    *,
    called: int = 0,
    finish_timeout: int = 0,
) -> Transition:
    """Steps that an application reports while its call goes on (section 5.7): kept, without a continuation.

    Args:
        ms: the lease of ``item`` goes on for so long.
        called: when the call was made, 0 if that is not known.
        finish_timeout: of the function, in ms, 0 for none.

    Raises:
        ValueError: an op that cannot be reported this way, or as `StepTooLarge`, a result over the limit;
            nothing is to be committed.

    """
    effects: list[Effect] = []
    if not run.started:
        # A first call that is given up after this has begun the run all the same. What it was made with came
        # back by way of the application, which may tell us anything.
        started = max(run.created, min(called or at.now, at.now))
        effects += begun(run, started, at, finish_timeout, place=0)
    for step in steps:
        if step.op in DONE:
            effects += saved(run, item, step, at, Call(at.now, at.now))(len(effects))
        elif step.op not in LAZY and step.op is not Op.PLANNED:
            raise ValueError(f"cannot checkpoint async steps: {step.op} {step.label!r}")
    effects.append(ResetAttempts(job=item.job, epoch=item.epoch, ms=ms))
    return Transition(fn=run.fn, run=run.id, effects=effects, lease=lease_of(item))
