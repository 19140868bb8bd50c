"""The disk side of the embedded store: what has changed in memory, written in groups.

State lives in memory; the file follows it. Changes are noted as they happen, and all that are noted when a
write begins go into one SQLite transaction, with one fsync. Whoever must not go on before its changes are
durable waits for the write that carries them, and shares it with everybody else's. So the file always holds
a prefix of what happened, and nothing has left the process that the file does not hold.

So what is noted must be writable: whoever changes something asks first (`packing.refuse_unwritable`). A
journal that cannot write it all the same has parted from memory for good: it is dead, and says so to all who
wait, to all who come, and to who watches (`Journal.died`), since the process has to end by it.

The statements of a transaction run in the event loop's thread, and only its COMMIT in another. Each row
that SQLite takes releases Python's global lock and asks for it again; in another thread that would be a wait
for the busy event loop, at every row.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog

from inngest.backends.sqlite.errors import is_full, may_pass
from inngest.backends.sqlite.migrations import MIGRATIONS
from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.loops.trouble import Trouble, described

log = structlog.get_logger("inngest.sqlite")

T = TypeVar("T")

LAZY_SECONDS = 0.05
"""How long changes that nobody waits for may stay unwritten."""
_CACHE_KIB = 16_384
RETRY_SECONDS = 5.0
"""The longest time between two attempts at a write that fails."""

SCHEMA_VERSION = len(MIGRATIONS)

PUT_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"

Statement = tuple[str, Sequence[Sequence[Any]]]
"""SQL, and the parameters of each execution."""

Source = Callable[[], Iterable[Statement]]
"""Gives what has changed since it was last asked, and forgets it."""


class _Group:
    """Who waits for one transaction: until it is written, or only as long as writing works."""

    __slots__ = ("impatient", "patient")

    def __init__(self) -> None:
        self.patient: list[asyncio.Future[None]] = []
        self.impatient: list[asyncio.Future[None]] = []


class Journal:
    """One SQLite file, owned by this process alone, and the group commit into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sources: list[Source] = []
        self._dirty = False
        self._current: _Group | None = None
        self._next = _Group()
        self._writing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure = ""
        """Why the last write failed; empty if it did not."""
        self._dead = asyncio.Event()
        self._closing = asyncio.Event()
        self._db: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._opened = 0
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()  # one transaction or look at a time

    def add_source(self, source: Source) -> None:
        self._sources.append(source)

    async def open(self) -> None:
        """Open or create the file. Several users may open and close it; it is open once.

        Raises:
            StoreUnusable: the file cannot be used: another process has it, it is no database, or of a newer
                version; or what is in memory is not what is in the file.
            StoreUnavailable: the disk is full.

        """
        async with self._opening:
            if self._dead.is_set():
                self.check()
            if self._db is None:
                self._closing.clear()
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
                try:
                    self._db = await self._in_thread(self._connect)
                except (sqlite3.Error, OSError) as error:
                    self._thread.shutdown(wait=False)
                    kind = StoreUnavailable if is_full(error) else StoreUnusable
                    raise kind(f"{self.path}: {_reason(error)}", system=str(self.path)) from None
            self._opened += 1

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            # Exclusive: one process owns the file, and WAL then needs no shared memory.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            # A transaction that outgrows the cache would else be written by the event loop's thread.
            db.execute("PRAGMA cache_spill = OFF")
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            db.execute("BEGIN IMMEDIATE")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise sqlite3.DatabaseError(
                    f"written by a newer release: its schema has version {version}, this one knows "
                    f"{SCHEMA_VERSION}"
                )
            for migrate in MIGRATIONS[version:]:
                migrate(db)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("INSERT INTO meta VALUES ('boots', 1) ON CONFLICT DO UPDATE SET value = value + 1")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    async def close(self) -> None:
        """Write what is unwritten, and close the file with the last of its users.

        Raises:
            StoreUnusable: the file is closed, but something that was noted is not in it.

        """
        async with self._opening:
            if not self._opened:
                return
            self._opened -= 1
            with suppress(StoreUnavailable):  # it may be written yet, or else is told of below
                await self.settled(patient=False)
            if not self._opened and not await self._shut():
                raise StoreUnusable(
                    f"{self.path}: the last changes are lost: {self._failure}", system=str(self.path)
                )

    async def _shut(self) -> bool:
        """Whether all that was noted is in the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            self._closing.set()
            await asyncio.wait({self._writing})
        whole = not self._dirty and self._current is None and not self._dead.is_set()
        db, self._db = self._db, None
        if db is not None:
            await self._in_thread(db.close)
        if self._thread is not None:
            self._thread.shutdown()
        return whole

    async def died(self) -> None:
        """Never return. Raises `StoreUnusable` when nothing can be written any more."""
        await self._dead.wait()
        self.check()

    async def ping(self) -> None:
        """Raises `StoreUnavailable` if the file is not open or cannot be written, as of the last attempt, and
        `StoreUnusable` if it never will.
        """
        self.check()
        db = self._connection()
        try:
            await self._in_thread(lambda: db.execute("PRAGMA schema_version").fetchone())
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self.path}: {error}", system=str(self.path)) from error

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Let ``work`` read the file, in the file's thread; before anything is noted.

        Raises:
            StoreUnusable: the file is damaged. What else ``work`` raises says nothing of the file.

        """
        db = self._connection()
        try:
            return await self._in_thread(lambda: work(db))
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self.path}: {described(error)}", system=str(self.path)) from error

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Let ``work`` read a little of the file, at any time, in the event loop's thread: in another, each
        row would be a wait for it. It sees what is written, and not what is noted.

        Raises:
            StoreUnavailable: the file is not open.
            StoreUnusable: it is damaged. What else ``work`` raises says nothing of the file.

        """
        async with self._turn:
            db = self._connection()
            try:
                return work(db)
            except sqlite3.Error as error:
                raise StoreUnusable(f"{self.path}: {described(error)}", system=str(self.path)) from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreUnavailable(f"{self.path} is not open", system=str(self.path))
        return self._db

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- group commit --

    def touch(self) -> None:
        """A source has something new. It will be written, soon even if nobody waits for it."""
        self._dirty = True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LAZY_SECONDS, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        self._begin()

    def _begin(self) -> None:
        if self._dirty and self._writing is None and self._db is not None and not self._dead.is_set():
            self._writing = asyncio.create_task(self._write())

    def check(self) -> None:
        """Raises `StoreUnavailable` if the last write failed, `StoreUnusable` if it was the last one ever."""
        if self._failure:
            raise self._error()

    def _error(self) -> StoreUnavailable:
        kind = StoreUnusable if self._dead.is_set() else StoreUnavailable
        return kind(f"{self.path} cannot be written: {self._failure}", system=str(self.path))

    async def settled(self, *, patient: bool = True) -> None:
        """Return when all that was noted so far is on disk.

        Args:
            patient: a full disk or the like is waited for; else it raises.

        Raises:
            StoreUnavailable: it is not on disk, and may be later; or the file is not open.
            StoreUnusable: it is not on disk, and never will be.

        """
        if self._dead.is_set():
            self.check()
        group = self._next if self._dirty else self._current
        if group is None:
            return
        self._connection()
        if not patient:
            self.check()
        self._begin()
        waiter = asyncio.get_running_loop().create_future()
        (group.patient if patient else group.impatient).append(waiter)
        await waiter

    async def _write(self) -> None:
        try:
            while self._dirty:
                self._current, self._next = self._next, _Group()
                self._dirty = False
                statements = [statement for source in self._sources for statement in source()]
                await self._until_written(statements)
                _wake(self._current.patient)
                _wake(self._current.impatient)
                self._current = None
        except BaseException as error:
            self._break(error)  # whatever it is, memory and file have parted
            if not isinstance(error, Exception):
                raise
        finally:
            self._writing = None

    async def _until_written(self, statements: list[Statement]) -> None:
        """A full disk or the like stops everything until it is mended: nothing is lost, nothing unwritten is
        confirmed.
        """
        with Trouble("sqlite.write") as trouble:
            while True:
                try:
                    await self._transact(statements)
                except sqlite3.Error as error:
                    if self._closing.is_set() or not may_pass(error):
                        raise
                    self._failure = str(error)
                    self._fail(patient=False)
                    trouble.met(self._error())
                    seconds = min(0.05 * 2 ** min(trouble.failures, 10), RETRY_SECONDS)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await self._closing.wait()
                else:
                    self._failure = ""
                    trouble.over()
                    return

    async def _transact(self, statements: list[Statement]) -> None:
        async with self._turn:
            db = self._connection()
            try:
                db.execute("BEGIN")
                for sql, rows in statements:
                    db.executemany(sql, rows)
                await self._in_thread(db.commit)
            except BaseException:
                if db.in_transaction:
                    db.rollback()
                raise

    def _fail(self, *, patient: bool) -> None:
        """Tell the impatient, or everybody who waits."""
        for group in (self._current, self._next):
            if group is not None:
                _wake(group.impatient, self._error)
                if patient:
                    _wake(group.patient, self._error)

    def _break(self, error: BaseException) -> None:
        """What is in memory will not be written any more: the file is closed, or there is a defect."""
        self._failure = described(error)
        self._dead.set()
        with suppress(Exception):
            log.critical("writing ends", action="sqlite.write", path=str(self.path), exc_info=error)
        self._fail(patient=True)


def _wake(waiters: list[asyncio.Future[None]], reason: Callable[[], StoreUnavailable] | None = None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue  # cancelled
        if reason is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(reason())  # one each: who raises it writes its own way into it
    waiters.clear()


def _reason(error: Exception) -> str:
    if "locked" in str(error):
        return "another process is using it; two servers cannot share one SQLite file"
    return str(error)
