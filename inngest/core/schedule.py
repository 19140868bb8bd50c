"""The first decision: what an event starts, resumes and cancels.

The order of the checks is that of wire protocol section 4.1; those which need the store's state are effects
that win or lose at commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from inngest.core import gcra
from inngest.core.cron import jitter_offset, parse_cron
from inngest.core.durations import parse_timeout
from inngest.core.events import FINISHED, INVOKED, SCHEDULED, Event, decode_event, internal_event
from inngest.core.expr import EvaluationError, bind, equality_terms
from inngest.core.finish import finished
from inngest.core.functions import Function, Trigger
from inngest.core.history import History, What
from inngest.core.runs import (
    Cell,
    Item,
    Kind,
    Partition,
    Pause,
    PauseKind,
    Run,
    RunStatus,
    digest,
    score,
    start_job,
)
from inngest.core.times import DAY, MINUTE, YEAR, rfc3339
from inngest.core.transition import (
    Admit,
    Begin,
    Collect,
    Complete,
    CreateRun,
    Effect,
    Emit,
    Enqueue,
    PutPause,
    Record,
    SetCrons,
    TakeLock,
    Transition,
    Unclaimed,
)

KEY_TTL = DAY
"""How long an event id that its sender chose starts no second run (section 2.3)."""
DELIVERY_TTL = 60 * MINUTE
"""The same for an id of our own, which only a redelivery can repeat."""
TOKEN_TTL = 30 * MINUTE
"""How long the same event counts once for a rate limit or a batch (sections 4.4 and 4.6)."""
MAX_PRIORITY = 43_200
MAX_BATCH_BYTES = 10 * 1024 * 1024
MAX_TIMER = 366 * DAY


class Moment(Struct, frozen=True, gc=False):
    """The time and the identifiers of a decision, given from outside."""

    now: int
    new_id: Callable[[], str]


class SkipReason:
    PAUSED = "FunctionPaused"
    SINGLETON = "Singleton"


# -- which functions --


def trigger_names(name: str) -> list[str]:
    """The trigger names that match an event name: itself, and a wildcard for each of its prefixes (section
    2.7).
    """
    names = [name]
    for at, char in enumerate(name):
        if char in "/.":
            names.append(name[: at + 1] + "*")
    return names


def matches(
    fn: Function,
    event: Event,
    names: Sequence[str],
    now: int,
    failed: Callable[[Function, str, EvaluationError], None],
) -> bool:
    """Whether one of the function's triggers takes the event. An expression that fails is no match, and
    ``failed`` is told of it.
    """
    for trigger in fn.triggers:
        if trigger.event and trigger.event in names:
            try:
                if not trigger.expression or _truthy(fn, trigger.expression, event, now):
                    return True
            except EvaluationError as error:
                failed(fn, trigger.expression, error)
    return False


def _holds(fn: Function, source: str, event: Event, now: int) -> bool:
    try:
        return not source or _truthy(fn, source, event, now)
    except EvaluationError:
        return False


def _truthy(fn: Function, source: str, event: Event, now: int) -> bool:
    return fn.expression(source).truthy({"event": event.value}, now)


# -- an event starts a run --


def schedule(fn: Function, event: Event, at: Moment) -> Transition:
    """What ``event``, which matches ``fn``, does to it: join a batch, be debounced, or start a run."""
    if fn.paused:
        entry = _skipped(fn, [event], at, SkipReason.PAUSED)
        return Transition(fn=fn.id, run=entry.run, effects=[Record(entry=entry)])
    if fn.batch is not None and _holds(fn, fn.batch.condition, event, at.now):
        return _batch(fn, event, at)
    effects: list[Effect] = []
    admitted = -1
    key = _key(fn, fn.rate_limit.key, event, at.now) if fn.rate_limit is not None else None
    if fn.rate_limit is not None and key is not False:
        effects.append(Unclaimed(key=run_key(fn, event.key), now=at.now))
        admitted = len(effects)
        effects.append(
            Admit(
                key=f"rate:{fn.id}:{digest(str(key or ''))}",
                params=gcra.rate_limit(fn.rate_limit.limit, fn.rate_limit.period),
                now=at.now,
                token=event.id,
                token_ttl=TOKEN_TTL,
                when=0,
            )
        )
    if fn.debounce is not None:
        effects.append(_debounce(fn, event, at, when=admitted))
        return Transition(fn=fn.id, run="", effects=effects)
    run = new_run(fn, [event], at, key=run_key(fn, event.key))
    ttl = KEY_TTL if event.external_id else DELIVERY_TTL
    start(fn, run, [event], at, effects, ttl=ttl, when=admitted)
    if admitted >= 0 and event.name == INVOKED:
        error = _invoke_error("invoked function is rate limited")
        refused = finished(run, at.now, at.new_id, error=error, status=RunStatus.FAILED)
        # Not for an event that is delivered again: its run is there, and answers for itself.
        effects += [Emit(event=e.encode(), when=0, unless=admitted) for e in refused]
    return Transition(fn=fn.id, run=run.id, effects=effects)


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
        priority=_priority(fn, first, at.now),
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
        skipped = History(
            what=What.SKIPPED, run=run.id, fn=fn.id, at=at.now, info=_about(run, SkipReason.SINGLETON)
        )
        effects.append(Record(entry=skipped, when=fresh))
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
        effects += [PutPause(pause=pause, when=created) for pause in _cancels(fn, run, first, at)]
    value = first.payload if run.cron else None
    info = _about(run)
    effects.append(
        Record(
            entry=History(what=What.SCHEDULED, run=run.id, fn=fn.id, at=at.now, value=value, info=info),
            when=created,
        )
    )


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


def begun(run: Run, started: int, now: int, finish_timeout: int, *, place: int) -> list[Effect]:
    """The effects of a run's first call, made at ``started``; ``place`` of them precede these in their
    transition.
    """
    entry = History(what=What.STARTED, run=run.id, fn=run.fn, at=now, started=started)
    effects: list[Effect] = [Begin(at=started), Record(entry=entry, when=place)]
    if finish_timeout:
        due = started + finish_timeout
        item = timer(run, Kind.FINISH_TIMEOUT, f"{run.id}:finish-timeout", due, now)
        effects.append(Enqueue(item=item, when=place))
    return effects


def timers(fn_id: str) -> Partition:
    return Partition(id=f"{fn_id}/t", fn=fn_id)


def runner_items(fn_id: str) -> Partition:
    return Partition(id=f"{fn_id}/r", fn=fn_id)


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


def _skipped(fn: Function, events: Sequence[Event], at: Moment, reason: str) -> History:
    run = new_run(fn, events, at, key=run_key(fn, events[0].key))
    return History(what=What.SKIPPED, run=run.id, fn=fn.id, at=at.now, info=_about(run, reason))


# -- what is evaluated once --


def _key(fn: Function, source: str, event: Event, now: int) -> str | bool:
    """A key expression's value as text; False when it is ``false``; empty when it is missing or fails."""
    if not source:
        return ""
    try:
        return fn.expression(source).key({"event": event.value}, now)
    except EvaluationError:
        return ""


def _key_text(fn: Function, source: str, event: Event, now: int) -> str:
    """As `_key`, for keys of which ``false`` is a value like any other (section 4.2)."""
    value = _key(fn, source, event, now)
    return "false" if value is False else str(value)


def lock_key(fn: Function, event: Event, now: int) -> str | None:
    """The key of the singleton lock that a run for ``event`` needs; None if none (section 4.9)."""
    if fn.singleton is None:
        return None
    if not fn.singleton.key:
        return f"lock:{fn.id}"
    try:
        key = fn.expression(fn.singleton.key).key({"event": event.value}, now)
    except EvaluationError:
        return None
    return None if key is False else f"lock:{fn.id}:{digest(str(key))}"


def partitions(fn: Function, event: Event, now: int) -> tuple[Partition, Partition]:
    """Where the first item and the later ones of a run queue up (sections 4.2 and 4.3).

    The id tells all that admits an item, keyed or not: a store keeps one definition an id, and a function
    that is registered with another constraint must not go on under the old one.
    """
    cells: list[Cell] = []
    for index, limit in enumerate(fn.concurrency):
        value = _key_text(fn, limit.key, event, now)
        if limit.scope == "fn":
            cell = f"{fn.id}:{index}:{digest(value)}" if limit.key else f"{fn.id}:{index}"
        else:
            cell = f"{limit.scope}:{digest(value)}"
        cells.append(Cell(cell, index))
    if not cells:
        cells.append(Cell(f"{fn.id}:0", 0))
    shared = tuple(cells)
    run_cell = None
    if fn.run_concurrency is not None:
        source = fn.run_concurrency.key
        value = _key_text(fn, source, event, now)
        run_cell = Cell(f"{fn.id}:run:{digest(value)}" if source else f"{fn.id}:run", len(shared))
    throttle = ""
    if fn.throttle is not None:
        source = fn.throttle.key
        value = digest(_key_text(fn, source, event, now))
        throttle = f"throttle:{fn.id}:{value}" if source else f"throttle:{fn.id}"
    suffix = ""
    if fn.concurrency or run_cell is not None or throttle:
        keys = [cell.key for cell in shared]
        suffix = "/" + digest(*keys, "", run_cell.key if run_cell else "", throttle)
    begin = Partition(id=f"{fn.id}/s{suffix}", fn=fn.id, cells=shared, run_cell=run_cell, throttle=throttle)
    return begin, Partition(id=f"{fn.id}/w{suffix}", fn=fn.id, cells=shared)


def _priority(fn: Function, event: Event, now: int) -> int:
    if not fn.priority:
        return 0
    try:
        value = fn.expression(fn.priority).evaluate({"event": event.value}, now)
    except EvaluationError:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(-MAX_PRIORITY, min(MAX_PRIORITY, value))


def _cancels(fn: Function, run: Run, event: Event, at: Moment) -> list[Pause]:
    """The pauses behind ``cancelOn`` (section 4.10)."""
    pauses = []
    for index, cancel in enumerate(fn.cancel):
        condition, terms = "", []
        if cancel.condition:
            bound = bind(cancel.condition, event.value)
            if bound.constant is False:
                continue
            if bound.constant is None:
                condition, terms = bound.source, list(equality_terms(bound))
        expires = parse_timeout(cancel.timeout, at.now) if cancel.timeout else at.now + YEAR
        pauses.append(
            Pause(
                id=f"{run.id}:cancel:{index}",
                kind=PauseKind.CANCEL,
                fn=fn.id,
                run=run.id,
                event=cancel.event,
                condition=condition,
                terms=terms,
                created=event.received,
                expires=expires,
                ignore=event.id,
            )
        )
    return pauses


# -- collectors --


def _collector(fn: Function, kind: Kind, key: str, event: Event, due: int, at: Moment) -> Item:
    return Item(
        job=f"{kind}:{key}:{at.new_id()}",
        kind=kind,
        fn=fn.id,
        due=due,
        score=due,
        partition=runner_items(fn.id).id,
        queued=at.now,
        payload=b"[" + event.encode() + b"]",
    )


def _debounce(fn: Function, event: Event, at: Moment, *, when: int) -> Collect:
    assert fn.debounce is not None
    key = f"{fn.id}:{digest(_key_text(fn, fn.debounce.key, event, at.now))}"
    return Collect(
        key=f"debounce:{key}",
        item=_collector(fn, Kind.DEBOUNCE, key, event, at.now + fn.debounce.period, at),
        partition=runner_items(fn.id),
        event=event.encode(),
        ts=event.ts,
        now=at.now,
        last=True,
        bound=fn.debounce.timeout,
        when=when,
    )


def _batch(fn: Function, event: Event, at: Moment) -> Transition:
    assert fn.batch is not None
    key = f"{fn.id}:{digest(_key_text(fn, fn.batch.key, event, at.now))}"
    collect = Collect(
        key=f"batch:{key}",
        item=_collector(fn, Kind.BATCH, key, event, at.now + fn.batch.timeout, at),
        partition=runner_items(fn.id),
        event=event.encode(),
        ts=event.ts,
        now=at.now,
        max_size=fn.batch.max_size,
        max_bytes=MAX_BATCH_BYTES,
        token=f"{fn.id}:{event.id}",
        token_ttl=TOKEN_TTL,
    )
    return Transition(fn=fn.id, run="", effects=[collect])


def collected(fn: Function, item: Item, at: Moment) -> Transition:
    """What a collector's leased item starts: one run, with the latest event, or with all of the batch; none
    if the function was paused or archived meanwhile.
    """
    raw = msgspec.json.decode(item.payload, type=list[msgspec.Raw])
    events = [decode_event(bytes(event)) for event in raw]
    effects: list[Effect] = []
    if fn.paused or fn.archived:
        if fn.paused:
            effects.append(Record(entry=_skipped(fn, events, at, SkipReason.PAUSED)))
        return Transition(fn=fn.id, run="", effects=[*effects, Complete()])
    if item.kind is Kind.BATCH:
        run = new_run(fn, events, at, key=run_key(fn, item.job), batch=at.new_id())
        start(fn, run, events, at, effects, ttl=DELIVERY_TTL)
    else:
        run = new_run(fn, events, at, key=run_key(fn, events[0].key))
        start(fn, run, events, at, effects, ttl=KEY_TTL if events[0].external_id else DELIVERY_TTL)
    effects.append(Complete())
    return Transition(fn=fn.id, run=run.id, effects=effects)


# -- cron --


class Tick(Struct):
    """The payload of a cron item: the nominal time, and the schedule it belongs to."""

    cron: str
    jitter: int
    at: int


def crons(fn: Function, at: Moment) -> SetCrons:
    """The function's schedules as they have to be queued from now on; none if it is archived."""
    items = []
    if not fn.archived:
        for trigger in fn.triggers:
            if trigger.cron and (item := _tick(fn, trigger, at.now, at.now)) is not None:
                items.append(item)
    return SetCrons(items=items, partition=runner_items(fn.id))


def _tick(fn: Function, trigger: Trigger, after: int, now: int) -> Item | None:
    nominal = parse_cron(trigger.cron).next_after(after)
    if nominal is None:
        return None
    due = nominal + (jitter_offset(fn.id, trigger.cron, nominal, trigger.jitter) if trigger.jitter else 0)
    name = digest(trigger.cron, str(trigger.jitter))
    return Item(
        job=f"cron:{fn.id}:{name}:{nominal}",
        kind=Kind.CRON,
        fn=fn.id,
        name=name,
        due=due,
        score=due,
        partition=runner_items(fn.id).id,
        queued=now,
        payload=msgspec.json.encode(Tick(cron=trigger.cron, jitter=trigger.jitter, at=nominal)),
    )


def tick(fn: Function, item: Item, at: Moment) -> Transition:
    """A cron item is due: start the run of this tick and queue the next one, in one commit, so that neither
    is lost or doubled.

    After a downtime one overdue tick fires; the others in between are not made up for (section 4.12).
    """
    this = msgspec.json.decode(item.payload, type=Tick)
    effects: list[Effect] = []
    trigger = next((t for t in fn.triggers if t.cron == this.cron and t.jitter == this.jitter), None)
    run_id = ""
    if trigger is not None and not fn.archived:
        following = _tick(fn, trigger, max(this.at, at.now), at.now)
        if following is not None:
            effects.append(Enqueue(item=following, partition=runner_items(fn.id)))
        if not fn.paused:
            when = rfc3339(this.at)
            data = {"cron": this.cron, "scheduledAt": when, "fireAt": rfc3339(item.due)}
            event = internal_event(at.new_id(), SCHEDULED, at.now, data, external_id=when)
            event.ts = item.due  # however late it is
            run = new_run(fn, [event], at, key=run_key(fn, f"{this.cron}\x1f{when}"), cron=this.cron)
            start(fn, run, [event], at, effects, ttl=KEY_TTL)
            run_id = run.id
    effects.append(Complete())
    return Transition(fn=fn.id, run=run_id, effects=effects)


# -- invocations --


def _invoke_error(message: str) -> bytes:
    return msgspec.json.encode({"error": message, "message": message, "name": "Error"})


def unknown_function(event: Event, at: Moment) -> list[Event]:
    """The answer to an invocation whose target does not exist: a finished event that fails the caller's step
    (section 5.3).
    """
    correlation = event.meta.get("correlation_id")
    if not isinstance(correlation, str):
        return []
    slug = event.meta.get("fn_id", "")
    message = f"could not find function with ID: {slug}"
    data: dict[str, Any] = {
        "function_id": slug,
        "run_id": "",
        "correlation_id": correlation,
        "error": {"error": message, "message": message, "name": "Error"},
        "event": event.value,
        "events": [event.value],
        "_inngest": {"status": "Failed"},
    }
    return [internal_event(at.new_id(), FINISHED, at.now, data)]
