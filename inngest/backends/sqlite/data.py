# ruff: noqa: S608 -- nothing but the names of columns and the marks of parameters is put into SQL
"""The data store in a SQLite file: one thread writes, a few read, and the event loop waits for neither."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from inngest.backends.sqlite.errors import is_busy, is_full
from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.core.model.events import RESERVED, Event, decode_event
from inngest.core.model.history import History, What
from inngest.core.model.records import RunRecord, opened
from inngest.core.model.runs import RunStatus
from inngest.ports.data import EventFilter, Position, RunFilter, TimeField

T = TypeVar("T")

_READERS = 2
_CHUNK = 500  # parameters of one statement
_FREED_PAGES = 2000  # returned to the file system after a prune

MIGRATIONS: Final = (
    """
    CREATE TABLE events (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, received INTEGER NOT NULL, internal INTEGER NOT NULL,
        event BLOB NOT NULL
    );
    CREATE INDEX events_internal ON events (internal, id);
    CREATE INDEX events_name ON events (name, id);
    CREATE INDEX events_received ON events (received);
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, fn TEXT NOT NULL, slug TEXT NOT NULL, app TEXT NOT NULL, status TEXT NOT NULL,
        queued INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL, events TEXT NOT NULL,
        version INTEGER NOT NULL, cron TEXT NOT NULL, batch TEXT NOT NULL, original TEXT NOT NULL,
        payload BLOB, output BLOB, reason TEXT NOT NULL, existing TEXT NOT NULL
    );
    CREATE INDEX runs_queued ON runs (queued, id);
    CREATE INDEX runs_started ON runs (started, id);
    CREATE INDEX runs_ended ON runs (ended, id);
    CREATE INDEX runs_fn ON runs (fn, queued, id);
    CREATE INDEX runs_status ON runs (status, queued, id);
    CREATE TABLE run_events (event TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (event, run)) WITHOUT ROWID;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, digest BLOB NOT NULL, entry BLOB NOT NULL,
        UNIQUE (run, digest)
    );
    CREATE TABLE cancellations (id TEXT PRIMARY KEY, cancellation BLOB NOT NULL);
    """,
)
"""SQL by schema version, from 1; what was released never changes."""

_COLUMNS = RunRecord.__struct_fields__
_RUN = f"SELECT {', '.join(_COLUMNS)} FROM runs"
_EVENTS_AT = _COLUMNS.index("events")
_STATUS_AT = _COLUMNS.index("status")
_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(History).decode
_decode_ids = msgspec.json.Decoder(list[str]).decode


class SqliteDataStore:
    """See `inngest.ports.data.DataStore`. An acknowledged write survives the process, and a power cut at most
    costs the last moments: what feeds the store delivers again.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="history-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="history-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    async def open(self) -> None:
        try:
            await self._submit(self._writer, self._create)
        except StoreUnavailable as error:
            if is_full(error.__cause__) or is_busy(error.__cause__):
                raise
            raise StoreUnusable(str(error)) from error.__cause__

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
            with self._lock:
                self._connections.append(connection)
            if writable:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            else:
                connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA busy_timeout = 10000")
            self._local.connection = connection
        return connection

    def _create(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._migrate(self._connection(writable=True))

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied TEXT NOT NULL)"
        )
        (done,) = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()
        if done > len(MIGRATIONS):
            known = len(MIGRATIONS)
            raise StoreUnusable(
                f"{self._path} has schema version {done}, written by a newer release; this one knows {known}"
            )
        for version in range(done + 1, len(MIGRATIONS) + 1):
            applied = f"INSERT INTO migrations VALUES ({version}, datetime('now'));"
            connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[version - 1]} {applied} COMMIT;")

    async def _submit(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, work)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transact() -> T:
            connection = self._connection(writable=True)
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self._submit(self._writer, transact)

    async def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        def query() -> list[tuple[Any, ...]]:
            return self._connection(writable=False).execute(sql, parameters).fetchall()

        return await self._submit(self._readers, query)

    # -- the indexer --

    async def put_events(self, events: Sequence[Event]) -> None:
        def put(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)",
                [(e.id, e.name, e.received, e.name.startswith(RESERVED), e.encode()) for e in events],
            )

        await self._write(put)

    async def put_history(self, entries: Sequence[History]) -> None:
        await self._write(lambda connection: _put_history(connection, entries))

    async def prune(self, before: int, limit: int = 10_000) -> int:
        count = await self._write(lambda connection: _prune(connection, before, limit))
        if count:
            await self._submit(self._writer, self._shrink)
        return count

    def _shrink(self) -> None:
        self._connection(writable=True).execute(f"PRAGMA incremental_vacuum({_FREED_PAGES})").fetchall()

    # -- events --

    async def events(self, where: EventFilter, *, after: str = "", limit: int) -> list[Event]:
        conditions = _event_conditions(where)
        if after:
            conditions.add("id < ?", after)
        sql = f"SELECT event FROM events {conditions} ORDER BY id DESC LIMIT ?"
        rows = await self._read(sql, (*conditions.parameters, limit))
        return [decode_event(event) for (event,) in rows]

    async def count_events(self, where: EventFilter) -> int:
        conditions = _event_conditions(where)
        rows = await self._read(f"SELECT count(*) FROM events {conditions}", conditions.parameters)
        return int(rows[0][0])

    async def events_by_id(self, ids: Sequence[str]) -> list[Event]:
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            rows = await self._read(f"SELECT id, event FROM events WHERE id IN ({_marks(chunk)})", chunk)
            found.update(rows)
        return [decode_event(found[each]) for each in ids if each in found]

    # -- runs --

    async def run(self, run_id: str) -> RunRecord | None:
        rows = await self._read(f"{_RUN} WHERE id = ?", (run_id,))
        return _record(rows[0]) if rows else None

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
        sql = f"{_RUN} {conditions} ORDER BY {order} {direction}, id {direction} LIMIT ?"
        return [_record(row) for row in await self._read(sql, (*conditions.parameters, limit))]

    async def count_runs(self, where: RunFilter) -> int:
        conditions = _run_conditions(where)
        rows = await self._read(f"SELECT count(*) FROM runs {conditions}", conditions.parameters)
        return int(rows[0][0])

    async def runs_of(self, event_id: str) -> list[RunRecord]:
        sql = f"{_RUN} WHERE id IN (SELECT run FROM run_events WHERE event = ?) ORDER BY id"
        return [_record(row) for row in await self._read(sql, (event_id,))]

    async def history(self, run_id: str) -> list[History]:
        rows = await self._read("SELECT entry FROM history WHERE run = ? ORDER BY id", (run_id,))
        return [_decode_entry(entry) for (entry,) in rows]


def _put_history(connection: sqlite3.Connection, entries: Sequence[History]) -> None:
    # Kind by kind rather than one by one: within a run the kinds come in this order anyway.
    runs, events, started, ended = [], [], [], []
    for entry in entries:
        record = opened(entry)
        if record is not None:
            runs.append(_row(record))
            events += [(event, record.id) for event in record.events]
        elif entry.what is What.STARTED:
            started.append((entry.started or entry.at, entry.run))
        elif entry.what is What.ENDED:
            ended.append((entry.outcome, entry.at, entry.value, entry.run))
    connection.executemany(f"INSERT OR IGNORE INTO runs VALUES ({_marks(_COLUMNS)})", runs)
    connection.executemany("INSERT OR IGNORE INTO run_events VALUES (?, ?)", events)
    connection.executemany(
        f"UPDATE runs SET started = ?, status = '{RunStatus.RUNNING}'"
        " WHERE id = ? AND started = 0 AND ended = 0",
        started,
    )
    connection.executemany(
        "UPDATE runs SET status = ?, ended = ?, output = ? WHERE id = ? AND ended = 0", ended
    )
    encoded = [(entry.run, _encode(entry)) for entry in entries]
    connection.executemany(
        "INSERT OR IGNORE INTO history (run, digest, entry)"
        " SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?1)",
        [(run, blake2b(entry, digest_size=16).digest(), entry) for run, entry in encoded],
    )


def _prune(connection: sqlite3.Connection, before: int, limit: int) -> int:
    old = connection.execute(
        "SELECT id, events FROM runs WHERE ended > 0 AND ended < ? ORDER BY ended LIMIT ?", (before, limit)
    ).fetchall()
    ids = [(run,) for run, _ in old]
    connection.executemany("DELETE FROM history WHERE run = ?", ids)
    connection.executemany("DELETE FROM runs WHERE id = ?", ids)
    connection.executemany(
        "DELETE FROM run_events WHERE event = ? AND run = ?",
        [(event, run) for run, events in old for event in _decode_ids(events)],
    )
    # CROSS JOIN: from the event to its few runs, not through all runs that go on.
    events = connection.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events e WHERE received < ? AND NOT EXISTS"
        " (SELECT 1 FROM run_events CROSS JOIN runs ON runs.id = run WHERE event = e.id AND ended = 0)"
        " ORDER BY received LIMIT ?)",
        (before, limit),
    ).rowcount
    return len(old) + events


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
            self.add(f"{column} IN ({_marks(chosen)})", *chosen)

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


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _row(record: RunRecord) -> list[object]:
    row: list[object] = [getattr(record, name) for name in _COLUMNS]
    row[_EVENTS_AT] = msgspec.json.encode(record.events).decode()
    return row


def _record(row: Sequence[Any]) -> RunRecord:
    fields = list(row)
    fields[_EVENTS_AT] = _decode_ids(fields[_EVENTS_AT])
    fields[_STATUS_AT] = RunStatus(fields[_STATUS_AT])
    return RunRecord(*fields)
