"""Where the embedded stores keep their data, and how they are crashed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, TypeVar

from inngest.backends.memory.clock import wall_clock
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.stream import SqliteEventStream

Clock = Callable[[], int]
S = TypeVar("S", SqliteEngineStore, SqliteEventStream)


class SqlitePlace(Generic[S]):
    """A folder. A crash goes on with a copy of the files as they are: that is what the kernel would keep."""

    def __init__(self, folder: Path, make: Callable[[Journal, Clock], S]) -> None:
        self._folder = folder
        self._make = make
        self._crashes = 0
        self._stores: list[S] = []

    @property
    def path(self) -> Path:
        return self._folder / str(self._crashes) / "engine.db"

    def store(self, clock: Clock = wall_clock) -> S:
        store = self._make(Journal(self.path), clock)
        self._stores.append(store)
        return store

    async def crash(self) -> None:
        left = self.path.parent
        self._crashes += 1
        shutil.copytree(left, self.path.parent)
        while self._stores:
            await self._stores.pop().close()


@asynccontextmanager
async def sqlite_engine(folder: Path) -> AsyncIterator[SqlitePlace[SqliteEngineStore]]:
    yield SqlitePlace(folder, SqliteEngineStore)


@asynccontextmanager
async def sqlite_engine_at_rest(folder: Path) -> AsyncIterator[SqlitePlace[SqliteEngineStore]]:
    """Each run is left to the file as soon as it is there."""
    yield SqlitePlace(folder, lambda journal, clock: SqliteEngineStore(journal, clock, awake=0))


@asynccontextmanager
async def sqlite_stream(folder: Path) -> AsyncIterator[SqlitePlace[SqliteEventStream]]:
    yield SqlitePlace(folder, lambda journal, _: SqliteEventStream(journal))
