"""The embedded event stream: numbers, cursors and what a crash leaves of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlite_bench import Disk, on_disk, sizes, snapshot

from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.stream import SqliteEventStream
from inngest.core.errors import StoreUnavailable
from inngest.core.model.events import Event


def events(*ids: str) -> list[Event]:
    return [Event(id=each, name="n", ts=1, received=1) for each in ids]


class World:
    """A stream and what a crash would leave of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[SqliteEventStream] = []

    async def open(self) -> SqliteEventStream:
        self.journal = Journal(self.path)
        stream = SqliteEventStream(self.journal)
        await stream.open()
        self.opened.append(stream)
        return stream

    async def crash(self) -> SqliteEventStream:
        self.path = snapshot(self.path)
        return await self.open()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "engine.db")
    yield world
    for stream in world.opened:
        await stream.close()


async def take(stream: SqliteEventStream, group: str, limit: int = 1000, *, ack: bool = True) -> list[str]:
    """All that waits for a group, in deliveries of at most ``limit``."""
    ids: list[str] = []
    while (delivery := await stream.fetch(group, limit, 0.001)) is not None:
        ids += [event.id for event in delivery.events]
        if ack:
            await stream.ack(group, delivery.token)
    return ids


async def test_groups_at_different_places(world: World) -> None:
    stream = await world.open()
    await stream.publish(events(*"abcd"))
    await stream.publish(events(*"ef"))
    first = await stream.fetch("runner", 3, 1)
    assert first is not None
    await stream.ack("runner", first.token)
    assert await take(stream, "indexer") == list("abcdef")
    await stream.publish(events("g"))
    stream = await world.crash()
    assert await stream.backlog("runner") == 4
    assert await take(stream, "runner", ack=False) == list("defg")
    assert await take(stream, "indexer") == ["g"]
    stream = await world.crash()
    assert await take(stream, "runner") == list("defg")


async def test_numbers_go_on_after_all_was_acknowledged(world: World) -> None:
    stream = await world.open()
    for round_ in range(4):
        ids = [f"{round_}-{n}" for n in range(3)]
        await stream.publish(events(*ids))
        assert await take(stream, "runner", 2) == ids
        assert await take(stream, "indexer", 2) == ids
        await world.journal.settled()
        assert on_disk(world.path, "stream") == []
        stream = await world.crash()
        assert await take(stream, "runner") == []


async def test_the_cursor_does_not_pass_a_gap(world: World) -> None:
    stream = await world.open()
    await stream.publish(events(*"abc"))
    first, second = await stream.fetch("runner", 1, 1), await stream.fetch("runner", 1, 1)
    assert first is not None
    assert second is not None
    await stream.ack("runner", second.token)
    await world.journal.settled()
    again = await world.crash()
    assert await take(again, "runner") == list("abc")


async def test_acknowledgements_in_any_order(world: World) -> None:
    stream = await world.open()
    await stream.publish(events(*"abcd"))
    deliveries = [await stream.fetch("runner", 1, 1) for _ in range(3)]
    for place in (2, 0, 1):
        delivery = deliveries[place]
        assert delivery is not None
        await stream.ack("runner", delivery.token)
        await stream.ack("runner", delivery.token)
    await world.journal.settled()
    assert await take(await world.crash(), "runner") == ["d"]


async def test_publishers_that_wait_for_room_keep_their_order(world: World) -> None:
    stream = await world.open()
    stream._capacity = 3
    publishers = [asyncio.create_task(stream.publish(events(f"{n}a", f"{n}b"))) for n in range(20)]
    seen: list[str] = []
    while len(seen) < 15:
        await asyncio.sleep(0)
        delivery = await stream.fetch("runner", 1, 1)
        assert delivery is not None
        seen += [event.id for event in delivery.events]
        await stream.ack("runner", delivery.token)
        other = await stream.fetch("indexer", 1, 1)
        assert other is not None
    done = sum(publisher.done() for publisher in publishers)
    assert done < 20
    await world.journal.settled()
    again = await world.crash()
    # What the first stream still holds for the runner is what the second one finds.
    assert await take(again, "runner") == [event.id for event in stream._groups["runner"].waiting]
    for publisher in publishers:
        publisher.cancel()
    await asyncio.gather(*publishers, return_exceptions=True)


async def test_a_full_disk_refuses_events(world: World) -> None:
    stream = await world.open()
    disk = Disk(world.journal)
    disk.fill()
    with pytest.raises(StoreUnavailable):
        await stream.publish([Event(id="a", name="n" * 100_000, ts=1, received=1)])
    with pytest.raises(StoreUnavailable):
        await stream.publish(events("b"))
    disk.free()
    await world.journal.settled()
    await stream.publish(events("c"))
    again = await world.crash()
    assert await take(again, "runner") == ["a", "c"]


async def test_what_is_acknowledged_leaves_the_file(world: World) -> None:
    stream = await world.open()
    for n in range(50):
        await stream.publish(events(*[f"{n}-{m}" for m in range(10)]))
        for group in ("runner", "indexer"):
            delivery = await stream.fetch(group, 7, 1)
            assert delivery is not None
            await stream.ack(group, delivery.token)
    assert sizes(world.path)["stream"] <= 50
    await take(stream, "runner")
    await take(stream, "indexer")
    await world.journal.settled()
    assert sizes(world.path)["stream"] == 0
