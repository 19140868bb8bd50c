"""Applying a transition to the state of an engine store in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from msgspec.structs import replace

from inngest.backends.memory import effects_queue, effects_run, effects_start
from inngest.backends.memory.queue import NEVER, State
from inngest.backends.memory.state import EngineState, RunState, Scope
from inngest.core.model import transition as t
from inngest.core.model.runs import CALLS, Kind, Leased
from inngest.ports.engine import Take

HANDLERS: dict[type, Callable[[EngineState, Scope, Any], bool]] = {
    t.Admit: effects_start.admit,
    t.Adopt: effects_run.adopt,
    t.Await: effects_run.await_steps,
    t.Begin: effects_run.begin,
    t.Collect: effects_start.collect,
    t.Complete: effects_queue.complete,
    t.CreateRun: effects_start.create_run,
    t.Discover: effects_run.discover,
    t.Drop: effects_queue.drop,
    t.Emit: effects_run.emit,
    t.EndRun: effects_run.end_run,
    t.Enqueue: effects_queue.enqueue,
    t.EnqueueFirst: effects_queue.enqueue_first,
    t.Evict: effects_run.evict,
    t.ForcePlan: effects_run.force_plan,
    t.Once: effects_start.once,
    t.PutPause: effects_run.put_pause,
    t.Recall: effects_start.recall,
    t.Record: effects_run.record,
    t.Remember: effects_start.remember,
    t.ResetAttempts: effects_queue.reset_attempts,
    t.Retry: effects_queue.retry,
    t.SaveStep: effects_run.save_step,
    t.SetCrons: effects_start.set_crons,
    t.SignalTaken: effects_run.signal_taken,
    t.TakeLock: effects_start.take_lock,
    t.TakePause: effects_run.take_pause,
    t.Unclaimed: effects_start.unclaimed,
}
assert HANDLERS.keys() == set(get_args(t.Effect)), "each effect has one handler"


def apply(store: EngineState, transition: t.Transition, take: Take | None) -> t.Committed:
    """Apply a transition, whole or not at all."""
    leased = None
    state = store.runs.get(transition.run) if transition.run else None
    if transition.lease is not None:
        leased = store.leased(transition.lease)
        if leased is None:
            following = _taken(transition.lease, state) if take is not None else None
            return t.Committed(won=[False] * len(transition.effects), stale=True, next=following)
    if state is not None and state.evicted and (leased is None or leased.item.kind is not Kind.EVICT):
        state = None
    scope = Scope(transition, state, leased, store.clock())
    won: list[bool] = []
    for effect in transition.effects:
        if (effect.when >= 0 and not won[effect.when]) or (effect.unless >= 0 and won[effect.unless]):
            won.append(False)
        else:
            won.append(HANDLERS[type(effect)](store, scope, effect))
    following = None
    if take is not None and scope.last is not None:
        following = _take(store, scope, take, transition.lease)
    return t.Committed(won=won, next=following)


def _take(store: EngineState, scope: Scope, take: Take, lease: t.Lease | None) -> Leased | None:
    """Lease the continuation at once, if that overtakes nobody."""
    entry = scope.last
    if entry is None or entry.state != State.READY or entry.item.kind not in CALLS:
        return None
    if not store.queue.lease_next(entry, scope.now, NEVER, (take.worker, 0)):
        return None
    store.stamp(entry)
    state = scope.state
    if state is not None and lease is not None:
        state.taken = (lease.job, lease.epoch, entry.item.job, entry.item.epoch)
    return Leased(item=replace(entry.item), run=state.run if state is not None else None)


def _taken(lease: t.Lease, state: RunState | None) -> Leased | None:
    """The continuation that a commit under this lease has leased, if it is still so."""
    if state is None or state.evicted or state.taken is None or state.taken[:2] != (lease.job, lease.epoch):
        return None
    _, _, job, epoch = state.taken
    entry = state.entries.get(job)
    if entry is None or entry.state != State.LEASED or entry.item.epoch != epoch:
        return None
    return Leased(item=replace(entry.item), run=state.run)
