# ruff: noqa: S608 -- nothing but the names of columns and the marks of parameters is put into SQL
"""The data store in a SQLite file: one thread writes, a few read, and the event loop waits for neither."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from inngest.backends.damage import Damage
from inngest.backends.sqlite.data_rows import (
    LISTED,
    RUN,
    EventRows,
    HistoryRows,
    event_ids,
    marks,
    put,
    record_of,
    text,
)
from inngest.backends.sqlite.data_schema import migrate
from inngest.backends.sqlite.errors import is_busy, is_damaged, is_full
from inngest.core.errors import StoreRefused, StoreUnavailable, StoreUnusable
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.events import Event, decode_event
from inngest.core.model.history import History, decode_history
from inngest.core.model.records import RunRecord
from inngest.ports.data import (
    Count,
    EventFilter,
    Position,
    Refusal,
    RunFilter,
    TimeField,
    refused,
)

T = TypeVar("T")
Row = tuple[Any, ...]

_decode_cancellation = msgspec.msgpack.Decoder(Cancellation).decode

_READERS = 2
_CHUNK = 500  # parameters of one statement
_FREED_PAGES = 2000  # returned to the file system after a prune


class SqliteDataStore:
    """See `inngest.ports.data.DataStore`. An acknowledged write is on disk (``synchronous=FULL``)."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="history-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="history-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._damage = Damage(str(path))

    @property
    def damaged(self) -> int:
        return self._damage.count

    async def open(self) -> None:
        try:
            await self._submit(self._writer, self._create)
        except StoreUnavailable as error:
            if is_full(error.__cause__) or is_busy(error.__cause__):
                raise
            raise StoreUnusable(str(error), system=str(self._path)) from error.__cause__

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._shut)

    async def ping(self) -> None:
        await self._write(lambda _: None)

    def _shut(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in reversed(self._connections):  # the writer's, which is the first, sums up the log
            connection.close()
        self._connections.clear()

    def _connection(self, *, writable: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            connection.text_factory = text
            with self._lock:
                self._connections.append(connection)
            if writable:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            else:
                connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA busy_timeout = 10000")
            self._local.connection = connection
        return connection

    def _create(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        migrate(self._connection(writable=True), self._path)

    async def _submit(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, work)
        except (sqlite3.Error, OSError) as error:
            kind = StoreUnusable if is_damaged(error) else StoreUnavailable
            raise kind(f"{self._path}: {error}", system=str(self._path)) from error
        except (OverflowError, UnicodeError) as error:  # in a parameter
            raise StoreRefused(f"{self._path}: {error}", system=str(self._path)) from error

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transact() -> T:
            connection = self._connection(writable=True)
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._undo(connection)
                raise
            return result

        return await self._submit(self._writer, transact)

    def _undo(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:  # it is of no more use; what went wrong before is what counts
            with self._lock:
                self._connections.remove(connection)
            connection.close()
            self._local.connection = None

    async def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._submit(self._readers, lambda: query(self._connection(writable=False)))

    async def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        return await self._ask(lambda connection: connection.execute(sql, parameters).fetchall())

    # -- the indexer --

    async def put_events(self, events: Sequence[Event]) -> None:
        refusals = await self._write(lambda connection: put(connection, events, EventRows))
        self._refuse("event", refusals)

    async def put_history(self, entries: Sequence[History]) -> None:
        refusals = await self._write(lambda connection: put(connection, entries, HistoryRows))
        self._refuse("history", refusals)

    def _refuse(self, what: str, refusals: Sequence[Refusal]) -> None:
        if refusals:
            raise refused(str(self._path), what, refusals)

    async def prune(self, before: int, limit: int = 10_000) -> int:
        count = await self._write(lambda connection: self._prune(connection, before, limit))
        if count:
            await self._submit(self._writer, self._shrink)
        return count

    def _prune(self, connection: sqlite3.Connection, before: int, limit: int) -> int:
        # By row id: the id of a damaged run may not even be text.
        old = connection.execute(
            "SELECT rowid, id, events FROM runs WHERE ended > 0 AND ended < ? ORDER BY ended LIMIT ?",
            (before, limit),
        ).fetchall()
        rows = [(row,) for row, _, _ in old]
        of_run = "run = (SELECT id FROM runs WHERE rowid = ?)"
        connection.executemany(
            f"DELETE FROM run_events WHERE event = ? AND {of_run}",
            [
                (event, row)
                for row, run, events in old
                for event in self._damage.read("run", run, event_ids, events) or ()
            ],
        )
        connection.executemany(f"DELETE FROM history WHERE {of_run}", rows)
        connection.executemany("DELETE FROM runs WHERE rowid = ?", rows)
        # CROSS JOIN: from the event to its few runs, not through all runs that go on.
        events = connection.execute(
            "DELETE FROM events WHERE id IN (SELECT id FROM events e WHERE received < ? AND NOT EXISTS"
            " (SELECT 1 FROM run_events CROSS JOIN runs ON runs.id = run WHERE event = e.id AND ended = 0)"
            " ORDER BY received LIMIT ?)",
            (before, limit),
        ).rowcount
        return len(old) + events

    def _shrink(self) -> None:
        self._connection(writable=True).execute(f"PRAGMA incremental_vacuum({_FREED_PAGES})").fetchall()

    # -- reading what may be damaged --

    async def _page(
        self, what: str, sql: str, parameters: Sequence[object], limit: int, decode: Callable[[Any], T]
    ) -> list[T]:
        """Up to ``limit`` records, of rows that begin with their key; those that are damaged do not count."""

        def page(connection: sqlite3.Connection) -> list[T]:
            found: list[T] = []
            passed = 0
            connection.execute("BEGIN")  # all of it as of one moment
            try:
                while wanted := limit - len(found):
                    rows = connection.execute(
                        f"{sql} LIMIT ? OFFSET ?", (*parameters, wanted, passed)
                    ).fetchall()
                    passed += len(rows)
                    for key, *rest in rows:
                        record = self._damage.read(what, key, decode, rest)
                        if record is not None:
                            found.append(record)
                    if len(rows) < wanted:
                        break
            finally:
                connection.execute("ROLLBACK")
            return found

        return await self._ask(page)

    # -- events --

    async def events(self, where: EventFilter, *, after: str = "", limit: int) -> list[Event]:
        conditions = _event_conditions(where)
        if after:
            conditions.add("id < ?", after)
        sql = f"SELECT id, event FROM events {conditions} ORDER BY id DESC"
        return await self._page("event", sql, conditions.parameters, limit, lambda row: decode_event(*row))

    async def count_events(self, where: EventFilter, *, most: int) -> Count:
        return await self._count("events", _event_conditions(where), most)

    async def _count(self, table: str, conditions: _Conditions, most: int) -> Count:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {table} {conditions} LIMIT ?)"
        ((number,),) = await self._read(sql, (*conditions.parameters, most + 1))
        return Count(min(number, most), exact=number <= most)

    async def events_by_id(self, ids: Sequence[str]) -> list[Event]:
        rows = await self._read_of("SELECT id, event FROM events WHERE id IN ({})", ids)
        found = {
            key: event for key, raw in rows if (event := self._damage.read("event", key, decode_event, raw))
        }
        return [found[each] for each in ids if each in found]

    async def _read_of(self, sql: str, ids: Sequence[str]) -> list[Row]:
        """The rows of all ids, for which ``{}`` stands in the SQL, in one turn of a reader."""

        def query(connection: sqlite3.Connection) -> list[Row]:
            chunks = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
            return [row for ids in chunks for row in connection.execute(sql.format(marks(ids)), ids)]

        return await self._ask(query) if ids else []

    # -- runs --

    async def run(self, run_id: str) -> RunRecord | None:
        rows = await self._read(f"{RUN} WHERE id = ?", (run_id,))
        return self._damage.read("run", run_id, record_of, rows[0]) if rows else None

    async def runs(
        self,
        where: RunFilter,
        *,
        order: TimeField = TimeField.QUEUED,
        descending: bool = True,
        after: Position | None = None,
        limit: int,
    ) -> list[RunRecord]:
        conditions = _run_conditions(where)
        direction, relation = ("DESC", "<") if descending else ("ASC", ">")
        if after is not None:
            conditions.add(f"({order}, id) {relation} (?, ?)", *after)
        sql = f"SELECT id, {LISTED} FROM runs {conditions} ORDER BY {order} {direction}, id {direction}"
        return await self._page("run", sql, conditions.parameters, limit, record_of)

    async def count_runs(self, where: RunFilter, *, most: int) -> Count:
        return await self._count("runs", _run_conditions(where), most)

    async def runs_of(self, event_ids: Sequence[str]) -> dict[str, list[RunRecord]]:
        sql = f"SELECT event, {LISTED} FROM run_events JOIN runs ON runs.id = run WHERE event IN ({{}})"
        found: dict[str, list[RunRecord]] = {event: [] for event in event_ids}
        for event, *columns in await self._read_of(sql, list(found)):
            record = self._damage.read("run", columns[0], record_of, tuple(columns))
            if record is not None:
                found[event].append(record)
        for records in found.values():
            records.sort(key=lambda record: record.id)
        return found

    async def outputs(self, run_ids: Sequence[str]) -> dict[str, bytes]:
        sql = "SELECT id, output FROM runs WHERE output IS NOT NULL AND id IN ({})"
        return dict(await self._read_of(sql, run_ids))

    async def history(self, run_ids: Sequence[str]) -> dict[str, list[History]]:
        sql = "SELECT run, place, entry FROM history WHERE run IN ({})"
        found: dict[str, list[History]] = {run: [] for run in run_ids}
        rows = await self._read_of(sql, list(found))
        rows.sort(key=lambda row: row[1])
        for run, place, raw in rows:
            entry = self._damage.read("history", f"{run} {place}", decode_history, raw)
            if entry is not None:
                found[run].append(entry)
        return found

    # -- what release 1 has left --

    async def left_cancellations(self) -> list[Cancellation]:
        rows = await self._read("SELECT id, cancellation FROM cancellations ORDER BY id")
        found = (self._damage.read("cancellation", key, _decode_cancellation, raw) for key, raw in rows)
        return [each for each in found if each is not None]

    async def forget_cancellation(self, cancellation_id: str) -> None:
        sql = "DELETE FROM cancellations WHERE id = ?"
        await self._write(lambda connection: connection.execute(sql, (cancellation_id,)))


class _Conditions:
    """A WHERE clause under construction."""

    def __init__(self) -> None:
        self._terms: list[str] = []
        self.parameters: list[object] = []

    def add(self, term: str, *parameters: object) -> None:
        self._terms.append(term)
        self.parameters += parameters

    def add_any(self, column: str, values: Iterable[str]) -> None:
        chosen = list(values)
        if chosen:
            self.add(f"{column} IN ({marks(chosen)})", *chosen)

    def add_window(self, column: str, since: int, until: int) -> None:
        if since:
            self.add(f"{column} >= ?", since)
        if until:
            self.add(f"{column} < ?", until)

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._terms)}" if self._terms else ""


def _event_conditions(where: EventFilter) -> _Conditions:
    conditions = _Conditions()
    conditions.add_any("name", where.names)
    if not where.names and not where.internal:
        conditions.add("internal = 0")
    conditions.add_window("received", where.since, where.until)
    return conditions


def _run_conditions(where: RunFilter) -> _Conditions:
    conditions = _Conditions()
    conditions.add_any("status", where.statuses)
    conditions.add_any("fn", where.fns)
    conditions.add_any("app", where.apps)
    conditions.add_window(where.field, where.since, where.until)
    return conditions
