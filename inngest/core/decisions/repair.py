"""Bringing a run back that nothing would ever move again."""

from __future__ import annotations

from inngest.core.decisions.draft import error_json
from inngest.core.decisions.finish import end
from inngest.core.decisions.moment import Moment
from inngest.core.model.functions import DEFAULT_RETRIES, Function
from inngest.core.model.runs import Item, Kind, Run, RunStatus, discover_job, score
from inngest.core.model.transition import Await, Effect, EnqueueFirst, Transition
from inngest.core.policy import MAX_REPAIRS

LOST = (
    f"The run had come to a stand {MAX_REPAIRS + 1} times: its function was called again each time, and its "
    "answer left nothing to wait for."
)


def repair(run: Run, fn: Function | None, at: Moment) -> Transition:
    """Call an orphaned run again: the application says what comes next, as after any step. After
    `MAX_REPAIRS` times the run fails.
    """
    items = [
        Item(
            job=discover_job(run.id, f"repair:{number}"),
            kind=Kind.DISCOVER,
            fn=run.fn,
            run=run.id,
            due=at.now,
            score=score(at.now, run.priority),
            partition=run.work.id,
            max_attempts=fn.max_attempts if fn is not None else DEFAULT_RETRIES + 1,
            queued=at.now,
        )
        for number in range(1, MAX_REPAIRS + 1)
    ]
    effects: list[Effect] = [Await(steps=[]), EnqueueFirst(items=items)]
    error = error_json("InngestErrRunLost", LOST)
    over = end(run, RunStatus.FAILED, at.now, at.new_id, error=error, place=len(effects))
    over[0].unless = 1
    return Transition(fn=run.fn, run=run.id, effects=[*effects, *over])
