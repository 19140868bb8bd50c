"""Reading the state of an engine store back from its file."""

from __future__ import annotations

import sqlite3

import msgspec

from inngest.backends.memory.collector import Collector
from inngest.backends.memory.state import EngineState, RunState
from inngest.backends.sqlite.notes import (
    BODY,
    EVENT,
    HEAD,
    ITEM,
    STEP,
    Head,
    OpenPause,
    QueuedItem,
    SqliteNotes,
    after,
)
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History, decode_history
from inngest.core.model.runs import Item, Kind, Run

_unpack_app = msgspec.msgpack.Decoder(App).decode
_unpack_function = msgspec.msgpack.Decoder(Function).decode
_unpack_run = msgspec.msgpack.Decoder(Run).decode
_unpack_head = msgspec.msgpack.Decoder(Head).decode
_unpack_step = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
_unpack_item = msgspec.msgpack.Decoder(QueuedItem).decode
_unpack_pause = msgspec.msgpack.Decoder(OpenPause).decode
_unpack_history = msgspec.msgpack.Decoder(list[tuple[int, msgspec.Raw]]).decode
_unpack_bytes = msgspec.msgpack.Decoder(bytes).decode
_unpack_events = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
_unpack_cancellation = msgspec.msgpack.Decoder(Cancellation).decode
_decode_collected = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Loader:
    """Fills an empty state. Raises `sqlite3.Error` and `msgspec.MsgspecError` for a damaged file."""

    def __init__(self, db: sqlite3.Connection, state: EngineState, notes: SqliteNotes) -> None:
        self._db = db
        self._state = state
        self._notes = notes
        self._items: list[Item] = []
        self._locks: list[str] = []

    def tidy(self) -> None:
        """Have the rows deleted that lead to nothing any more. For the event loop's thread."""
        for item in self._items:
            self._notes.item_gone(item, remember=False)
        for key in self._locks:
            self._notes.lock(key, None)

    def load(self) -> None:
        db, state = self._db, self._state
        meta = dict(db.execute("SELECT key, value FROM meta"))
        state.version = meta.get("registry", 0)
        for (body,) in db.execute("SELECT body FROM apps"):
            app = _unpack_app(body)
            state.apps[app.id] = app
        for (body,) in db.execute("SELECT body FROM functions"):
            fn = _unpack_function(body)
            state.functions[fn.id] = fn
        state.crons_version.update(db.execute("SELECT key, value FROM crons"))
        for (body,) in db.execute("SELECT value FROM cancellations"):
            cancellation = _unpack_cancellation(body)
            state.cancellations[cancellation.id] = cancellation
        self._load_runs()
        for key, holder in db.execute("SELECT key, run FROM locks"):
            run, _, order = holder.partition(" ")
            if run in state.runs:
                state.locks[key] = (run, order)
            else:
                self._locks.append(key)
        self._load_outbox(meta)

    def _load_runs(self) -> None:
        runs = self._state.runs
        items: list[QueuedItem] = []
        pauses: list[OpenPause] = []
        collected: dict[str, list[bytes]] = {}
        rows = self._db.execute("SELECT run, kind, key, value FROM state ORDER BY 1, 2, 3")
        for run, kind, key, value in rows:
            if kind == BODY:
                runs[run] = RunState(_unpack_run(value))
            elif kind == HEAD:
                _apply(runs[run], _unpack_head(value))
            elif kind == STEP:
                runs[run].run.save_step(*_unpack_step(value))
            elif kind == ITEM:
                if run:
                    runs[run].jobs.add(key)
                if value is not None:
                    items.append(_unpack_item(value))
            elif kind == EVENT:
                collected.setdefault(key.rpartition("\x1f")[0], []).append(value)
            else:
                pauses.append(_unpack_pause(value))
        for queued in sorted(items, key=lambda queued: queued.order):
            self._load_item(queued, collected.get(queued.item.job, []))
        for open_ in sorted(pauses, key=lambda open_: (open_.pause.created, open_.pause.id)):
            runs[open_.pause.run].pauses[open_.pause.id] = open_.pause
            if not open_.hidden:
                self._state.pauses.add(open_.pause)
        for state in runs.values():
            # Steps saved since the head was written are counted once more than needed, never less.
            state.run.revision += len(state.run.stack)
            if state.run.start.run_cell is not None and _admitted(state):
                self._state.queue.hold_run(state.run.start.run_cell, state.run.id)

    def _load_item(self, queued: QueuedItem, events: list[bytes]) -> None:
        state, item = self._state, queued.item
        run = state.runs[item.run] if item.run else None
        if run is not None and run.evicted and item.kind is not Kind.EVICT:
            self._items.append(item)  # it was leased when its run was evicted
            return
        partition = queued.partition or self._notes.implied(item)
        work = run.run.work if run is not None and item.kind is Kind.START else None
        if work is not None and partition.id == work.id:
            item.partition, work = work.id, None
        # At time zero nothing is due: the first lease sorts out what is.
        entry = state.queue.add(item, partition, 0, admitted=work)
        state.entries[item.job] = entry
        self._notes.order = queued.order
        if run is not None:
            run.entries[item.job] = entry
        elif item.kind is Kind.CRON:
            state.crons.setdefault(entry.part.definition.id, {})[item.name] = entry
        elif item.kind in {Kind.DEBOUNCE, Kind.BATCH}:
            self._load_collector(queued, events)

    def _load_collector(self, queued: QueuedItem, events: list[bytes]) -> None:
        item, opened = queued.item, queued.collector
        collector = Collector(
            key=opened.key if opened else "",
            job=item.job,
            opened=opened.opened if opened else 0,
            last=item.kind is Kind.DEBOUNCE,
        )
        if not collector.last:
            # An earlier release kept the events in the item.
            given = [bytes(raw) for raw in _decode_collected(item.payload)] if item.payload else []
            for event in given + events:
                collector.add(event)
            item.payload = b""
        self._state.collected[item.job] = collector
        if opened is not None:
            self._state.collectors[opened.key] = collector

    def _load_outbox(self, meta: dict[str, int]) -> None:
        state = self._state
        events_acked, history_acked = meta.get("outbox_events", 0), meta.get("outbox_history", 0)
        for (body,) in self._db.execute("SELECT body FROM outbox_events ORDER BY seq"):
            state.events.slots.extend(after(_unpack_events(body), events_acked))
        for (body,) in self._db.execute("SELECT body FROM outbox_history ORDER BY seq"):
            for seq, entry in after(_unpack_history(body), history_acked):
                state.history.slots.append((seq, _entry(bytes(entry))))
        last = [box.slots[-1][0] for box in (state.events, state.history) if box.slots]
        state.outbox_seq = max(events_acked, history_acked, *last, 0)


def _entry(packed: bytes) -> History:
    """An entry of the outbox: its bytes, or as an earlier release wrote it."""
    try:
        return decode_history(_unpack_bytes(packed))
    except msgspec.ValidationError:
        return decode_history(packed)


def _apply(state: RunState, head: Head) -> None:
    run = state.run
    run.request_version = head.request_version
    run.force_plan = head.force_plan
    run.started = head.started
    run.pending = head.pending
    run.revision = head.revision
    state.evicted = head.evicted


def _admitted(state: RunState) -> bool:
    """Whether the run has been called, or is about to be: it has its place then."""
    return all(entry.admitted is None for entry in state.entries.values())
