"""What the effects on a run and its pauses do, and what they send out."""

from __future__ import annotations

from inngest.backends.memory.queue import State
from inngest.backends.memory.state import EngineState, Scope
from inngest.core.model.transition import (
    Adopt,
    Await,
    Begin,
    Discover,
    Emit,
    EndRun,
    Evict,
    ForcePlan,
    PutPause,
    Record,
    SaveStep,
    SignalTaken,
    TakePause,
)


def begin(store: EngineState, scope: Scope, effect: Begin) -> bool:
    if scope.state is None or scope.state.run.started:
        return False
    scope.state.run.started = effect.at
    store.changed(scope.state.run)
    return True


def adopt(store: EngineState, scope: Scope, effect: Adopt) -> bool:
    if scope.state is None or scope.state.run.request_version >= 0:
        return False
    scope.state.run.request_version = effect.version
    store.changed(scope.state.run)
    return True


def force_plan(store: EngineState, scope: Scope, effect: ForcePlan) -> bool:
    if scope.state is None:
        return False
    if not scope.state.run.force_plan:
        scope.state.run.force_plan = True
        store.changed(scope.state.run)
    return True


def save_step(store: EngineState, scope: Scope, effect: SaveStep) -> bool:
    if scope.state is None:
        return False
    run = scope.state.run
    pending = effect.step in run.pending
    if not run.save_step(effect.step, effect.value):
        return False
    run.revision += 1
    store.notes.step(run, effect.step, effect.value)
    if pending:
        store.notes.head(run)
    return True


def await_steps(store: EngineState, scope: Scope, effect: Await) -> bool:
    if scope.state is None:
        return False
    some = scope.state.run.await_steps(effect.steps)
    store.changed(scope.state.run)
    return some


def discover(store: EngineState, scope: Scope, effect: Discover) -> bool:
    if scope.state is None:
        return False
    run = scope.state.run
    if run.pending and not effect.item.race:
        return False
    alone = store.alone(scope.state, scope.leased)
    if not store.push(scope, effect.item, None):
        return False
    if alone and not effect.planned and run.force_plan and run.request_version >= 2:
        run.force_plan = False
        store.changed(run)
    return True


def put_pause(store: EngineState, scope: Scope, effect: PutPause) -> bool:
    state, pause = scope.state, effect.pause
    if state is None or pause.id in state.pauses or (pause.step and pause.step in state.run.steps):
        return False
    if effect.exclusive:
        others = [other for other in store.pauses.plain(pause.event) if other.run != pause.run]
        if others and effect.exclusive == "fail":
            return False
        for other in others:
            store.pauses.remove(other)
            store.notes.pause_hidden(other)
    state.pauses[pause.id] = pause
    store.pauses.add(pause)
    store.notes.pause(pause)
    return True


def signal_taken(store: EngineState, scope: Scope, effect: SignalTaken) -> bool:
    state = scope.state
    if state is not None and (effect.pause in state.pauses or effect.step in state.run.steps):
        return False
    return any(pause.run != scope.run_id for pause in store.pauses.plain(effect.name))


def take_pause(store: EngineState, scope: Scope, effect: TakePause) -> bool:
    state = scope.state
    pause = state.pauses.pop(effect.id, None) if state is not None else None
    if state is None or pause is None:
        return False
    store.pauses.remove(pause)
    store.notes.pause_gone(pause)
    timeout = state.entries.get(pause.timeout_job)
    if timeout is not None and timeout is not scope.leased and timeout.state != State.LEASED:
        store.forget(timeout, remember=True)
    return True


def evict(store: EngineState, scope: Scope, effect: Evict) -> bool:
    state = scope.state
    if state is None or state.evicted:
        return False
    store.evict(scope, state, effect.item)
    scope.state = None
    scope.last = None
    return True


def end_run(store: EngineState, scope: Scope, effect: EndRun) -> bool:
    state = scope.state
    if state is None:
        return False
    scope.state = None
    scope.last = None
    store.release_lock(state.run)
    store.end_run(state)
    return True


def emit(store: EngineState, scope: Scope, effect: Emit) -> bool:
    store.outbox_seq += 1
    store.notes.event(store.outbox_seq, effect.event)
    store.events.put(store.outbox_seq, effect.event)
    return True


def record(store: EngineState, scope: Scope, effect: Record) -> bool:
    store.record(effect.entry)
    return True
