"""All that the simulation knows of the shape of the ports: change it here when they change."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.stream import SqliteEventStream
from inngest.core.model.events import Event, decode_event
from inngest.core.model.runs import Leased
from inngest.ports.engine import Work
from inngest.ports.stream import Entry
from inngest.services.reader import read_event

GROUPS = ("runner", "indexer")

Clock = Callable[[], int]


# -- the stream --


def read(body: bytes) -> Event | None:
    """The event in a body, None if there is none."""
    try:
        return decode_event(body)
    except Exception:  # noqa: BLE001 -- as the reader of the stream sees it
        return None


def received(entry: Entry) -> Event | None:
    """The event of an entry, as its readers see it."""
    try:
        return read_event(entry)
    except Exception:  # noqa: BLE001 -- as the reader of the stream sees it
        return None


class SharedStream(MemoryEventStream):
    """A stream on a server: what one consumer leaves behind goes to another, which may be a day later."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._owed: dict[str, dict[int, Sequence[Entry]]] = {group: {} for group in GROUPS}

    async def fetch(self, group: str, limit: int, seconds: float) -> Any:
        delivery = await super().fetch(group, limit, seconds)
        if delivery is not None:
            assert isinstance(delivery.token, int)
            self._owed[group][delivery.token] = delivery.entries
        return delivery

    async def ack(self, group: str, token: Any) -> None:
        await super().ack(group, token)
        self._owed[group].pop(token, None)

    def deliver_again(self, group: str, token: int) -> None:
        """To whoever asks next, unless it was acknowledged after all, by one that was taken for dead."""
        state = self._groups[group]
        if state.unacked.pop(token, None) is not None:
            state.add(self._owed[group].pop(token))

    async def settled(self, group: str) -> int:
        # What comes again comes last here, however old it is.
        state = self._groups[group]
        times = [at for _, at in state.unacked.values()] + [entry.at for entry in state.waiting]
        for entries in self._owed[group].values():
            times += [entry.at for entry in entries]
        return min(times, default=self._at)


# -- leases --


def snapshot(leased: Leased) -> Leased:
    """As it comes over a network: a copy, that does not follow what happens to the run."""
    run = leased.run
    return Leased(item=leased.item, run=run.copy() if run is not None else None)


def work_of(work: Work) -> Work:
    return Work(items=[snapshot(leased) for leased in work.items], next_in=work.next_in)


# -- the stores --


class Stores:
    """The systems behind the processes.

    Attributes:
        embedded: they live and die with the one process that has them.
        seen: whatever happens in the engine store is seen by those who watch it, and in its order. Else what
            a process that died had done may come to light later.
        timed: clients of the engine store know its time as it does itself.

    """

    embedded = False
    seen = True
    timed = True
    full = False
    """No room is left on the disk."""
    engine: Any
    """As the world's own eye sees it."""
    stream: Any
    data: Any

    async def connect(self) -> Any:
        """The engine store, as a process that starts has it."""
        return self.engine

    async def leave(self, engine: Any) -> None:
        """A process that has it ends in order."""

    def abandon(self) -> None:
        """The process that has them is dead."""

    def close(self) -> None:
        """The seed is over."""

    # -- what is left at the end --

    async def unfinished(self) -> dict[str, int]:
        """What is still under way; empty if nothing is."""
        stats = await self.engine.stats()
        ticks = sum(map(len, self.cron_items().values()))
        found = {
            "runs": stats.runs,
            "items": stats.queued - ticks,
            "leased": stats.leased,
            "pauses": stats.pauses,
            "outbox": stats.outbox,
            "ticks": ticks,
        }
        for group in GROUPS:
            found[f"stream for {group}"] = await self.stream.backlog(group)
        return {what: count for what, count in found.items() if count}

    async def stuck(self) -> list[str]:
        """Runs with what they have, for people."""
        raise NotImplementedError

    def known_runs(self) -> set[str]:
        """Those that have not ended."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """Capacity, partitions, locks and collectors that nothing holds any more."""
        raise NotImplementedError

    def cron_items(self) -> dict[str, list[str]]:
        """The queued ticks of each function."""
        raise NotImplementedError

    async def letters(self) -> list[Any]:
        """All dead letters."""
        found: list[Any] = []
        while page := await self.stream.letters(found[-1].id if found else "", limit=100):
            found += page
        return found


class _InMemory(Stores):
    """Their engine store has all of its state in this process."""

    async def stuck(self) -> list[str]:
        told = []
        state = self.engine._state
        for run_id, run in state.runs.items():
            items = [
                f"{item.kind} {item.job.removeprefix(run_id)} due {item.due}"
                for item in await self.engine.items(run.run.fn, run_id)
            ]
            told.append(f"{run_id} of {run.run.slug}: items {items}, pauses {list(run.pauses)}")
        told += [f"{job}" for job, entry in state.entries.items() if not entry.item.run]
        return told

    def known_runs(self) -> set[str]:
        return set(self.engine._state.runs)

    def leftovers(self) -> list[str]:
        state = self.engine._state
        queue = state.queue
        cells = [
            f"cell {key}: {len(cell.holders)} holders, {len(cell.lines)} lines"
            for key, cell in queue._cells.items()
        ]
        found = [text for text in cells if not text.endswith("0 holders, 0 lines")]
        found += [
            f"partition {name} of size {part.size}"
            for name, part in queue._parts.items()
            if not name.endswith("/r")
        ]
        found += [f"lock {key} of {run}" for key, run in state.locks.items()]
        found += [f"collector {key}" for key in state.collectors]
        found += [f"collector of {job}" for job in state.collected]
        if queue._leased:
            found.append(f"{len(queue._leased)} leases")
        return found

    def cron_items(self) -> dict[str, list[str]]:
        return {
            partition.partition("/")[0]: [entry.item.job for entry in crons.values()]
            for partition, crons in self.engine._state.crons.items()
        }


class MemoryStores(_InMemory):
    """Systems that outlive every process."""

    def __init__(self, clock: Clock) -> None:
        self.engine = MemoryEngineStore(clock)
        self.stream = SharedStream(clock)
        self.data = MemoryDataStore()


class SqliteStores(_InMemory):
    """Systems that live and die with the one process that has their files."""

    embedded = True
    seen = False

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._journal: _Journal | None = None

    async def connect(self) -> Any:
        self._journal = _Journal(self._folder / "engine.db")
        self.engine = SqliteEngineStore(self._journal, clock=self._clock)
        self.stream = SqliteEventStream(self._journal, clock=self._clock)
        self.data = _Data(self._folder / "history.db", self)
        await self.engine.open()
        await self.stream.open()
        self._journal._db = _Disk(self._journal._db, self)
        await self.data.open()
        return self.engine

    async def leave(self, engine: Any) -> None:
        await engine.close()

    def abandon(self) -> None:
        # What it had not committed is gone.
        journal, self._journal = self._journal, None
        if journal is not None:
            journal._dead.set()
            journal._db = None
            for db in journal.connections:
                db.close()
            for connection in self.data._connections:
                connection.close()
            self.data._connections.clear()

    close = abandon


class _Journal(Journal):
    """Knows its connection from the moment when there is one: a process may die in the middle of opening."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.connections: list[Any] = []

    def _connect(self) -> Any:
        db = super()._connect()
        self.connections.append(db)
        return db


class _Data(SqliteDataStore):
    """Its file is on the same disk."""

    def __init__(self, path: Path, stores: SqliteStores) -> None:
        super().__init__(path)
        self._stores = stores

    def _connection(self, *, writable: bool) -> Any:
        return _Disk(super()._connection(writable=writable), self._stores)


class _Disk:
    """A connection whose disk may be full."""

    def __init__(self, db: Any, stores: SqliteStores) -> None:
        self._db = db
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, sql: str, *args: Any) -> Any:
        if sql.lstrip().startswith(("INSERT", "UPDATE")):
            self._check()
        return self._db.execute(sql, *args)

    def executemany(self, *args: Any) -> Any:
        self._check()
        return self._db.executemany(*args)

    def _check(self) -> None:
        if self._stores.full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
