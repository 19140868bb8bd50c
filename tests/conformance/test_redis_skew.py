"""Processes whose clocks differ by minutes: leases and timers go by the server's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from engine_bench import FN, LEASE, Bench, function, token
from redis import Redis
from redis_places import RedisPlace, empty, server

from inngest.backends.redis.engine import RedisEngineStore
from inngest.core.model.runs import Kind, Queue, timers
from inngest.core.model.transition import Enqueue

SKEWS = [-31 * 60_000, 31 * 60_000]


@contextmanager
def skewed(ms: int) -> Iterator[None]:
    """The clock of this process is so much ahead."""
    ours, ours_ns = time.time, time.time_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: ours() + ms / 1000)
        patch.setattr(time, "time_ns", lambda: ours_ns() + ms * 1_000_000)
        yield


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A store by the server's clock."""
    empty()
    bench = Bench(RedisPlace(lambda url, _: RedisEngineStore(url)))
    await bench.start()
    await bench.register(function(FN))
    yield bench
    await bench.place.crash()


@pytest.fixture(params=SKEWS)
def skew(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def server_time() -> float:
    with Redis.from_url(server()) as client:
        seconds, micros = client.time()
    return float(seconds * 1000 + micros / 1000)


async def test_leases_are_not_stolen(bench: Bench, skew: int) -> None:
    await bench.create()
    leased = await bench.one()
    with skewed(skew):
        other = bench.place.store()
        await other.open()
        assert (await other.lease(Queue.EXECUTOR, 10, LEASE, "other")).items == []
        await other.alive("other", LEASE)
        assert (await other.lease(Queue.EXECUTOR, 10, LEASE, "other")).items == []
    assert await bench.store.extend([token(leased)], LEASE) == []
    with skewed(skew):
        assert await other.extend([token(leased)], LEASE) == []
        (committed,) = [await other.lease(Queue.EXECUTOR, 10, LEASE, "other")]
    assert committed.items == []
    assert committed.next_in is not None
    assert LEASE / 2000 < committed.next_in <= LEASE / 1000
    assert not (await bench.complete(leased)).stale


async def test_a_lease_that_ran_out_is_given_to_others(bench: Bench, skew: int) -> None:
    await bench.create()
    (leased,) = (await bench.store.lease(Queue.EXECUTOR, 10, 200, "one")).items
    out = server_time() + 200
    with skewed(skew):
        other = bench.place.store()
        await other.open()
        while not (found := (await other.lease(Queue.EXECUTOR, 10, LEASE, "other")).items):
            await asyncio.sleep(0.01)
    assert server_time() >= out - 200
    assert found[0].item.epoch == leased.item.epoch + 1


async def test_timers_are_not_early(bench: Bench, skew: int) -> None:
    run = await bench.create(start=False)
    with skewed(skew):
        other = bench.place.store()
        await other.open()
        due = other.now() + other.slack() + 300
        sleep = bench.item(run, Kind.SLEEP, "sleep", due=due)
        far = bench.item(run, Kind.SLEEP, "far", due=due + 10 * 60_000)
        assert await bench.won(*[Enqueue(item=i, partition=timers(FN)) for i in (sleep, far)], run=run.id)
        while not (found := (await other.lease(Queue.EXECUTOR, 10, LEASE, "other")).items):
            await asyncio.sleep(0.005)
    assert server_time() >= due
    assert [leased.item.job for leased in found] == ["sleep"]


async def test_the_time_is_the_servers(bench: Bench, skew: int) -> None:
    with skewed(skew):
        other = bench.place.store()
        await other.open()
        for _ in range(20):
            before = server_time()
            now, slack = other.now(), other.slack()
            assert now <= server_time()
            assert now + slack >= before
            await other.lease(Queue.EXECUTOR, 1, LEASE, "other")
