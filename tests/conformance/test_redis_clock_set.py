"""The server's clock is set back while the engine works."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engine_bench import FN, HOUR, LEASE, WORKER, Bench, function, partition
from redis_places import RedisPlace, empty, engine_at

from inngest.core.model.functions import Throttle
from inngest.core.model.runs import Queue

DEAD = 5_000
MINUTE = 60_000


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    empty()
    bench = Bench(RedisPlace(engine_at))
    await bench.start()
    await bench.register(function(FN, throttle=Throttle(limit=1, period=MINUTE)))
    yield bench
    await bench.store.close()


async def beat(bench: Bench, worker: str = WORKER) -> None:
    await bench.store.alive(worker, DEAD)


async def test_who_waits_for_a_throttle_waits_no_longer(bench: Bench) -> None:
    places = {"start": partition(FN, "s", throttle="throttle/"), "work": partition(FN, "w")}
    first, second = [await bench.create(bench.run(fields=places)) for _ in range(2)]
    await beat(bench)
    leased = await bench.one()
    assert leased.item.run == first.id
    await bench.complete(leased)
    assert await bench.jobs() == []
    bench.now += 20_000
    await beat(bench)
    bench.now -= HOUR
    await beat(bench)
    assert await bench.jobs() == []
    bench.now += MINUTE
    await beat(bench)
    assert await bench.jobs() == [f"{second.id}:start"]


async def test_the_dead_are_found_no_later(bench: Bench) -> None:
    run = await bench.create()
    await beat(bench, "dies")
    work = await bench.store.lease(Queue.EXECUTOR, 10, LEASE, "dies")
    assert [leased.item.run for leased in work.items] == [run.id]
    await beat(bench)
    bench.now -= HOUR
    await beat(bench)
    assert await bench.jobs() == [], "it may be alive"
    bench.now += DEAD + 1
    await beat(bench)
    assert await bench.jobs() == [f"{run.id}:start"]


async def test_leases_end_no_later_and_no_earlier(bench: Bench) -> None:
    run = await bench.create()
    await beat(bench)
    await bench.store.lease(Queue.EXECUTOR, 10, LEASE, "never seen")
    bench.now -= HOUR
    await beat(bench)
    bench.now += LEASE - 1
    assert await bench.jobs() == []
    bench.now += 2
    assert await bench.jobs() == [f"{run.id}:start"]
