"""The first decision: what an event starts, resumes and cancels.

The order of the checks is that of wire protocol section 4.1; those which need the store's state are effects
that win or lose at commit.
"""

from __future__ import annotations

from inngest.core.decisions.collectors import batch, debounce
from inngest.core.decisions.draft import error_json
from inngest.core.decisions.finish import finished
from inngest.core.decisions.flow import key_of
from inngest.core.decisions.matching import holds
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.starting import SkipReason, new_run, run_key, skipped, start
from inngest.core.model.events import INVOKED, Event
from inngest.core.model.functions import Function
from inngest.core.model.runs import RunStatus, digest
from inngest.core.model.transition import Admit, Effect, Emit, Once, Record, Transition, Unclaimed
from inngest.core.policy import KEY_TTL
from inngest.core.timing import gcra


def schedule(fn: Function, event: Event, at: Moment) -> Transition:
    """What ``event``, which matches ``fn``, does to it: join a batch, be debounced, or start a run.

    Whatever it is, it happens once, however often and late the event is delivered.
    """
    effects: list[Effect] = [once(event, at)]
    if fn.paused:
        entry = skipped(fn, [event], at, SkipReason.PAUSED)
        return Transition(fn=fn.id, run=entry.run, effects=[*effects, Record(entry=entry, when=0)])
    if fn.batch is not None and holds(fn, fn.batch.condition, event, at.now):
        return Transition(fn=fn.id, run="", effects=[*effects, batch(fn, event, at, when=0)])
    claim = KEY_TTL if event.external_id else 0
    admitted = fresh = 0
    key = key_of(fn, fn.rate_limit.key, event, at.now) if fn.rate_limit is not None else None
    if fn.rate_limit is not None and key is not False:
        if claim:
            # What starts no run does not count.
            effects.append(Unclaimed(key=run_key(fn, event.key), when=0))
            fresh = 1
        admitted = len(effects)
        effects.append(
            Admit(
                key=f"rate:{fn.id}:{digest(str(key or ''))}",
                params=gcra.rate_limit(fn.rate_limit.limit, fn.rate_limit.period),
                when=fresh,
            )
        )
    if fn.debounce is not None:
        effects.append(debounce(fn, event, at, when=admitted))
        return Transition(fn=fn.id, run="", effects=effects)
    run = new_run(fn, [event], at, key=run_key(fn, event.key))
    start(fn, run, [event], at, effects, claim=claim, when=admitted)
    if admitted and event.name == INVOKED:
        error = error_json("Error", "invoked function is rate limited")
        refused = finished(run, at.now, at.new_id, error=error, status=RunStatus.FAILED)
        # Not for an event that is delivered again: its run is there, and answers for itself.
        effects += [Emit(event=e.encode(), when=fresh, unless=admitted) for e in refused]
    return Transition(fn=fn.id, run=run.id, effects=effects)


def once(event: Event, at: Moment) -> Once:
    """Marks that a function has decided on what an event starts."""
    return Once(key=event.id, at=event.received, forget=at.settled)
