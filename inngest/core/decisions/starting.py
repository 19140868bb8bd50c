"""Bringing a run to life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from inngest.core.decisions.flow import cancels, lock_key, partitions, priority
from inngest.core.decisions.moment import Moment
from inngest.core.model.events import Event
from inngest.core.model.functions import Function
from inngest.core.model.history import History, What
from inngest.core.model.runs import (
    Item,
    Kind,
    Run,
    accepted_at,
    arrival,
    digest,
    evict_job,
    runner_items,
    score,
    start_job,
    timers,
)
from inngest.core.model.transition import (
    Begin,
    CreateRun,
    Effect,
    Enqueue,
    PutPause,
    Recall,
    Record,
    TakeLock,
    Transition,
    Unclaimed,
)


class SkipReason:
    PAUSED = "FunctionPaused"
    SINGLETON = "Singleton"
    UNDECIDED = "Undecided"


def run_key(fn: Function, key: str) -> str:
    """The idempotency key of a run: one run for each (function, key)."""
    return f"{fn.id}:{digest(key)}"


def new_run(
    fn: Function,
    events: Sequence[Event],
    at: Moment,
    *,
    key: str,
    batch: str = "",
    cron: str = "",
    original: str = "",
) -> Run:
    """The run that ``events`` start, with all that is evaluated once, on the first of them (section 4.1, step
    4).
    """
    first = events[0]
    # What happened as it was accepted is not for later: the stream's clock may be ahead of the store's.
    later = first.ts if len(events) == 1 and not cron and first.ts > max(at.now, first.received) else 0
    start_partition, work = partitions(fn, first, at.now)
    lock = None if batch else lock_key(fn, first, at.now)
    return Run(
        id=at.new_id(),
        fn=fn.id,
        slug=fn.slug,
        app=fn.app,
        events=[event.payload for event in events],
        event_ids=[event.id for event in events],
        key=key,
        created=at.now,
        start=start_partition,
        work=work,
        cron=cron,
        batch=batch,
        lock=lock or "",
        priority=priority(fn, first, at.now),
        function_version=fn.version,
        original=original,
        # One that is asked for comes now, whenever its events did.
        order=arrival(at.now if original else first.received, first.id),
        starts=later,
    )


def start(
    fn: Function,
    run: Run,
    events: Sequence[Event],
    at: Moment,
    effects: list[Effect],
    *,
    claim: int = 0,
    when: int = -1,
) -> None:
    """Append the effects that bring ``run`` to life: its lock, itself, its first item, its timeout, the
    pauses that cancel it. ``claim``: how long its key starts no other.
    """
    first = events[0]
    if run.lock:
        fresh = when
        if claim:
            # A duplicate must not be recorded as skipped by its own run.
            effects.append(Unclaimed(key=run.key, when=when))
            fresh = len(effects) - 1
        cancels_holder = fn.singleton is not None and fn.singleton.mode == "cancel"
        evict = eviction(fn.id, "", at.now) if cancels_holder else None
        effects.append(TakeLock(key=run.lock, order=run.order, evict=evict, when=fresh))
        when = len(effects) - 1
        effects.append(Record(entry=_skipped(run, at, SkipReason.SINGLETON), when=fresh))
        effects[-1].unless = when
    effects.append(CreateRun(run=run, claim=claim, when=when))
    created = len(effects) - 1
    due = run.starts or at.now
    item = Item(
        job=start_job(run.id),
        kind=Kind.START,
        fn=fn.id,
        run=run.id,
        due=due,
        score=score(due, run.priority),
        partition=run.start.id,
        max_attempts=fn.max_attempts,
        queued=at.now,
    )
    effects.append(Enqueue(item=item, when=created))
    if fn.start_timeout and not run.batch:
        timeout = timer(
            run, Kind.START_TIMEOUT, f"{run.id}:start-timeout", due + at.slack + fn.start_timeout, at.now
        )
        effects.append(Enqueue(item=timeout, when=created))
    if not run.batch:
        pauses = cancels(fn, run, first, at)
        effects += [PutPause(pause=pause, when=created) for pause in pauses]
        if pauses:
            # An event that cancels may have come after the first one, and been quicker.
            names = sorted({pause.event for pause in pauses})
            payload = msgspec.json.encode(pauses)
            recall = runner_item(fn.id, Kind.RECALL, f"{run.id}:recall", at.now, run=run.id, payload=payload)
            effects.append(Recall(names=names, since=accepted_at(run.order), item=recall, when=created))
    scheduled = History(
        id=at.new_id(),
        what=What.SCHEDULED,
        run=run.id,
        fn=fn.id,
        at=at.now,
        value=first.payload if run.cron else None,
        info=_about(run),
    )
    effects.append(Record(entry=scheduled, when=created))


def runner_item(fn: str, kind: Kind, job: str, now: int, *, run: str = "", payload: bytes = b"") -> Item:
    """An item for runners, due at once."""
    return Item(
        job=job,
        kind=kind,
        fn=fn,
        run=run,
        due=now,
        score=now,
        partition=runner_items(fn).id,
        queued=now,
        payload=payload,
    )


def eviction(fn: str, run: str, now: int) -> Item:
    """The item that tells the end of an evicted run; without a run, a form of it that a store fills in."""
    return runner_item(fn, Kind.EVICT, evict_job(run) if run else "", now, run=run)


def timer(run: Run, kind: Kind, job: str, due: int, now: int, **fields: Any) -> Item:
    """An item that calls nobody and so needs no capacity."""
    partition = timers(run.fn).id
    return Item(
        job=job,
        kind=kind,
        fn=run.fn,
        run=run.id,
        due=due,
        score=due,
        partition=partition,
        queued=now,
        **fields,
    )


def begun(run: Run, started: int, at: Moment, finish_timeout: int, *, place: int) -> list[Effect]:
    """The effects of a run's first call, made at ``started``; ``place`` of them precede these in their
    transition.
    """
    entry = History(id=at.new_id(), what=What.STARTED, run=run.id, fn=run.fn, at=at.now, started=started)
    effects: list[Effect] = [Begin(at=started), Record(entry=entry, when=place)]
    if finish_timeout:
        due = started + at.slack + finish_timeout
        item = timer(run, Kind.FINISH_TIMEOUT, f"{run.id}:finish-timeout", due, at.now)
        effects.append(Enqueue(item=item, when=place))
    return effects


def lost_to(transition: Transition, holder: str) -> None:
    """Let the record of a run that a singleton skips name the run in whose favour."""
    for effect in transition.effects:
        if isinstance(effect, Record) and effect.entry.what is What.SKIPPED:
            effect.entry.info = {**(effect.entry.info or {}), "existing": holder}


def undecided(fn: Function, event: Event, at: Moment, error: Exception) -> History:
    """The record of an event of which it could not be decided what it starts, for whoever looks for its
    run.
    """
    return skipped(fn, [event], at, f"{SkipReason.UNDECIDED}: {type(error).__name__}: {error}"[:1000])


def _about(run: Run, reason: str = "") -> dict[str, Any]:
    about: dict[str, Any] = {
        "app": run.app,
        "slug": run.slug,
        "events": run.event_ids,
        "version": run.function_version,
    }
    for name in ("cron", "batch", "original"):
        if value := getattr(run, name):
            about[name] = value
    if reason:
        about["reason"] = reason
    return about


def skipped(fn: Function, events: Sequence[Event], at: Moment, reason: str) -> History:
    """The record of a run that was never made."""
    info = {
        "app": fn.app,
        "slug": fn.slug,
        "events": [event.id for event in events],
        "version": fn.version,
        "reason": reason,
    }
    return History(id=at.new_id(), what=What.SKIPPED, run=at.new_id(), fn=fn.id, at=at.now, info=info)


def _skipped(run: Run, at: Moment, reason: str) -> History:
    about = _about(run, reason)
    return History(id=at.new_id(), what=What.SKIPPED, run=run.id, fn=run.fn, at=at.now, info=about)
