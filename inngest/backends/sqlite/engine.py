"""The embedded engine store: the memory store, followed by a journal.

Leases are not written: after a restart nobody holds any, and what was being worked on is due again. Their
epochs go on above all earlier ones, so that an application which still reports on a call from before the
restart is refused.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from inngest.backends.memory.apply import Collector, RunState
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.expiring import Expiring
from inngest.backends.memory.queue import Entry
from inngest.backends.sqlite.journal import PUT_META, Journal, Statement
from inngest.backends.sqlite.packing import refuse_unwritable
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.runs import CALLS, Item, Kind, Partition, Pause, Run, runner_items, timers
from inngest.core.model.transition import Committed, Transition
from inngest.ports.engine import Take

EPOCHS_PER_BOOT = 1 << 20
"""More than any item is leased between two starts."""

# The kinds of rows under a run's id (under '', items of no run).
_BODY = 0  # the run, as it was when it was first written
_HEAD = 1  # what has changed of it since, but for steps
_STEP = 2  # key: its place in the stack
_ITEM = 3  # key: the job; no value: it is done, but its id is remembered
_PAUSE = 4

_GONE: Any = object()


class _Head(msgspec.Struct, array_like=True):
    request_version: int
    force_plan: bool
    started: int
    pending: set[str]
    revision: int


class _QueuedItem(msgspec.Struct, array_like=True):
    """``order`` tells which of two was queued first; ``partition`` is None if the item implies it."""

    order: int
    item: Item
    collector: Collector | None
    partition: Partition | None


class _OpenPause(msgspec.Struct, array_like=True):
    pause: Pause
    hidden: bool = False


_pack = msgspec.msgpack.Encoder().encode
_unpack_app = msgspec.msgpack.Decoder(App).decode
_unpack_function = msgspec.msgpack.Decoder(Function).decode
_unpack_run = msgspec.msgpack.Decoder(Run).decode
_unpack_head = msgspec.msgpack.Decoder(_Head).decode
_unpack_step = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
_unpack_item = msgspec.msgpack.Decoder(_QueuedItem).decode
_unpack_pause = msgspec.msgpack.Decoder(_OpenPause).decode
_unpack_history = msgspec.msgpack.Decoder(list[tuple[int, History]]).decode
_unpack_entries = msgspec.msgpack.Decoder(list[tuple[str, str, Any, int]]).decode
_unpack_events = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode


def _pack_head(run: Run) -> bytes:
    return _pack(_Head(run.request_version, run.force_plan, run.started, run.pending, run.revision))


_PACK = {_BODY: _pack, _HEAD: _pack_head, _STEP: _pack, _ITEM: _pack, _PAUSE: _pack}


class _RunChanges:
    """What has changed of one run: the newest state of each row, encoded only when it is written."""

    __slots__ = ("created", "purge", "rows")

    def __init__(self) -> None:
        self.purge = False  # the rows in the file go first
        self.created = False  # its row will be written whole: no head and no steps beside it
        self.rows: dict[tuple[int, str | int], Any] = {}


V = TypeVar("V")


class _Followed(Expiring[V]):
    """An `Expiring` that tells what is put into it; it outlives by itself."""

    __slots__ = ("_ledger", "_name")

    def __init__(self, name: str, ledger: _Ledger) -> None:
        super().__init__()
        self._name = name
        self._ledger = ledger

    def put(self, key: str, value: V, until: int) -> None:
        super().put(key, value, until)
        self._ledger.note(self._name, key, value, until)

    def drop(self, key: str) -> None:
        super().drop(key)
        self._ledger.note(self._name, key, None, 0)

    def expire(self, now: int, most: int = 4) -> list[str]:
        self._ledger.now = max(self._ledger.now, now)
        return super().expire(now, most)

    def restore(self, key: str, value: V, until: int) -> None:
        super().put(key, value, until)


class _Ledger:
    """What is put into the followed maps, in order, a row a write. A row goes when all in it is over."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._new: list[tuple[str, str, Any, int]] = []
        self._rows: list[tuple[int, int]] = []  # when it is over, its number; a heap
        self._last = 0
        self.now = 0

    def note(self, name: str, key: str, value: Any, until: int) -> None:
        self._new.append((name, key, value, until))
        self._journal.touch()

    def statements(self) -> Iterator[Statement]:
        if self._new:
            new, self._new = self._new, []
            self._last += 1
            heapq.heappush(self._rows, (max(until for _, _, _, until in new), self._last))
            yield "INSERT INTO expiring VALUES (?, ?)", [(self._last, _pack(new))]
        over = []
        while self._rows and self._rows[0][0] <= self.now:
            over.append((heapq.heappop(self._rows)[1],))
        if over:
            yield "DELETE FROM expiring WHERE seq = ?", over

    def load(self, db: sqlite3.Connection, maps: dict[str, _Followed[Any]]) -> None:
        for seq, body in db.execute("SELECT seq, body FROM expiring ORDER BY seq"):
            entries = _unpack_entries(body)
            self._last = seq
            heapq.heappush(self._rows, (max(until for _, _, _, until in entries), seq))
            for name, key, value, until in entries:
                maps[name].restore(key, value, until)


class SqliteEngineStore(MemoryEngineStore):
    """See `inngest.ports.engine.EngineStore`."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._ledger = _Ledger(journal)
        self._maps: dict[str, _Followed[Any]] = {
            name: _Followed(name, self._ledger) for name in ("claims", "tokens", "rates", "throttles")
        }
        self._claims = self._maps["claims"]
        self._tokens = self._maps["tokens"]
        self._tats = self._maps["rates"]
        self._queue.tats = self._maps["throttles"]
        self._order = 0
        self._run_changes: dict[str, _RunChanges] = {}
        self._app_changes: dict[str, App] = {}
        self._function_changes: dict[str, Function] = {}
        self._lock_changes: dict[str, str | None] = {}
        self._new_events: list[tuple[int, bytes]] = []
        self._new_history: list[tuple[int, History]] = []
        self._meta_changes: dict[str, int] = {}
        journal.add_source(self._statements)

    async def _settle(self) -> None:
        await self._journal.settled()

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        self._journal.check()
        refuse_unwritable(self._journal.path, [app, *functions])
        await super().put_app(app, functions)

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        refuse_unwritable(self._journal.path, transitions)
        return await super().commit(transitions, take=take)

    # -- notes --

    def _of_run(self, run_id: str) -> _RunChanges:
        changes = self._run_changes.get(run_id)
        if changes is None:
            changes = self._run_changes[run_id] = _RunChanges()
            self._journal.touch()
        return changes

    def _note_app(self, app: App) -> None:
        self._app_changes[app.id] = app
        self._journal.touch()

    def _note_function(self, fn: Function) -> None:
        self._function_changes[fn.id] = fn
        self._journal.touch()

    def _note_lock(self, key: str, run: str | None) -> None:
        self._lock_changes[key] = run
        self._journal.touch()

    def _note_run(self, run: Run) -> None:
        changes = self._of_run(run.id)
        changes.created = True
        # The store's own copy: it goes on changing until it is written.
        changes.rows[_BODY, ""] = self._states[run.id].run

    def _note_head(self, run: Run) -> None:
        changes = self._of_run(run.id)
        if not changes.created:
            changes.rows[_HEAD, ""] = run

    def _note_step(self, run: Run, step: str, value: bytes) -> None:
        changes = self._of_run(run.id)
        if not changes.created:
            changes.rows[_STEP, len(run.stack)] = (step, value)

    def _note_run_ended(self, run: Run) -> None:
        changes = self._of_run(run.id)
        changes.purge = changes.purge or not changes.created
        changes.created = False
        changes.rows.clear()

    def _note_item(self, item: Item, partition: Partition, collector: Collector | None = None) -> None:
        self._order += 1
        explicit = partition if partition.id != self._implied(item).id else None
        self._of_run(item.run).rows[_ITEM, item.job] = _QueuedItem(self._order, item, collector, explicit)

    def _implied(self, item: Item) -> Partition:
        if not item.run:
            return runner_items(item.fn)
        return self._states[item.run].run.partition(item.kind) if item.kind in CALLS else timers(item.fn)

    def _stamp(self, entry: Entry) -> None:
        super()._stamp(entry)
        definition = entry.part.definition
        if entry.admitted is not None and (definition.throttle or definition.run_cell is not None):
            # Leases are not written, but that a start has passed its gates is: it waits for them once.
            self._note_item(entry.item, entry.admitted)

    def _note_item_gone(self, item: Item, *, remember: bool) -> None:
        if remember or not item.run:  # else its run has ended, and nothing of it is left
            self._of_run(item.run).rows[_ITEM, item.job] = None if remember else _GONE

    def _note_pause(self, pause: Pause) -> None:
        self._of_run(pause.run).rows[_PAUSE, pause.id] = _OpenPause(pause)

    def _note_pause_hidden(self, pause: Pause) -> None:
        self._of_run(pause.run).rows[_PAUSE, pause.id] = _OpenPause(pause, hidden=True)

    def _note_pause_gone(self, pause: Pause) -> None:
        self._of_run(pause.run).rows[_PAUSE, pause.id] = _GONE

    def _note_event(self, seq: int, event: bytes) -> None:
        self._new_events.append((seq, event))
        self._journal.touch()

    def _note_history(self, seq: int, entry: History) -> None:
        self._new_history.append((seq, entry))
        self._journal.touch()

    def _note_events_acked(self, seq: int) -> None:
        self._meta_changes["outbox_events"] = seq
        self._journal.touch()

    def _note_history_acked(self, seq: int) -> None:
        self._meta_changes["outbox_history"] = seq
        self._journal.touch()

    # -- writing --

    def _statements(self) -> Iterator[Statement]:
        yield from self._registry_statements()
        yield from self._run_statements()
        yield from self._lock_statements()
        yield from self._ledger.statements()
        yield from self._outbox_statements()

    def _registry_statements(self) -> Iterator[Statement]:
        if self._app_changes:
            yield "INSERT OR REPLACE INTO apps VALUES (?, ?)", _packed(self._app_changes)
            yield "INSERT OR REPLACE INTO functions VALUES (?, ?)", _packed(self._function_changes)
            self._app_changes, self._function_changes = {}, {}
            self._meta_changes["registry"] = self._version

    def _run_statements(self) -> Iterator[Statement]:
        changed, self._run_changes = self._run_changes, {}
        purges, puts, drops = [], [], []
        for run, changes in changed.items():
            if changes.purge:
                purges.append((run,))
            for (kind, key), thing in changes.rows.items():
                if thing is _GONE:
                    drops.append((run, kind, key))
                else:
                    puts.append((run, kind, key, _PACK[kind](thing) if thing is not None else None))
        if purges:
            yield _PURGE, purges
        if puts:
            yield _PUT, puts
        if drops:
            yield _DROP, drops

    def _lock_statements(self) -> Iterator[Statement]:
        if self._lock_changes:
            changed, self._lock_changes = self._lock_changes, {}
            taken = [(key, run) for key, run in changed.items() if run is not None]
            yield "INSERT OR REPLACE INTO locks VALUES (?, ?)", taken
            yield "DELETE FROM locks WHERE key = ?", [(key,) for key, run in changed.items() if run is None]

    def _outbox_statements(self) -> Iterator[Statement]:
        acked, self._meta_changes = self._meta_changes, {}
        events, self._new_events = _after(self._new_events, acked.get("outbox_events", 0)), []
        if events:
            yield "INSERT INTO outbox_events VALUES (?, ?)", [(events[-1][0], _pack(events))]
        history, self._new_history = _after(self._new_history, acked.get("outbox_history", 0)), []
        if history:
            yield "INSERT INTO outbox_history VALUES (?, ?)", [(history[-1][0], _pack(history))]
        if acked:
            yield PUT_META, list(acked.items())
        for box in ("outbox_events", "outbox_history"):
            if box in acked:
                yield f"DELETE FROM {box} WHERE seq <= ?", [(acked[box],)]  # noqa: S608 -- names of our own

    # -- reading back --

    async def open(self) -> None:
        await self._journal.open()
        try:
            await self._journal.read(self._load)
        except BaseException:
            await self._journal.close()
            raise

    async def close(self) -> None:
        await self._journal.close()

    async def ping(self) -> None:
        await self._journal.ping()

    async def died(self) -> None:
        await self._journal.died()

    def _load(self, db: sqlite3.Connection) -> None:
        meta = dict(db.execute("SELECT key, value FROM meta"))
        self._epoch_base = (meta["boots"] - 1) * EPOCHS_PER_BOOT
        self._version = meta.get("registry", 0)
        for (body,) in db.execute("SELECT body FROM apps"):
            app = _unpack_app(body)
            self._apps[app.id] = app
        for (body,) in db.execute("SELECT body FROM functions"):
            fn = _unpack_function(body)
            self._functions[fn.id] = fn
        self._ledger.load(db, self._maps)
        self._load_state(db)
        for key, run in db.execute("SELECT key, run FROM locks"):
            if run in self._states:
                self._locks[key] = run
            else:
                self._lock_changes[key] = None
        self._load_outbox(db, meta)

    def _load_state(self, db: sqlite3.Connection) -> None:
        items: list[_QueuedItem] = []
        pauses: list[_OpenPause] = []
        for run, kind, key, value in db.execute("SELECT run, kind, key, value FROM state ORDER BY 1, 2, 3"):
            if kind == _BODY:
                self._states[run] = RunState(_unpack_run(value))
            elif kind == _HEAD:
                _apply(self._states[run].run, _unpack_head(value))
            elif kind == _STEP:
                self._states[run].run.save_step(*_unpack_step(value))
            elif kind == _ITEM:
                if run:
                    self._states[run].jobs.add(key)
                if value is not None:
                    items.append(_unpack_item(value))
            else:
                pauses.append(_unpack_pause(value))
        for queued in sorted(items, key=lambda queued: queued.order):
            self._load_item(queued)
        for open_ in sorted(pauses, key=lambda open_: (open_.pause.created, open_.pause.id)):
            self._states[open_.pause.run].pauses[open_.pause.id] = open_.pause
            if not open_.hidden:
                self._pauses.add(open_.pause)
        for state in self._states.values():
            # Steps saved since the head was written are counted once more than needed, never less.
            state.run.revision += len(state.run.stack)
            if state.run.start.run_cell is not None and _admitted(state):
                self._queue.hold_run(state.run.start.run_cell, state.run.id)

    def _load_item(self, queued: _QueuedItem) -> None:
        item, collector = queued.item, queued.collector
        partition = queued.partition or self._implied(item)
        work = self._states[item.run].run.work if item.kind is Kind.START else None
        if work is not None and partition.id == work.id:
            item.partition, work = work.id, None
        # At time zero nothing is due: the first lease sorts out what is.
        entry = self._queue.add(item, partition, 0, admitted=work)
        self._entries[item.job] = entry
        self._order = queued.order
        if item.run:
            self._states[item.run].entries[item.job] = entry
        elif item.kind is Kind.CRON:
            self._crons.setdefault(entry.part.definition.id, {})[item.name] = entry
        if collector is not None:
            self._collectors[collector.key] = collector
            self._collector_of[item.job] = collector.key

    def _load_outbox(self, db: sqlite3.Connection, meta: dict[str, int]) -> None:
        events_acked, history_acked = meta.get("outbox_events", 0), meta.get("outbox_history", 0)
        for (body,) in db.execute("SELECT body FROM outbox_events ORDER BY seq"):
            self._events.extend(_after(_unpack_events(body), events_acked))
        for (body,) in db.execute("SELECT body FROM outbox_history ORDER BY seq"):
            self._history.extend(_after(_unpack_history(body), history_acked))
        last = [box[-1][0] for box in (self._events, self._history) if box]
        self._outbox_seq = max(events_acked, history_acked, *last, 0)


def _apply(run: Run, head: _Head) -> None:
    run.request_version = head.request_version
    run.force_plan = head.force_plan
    run.started = head.started
    run.pending = head.pending
    run.revision = head.revision


def _admitted(state: RunState) -> bool:
    """Whether the run has been called, or is about to be: it has its place then."""
    return all(entry.admitted is None for entry in state.entries.values())


_PURGE = "DELETE FROM state WHERE run = ?"
_PUT = "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM state WHERE run = ? AND kind = ? AND key = ?"


def _packed(things: dict[str, Any]) -> list[tuple[str, bytes]]:
    return [(key, _pack(thing)) for key, thing in things.items()]


T = TypeVar("T")


def _after(slots: list[tuple[int, T]], seq: int) -> list[tuple[int, T]]:
    """What is numbered above ``seq``."""
    return [slot for slot in slots if slot[0] > seq] if seq else slots
