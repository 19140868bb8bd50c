"""Bringing a run to life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inngest.core.decisions.flow import cancels, lock_key, partitions, priority
from inngest.core.decisions.moment import Moment
from inngest.core.model.events import Event
from inngest.core.model.functions import Function
from inngest.core.model.history import History, What
from inngest.core.model.runs import Item, Kind, Run, digest, score, start_job, timers
from inngest.core.model.transition import (
    Begin,
    CreateRun,
    Effect,
    Enqueue,
    PutPause,
    Record,
    TakeLock,
    Unclaimed,
)


class SkipReason:
    PAUSED = "FunctionPaused"
    SINGLETON = "Singleton"


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
    )


def start(
    fn: Function,
    run: Run,
    events: Sequence[Event],
    at: Moment,
    effects: list[Effect],
    *,
    ttl: int,
    when: int = -1,
) -> None:
    """Append the effects that bring ``run`` to life: its lock, itself, its first item, its timeout, the
    pauses that cancel it.
    """
    first = events[0]
    if run.lock:
        # A redelivered event must not be recorded as skipped by its own run.
        effects.append(Unclaimed(key=run.key, now=at.now, when=when))
        fresh = len(effects) - 1
        effects.append(TakeLock(key=run.lock, when=fresh))
        when = len(effects) - 1
        effects.append(Record(entry=_skipped(run, at, SkipReason.SINGLETON), when=fresh))
        effects[-1].unless = when
    effects.append(CreateRun(run=run, key_until=at.now + ttl, when=when))
    created = len(effects) - 1
    later = first.ts if len(events) == 1 and not run.cron and first.ts > at.now else 0
    item = Item(
        job=start_job(run.id),
        kind=Kind.START,
        fn=fn.id,
        run=run.id,
        due=later or at.now,
        score=score(later or at.now, run.priority),
        partition=run.start.id,
        max_attempts=fn.max_attempts,
        queued=at.now,
    )
    effects.append(Enqueue(item=item, when=created))
    if fn.start_timeout and not run.batch:
        due = at.now + fn.start_timeout
        effects.append(
            Enqueue(item=timer(run, Kind.START_TIMEOUT, f"{run.id}:start-timeout", due, at.now), when=created)
        )
    if not run.batch:
        effects += [PutPause(pause=pause, when=created) for pause in cancels(fn, run, first, at)]
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
        due = started + finish_timeout
        item = timer(run, Kind.FINISH_TIMEOUT, f"{run.id}:finish-timeout", due, at.now)
        effects.append(Enqueue(item=item, when=place))
    return effects


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
    run = new_run(fn, events, at, key=run_key(fn, events[0].key))
    return _skipped(run, at, reason)


def _skipped(run: Run, at: Moment, reason: str) -> History:
    about = _about(run, reason)
    return History(id=at.new_id(), what=What.SKIPPED, run=run.id, fn=run.fn, at=at.now, info=about)
