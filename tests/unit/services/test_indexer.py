"""The indexer: nothing that the data store does or cannot do stops history, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from data_stores import Story, event
from msgspec import Raw
from structlog.testing import capture_logs

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.core.errors import StoreDefect, StoreUnavailable
from inngest.core.model.events import Event
from inngest.core.model.history import History
from inngest.core.model.transition import Record, Transition
from inngest.loops import trouble
from inngest.ports.data import DataStore, EventFilter
from inngest.services.indexer import GROUP, Indexer
from inngest.services.registry import RegistryCache
from inngest.services.runtime import Runtime


class Bench:
    def __init__(self, data: DataStore) -> None:
        self.engine = MemoryEngineStore()
        self.stream = MemoryEventStream()
        self.data = data
        self.runtime = Runtime(
            engine=self.engine, stream=self.stream, data=data, registry=RegistryCache(self.engine)
        )
        self.indexer = Indexer(self.runtime)

    async def record(self, entries: Sequence[History]) -> None:
        """As a decision does it."""
        effects = [Record(entry=entry) for entry in entries]
        await self.engine.commit([Transition(fn="fn-1", run="", effects=list(effects))])

    async def waiting(self) -> list[History]:
        return (await self.engine.history.take(9999)).entries

    async def history(self, story: Story) -> list[History]:
        return (await self.data.history([story.id]))[story.id]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.indexer.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "backoff", lambda *_: asyncio.sleep(0.001))


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[SqliteDataStore]:
    store = SqliteDataStore(tmp_path / "history.db")
    await store.open()
    yield store
    await store.close()


async def test_a_bad_entry_is_set_apart_told_of_and_counted_and_the_rest_goes_on(
    data: SqliteDataStore,
) -> None:
    bench = Bench(data)
    story = Story(1).start(2).step(3, "a").step(4, "b").end(5)
    story.entries[2].queued = 2**70
    story.entries[3].name = "\ud800"
    with capture_logs() as logs:
        async with bench.running():
            await bench.record(story.entries)
            later = Story(6)
            await bench.record(later.entries)
            await until(lambda: _is_empty(bench))
    assert await bench.history(story) == [*story.entries[:2], story.entries[4]]
    assert await bench.history(later) == later.entries
    assert bench.indexer.counts.refused_history == 2
    told = [line["id"] for line in logs if line["action"] == "indexer.refused"]
    assert told == [entry.id for entry in story.entries[2:4]]


async def _is_empty(bench: Bench) -> bool:
    return not await bench.waiting()


class Defective(MemoryDataStore):
    """Fails, as a store should not, on some entries."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason
        self.bad: Callable[[History], bool] = lambda _: True
        self.puts = 0

    async def put_history(self, entries: Sequence[History]) -> None:
        self.puts += 1
        if any(map(self.bad, entries)):
            raise self.reason
        await super().put_history(entries)


@pytest.mark.parametrize("reason", [StoreDefect("script failed"), RuntimeError("no"), RecursionError()])
async def test_one_entry_on_which_the_store_fails_is_found_and_set_apart(reason: Exception) -> None:
    store = Defective(reason)
    bench = Bench(store)
    story = Story(1).start(2).step(3, "a").end(5)
    store.bad = lambda entry: entry.id == story.entries[2].id
    async with bench.running():
        await bench.record(story.entries)
        await until(lambda: _is_empty(bench))
    assert await bench.history(story) == [*story.entries[:2], story.entries[3]]
    assert bench.indexer.counts.refused_history == 1


async def test_a_store_that_fails_on_everything_loses_nothing() -> None:
    store = Defective(StoreDefect("script failed"))
    bench = Bench(store)
    story = Story(1).start(2).step(3, "a").end(5)
    async with bench.running():
        await bench.record(story.entries)
        await until(lambda: _seen(store, 20))
        assert await bench.waiting() == story.entries
        store.bad = lambda _: False
        await until(lambda: _is_empty(bench))
    assert await bench.history(story) == story.entries
    assert bench.indexer.counts.refused_history == 0


async def _seen(store: Defective, puts: int) -> bool:
    return store.puts >= puts


async def test_a_store_that_goes_away_in_the_search_loses_nothing() -> None:
    store = Defective(StoreDefect("script failed"))
    bench = Bench(store)
    story = Story(1).start(2).step(3, "a").end(5)

    def bad(entry: History) -> bool:
        if store.puts == 3:
            store.reason = StoreUnavailable("away")
        return entry is story.entries[3] or store.puts < 10

    store.bad = bad
    async with bench.running():
        await bench.record(story.entries)
        await until(lambda: _seen(store, 10))
        store.bad = lambda _: False
        await until(lambda: _is_empty(bench))
    assert await bench.history(story) == story.entries
    assert bench.indexer.counts.refused_history == 0


class Watched(SqliteDataStore):
    """Tells what it could not do for now."""

    refused: set[str]

    async def put_history(self, entries: Sequence[History]) -> None:
        with self._telling("history"):
            await super().put_history(entries)

    async def put_events(self, events: Sequence[Event]) -> None:
        with self._telling("events"):
            await super().put_events(events)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable:
            self.refused.add(what)
            raise


async def test_a_full_disk_under_the_data_file_loses_nothing(tmp_path: Path) -> None:
    data = Watched(tmp_path / "history.db")
    data.refused = set()
    await data.open()
    bench = Bench(data)
    first = Story(1).start(2)

    async def limit(pages: int) -> None:
        def set_limit() -> list[Any]:
            connection: sqlite3.Connection = data._connection(writable=True)
            used = connection.execute("PRAGMA page_count").fetchone()[0]
            return connection.execute(f"PRAGMA max_page_count = {used + pages}").fetchall()

        await data._submit(data._writer, set_limit)

    full = 0
    async with bench.running():
        await bench.record(first.entries)
        await until(lambda: _is_empty(bench))
        await limit(3)
        stories = [Story(at).start(at).step(at, "s", b'"%b"' % (b"x" * 500)).end(at) for at in range(10, 60)]
        events = [event(at, data=Raw(b'{"a":"%b"}' % (b"x" * 500))) for at in range(50)]
        with capture_logs() as logs:
            for story, one in zip(stories, events, strict=True):  # both go on being taken
                await bench.record(story.entries)
                await bench.stream.publish([one.encode()])
            await until(lambda: _refused(data))
            full = len(await bench.waiting())
        assert full > 0
        assert await bench.stream.backlog(GROUP) > 0
        # Once, though two wait for it, and both try again and again.
        assert len([line for line in logs if "full" in line.get("error", "")]) == 1
        await limit(100_000)
        await until(lambda: _is_empty(bench))
        await until(lambda: _no_backlog(bench))
    for story in (first, *stories):
        assert await bench.history(story) == story.entries
    kept = await data.events(EventFilter(), limit=99)
    assert sorted(map(_id, kept)) == [event.id for event in events]
    assert bench.indexer.counts.refused_history == 0
    await data.close()


async def _refused(data: Watched) -> bool:
    return data.refused == {"history", "events"}


async def _no_backlog(bench: Bench) -> bool:
    return await bench.stream.backlog(GROUP) == 0


def _id(one: Event) -> str:
    return one.id
