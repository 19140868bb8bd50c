"""What the effects do that come before a run: what happens once, limits, locks, collectors, schedules."""

from __future__ import annotations

from msgspec.structs import replace

from inngest.backends.memory.collector import Collector, collected_ts
from inngest.backends.memory.queue import State
from inngest.backends.memory.seen import Remembered
from inngest.backends.memory.state import EngineState, Scope, running
from inngest.core.model.transition import (
    Admit,
    Collect,
    CreateRun,
    Once,
    Recall,
    Remember,
    SetCrons,
    TakeLock,
    Unclaimed,
)
from inngest.core.policy import MAX_REMEMBERED
from inngest.core.timing import gcra

_US = 1000


def once(store: EngineState, scope: Scope, effect: Once) -> bool:
    seen = store.seen_by(scope.fn)
    if effect.key in seen or effect.at < seen.horizon:
        return False
    if effect.mark:
        seen.forget(effect.forget)
        seen.add(effect.key, effect.at)
    return True


def remember(store: EngineState, scope: Scope, effect: Remember) -> bool:
    key = (scope.fn, effect.name)
    remembered = store.remembered.get(key)
    if remembered is None:
        remembered = store.remembered[key] = Remembered(MAX_REMEMBERED)
    remembered.add(effect.event, effect.at, scope.now, effect.ttl)
    return True


def recall(store: EngineState, scope: Scope, effect: Recall) -> bool:
    if scope.state is None:
        return False
    for name in effect.names:
        remembered = store.remembered.get((scope.fn, name))
        if remembered and remembered.since(effect.since, scope.now):
            return store.push(scope, effect.item, None)
    return False


def unclaimed(store: EngineState, scope: Scope, effect: Unclaimed) -> bool:
    return store.claims.get(effect.key, scope.now) is None


def admit(store: EngineState, scope: Scope, effect: Admit) -> bool:
    admission = gcra.admit(effect.params, store.tats.get(effect.key, scope.now), scope.now * _US)
    if admission.tat is not None:
        store.tats.expire(scope.now)
        store.tats.put(effect.key, admission.tat, admission.tat // _US + 1)
    return admission.admitted


def take_lock(store: EngineState, scope: Scope, effect: TakeLock) -> bool:
    holder, order = store.locks.get(effect.key, ("", ""))
    if holder and holder != scope.run_id and store.alive(holder):
        if effect.evict is None or order >= effect.order:
            return False
        store.evict(scope, store.runs[holder], effect.evict)
    store.locks[effect.key] = (scope.run_id, effect.order)
    store.notes.lock(effect.key, (scope.run_id, effect.order))
    return True


def create_run(store: EngineState, scope: Scope, effect: CreateRun) -> bool:
    run = effect.run
    if run.id in store.runs:
        return False
    if effect.claim:
        store.claims.expire(scope.now)
        if store.claims.get(run.key, scope.now) is not None:
            return False
        store.claims.put(run.key, 1, scope.now + effect.claim)
    scope.state = store.runs[run.id] = running(run.copy())
    store.run_order.add(run.id)
    store.notes.run(scope.state.run)
    return True


def collect(store: EngineState, scope: Scope, effect: Collect) -> bool:
    opened = store.collectors.get(effect.key)
    if opened is None:
        return _open(store, scope, effect)
    entry = store.entries[opened.job]
    item = entry.item
    if effect.last:
        if effect.ts < collected_ts(item.payload):
            return False
        item.payload = b"[" + effect.event + b"]"
        item.due = effect.item.due
        if effect.bound:
            item.due = min(item.due, opened.opened + effect.bound)
        store.queue.put(entry, scope.now)
        store.notes.item(item, effect.partition, opened)
        return True
    opened.add(effect.event)
    store.notes.collected(item, opened)
    if opened.full(effect):
        item.due = scope.now
        store.close_collector(item.job)
        store.queue.put(entry, scope.now)
        store.notes.item(item, effect.partition)
    return True


def _open(store: EngineState, scope: Scope, effect: Collect) -> bool:
    item = replace(effect.item)
    collector = Collector(key=effect.key, job=item.job, opened=scope.now, last=effect.last)
    if not effect.last:
        item.payload = b""
        collector.add(effect.event)
    full = collector.full(effect)
    if full:
        item.due = scope.now
    store.entries[item.job] = store.queue.add(item, effect.partition, scope.now)
    store.collected[item.job] = collector
    if not full:
        store.collectors[effect.key] = collector
    store.notes.item(item, effect.partition, None if full else collector)
    if not effect.last:
        store.notes.collected(item, collector)
    return True


def set_crons(store: EngineState, scope: Scope, effect: SetCrons) -> bool:
    place = effect.partition.id
    if effect.version < store.crons_version.get(place, 0):
        return False
    if effect.version > store.crons_version.get(place, 0):
        store.crons_version[place] = effect.version
        store.notes.crons_set(place, effect.version)
    queued = store.crons.get(place, {})
    want = {item.name for item in effect.items}
    for name, entry in list(queued.items()):
        if name not in want and entry.state != State.LEASED:
            store.forget(entry, remember=False)
    for item in effect.items:
        if item.name not in queued:
            store.push(scope, item, effect.partition)
    return True
