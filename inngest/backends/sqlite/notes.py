"""What has changed in memory, as rows to write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from inngest.backends.memory.collector import Collector
from inngest.backends.memory.state import EngineState, RunState
from inngest.backends.sqlite.journal import PUT_META, Journal, Statement
from inngest.backends.sqlite.ledger import Ledger, SeenBook
from inngest.backends.sqlite.packing import pack
from inngest.backends.sqlite.rows import (
    BODY,
    EVENT,
    HEAD,
    ITEM,
    PAUSE,
    STEP,
    Head,
    OpenCollector,
    OpenPause,
    Place,
    QueuedItem,
)
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History, encode_history
from inngest.core.model.runs import CALLS, Item, Partition, Pause, Run

_GONE: Any = object()


def _pack_head(state: RunState) -> bytes:
    run = state.run
    return pack(
        Head(run.request_version, run.force_plan, run.started, run.pending, run.revision, state.evicted)
    )


_PACK: dict[int, Callable[[Any], bytes]] = {
    BODY: pack,
    HEAD: _pack_head,
    STEP: pack,
    ITEM: pack,
    PAUSE: pack,
    EVENT: bytes,
}


class _RunChanges:
    """What has changed of one run: the newest state of each row, encoded only when it is written."""

    __slots__ = ("created", "purge", "rows")

    def __init__(self) -> None:
        self.purge = False  # the rows in the file go first
        self.created = False  # its row will be written whole: no head and no steps beside it
        self.rows: dict[tuple[int, str | int | bytes], Any] = {}


class SqliteNotes:
    """See `inngest.backends.memory.notes.Notes`; ``statements`` gives what has changed since it was last
    asked. ``state`` is that which is followed, and ``written`` is told of the runs whose changes have reached
    the file, when it is asked again.
    """

    state: EngineState
    written: Callable[[Iterable[str]], None]

    def __init__(self, journal: Journal, ledger: Ledger, book: SeenBook) -> None:
        self._journal = journal
        self._ledger = ledger
        self._book = book
        self.order = 0
        self._runs: dict[str, _RunChanges] = {}
        self._under_way: dict[str, _RunChanges] = {}  # given to the journal, and maybe not in the file yet
        self._apps: dict[str, App] = {}
        self._functions: dict[str, Function] = {}
        self._locks: dict[str, str | None] = {}
        self._new_events: list[tuple[int, bytes]] = []
        self._new_history: list[tuple[int, bytes]] = []
        self._meta: dict[str, int] = {}
        self._crons: dict[str, int] = {}
        self._cancellations: dict[str, bytes | None] = {}

    def _of_run(self, run_id: str) -> _RunChanges:
        changes = self._runs.get(run_id)
        if changes is None:
            changes = self._runs[run_id] = _RunChanges()
            self._journal.touch()
        return changes

    def unwritten(self, run_id: str) -> bool:
        """Whether something of the run may not be in the file yet."""
        return run_id in self._runs or run_id in self._under_way

    def app(self, app: App) -> None:
        self._apps[app.id] = app
        self._journal.touch()

    def function(self, fn: Function) -> None:
        self._functions[fn.id] = fn
        self._journal.touch()

    def lock(self, key: str, holder: tuple[str, str] | None) -> None:
        self._locks[key] = " ".join(holder) if holder is not None else None
        self._journal.touch()

    def run(self, run: Run) -> None:
        changes = self._of_run(run.id)
        changes.created = True
        changes.rows[BODY, pack(Place(run.fn, run.created, run.start.run_cell))] = run

    def head(self, run: Run) -> None:
        changes = self._of_run(run.id)
        if not changes.created:
            changes.rows[HEAD, ""] = self.state.runs[run.id]

    def evicted(self, run: Run) -> None:
        self._of_run(run.id).rows[HEAD, ""] = self.state.runs[run.id]

    def step(self, run: Run, step: str, value: bytes) -> None:
        changes = self._of_run(run.id)
        if not changes.created:
            changes.rows[STEP, len(run.stack)] = (step, value)

    def run_ended(self, run_id: str) -> None:
        changes = self._of_run(run_id)
        changes.purge = changes.purge or not changes.created
        changes.created = False
        changes.rows.clear()

    def item(self, item: Item, partition: Partition, collector: Collector | None = None) -> None:
        self.order += 1
        implied = self._implied(item)
        explicit = partition if implied is None or partition.id != implied.id else None
        opened = OpenCollector(collector.key, collector.job, collector.opened) if collector else None
        self._of_run(item.run).rows[ITEM, item.job] = QueuedItem(self.order, item, opened, explicit)

    def _implied(self, item: Item) -> Partition | None:
        """The partition of an item for which none is written; None if that is not known."""
        if item.run and item.kind in CALLS:
            state = self.state.runs[item.run]
            return None if state.rests else state.run.partition(item.kind)
        return self.state.implied(item)

    def collected(self, item: Item, collector: Collector) -> None:
        number = len(collector.events)
        self._of_run("").rows[EVENT, event_key(item.job, number)] = collector.events[-1]

    def item_gone(self, item: Item, *, remember: bool) -> None:
        if not item.run or item.run in self.state.runs:  # else nothing of its run is left
            self._of_run(item.run).rows[ITEM, item.job] = None if remember else _GONE

    def collector_gone(self, collector: Collector) -> None:
        rows = self._of_run("").rows
        for key in event_keys(collector.job, 1, len(collector.events)):
            rows[EVENT, key] = _GONE

    def renumbered(self, collector: Collector, given: int, before: list[str]) -> None:
        """The events of a collector, but for those that its item has, are not as the file has them under the
        keys of ``before``.
        """
        rows = self._of_run("").rows
        rows.update(dict.fromkeys(((EVENT, key) for key in before), _GONE))
        keys = event_keys(collector.job, given + 1, len(collector.events))
        rows.update(zip(((EVENT, key) for key in keys), collector.events[given:], strict=True))

    def pause(self, pause: Pause) -> None:
        self._of_run(pause.run).rows[PAUSE, pause.id] = OpenPause(pause)

    def pause_hidden(self, pause: Pause) -> None:
        self._of_run(pause.run).rows[PAUSE, pause.id] = OpenPause(pause, hidden=True)

    def pause_gone(self, pause: Pause) -> None:
        self._of_run(pause.run).rows[PAUSE, pause.id] = _GONE

    def event(self, seq: int, event: bytes) -> None:
        self._new_events.append((seq, event))
        self._journal.touch()

    def history(self, seq: int, entry: History) -> None:
        self._new_history.append((seq, encode_history(entry)))
        self._journal.touch()

    def events_acked(self, seq: int) -> None:
        self._meta["outbox_events"] = seq
        self._journal.touch()

    def history_acked(self, seq: int) -> None:
        self._meta["outbox_history"] = seq
        self._journal.touch()

    def crons_set(self, partition: str, version: int) -> None:
        self._crons[partition] = version
        self._journal.touch()

    def cancellation(self, cancellation: Cancellation) -> None:
        self._cancellations[cancellation.id] = pack(cancellation)
        self._journal.touch()

    def cancellation_gone(self, cancellation_id: str) -> None:
        self._cancellations[cancellation_id] = None
        self._journal.touch()

    # -- writing --

    def statements(self) -> Iterator[Statement]:
        yield from self._registry_statements()
        yield from self._run_statements()
        yield from _replaced("locks", self._taken("_locks"))
        yield from _replaced("crons", self._taken("_crons"))
        yield from _replaced("cancellations", self._taken("_cancellations"))
        yield from self._ledger.statements()
        yield from self._book.statements()
        yield from self._outbox_statements()

    def _taken(self, name: str) -> dict[str, Any]:
        changed: dict[str, Any] = getattr(self, name)
        if changed:
            setattr(self, name, {})
        return changed

    def _registry_statements(self) -> Iterator[Statement]:
        if self._apps:
            yield "INSERT OR REPLACE INTO apps VALUES (?, ?)", _packed(self._apps)
            yield "INSERT OR REPLACE INTO functions VALUES (?, ?)", _packed(self._functions)
            self._apps, self._functions = {}, {}
            self._meta["registry"] = self.state.version

    def _run_statements(self) -> Iterator[Statement]:
        changed, self._runs = self._runs, {}
        before, self._under_way = self._under_way, changed
        self.written(before)
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
            yield "DELETE FROM state WHERE run = ?", purges
        if puts:
            yield "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", puts
        if drops:
            yield "DELETE FROM state WHERE run = ? AND kind = ? AND key = ?", drops

    def _outbox_statements(self) -> Iterator[Statement]:
        meta, self._meta = self._meta, {}
        events, self._new_events = after(self._new_events, meta.get("outbox_events", 0)), []
        if events:
            yield "INSERT INTO outbox_events VALUES (?, ?)", [(events[-1][0], pack(events))]
        history, self._new_history = after(self._new_history, meta.get("outbox_history", 0)), []
        if history:
            yield "INSERT INTO outbox_history VALUES (?, ?)", [(history[-1][0], pack(history))]
        if meta:
            yield PUT_META, list(meta.items())
        for box in ("outbox_events", "outbox_history"):
            if box in meta:
                yield f"DELETE FROM {box} WHERE seq <= ?", [(meta[box],)]  # noqa: S608 -- names of our own


def event_key(job: str, number: int) -> str:
    return f"{job}\x1f{number:06}"


def event_keys(job: str, first: int, last: int) -> list[str]:
    return [event_key(job, number) for number in range(first, last + 1)]


def _replaced(table: str, changed: dict[str, Any]) -> Iterator[Statement]:
    """For a table of keys and values; no value: the key is gone."""
    put = [(key, value) for key, value in changed.items() if value is not None]
    gone = [(key,) for key, value in changed.items() if value is None]
    if put:
        yield f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", put  # noqa: S608 -- names of our own
    if gone:
        yield f"DELETE FROM {table} WHERE key = ?", gone  # noqa: S608


def _packed(things: dict[str, Any]) -> list[tuple[str, bytes]]:
    return [(key, pack(thing)) for key, thing in things.items()]


T = TypeVar("T")


def after(slots: list[tuple[int, T]], seq: int) -> list[tuple[int, T]]:
    """What is numbered above ``seq``."""
    return [slot for slot in slots if slot[0] > seq] if seq else slots
