"""Bringing a run back that nothing would ever move again."""

from __future__ import annotations

from inngest.core.decisions.moment import Moment
from inngest.core.model.functions import DEFAULT_RETRIES, Function
from inngest.core.model.runs import Item, Kind, Run, discover_job, score
from inngest.core.model.transition import Await, Discover, Transition


def repair(run: Run, fn: Function | None, at: Moment) -> Transition:
    """Call an orphaned run again: the application says what comes next, as after any step."""
    item = Item(
        job=discover_job(run.id, f"repair:{at.now}"),
        kind=Kind.DISCOVER,
        fn=run.fn,
        run=run.id,
        due=at.now,
        score=score(at.now, run.priority),
        partition=run.work.id,
        max_attempts=fn.max_attempts if fn is not None else DEFAULT_RETRIES + 1,
        queued=at.now,
    )
    return Transition(fn=run.fn, run=run.id, effects=[Await(steps=[]), Discover(item=item)])
