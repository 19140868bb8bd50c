"""Reading the state of an engine store back from its file.

A record that cannot be read is left out and told of; it stays in the file, unless it is all that is left of
a run: such a run has failed. What is lost otherwise is found like anything else that was: a run that nothing
moves is called again, or ends.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from inngest.backends.damage import Damage
from inngest.backends.lost import lost_run_entry
from inngest.backends.memory.collector import Collector
from inngest.backends.memory.state import EngineState, RunState
from inngest.backends.sqlite.notes import SqliteNotes, after, event_keys
from inngest.backends.sqlite.rows import (
    BODY,
    EVENT,
    HEAD,
    ITEM,
    PAUSE,
    STEP,
    Head,
    OpenPause,
    Place,
    QueuedItem,
)
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

_WEIGHTS = f"SELECT run, sum(length(value)) FROM state WHERE kind <= {STEP} GROUP BY run"  # noqa: S608

_BODY = f"SELECT value FROM state WHERE run = ? AND kind = {BODY}"  # noqa: S608

_NOT_OF_A_RECORD = (MemoryError, sqlite3.Error)

_json = msgspec.json.Decoder(msgspec.Raw).decode
_decode_collected = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Loader:
    """Fills an empty state. Raises `sqlite3.Error` if it is the file that is damaged, and not a record."""

    def __init__(
        self, db: sqlite3.Connection, state: EngineState, notes: SqliteNotes, damage: Damage
    ) -> None:
        self._db = db
        self._state = state
        self._notes = notes
        self._damage = damage
        self._items: list[Item] = []
        self._locks: list[str] = []
        self._lost: dict[str, str] = {}  # runs that cannot be read, and their functions where that is known
        self._thinned: list[tuple[Collector, int, list[str]]] = []
        self._words: dict[str, str] = {}
        self._known_partitions = lru_cache(maxsize=1024)(self._partitions)

    def tidy(self, now: int) -> None:
        """Have the rows deleted that lead to nothing any more. For the event loop's thread."""
        for run, fn in self._lost.items():
            self._notes.run_ended(run)
            if fn:
                self._state.record(lost_run_entry(run, fn, now))
        for item in self._items:
            self._notes.item_gone(item, remember=False)
        for key in self._locks:
            self._notes.lock(key, None)
        for collector, given, keys in self._thinned:
            self._notes.renumbered(collector, given, keys)

    def load(self) -> None:
        db, state, read = self._db, self._state, self._damage.read
        meta = self._numbers("meta")
        state.version = meta.get("registry", 0)
        for key, body in db.execute("SELECT id, body FROM apps"):
            if (app := read("app", key, _unpack_app, body)) is not None:
                state.apps[app.id] = app
        for key, body in db.execute("SELECT id, body FROM functions"):
            if (fn := read("function", key, _unpack_function, body)) is not None:
                state.functions[fn.id] = fn
        state.crons_version.update(self._numbers("crons"))
        for key, body in db.execute("SELECT key, value FROM cancellations"):
            if (cancellation := read("cancellation", key, _unpack_cancellation, body)) is not None:
                state.cancellations[cancellation.id] = cancellation
        self._load_runs()
        for key, holder in db.execute("SELECT key, run FROM locks"):
            if (lock := read("lock", key, _lock, holder)) is None:
                continue
            if lock[0] in state.runs:
                state.locks[key] = lock
            else:
                self._locks.append(key)
        self._load_outbox(meta)

    def _numbers(self, table: str) -> dict[str, int]:
        rows = self._db.execute(f"SELECT key, value FROM {table}")  # noqa: S608 -- names of our own
        found = {key: self._damage.read(table, key, _number, value) for key, value in rows}
        return {key: value for key, value in found.items() if value is not None}

    def _load_runs(self) -> None:
        """All runs rest, as far as memory is concerned."""
        runs = self._state.runs
        items: list[QueuedItem] = []
        pauses: list[OpenPause] = []
        collected: dict[str, dict[str, bytes]] = {}
        for row in self._db.execute(_ROWS):
            try:
                self._load_row(row, items, pauses, collected)
            except _NOT_OF_A_RECORD:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this row alone
                self._damage.met("row of a run", f"{row[0]!r} {row[1]!r} {row[2]!r}", error)
        for run, weight in self._db.execute(_WEIGHTS):
            if run in runs:
                runs[run].weight_at_rest = weight or 0
        items.sort(key=attrgetter("order"))
        for queued in items:
            try:
                self._load_item(queued, collected.get(queued.item.job, {}))
            except _NOT_OF_A_RECORD:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this item alone
                self._damage.met("item", queued.item.job, error)
        pauses.sort(key=lambda open_: (open_.pause.created, open_.pause.id))
        for open_ in pauses:
            self._load_pause(open_.pause, open_.hidden)
        for state in runs.values():
            if state.run_cell is not None and _admitted(state):
                self._state.queue.hold_run(state.run_cell, state.id)

    def _load_row(
        self,
        row: tuple[str, int, Any, bytes],
        items: list[QueuedItem],
        pauses: list[OpenPause],
        collected: dict[str, dict[str, bytes]],
    ) -> None:
        run, kind, key, value = row
        if not isinstance(run, str):
            raise TypeError("the id of its run is no text")
        runs = self._state.runs
        if kind == BODY:
            self._lost[run] = ""
            place = self._place(run, key)
            del self._lost[run]
            runs[run] = RunState(run, self._word(place.fn), place.created, place.run_cell)
            return
        if run and run not in runs:
            self._lost[run] = self._lost.get(run) or _function_of(kind, value)
            raise ValueError("its run is missing")
        if kind == HEAD:
            runs[run].evicted = _unpack_head(value).evicted
        elif kind == ITEM:
            items.append(self._shared_item(_unpack_item(value), runs.get(run)))
        elif kind == EVENT:
            collected.setdefault(key.rpartition("\x1f")[0], {})[key] = value
        elif kind == PAUSE:
            pauses.append(self._shared_pause(_unpack_pause(value), runs[run], items))
        else:
            raise ValueError("of an unknown kind")

    def _place(self, run: str, key: bytes) -> Place:
        """What the row of a run tells of it: by its key, or by itself, as an earlier release left it to."""
        if key:
            try:
                return _unpack_place(key)
            except (msgspec.MsgspecError, TypeError):
                pass
        (body,) = self._db.execute(_BODY, (run,)).fetchone()
        return _place(_unpack_run(body))

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

    def _load_item(self, queued: QueuedItem, events: dict[str, bytes]) -> None:
        state, item = self._state, queued.item
        run = state.runs[item.run] if item.run else None
        collector = self._collector(queued, events) if item.kind in {Kind.DEBOUNCE, Kind.BATCH} else None
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
        elif collector is not None:
            state.collected[item.job] = collector
            if queued.collector is not None:
                state.collectors[queued.collector.key] = collector

    def _collector(self, queued: QueuedItem, events: dict[str, bytes]) -> Collector:
        """Raises ValueError if none of its events can be read."""
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
            readable = {key: value for key, value in events.items() if self._is_json(key, value)}
            for event in [*given, *readable.values()]:
                collector.add(event)
            if not collector.events:
                raise ValueError("none of its events is left")
            if [*readable] != event_keys(item.job, len(given) + 1, len(collector.events)):
                self._thinned.append((collector, len(given), [*events]))
            item.payload = b""
        return collector

    def _is_json(self, key: str, value: bytes) -> bool:
        return self._damage.read("collected event", key, _json, value) is not None

    def _load_outbox(self, meta: dict[str, int]) -> None:
        state = self._state
        events_acked, history_acked = meta.get("outbox_events", 0), meta.get("outbox_history", 0)
        read, last = self._damage.read, max(events_acked, history_acked)
        for row, body in self._db.execute("SELECT seq, body FROM outbox_events ORDER BY seq"):
            last = max(last, row)
            state.events.slots.extend(
                after(read("internal events", str(row), _unpack_events, body) or [], events_acked)
            )
        for row, body in self._db.execute("SELECT seq, body FROM outbox_history ORDER BY seq"):
            last = max(last, row)
            for seq, packed in after(read("history", str(row), _unpack_history, body) or [], history_acked):
                if (entry := read("history", f"{row} {seq}", _entry, bytes(packed))) is not None:
                    state.history.slots.append((seq, entry))
        state.outbox_seq = last  # a row has the number of the last that is in it


def _entry(packed: bytes) -> History:
    """An entry of the outbox: its bytes, or as an earlier release wrote it."""
    try:
        return decode_history(_unpack_bytes(packed))
    except msgspec.ValidationError:
        return decode_history(packed)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("no number")
    return value


def _lock(holder: str) -> tuple[str, str]:
    """The run, and its order."""
    run, _, order = holder.partition(" ")
    return run, order


def _place(run: Run) -> Place:
    return Place(run.fn, run.created, run.start.run_cell)


def _admitted(state: RunState) -> bool:
    """Whether the run has been called, or is about to be: it has its place then."""
    return all(entry.admitted is None for entry in state.entries.values())


def _function_of(kind: int, value: bytes) -> str:
    """The function that a row of a run belongs to, empty if it does not say."""
    try:
        if kind == ITEM:
            return _unpack_item(value).item.fn
        return _unpack_pause(value).pause.fn if kind == PAUSE else ""
    except _NOT_OF_A_RECORD:
        raise
    except Exception:  # noqa: BLE001 -- then it does not say
        return ""
