"""Reading the state of an engine store back from its file."""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from operator import attrgetter

import msgspec

from inngest.backends.memory.collector import Collector
from inngest.backends.memory.state import EngineState, RunState
from inngest.backends.sqlite.notes import SqliteNotes, after
from inngest.backends.sqlite.rows import BODY, EVENT, HEAD, ITEM, STEP, Head, OpenPause, Place, QueuedItem
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History, decode_history
from inngest.core.model.runs import CALLS, Item, Kind, Partition, Pause, Run

_unpack_app = msgspec.msgpack.Decoder(App).decode
_unpack_function = msgspec.msgpack.Decoder(Function).decode
_unpack_run = msgspec.msgpack.Decoder(Run).decode
_unpack_head = msgspec.msgpack.Decoder(Head).decode
_unpack_place = msgspec.msgpack.Decoder(Place).decode
_unpack_item = msgspec.msgpack.Decoder(QueuedItem).decode
_unpack_pause = msgspec.msgpack.Decoder(OpenPause).decode
_unpack_history = msgspec.msgpack.Decoder(list[tuple[int, msgspec.Raw]]).decode
_unpack_bytes = msgspec.msgpack.Decoder(bytes).decode
_unpack_events = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
_unpack_cancellation = msgspec.msgpack.Decoder(Cancellation).decode

# Bodies and steps are read when their run is; only an earlier release left it to the body who the run is.
_ROWS = f"""
SELECT run, kind, key, CASE WHEN kind <> {BODY} OR key = '' THEN value END FROM state
WHERE kind <> {STEP} AND (kind <> {ITEM} OR value IS NOT NULL) ORDER BY run, kind, key
"""  # noqa: S608 -- numbers of our own

_BODY = f"SELECT value FROM state WHERE run = ? AND kind = {BODY}"  # noqa: S608

_decode_collected = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Loader:
    """Fills an empty state. Raises `sqlite3.Error` and `msgspec.MsgspecError` for a damaged file."""

    def __init__(self, db: sqlite3.Connection, state: EngineState, notes: SqliteNotes) -> None:
        self._db = db
        self._state = state
        self._notes = notes
        self._items: list[Item] = []
        self._locks: list[str] = []
        self._words: dict[str, str] = {}
        self._known_partitions = lru_cache(maxsize=1024)(self._partitions)

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
        """All runs rest, as far as memory is concerned."""
        runs = self._state.runs
        items: list[QueuedItem] = []
        pauses: list[OpenPause] = []
        collected: dict[str, list[bytes]] = {}
        for run, kind, key, value in self._db.execute(_ROWS):
            if kind == BODY:
                place = _unpack_place(key) if key else _place(_unpack_run(value))
                runs[run] = RunState(run, self._word(place.fn), place.created, place.run_cell)
            elif kind == HEAD:
                runs[run].evicted = _unpack_head(value).evicted
            elif kind == ITEM:
                items.append(self._shared_item(_unpack_item(value), runs.get(run)))
            elif kind == EVENT:
                collected.setdefault(key.rpartition("\x1f")[0], []).append(value)
            else:
                pauses.append(self._shared_pause(_unpack_pause(value), runs[run], items))
        items.sort(key=attrgetter("order"))
        for queued in items:
            self._load_item(queued, collected.get(queued.item.job, []))
        pauses.sort(key=lambda open_: (open_.pause.created, open_.pause.id))
        for open_ in pauses:
            self._load_pause(open_.pause, open_.hidden)
        for state in runs.values():
            if state.run_cell is not None and _admitted(state):
                self._state.queue.hold_run(state.run_cell, state.id)

    def _word(self, text: str) -> str:
        """One text for all that are equal, for those that many records have."""
        return self._words.setdefault(text, text)

    def _shared_item(self, queued: QueuedItem, run: RunState | None) -> QueuedItem:
        item = queued.item
        if run is not None:
            item.run, item.fn = run.id, run.fn
            item.target, item.name = self._word(item.target), self._word(item.name)
            item.partition = self._word(item.partition)
        return queued

    def _shared_pause(self, open_: OpenPause, run: RunState, items: list[QueuedItem]) -> OpenPause:
        pause = open_.pause
        pause.run, pause.fn = run.id, run.fn
        pause.event, pause.partition = self._word(pause.event), self._word(pause.partition)
        pause.step, pause.name = self._word(pause.step), self._word(pause.name)
        pause.terms = [(self._word(path), value) for path, value in pause.terms]
        if items and items[-1].item.job == pause.timeout_job:
            pause.timeout_job = items[-1].item.job
        return open_

    def _load_pause(self, pause: Pause, hidden: bool) -> None:
        self._state.runs[pause.run].pauses[pause.id] = pause
        if not hidden:
            self._state.pauses.add(pause)

    def _partitions(self, run: str) -> tuple[Partition, Partition]:
        """Where the calls of a run wait: for its start, and after it."""
        (body,) = self._db.execute(_BODY, (run,)).fetchone()
        found = _unpack_run(body)
        return found.start, found.work

    def _places(self, queued: QueuedItem, run: RunState | None) -> tuple[Partition, Partition | None]:
        """The partition of an item, and that to which it belongs once it is leased, if that is another."""
        item, explicit = queued.item, queued.partition
        if run is None or item.kind not in CALLS or (explicit is not None and item.kind is not Kind.START):
            return explicit or self._state.implied(item), None
        start, work = self._known_partitions(run.id)
        if item.kind is not Kind.START:
            return work, None
        partition = explicit or start
        return partition, work if partition.id != work.id else None

    def _load_item(self, queued: QueuedItem, events: list[bytes]) -> None:
        state, item = self._state, queued.item
        run = state.runs[item.run] if item.run else None
        if run is not None and run.evicted and item.kind is not Kind.EVICT:
            self._items.append(item)  # it was leased when its run was evicted
            return
        partition, admitted = self._places(queued, run)
        if item.kind is Kind.START and admitted is None:
            item.partition = partition.id  # it has been leased
        # At time zero nothing is due: the first lease sorts out what is.
        entry = state.queue.add(item, partition, 0, admitted=admitted)
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


def _place(run: Run) -> Place:
    return Place(run.fn, run.created, run.start.run_cell)


def _admitted(state: RunState) -> bool:
    """Whether the run has been called, or is about to be: it has its place then."""
    return all(entry.admitted is None for entry in state.entries.values())
