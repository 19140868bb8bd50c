"""One suite for every engine store, every event stream and every data store.

A backend takes part by one entry in ``ENGINES`` or ``STREAMS``: an async context manager that prepares a
place for its data and yields a `Place`; or in ``data_stores.STORES``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pytest
from data_stores import STORES
from engine_bench import Bench
from redis_places import redis_engine, redis_stream
from sqlite_places import sqlite_engine, sqlite_engine_at_rest, sqlite_stream
from streams import Restartable

from inngest.backends.memory.clock import wall_clock
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.ports.data import DataStore
from inngest.ports.engine import EngineStore
from inngest.ports.stream import EventStream

S = TypeVar("S", covariant=True)


class Place(Protocol[S]):
    """Where a backend keeps its data."""

    def store(self, clock: Callable[[], int] = wall_clock) -> S:
        """A new store, not opened, on the data of this place. ``clock`` gives the time of an engine store."""

    async def crash(self) -> None:
        """End the stores made so far without any farewell, as far as one process can."""


class Backend(Generic[S]):
    """``durable``: the data outlive the store. ``shared``: several stores work on them at a time."""

    def __init__(
        self,
        place: Callable[[Path], AbstractAsyncContextManager[Place[S]]],
        *,
        durable: bool,
        shared: bool = False,
    ) -> None:
        self.place = place
        self.durable = durable
        self.shared = shared


class _Memory(Generic[S]):
    """Nothing outlives a store in memory."""

    def __init__(self, make: Callable[[Callable[[], int]], S]) -> None:
        self._make = make

    def store(self, clock: Callable[[], int] = wall_clock) -> S:
        return self._make(clock)

    async def crash(self) -> None:
        raise AssertionError("a store in memory does not come back")


@asynccontextmanager
async def memory_engine(_: Path) -> AsyncIterator[Place[EngineStore]]:
    yield _Memory(MemoryEngineStore)


@asynccontextmanager
async def memory_stream(_: Path) -> AsyncIterator[Place[EventStream]]:
    yield _Memory(lambda _: MemoryEventStream())


ENGINES: dict[str, Backend[EngineStore]] = {
    "memory": Backend(memory_engine, durable=False),
    "redis": Backend(redis_engine, durable=True, shared=True),
    "sqlite": Backend(sqlite_engine, durable=True),
    "sqlite-at-rest": Backend(sqlite_engine_at_rest, durable=True),
}

STREAMS: dict[str, Backend[EventStream]] = {
    "memory": Backend(memory_stream, durable=False),
    "redis": Backend(redis_stream, durable=True, shared=True),
    "sqlite": Backend(sqlite_stream, durable=True),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "durable: closes or crashes the store and expects all to be there")
    config.addinivalue_line("markers", "shared: opens several stores on the same data")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    durable, shared = (
        metafunc.definition.get_closest_marker(name) is not None for name in ("durable", "shared")
    )
    for fixture, backends in (("engine_backend", ENGINES), ("stream_backend", STREAMS)):
        if fixture in metafunc.fixturenames:
            names = [
                name
                for name, backend in backends.items()
                if backend.durable >= durable and backend.shared >= shared
            ]
            metafunc.parametrize(fixture, names, scope="function")


@pytest.fixture
async def engine(engine_backend: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """An engine store, empty and open, with the handles that tests move it by."""
    async with ENGINES[engine_backend].place(tmp_path) as place:
        bench = Bench(place)
        await bench.start()
        try:
            yield bench
        finally:
            await bench.store.close()


@pytest.fixture
async def stream_place(stream_backend: str, tmp_path: Path) -> AsyncIterator[Place[EventStream]]:
    async with STREAMS[stream_backend].place(tmp_path) as place:
        yield place


@pytest.fixture
async def stream(stream_place: Place[EventStream]) -> AsyncIterator[EventStream]:
    """An event stream with the groups "runner" and "indexer", empty and open."""
    made = stream_place.store()
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def durable_stream(stream_place: Place[EventStream]) -> AsyncIterator[Restartable]:
    """The same, for tests that end it and begin anew."""
    restartable = Restartable(stream_place)
    await restartable.start()
    yield restartable
    await restartable.stream.close()


@pytest.fixture(params=STORES)
async def data(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DataStore]:
    """A data store, empty and open."""
    store = await STORES[request.param](tmp_path)
    await store.open()
    yield store
    await store.close()
