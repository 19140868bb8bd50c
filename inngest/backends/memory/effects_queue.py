"""What the effects on queue items do."""

from __future__ import annotations

from inngest.backends.memory.queue import State
from inngest.backends.memory.state import EngineState, Scope
from inngest.core.model.runs import score
from inngest.core.model.transition import Complete, Drop, Enqueue, EnqueueFirst, ResetAttempts, Retry


def enqueue(store: EngineState, scope: Scope, effect: Enqueue) -> bool:
    return store.push(scope, effect.item, effect.partition)


def enqueue_first(store: EngineState, scope: Scope, effect: EnqueueFirst) -> bool:
    return any(store.push(scope, item, None) for item in effect.items)


def drop(store: EngineState, scope: Scope, effect: Drop) -> bool:
    entry = store.entries.get(effect.job)
    if entry is None or entry.state == State.LEASED or entry.item.run != scope.run_id:
        return False
    store.forget(entry, remember=True)
    return True


def complete(store: EngineState, scope: Scope, effect: Complete) -> bool:
    if scope.leased is not None:
        store.forget(scope.leased, remember=True)
        scope.leased = None
    return True


def retry(store: EngineState, scope: Scope, effect: Retry) -> bool:
    entry = scope.leased
    if entry is None:
        return True
    scope.leased = None
    item = entry.item
    if item.run and scope.state is None:
        store.forget(entry, remember=False)  # the run has ended meanwhile
        return True
    item.due = effect.due
    item.score = score(effect.due, scope.state.run.priority if scope.state is not None else 0)
    item.attempt = effect.attempt
    if effect.payload is not None:
        item.payload = effect.payload
    store.queue.unlease(entry, scope.now)
    store.notes.item(item, entry.part.definition)
    return True


def reset_attempts(store: EngineState, scope: Scope, effect: ResetAttempts) -> bool:
    entry = store.entries.get(effect.job)
    if (
        scope.state is None
        or entry is None
        or entry.state != State.LEASED
        or entry.item.epoch != effect.epoch
        or entry.item.run != scope.run_id
    ):
        return False
    entry.until = max(entry.until, scope.now + effect.ms)
    if entry.item.attempt:
        entry.item.attempt = 0
        store.notes.item(entry.item, entry.part.definition)
    return True
