"""History leaves the data store when it is old enough, in small batches, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.events import Event
from inngest.core.model.ids import ulid
from inngest.ports.data import Count, DataStore, EventFilter
from inngest.services import janitor
from inngest.services.janitor import Janitor
from inngest.services.registry import RegistryCache
from inngest.services.runtime import Runtime

NOW = 1_790_000_000_000
HOUR = 3_600_000
EVERYTHING = EventFilter()


@pytest.fixture(params=["memory", "sqlite"])
async def data(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DataStore]:
    store = MemoryDataStore() if request.param == "memory" else SqliteDataStore(tmp_path / "history.db")
    await store.open()
    yield store
    await store.close()


def _janitor(data: DataStore, engine: MemoryEngineStore | None = None) -> Janitor:
    engine = engine or MemoryEngineStore(lambda: NOW)
    runtime = Runtime(engine=engine, stream=MemoryEventStream(), data=data, registry=RegistryCache(engine))
    return Janitor(runtime, 3600)


def _events(at: int, count: int) -> list[Event]:
    return [
        Event(id=ulid(at, number.to_bytes(10)), name="app/x", ts=at, received=at, data=Raw(b"{}"))
        for number in range(count)
    ]


async def test_what_is_old_enough_goes_and_the_rest_stays(
    data: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "BATCH", 10)
    monkeypatch.setattr(janitor, "_REST_SECONDS", 0.0)
    await data.put_events(_events(NOW - HOUR - 1, 35))
    await data.put_events(_events(NOW - HOUR + 1, 5))
    assert await _janitor(data).prune() == 35
    assert await data.count_events(EVERYTHING, most=9) == Count(5)


async def test_several_side_by_side_do_no_harm(data: DataStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "BATCH", 10)
    monkeypatch.setattr(janitor, "_REST_SECONDS", 0.0)
    await data.put_events(_events(NOW - 2 * HOUR, 100))
    await data.put_events(_events(NOW, 5))
    assert sum(await asyncio.gather(*(_janitor(data).prune() for _ in range(4)))) == 100
    assert await data.count_events(EVERYTHING, most=9) == Count(5)


async def test_bulk_cancellations_go_when_their_window_is_past(data: DataStore) -> None:
    engine = MemoryEngineStore(lambda: NOW)

    def ordered(name: str, created: int, until: int) -> Cancellation:
        return Cancellation(id=name, fn="f", slug="s", app_id="a", created=created, started_before=until)

    await engine.put_cancellation(ordered("old", NOW - 2 * HOUR, NOW - 2 * HOUR))
    await engine.put_cancellation(ordered("open", NOW - 2 * HOUR, NOW))
    await engine.put_cancellation(ordered("new", NOW, NOW - 2 * HOUR))
    await _janitor(data, engine).prune()
    assert sorted(each.id for each in await engine.cancellations()) == ["new", "open"]


async def test_it_works_by_itself_until_it_is_stopped(
    data: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "PERIOD_SECONDS", 0.001)
    await data.put_events(_events(NOW - 2 * HOUR, 3))
    one = _janitor(data)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(90):
        while (await data.count_events(EVERYTHING, most=9)).number:
            await asyncio.sleep(0.005)
    await one.drain(1)
    await asyncio.wait_for(running, 30)
