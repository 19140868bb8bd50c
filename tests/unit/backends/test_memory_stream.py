"""The event stream in memory: what waits is bounded, and only those lose anything that may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from streams import take
from structlog.testing import capture_logs

from inngest.backends.memory.clock import SteadyClock
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.errors import StoreUnavailable

BODY = b"x" * 800  # 1000 bytes, as they are counted


def stream(**options: Any) -> MemoryEventStream:
    return MemoryEventStream(lag=10_000, **options)


async def numbered(made: MemoryEventStream, begin: int, end: int) -> list[bytes]:
    bodies = [b"%04d" % n + BODY[4:] for n in range(begin, end)]
    await made.publish(bodies)
    return bodies


async def test_a_reader_that_may_lose_some_loses_the_oldest() -> None:
    made = stream(room_seconds=0)
    published: list[bytes] = []
    with capture_logs() as logs:
        for n in range(100):
            published += await numbered(made, n, n + 1)
            assert await take(made, "runner") == published[-1:]
    assert await made.dropped("indexer") == 90
    assert await made.dropped("runner") == 0
    assert await made.backlog("indexer") == 10
    assert [(log["action"], log["group"]) for log in logs] == [("stream.drop", "indexer")], "told once"
    assert await take(made, "indexer") == published[90:]


async def test_it_is_told_again_when_it_had_caught_up() -> None:
    made = stream()
    with capture_logs() as logs:
        for n in range(3):
            await numbered(made, 0, 9)
            await take(made, "runner")
            await numbered(made, 0, 9)
            await take(made, "runner")
            assert len(logs) == n + 1
            await take(made, "indexer")


async def test_what_is_dropped_has_settled() -> None:
    now = 1
    made = stream(clock=lambda: now)
    for now in range(1, 101):
        await numbered(made, now, now + 1)
        await take(made, "runner")
    assert await made.settled("indexer") == 91
    assert await made.settled("runner") == 100


async def test_a_body_larger_than_the_bound_is_kept_alone() -> None:
    made = stream()
    await made.publish([b"before"])
    await take(made, "runner")
    await made.publish([b"x" * 50_000])
    assert [len(body) for body in await take(made, "runner")] == [50_000]
    assert [len(body) for body in await take(made, "indexer")] == [50_000]


async def test_publishers_wait_for_a_reader_that_may_lose_nothing() -> None:
    made = stream()
    bodies = await numbered(made, 0, 10)
    waiting = [asyncio.create_task(numbered(made, n, n + 2)) for n in range(10, 50, 2)]
    await asyncio.sleep(0.01)
    assert not any(each.done() for each in waiting)
    seen: list[bytes] = []
    while len(seen) < 50:
        delivery = await made.fetch("runner", 3, 10)
        assert delivery is not None
        seen += [entry.body for entry in delivery.entries]
        assert await made.backlog("runner") < 60
        await made.ack("runner", delivery.token)
    assert sorted(seen) == sorted(bodies + [each for task in waiting for each in await task])


async def test_a_publisher_for_whom_there_is_no_room_is_told() -> None:
    made = stream(room_seconds=0.01)
    bodies = await numbered(made, 0, 10)
    with pytest.raises(StoreUnavailable, match="full: 10000 bytes wait for the runner"):
        await made.publish([b"y"])
    assert await take(made, "runner") == bodies, "nothing of it was taken"
    await made.publish([b"z"])
    assert await take(made, "runner") == [b"z"]


async def test_all_who_wait_go_on_when_there_is_room() -> None:
    made = stream()
    await numbered(made, 0, 10)
    waiting = [asyncio.create_task(made.publish([b"y"])) for _ in range(20)]
    await asyncio.sleep(0)
    await take(made, "runner")
    await asyncio.wait_for(asyncio.gather(*waiting), 20)


async def test_the_time_of_entries_does_not_go_back() -> None:
    times = iter([10, 12, 5, 11, 13])
    made = MemoryEventStream(clock=lambda: next(times))
    for _ in range(5):
        await made.publish([b"x"])
    delivery = await made.fetch("runner", 10, 1)
    assert delivery is not None
    assert [entry.at for entry in delivery.entries] == [10, 12, 12, 12, 13]


def test_a_steady_clock_only_goes_on() -> None:
    now = 10
    clock = SteadyClock(lambda: now)
    assert clock.now() == 10
    now = 5
    assert clock.now() == 10
    clock.pass_(20)
    assert clock.now() == 20
    now = 30
    assert clock.now() == 30
