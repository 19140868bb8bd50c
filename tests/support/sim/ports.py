"""All that the simulation knows of the shape of the ports: change it here when they change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.stream import SqliteEventStream
from inngest.core.model.runs import Leased, Queue
from inngest.ports.engine import Work

RUNNER_GROUP = "runner"
GROUPS = ("runner", "indexer")


# -- deliveries of the stream --


def token_of(delivery: Any) -> Any:
    return delivery.token if delivery is not None else None


def events_of(delivery: Any) -> Any:
    return delivery.events if delivery is not None else None


def deliver_again(stream: MemoryEventStream, group: str, token: int, events: Sequence[Any]) -> None:
    state = stream._groups[group]
    if state.unacked.pop(token, None) is None:
        return  # acknowledged after all, by one that was taken for dead
    state.waiting.extend(events)
    state.arrived.set()


# -- leases --


def snapshot(leased: Leased) -> Leased:
    """As it comes over a network: a copy, that does not follow what happens to the run."""
    run = leased.run
    return Leased(item=leased.item, run=run.copy() if run is not None else None, until=leased.until)


def work_of(work: Work) -> Work:
    return Work(items=[snapshot(leased) for leased in work.items], next_due=work.next_due)


# -- the stores --


class MemoryStores:
    """Systems that outlive every process."""

    embedded = False

    def __init__(self) -> None:
        self.engine = MemoryEngineStore()
        self.stream = MemoryEventStream()
        self.data = MemoryDataStore()

    async def open(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass


class SqliteStores:
    """Systems that live and die with the one process that has their files."""

    embedded = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal: _Journal | None = None
        self.full = False
        """No room is left on the disk."""

    async def open(self) -> None:
        self._journal = _Journal(self._folder / "engine.db")
        self.engine = SqliteEngineStore(self._journal)
        self.stream = SqliteEventStream(self._journal)
        self.data = SqliteDataStore(self._folder / "history.db")
        await self.engine.open()
        await self.stream.open()
        self._journal._db = _Disk(self._journal._db, self)
        await self.data.open()

    def abandon(self) -> None:
        """The process is dead: what it had not committed is gone."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal._broken = True
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


class _Disk:
    """A connection whose disk may be full."""

    def __init__(self, db: Any, stores: SqliteStores) -> None:
        self._db = db
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def executemany(self, *args: Any) -> Any:
        if self._stores.full:
            import sqlite3

            raise sqlite3.OperationalError("database or disk is full")
        return self._db.executemany(*args)


Stores = MemoryStores | SqliteStores


# -- what is left at the end --


async def unfinished(stores: Stores) -> dict[str, int]:
    """What is still under way; empty if nothing is."""
    stats = await stores.engine.stats()
    ticks = sum(len(crons) for crons in stores.engine._crons.values())
    found = {
        "runs": stats.runs,
        "items": stats.queued - ticks,
        "leased": stats.leased,
        "pauses": stats.pauses,
        "outbox": stats.outbox,
    }
    for group in GROUPS:
        found[f"stream for {group}"] = await stores.stream.backlog(group)
    return {what: count for what, count in found.items() if count}


async def stuck(stores: Stores) -> list[str]:
    """Runs with what they have, for people."""
    told = []
    for run_id, state in stores.engine._states.items():
        items = [
            f"{item.kind} {item.job.removeprefix(run_id)} due {item.due}"
            for item in await stores.engine.items(run_id)
        ]
        told.append(f"{run_id} of {state.run.slug}: items {items}, pauses {list(state.pauses)}")
    return told


def leftovers(stores: Stores) -> list[str]:
    """Capacity, partitions, locks and collectors that nothing holds any more."""
    engine = stores.engine
    queue = engine._queue
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
    found += [f"lock {key} of {run}" for key, run in engine._locks.items()]
    found += [f"collector {key}" for key in engine._collectors]
    if queue._leased:
        found.append(f"{len(queue._leased)} leases")
    return found


def cron_items(stores: Stores) -> dict[str, list[str]]:
    """The queued ticks of each function."""
    return {
        partition.partition("/")[0]: [entry.item.job for entry in crons.values()]
        for partition, crons in stores.engine._crons.items()
    }


QUEUES = tuple(Queue)
