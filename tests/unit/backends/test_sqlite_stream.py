"""The embedded event stream: numbers, cursors, windows, and what a crash leaves of them."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_bench import Disk, on_disk, sizes, snapshot
from streams import take as take_bodies
from structlog.testing import capture_logs

from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.stream import SqliteEventStream
from inngest.core.errors import StoreUnavailable, StoreUnusable


def bodies(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


class World:
    """A stream and what a crash would leave of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[SqliteEventStream] = []

    async def open(self, **options: Any) -> SqliteEventStream:
        self.journal = Journal(self.path)
        stream = SqliteEventStream(self.journal, **options)
        await stream.open()
        self.opened.append(stream)
        return stream

    async def crash(self, **options: Any) -> SqliteEventStream:
        self.path = snapshot(self.path)
        return await self.open(**options)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "engine.db")
    yield world
    for stream in world.opened:
        await stream.close()


async def take(stream: SqliteEventStream, group: str, limit: int = 1000, *, ack: bool = True) -> list[str]:
    return [body.decode() for body in await take_bodies(stream, group, limit, ack=ack)]


async def test_groups_at_different_places(world: World) -> None:
    stream = await world.open()
    await stream.publish(bodies(*"abcd"))
    await stream.publish(bodies(*"ef"))
    first = await stream.fetch("runner", 3, 1)
    assert first is not None
    await stream.ack("runner", first.token)
    assert await take(stream, "indexer") == list("abcdef")
    await stream.publish(bodies("g"))
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
        await stream.publish(bodies(*ids))
        assert await take(stream, "runner", 2) == ids
        assert await take(stream, "indexer", 2) == ids
        await world.journal.settled()
        assert on_disk(world.path, "stream") == []
        stream = await world.crash()
        assert await take(stream, "runner") == []


async def test_the_cursor_does_not_pass_a_gap(world: World) -> None:
    stream = await world.open()
    await stream.publish(bodies(*"abc"))
    first, second = await stream.fetch("runner", 1, 1), await stream.fetch("runner", 1, 1)
    assert first is not None
    assert second is not None
    await stream.ack("runner", second.token)
    await world.journal.settled()
    again = await world.crash()
    assert await take(again, "runner") == list("abc")


async def test_acknowledgements_in_any_order(world: World) -> None:
    stream = await world.open()
    await stream.publish(bodies(*"abcd"))
    deliveries = [await stream.fetch("runner", 1, 1) for _ in range(3)]
    for place in (2, 0, 1):
        delivery = deliveries[place]
        assert delivery is not None
        await stream.ack("runner", delivery.token)
        await stream.ack("runner", delivery.token)
    await world.journal.settled()
    assert await take(await world.crash(), "runner") == ["d"]


async def test_a_full_disk_refuses_bodies(world: World) -> None:
    stream = await world.open()
    disk = Disk(world.journal)
    disk.fill()
    with pytest.raises(StoreUnavailable):
        await stream.publish([b"a" * 100_000])
    with pytest.raises(StoreUnavailable):
        await stream.publish(bodies("refused at once"))
    # What is not on disk may be lost, so it is not said to have settled, and no letter can be kept.
    delivery = await stream.fetch("runner", 10, 1)
    assert delivery is not None
    for call in (stream.settled("runner"), stream.bury("runner", delivery.entries, "bad")):
        with pytest.raises(StoreUnavailable):
            await call
    await stream.ack("runner", delivery.token)
    disk.free()
    await world.journal.settled()
    await stream.publish(bodies("c"))
    again = await world.crash()
    assert await take(again, "runner") == ["c"]
    assert await take(again, "indexer") == ["a" * 100_000, "c"]
    assert (await again.dead()).letters == 0


async def test_what_is_acknowledged_leaves_the_file(world: World) -> None:
    stream = await world.open()
    for n in range(50):
        await stream.publish(bodies(*[f"{n}-{m}" for m in range(10)]))
        for group in ("runner", "indexer"):
            delivery = await stream.fetch(group, 7, 1)
            assert delivery is not None
            await stream.ack(group, delivery.token)
    assert sizes(world.path)["stream"] <= 500
    await take(stream, "runner")
    await take(stream, "indexer")
    await world.journal.settled()
    assert sizes(world.path)["stream"] == 0


# -- windows --

SMALL = 3000


async def test_a_group_that_lags_is_given_all_from_the_file(world: World) -> None:
    stream = await world.open(window=SMALL)
    names = [str(n) for n in range(500)]
    for n in range(0, 500, 10):
        await stream.publish(bodies(*names[n : n + 10]))
        assert await take(stream, "runner") == names[n : n + 10]
    lagging = stream._groups["indexer"]
    assert len(lagging.window) <= SMALL // 200 + 1
    assert await stream.backlog("indexer") == 500
    assert await take(stream, "indexer", 7) == names
    assert lagging.size == 0
    # And when it has caught up, from memory again.
    await stream.publish(bodies("a"))
    assert len(lagging.window) == 1
    assert await take(stream, "indexer") == ["a"]


async def test_windows_are_filled_while_more_comes(world: World) -> None:
    stream = await world.open(window=SMALL)
    names = [str(n) for n in range(2000)]
    seen: dict[str, list[str]] = {"runner": [], "indexer": []}

    async def publish() -> None:
        for n in range(0, 2000, 5):
            await stream.publish(bodies(*names[n : n + 5]))

    async def read(group: str, limit: int) -> None:
        while len(seen[group]) < 2000:
            delivery = await stream.fetch(group, limit, 0.05)
            if delivery is None:
                continue  # the other of its group had it
            seen[group] += [entry.body.decode() for entry in delivery.entries]
            await stream.ack(group, delivery.token)

    async with asyncio.timeout(60):
        await asyncio.gather(publish(), read("runner", 50), read("indexer", 3), read("indexer", 30))
    assert seen["runner"] == names
    assert sorted(seen["indexer"], key=int) == names
    await world.journal.settled()
    assert sizes(world.path)["stream"] == 0


async def test_what_is_on_its_way_to_the_file_is_waited_for(world: World) -> None:
    stream = await world.open(window=SMALL)
    await stream.publish([b"x" * SMALL])
    publishing = asyncio.create_task(stream.publish(bodies("a")))
    await asyncio.sleep(0)
    assert stream._unwritten or not publishing.done()
    assert await take(stream, "runner") == ["x" * SMALL, "a"]
    await publishing


async def test_a_window_that_cannot_be_filled_says_so(world: World) -> None:
    stream = await world.open(window=SMALL)
    disk = Disk(world.journal)
    await stream.publish([b"x" * SMALL])
    disk.fill()
    with pytest.raises(StoreUnavailable):
        await stream.publish([b"a" * 100_000])
    delivery = await stream.fetch("runner", 10, 1)
    assert delivery is not None
    with pytest.raises(StoreUnavailable):
        await stream.fetch("runner", 10, 1)
    disk.free()
    await world.journal.settled()
    assert await take(stream, "runner") == ["a" * 100_000]


async def test_a_crash_with_a_group_behind_its_window(world: World) -> None:
    stream = await world.open(window=SMALL)
    names = [str(n) for n in range(100)]
    await stream.publish(bodies(*names))
    first = await stream.fetch("indexer", 30, 1)
    assert first is not None
    await stream.ack("indexer", first.token)
    await stream.settled("indexer")
    done = len(first.entries)
    stream = await world.crash(window=SMALL)
    assert await stream.backlog("indexer") == 100 - done
    assert await take(stream, "indexer") == names[done:]
    assert await take(stream, "runner") == names


async def test_a_million_unread_entries_are_opened_without_reading_them(world: World) -> None:
    stream = await world.open()
    await stream.publish(bodies("first"))
    await stream.close()
    world.opened.clear()
    with sqlite3.connect(world.path) as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) "
            "INSERT INTO stream SELECT i, 5 + i, NULL, CAST(i AS BLOB) FROM n"
        )
    db.close()
    tracemalloc.start()
    try:
        stream = await world.open()
        opening = tracemalloc.get_traced_memory()[1]
        assert await stream.backlog("runner") == 1_000_000
        delivery = await stream.fetch("runner", 500, 1)
        reading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert opening < 1_000_000
    assert reading < 5_000_000
    assert delivery is not None
    assert [entry.body for entry in delivery.entries][:3] == [b"first", b"2", b"3"]
    await stream.publish(bodies("last"))
    assert await stream.backlog("runner") == 1_000_001


async def test_entries_that_are_missing_in_the_file_stop_nobody(world: World) -> None:
    stream = await world.open(window=SMALL)
    names = [str(n) for n in range(100)]
    await stream.publish(bodies(*names))
    held = len(stream._groups["runner"].window)
    world.journal._connection().execute("DELETE FROM stream WHERE seq > 50")
    with capture_logs() as logs:
        assert await take(stream, "runner") == names[:50]
    assert held < 50
    assert [(log["action"], log["count"]) for log in logs] == [("stream.read", 50)]
    await stream.publish(bodies("after"))
    assert await take(stream, "runner") == ["after"]
    assert await stream.backlog("runner") == 0


async def test_a_file_that_is_damaged_says_so(world: World) -> None:
    stream = await world.open(window=SMALL)
    await stream.publish(bodies(*[str(n) for n in range(100)]))
    world.journal._connection().execute("DROP TABLE stream")
    with pytest.raises(StoreUnusable, match="no such table"):
        await take(stream, "runner")
    world.journal._connection().execute(
        "CREATE TABLE stream (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, grp TEXT, body BLOB NOT NULL)"
    )


async def test_time_goes_on_from_the_last_entry(world: World) -> None:
    stream = await world.open(clock=lambda: 1000)
    await stream.publish(bodies("a"))
    for group in ("runner", "indexer"):
        await take(stream, group)
    await world.journal.settled()
    assert sizes(world.path)["stream"] == 0
    stream = await world.crash(clock=lambda: 500)
    await stream.publish(bodies("b"))
    delivery = await stream.fetch("runner", 1, 1)
    assert delivery is not None
    assert delivery.entries[0].at == 1000


# -- what is written --


def _written() -> int:
    """Bytes that this process has given to the system to write."""
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("wchar"))
    return int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count")
@pytest.mark.parametrize("lagging", [False, True])
async def test_each_entry_is_written_about_once(world: World, lagging: bool) -> None:
    """However many wait, to the log and from there to the file."""
    stream = await world.open()
    count, size = 400, 20_000
    before = _written()
    for n in range(count):
        await stream.publish([b"%04d" % n * (size // 4)])
        for group in ("runner",) if lagging else ("runner", "indexer"):
            await take_one(stream, group)
    assert _written() - before < 3 * count * size


async def take_one(stream: SqliteEventStream, group: str) -> None:
    delivery = await stream.fetch(group, 10, 1)
    assert delivery is not None
    await stream.ack(group, delivery.token)
