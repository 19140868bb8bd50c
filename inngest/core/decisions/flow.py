"""What is evaluated once for a run: its keys, its partitions, its priority, what cancels it."""

from __future__ import annotations

from inngest.core.decisions.moment import Moment
from inngest.core.expr import EvaluationError, bind, equality_terms
from inngest.core.model.events import Event
from inngest.core.model.functions import Function
from inngest.core.model.runs import Cell, Partition, Pause, PauseKind, Run, digest
from inngest.core.policy import MAX_PRIORITY
from inngest.core.timing.durations import parse_timeout
from inngest.core.timing.times import YEAR


def key_of(fn: Function, source: str, event: Event, now: int) -> str | bool:
    """A key expression's value as text; False when it is ``false``; empty when it is missing or fails."""
    if not source:
        return ""
    try:
        return fn.expression(source).key({"event": event.value}, now)
    except EvaluationError:
        return ""


def key_text(fn: Function, source: str, event: Event, now: int) -> str:
    """As `key_of`, for keys of which ``false`` is a value like any other (section 4.2)."""
    value = key_of(fn, source, event, now)
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
        value = key_text(fn, limit.key, event, now)
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
        value = key_text(fn, source, event, now)
        run_cell = Cell(f"{fn.id}:run:{digest(value)}" if source else f"{fn.id}:run", len(shared))
    throttle = ""
    if fn.throttle is not None:
        source = fn.throttle.key
        value = digest(key_text(fn, source, event, now))
        throttle = f"throttle:{fn.id}:{value}" if source else f"throttle:{fn.id}"
    suffix = ""
    if fn.concurrency or run_cell is not None or throttle:
        keys = [cell.key for cell in shared]
        suffix = "/" + digest(*keys, "", run_cell.key if run_cell else "", throttle)
    begin = Partition(id=f"{fn.id}/s{suffix}", fn=fn.id, cells=shared, run_cell=run_cell, throttle=throttle)
    return begin, Partition(id=f"{fn.id}/w{suffix}", fn=fn.id, cells=shared)


def priority(fn: Function, event: Event, now: int) -> int:
    if not fn.priority:
        return 0
    try:
        value = fn.expression(fn.priority).evaluate({"event": event.value}, now)
    except EvaluationError:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(-MAX_PRIORITY, min(MAX_PRIORITY, value))


def cancels(fn: Function, run: Run, event: Event, at: Moment) -> list[Pause]:
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
