"""What each effect of a transition does to the state of one process.

Everything here is synchronous, and so atomic. A subclass that keeps the state elsewhere too is told of each
change, in order, by the ``_note_*`` methods.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from inngest.backends.memory.expiring import Expiring
from inngest.backends.memory.pauses import PauseIndex
from inngest.backends.memory.queue import Entry, MemoryQueue, State
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.runs import (
    CALLS,
    Item,
    Kind,
    Leased,
    Partition,
    Pause,
    PauseKind,
    Queue,
    Run,
    runner_items,
    score,
    timers,
)
from inngest.core.model.transition import (
    Admit,
    Adopt,
    Await,
    Begin,
    Collect,
    Committed,
    Complete,
    CreateRun,
    Discover,
    Drop,
    Emit,
    EndRun,
    Enqueue,
    ForcePlan,
    PutPause,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
    SignalTaken,
    TakeLock,
    TakePause,
    Transition,
    Unclaimed,
)
from inngest.core.timing import gcra
from inngest.ports.engine import Take

_US = 1000
RUN_TIMEOUTS = frozenset({Kind.START_TIMEOUT, Kind.FINISH_TIMEOUT})


class Collector(msgspec.Struct):
    """The open collector of a key: its item, when it was opened (ms), how many events it holds."""

    key: str
    job: str
    opened: int
    count: int = 1


class RunState:
    """A run that has not ended, and what belongs to it."""

    __slots__ = ("entries", "jobs", "pauses", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.jobs: set[str] = set()
        self.entries: dict[str, Entry] = {}
        self.pauses: dict[str, Pause] = {}


class _Scope:
    """What the effects of one transition work on."""

    __slots__ = ("fn", "last", "leased", "now", "run_id", "state")

    def __init__(self, transition: Transition, state: RunState | None, leased: Entry | None) -> None:
        self.fn = transition.fn
        self.run_id = transition.run
        self.state = state
        self.leased = leased
        self.last: Entry | None = None  # the newest queued call
        self.now = 0


class EngineState:
    """All state of an engine store, and `_apply`, which changes it by a transition."""

    def __init__(self) -> None:
        self._apps: dict[str, App] = {}
        self._functions: dict[str, Function] = {}
        self._version = 0
        self._states: dict[str, RunState] = {}
        self._entries: dict[str, Entry] = {}
        self._claims: Expiring[str] = Expiring()
        self._tokens: Expiring[bool] = Expiring()
        self._tats: Expiring[int] = Expiring()
        self._locks: dict[str, str] = {}
        self._collectors: dict[str, Collector] = {}
        self._collector_of: dict[str, str] = {}  # job -> key
        self._crons: dict[str, dict[str, Entry]] = {}  # partition -> schedule -> its newest item
        self._pauses = PauseIndex()
        self._events: deque[tuple[int, bytes]] = deque()
        self._history: deque[tuple[int, History]] = deque()
        self._outbox_seq = 0
        self._epoch_base = 0
        self._ready = {queue: asyncio.Event() for queue in Queue}
        self._registered = asyncio.Event()
        self._has_events = asyncio.Event()
        self._has_history = asyncio.Event()
        self._queue = MemoryQueue(self._functions.get, self._on_ready, self._note_tat)
        self._handlers: dict[type, Callable[[_Scope, Any], bool]] = {
            Admit: self._admit,
            Adopt: self._adopt,
            Await: self._await,
            Begin: self._begin,
            Collect: self._collect,
            Complete: self._complete,
            CreateRun: self._create_run,
            Discover: self._discover,
            Drop: self._drop,
            Emit: self._emit,
            EndRun: self._end_run,
            Enqueue: self._enqueue,
            ForcePlan: self._force_plan,
            PutPause: self._put_pause,
            Record: self._record,
            ResetAttempts: self._reset_attempts,
            Retry: self._retry,
            SaveStep: self._save_step,
            SetCrons: self._set_crons,
            SignalTaken: self._signal_taken,
            TakeLock: self._take_lock,
            TakePause: self._take_pause,
            Unclaimed: self._unclaimed,
        }

    def _note_app(self, app: App) -> None: ...
    def _note_function(self, fn: Function) -> None: ...
    def _note_claim(self, key: str, run: str, until: int) -> None: ...
    def _note_token(self, key: str, until: int) -> None: ...
    def _note_tat(self, key: str, tat: int) -> None: ...
    def _note_lock(self, key: str, run: str | None) -> None: ...
    def _note_run(self, run: Run) -> None: ...
    def _note_head(self, run: Run) -> None: ...
    def _note_step(self, run: Run, step: str, value: bytes) -> None: ...
    def _note_run_ended(self, run: Run) -> None: ...
    def _note_item(self, item: Item, partition: Partition, collector: Collector | None = None) -> None: ...
    def _note_item_gone(self, item: Item, *, remember: bool) -> None: ...
    def _note_pause(self, pause: Pause) -> None: ...
    def _note_pause_hidden(self, pause: Pause) -> None:
        """Nothing leads to the pause any more but its timeout: another run waits for its signal now."""

    def _note_pause_gone(self, pause: Pause) -> None: ...
    def _note_event(self, seq: int, event: bytes) -> None: ...
    def _note_history(self, seq: int, entry: History) -> None: ...
    def _note_events_acked(self, seq: int) -> None: ...
    def _note_history_acked(self, seq: int) -> None: ...

    def _apply(self, transition: Transition, take: Take | None) -> Committed:
        leased = None
        if transition.lease is not None:
            leased = self._entries.get(transition.lease.job)
            if leased is None or leased.state != State.LEASED or leased.item.epoch != transition.lease.epoch:
                return Committed(won=[False] * len(transition.effects), stale=True)
        scope = _Scope(transition, self._states.get(transition.run) if transition.run else None, leased)
        if take is not None:
            scope.now = take.now
        won: list[bool] = []
        handlers = self._handlers
        for effect in transition.effects:
            if (effect.when >= 0 and not won[effect.when]) or (effect.unless >= 0 and won[effect.unless]):
                won.append(False)
            else:
                won.append(handlers[type(effect)](scope, effect))
        following = self._take(scope, take) if take is not None and scope.last is not None else None
        return Committed(won=won, next=following)

    def _take(self, scope: _Scope, take: Take) -> Leased | None:
        """Lease the continuation at once, if that overtakes nobody."""
        entry = scope.last
        if entry is None or entry.state != State.READY or entry.item.kind not in CALLS:
            return None
        if not self._queue.lease_next(entry, take.now, take.until):
            return None
        self._stamp(entry)
        return Leased(
            item=replace(entry.item), run=scope.state.run if scope.state else None, until=take.until
        )

    def _stamp(self, entry: Entry) -> None:
        if entry.item.epoch <= self._epoch_base:
            entry.item.epoch = self._epoch_base + 1

    # Starting runs

    def _unclaimed(self, scope: _Scope, effect: Unclaimed) -> bool:
        return self._claims.get(effect.key, effect.now) is None

    def _admit(self, scope: _Scope, effect: Admit) -> bool:
        token = f"{effect.key}:{effect.token}"
        if effect.token and self._tokens.get(token, effect.now):
            return True
        admission = gcra.admit(effect.params, self._tats.get(effect.key, effect.now), effect.now * _US)
        if admission.tat is None:
            return False
        self._tats.expire(effect.now)
        self._tats.put(effect.key, admission.tat, admission.tat // _US + 1)
        self._note_tat(effect.key, admission.tat)
        if effect.token:
            self._remember(token, effect.now, effect.token_ttl)
        return True

    def _remember(self, token: str, now: int, ttl: int) -> None:
        self._tokens.expire(now)
        self._tokens.put(token, True, now + ttl)
        self._note_token(token, now + ttl)

    def _take_lock(self, scope: _Scope, effect: TakeLock) -> bool:
        holder = self._locks.get(effect.key)
        if holder is not None and holder != scope.run_id and holder in self._states:
            return False
        self._locks[effect.key] = scope.run_id
        self._note_lock(effect.key, scope.run_id)
        return True

    def _create_run(self, scope: _Scope, effect: CreateRun) -> bool:
        run = effect.run
        self._claims.expire(run.created)
        if self._claims.get(run.key, run.created) is not None or run.id in self._states:
            return False
        self._claims.put(run.key, run.id, effect.key_until)
        self._note_claim(run.key, run.id, effect.key_until)
        scope.state = self._states[run.id] = RunState(run.copy())
        self._note_run(run)
        return True

    def _collect(self, scope: _Scope, effect: Collect) -> bool:
        token = f"{effect.key}:{effect.token}"
        if effect.token and self._tokens.get(token, effect.now):
            return False
        open_ = self._collectors.get(effect.key)
        if open_ is None:
            item = replace(effect.item)
            full = _full(effect, 1, item.payload)
            if full:
                item.due = effect.now
            self._entries[item.job] = self._queue.add(item, effect.partition, effect.now)
            if not full:
                self._collectors[effect.key] = Collector(key=effect.key, job=item.job, opened=effect.now)
                self._collector_of[item.job] = effect.key
            self._note_item(item, effect.partition, self._collectors.get(effect.key))
        else:
            entry = self._entries[open_.job]
            item = entry.item
            if effect.last:
                if effect.ts < _collected_ts(item.payload):
                    return False
                item.payload = b"[" + effect.event + b"]"
                item.due = effect.item.due
                if effect.bound:
                    item.due = max(min(item.due, open_.opened + effect.bound), effect.now + 1000)
            else:
                item.payload = item.payload[:-1] + b"," + effect.event + b"]"
                open_.count += 1
                if _full(effect, open_.count, item.payload):
                    item.due = effect.now
                    self._close_collector(item.job)
            self._queue.put(entry, effect.now)
            self._note_item(item, effect.partition, self._collectors.get(effect.key))
        if effect.token:
            self._remember(token, effect.now, effect.token_ttl)
        return True

    def _close_collector(self, job: str) -> None:
        key = self._collector_of.pop(job, None)
        if key is not None:
            self._collectors.pop(key, None)

    # The queue

    def _enqueue(self, scope: _Scope, effect: Enqueue) -> bool:
        return self._push(scope, effect.item, effect.partition)

    def _push(self, scope: _Scope, item: Item, partition: Partition | None) -> bool:
        job = item.job
        if item.run:
            state = scope.state
            if state is None or job in state.jobs:
                return False
            state.jobs.add(job)
            if partition is None:
                partition = state.run.partition(item.kind) if item.kind in CALLS else timers(item.fn)
        elif job in self._entries:
            return False
        else:
            state = None
        item = replace(item)
        entry = self._queue.add(
            item,
            partition or runner_items(item.fn),
            max(item.queued, scope.now),
            admitted=state.run.work if state is not None and item.kind is Kind.START else None,
        )
        self._entries[job] = entry
        if state is not None:
            state.entries[job] = entry
        elif item.kind is Kind.CRON:
            self._crons.setdefault(entry.part.definition.id, {})[item.name] = entry
        if item.kind in CALLS:
            scope.last = entry
        self._note_item(item, entry.part.definition)
        return True

    def _forget(self, entry: Entry, state: RunState | None, *, remember: bool) -> None:
        item = entry.item
        self._queue.remove(entry)
        del self._entries[item.job]
        if state is not None:
            state.entries.pop(item.job, None)
        elif item.kind is Kind.CRON:
            crons = self._crons.get(entry.part.definition.id, {})
            if crons.get(item.name) is entry:
                del crons[item.name]
        self._note_item_gone(item, remember=remember and state is not None)

    def _drop(self, scope: _Scope, effect: Drop) -> bool:
        entry = self._entries.get(effect.job)
        if entry is None or entry.state == State.LEASED or entry.item.run != scope.run_id:
            return False
        self._close_collector(effect.job)
        self._forget(entry, scope.state, remember=True)
        return True

    def _complete(self, scope: _Scope, effect: Complete) -> bool:
        if scope.leased is not None:
            self._forget(scope.leased, scope.state, remember=True)
        return True

    def _retry(self, scope: _Scope, effect: Retry) -> bool:
        entry = scope.leased
        if entry is None:
            return True
        item = entry.item
        if item.run and scope.state is None:
            self._forget(entry, None, remember=False)  # the run has ended meanwhile
            return True
        item.due = effect.due
        item.score = score(effect.due, scope.state.run.priority if scope.state is not None else 0)
        item.attempt = effect.attempt
        if effect.payload is not None:
            item.payload = effect.payload
        self._queue.unlease(entry, scope.now)
        self._note_item(item, entry.part.definition)
        return True

    def _reset_attempts(self, scope: _Scope, effect: ResetAttempts) -> bool:
        entry = self._entries.get(effect.job)
        if (
            scope.state is None
            or entry is None
            or entry.state != State.LEASED
            or entry.item.epoch != effect.epoch
        ):
            return False
        entry.until = max(entry.until, effect.until)
        if entry.item.attempt:
            entry.item.attempt = 0
            self._note_item(entry.item, entry.part.definition)
        return True

    # The run

    def _begin(self, scope: _Scope, effect: Begin) -> bool:
        if scope.state is None or scope.state.run.started:
            return False
        scope.state.run.started = effect.at
        self._changed(scope.state.run)
        return True

    def _changed(self, run: Run) -> None:
        run.revision += 1
        self._note_head(run)

    def _adopt(self, scope: _Scope, effect: Adopt) -> bool:
        if scope.state is None or scope.state.run.request_version >= 0:
            return False
        scope.state.run.request_version = effect.version
        self._changed(scope.state.run)
        return True

    def _force_plan(self, scope: _Scope, effect: ForcePlan) -> bool:
        if scope.state is None:
            return False
        if not scope.state.run.force_plan:
            scope.state.run.force_plan = True
            self._changed(scope.state.run)
        return True

    def _save_step(self, scope: _Scope, effect: SaveStep) -> bool:
        if scope.state is None:
            return False
        run = scope.state.run
        pending = effect.step in run.pending
        if not run.save_step(effect.step, effect.value):
            return False
        run.revision += 1
        self._note_step(run, effect.step, effect.value)
        if pending:
            self._note_head(run)
        return True

    def _await(self, scope: _Scope, effect: Await) -> bool:
        if scope.state is None:
            return False
        run = scope.state.run
        run.pending = {step for step in effect.steps if step not in run.steps}
        self._changed(run)
        return bool(run.pending)

    def _discover(self, scope: _Scope, effect: Discover) -> bool:
        if scope.state is None:
            return False
        run = scope.state.run
        if run.pending and not effect.item.race:
            return False
        alone = self._alone(scope.state, scope.leased)
        if not self._push(scope, effect.item, None):
            return False
        if alone and run.force_plan and run.request_version >= 2:
            run.force_plan = False
            self._changed(run)
        return True

    def _alone(self, state: RunState, leased: Entry | None) -> bool:
        """Whether nothing but the leased item can ask for another call: a step that is run at once, and not
        planned, must not be found by two.
        """
        return all(
            entry is leased or entry.item.kind in RUN_TIMEOUTS for entry in state.entries.values()
        ) and all(pause.kind is PauseKind.CANCEL for pause in state.pauses.values())

    def _put_pause(self, scope: _Scope, effect: PutPause) -> bool:
        state, pause = scope.state, effect.pause
        if state is None or pause.id in state.pauses or (pause.step and pause.step in state.run.steps):
            return False
        if effect.exclusive:
            others = [other for other in self._pauses.plain(pause.event) if other.run != pause.run]
            if others and effect.exclusive == "fail":
                return False
            for other in others:
                self._pauses.remove(other)
                self._note_pause_hidden(other)
        state.pauses[pause.id] = pause
        self._pauses.add(pause)
        self._note_pause(pause)
        return True

    def _signal_taken(self, scope: _Scope, effect: SignalTaken) -> bool:
        state = scope.state
        if state is not None and (effect.pause in state.pauses or effect.step in state.run.steps):
            return False
        return any(pause.run != scope.run_id for pause in self._pauses.plain(effect.name))

    def _take_pause(self, scope: _Scope, effect: TakePause) -> bool:
        state = scope.state
        pause = state.pauses.pop(effect.id, None) if state is not None else None
        if state is None or pause is None:
            return False
        self._pauses.remove(pause)
        self._note_pause_gone(pause)
        timeout = state.entries.get(pause.timeout_job)
        if timeout is not None and timeout is not scope.leased and timeout.state != State.LEASED:
            self._forget(timeout, state, remember=True)
        return True

    def _end_run(self, scope: _Scope, effect: EndRun) -> bool:
        state = scope.state
        if state is None:
            return False
        run = state.run
        scope.state = None
        scope.last = None
        del self._states[run.id]
        for pause in state.pauses.values():
            self._pauses.remove(pause)
        for entry in list(state.entries.values()):
            if entry.state != State.LEASED:
                self._queue.remove(entry)
                del self._entries[entry.item.job]
        if run.start.run_cell is not None:
            self._queue.release_run(run.start.run_cell, run.id)
        if run.lock and self._locks.get(run.lock) == run.id:
            del self._locks[run.lock]
            self._note_lock(run.lock, None)
        self._note_run_ended(run)
        return True

    # Schedules and the outbox

    def _set_crons(self, scope: _Scope, effect: SetCrons) -> bool:
        queued = self._crons.get(effect.partition.id, {})
        want = {item.name for item in effect.items}
        for name, entry in list(queued.items()):
            if name not in want and entry.state != State.LEASED:
                self._forget(entry, None, remember=False)
        for item in effect.items:
            if item.name not in queued:
                self._push(scope, item, effect.partition)
        return True

    def _emit(self, scope: _Scope, effect: Emit) -> bool:
        self._outbox_seq += 1
        self._events.append((self._outbox_seq, effect.event))
        self._note_event(self._outbox_seq, effect.event)
        self._has_events.set()
        return True

    def _record(self, scope: _Scope, effect: Record) -> bool:
        self._outbox_seq += 1
        self._history.append((self._outbox_seq, effect.entry))
        self._note_history(self._outbox_seq, effect.entry)
        self._has_history.set()
        return True

    def _on_ready(self, queue: Queue) -> None:
        self._ready[queue].set()


def _full(effect: Collect, count: int, payload: bytes) -> bool:
    if effect.last:
        return False
    return 0 < effect.max_size <= count or 0 < effect.max_bytes <= len(payload)


class _Stamped(msgspec.Struct):
    ts: int


def _collected_ts(payload: bytes) -> int:
    return msgspec.json.decode(payload, type=list[_Stamped])[0].ts
