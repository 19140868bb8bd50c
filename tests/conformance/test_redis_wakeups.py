"""Many idle executors on one server: a wake-up wakes one of them, and none is lost with who has taken it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engine_bench import Bench
from redis_servers import RedisServer, redis_server, until

from inngest.backends.redis import bell
from inngest.backends.redis.engine import RedisEngineStore
from inngest.core.model.runs import Kind, Queue, Run
from inngest.core.model.transition import Complete, Effect, Transition, lease_of
from inngest.core.policy import WAKE_MOST

EXECUTORS = 8
FOR_EVER = 3600.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path / "redis", appendonly="no") as server:
        yield server


class Executor:
    """Leases, works and waits as `services.executor` does. ``died`` is set once it has been told to die, and
    was woken.
    """

    def __init__(self, url: str, done: Callable[[str], None], limit: int = 100) -> None:
        self.store = RedisEngineStore(url)
        self.dies = False
        self.died = asyncio.Event()
        self._done = done
        self._limit = limit
        self._task: asyncio.Task[None] | None = None
        self._working = asyncio.Lock()

    async def start(self) -> None:
        await self.store.open()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        store = self.store
        while True:
            async with self._working:
                work = await store.lease(Queue.EXECUTOR, self._limit, 30_000, "worker")
                for leased in work.items:
                    item, lease = leased.item, lease_of(leased.item)
                    effects: list[Effect] = [Complete()]
                    await store.commit([Transition(fn=item.fn, run=item.run, effects=effects, lease=lease)])
                    self._done(item.job)
            if not work.items:
                seconds = FOR_EVER
                if work.next_in is not None:
                    seconds = work.next_in + 0.0005
                await store.wait(Queue.EXECUTOR, seconds)
                if self.dies:
                    # It was woken, and does nothing any more; its connections stay, as of one that hangs.
                    self.died.set()
                    await asyncio.Event().wait()

    async def stop(self) -> None:
        if self._task is not None:
            async with self._working:  # nothing is left to the end of a lease
                self._task.cancel()
            (result,) = await asyncio.gather(self._task, return_exceptions=True)
            assert isinstance(result, asyncio.CancelledError), result
        await self.store.close()


def _now() -> int:
    import time

    return time.time_ns() // 1_000_000


class World:
    """A server, executors, and somebody who queues items."""

    def __init__(self, server: RedisServer, bench: Bench, run: Run) -> None:
        self.server = server
        self.bench = bench
        self.run = run
        self.executors: list[Executor] = []
        self.done: list[str] = []

    async def executor(self, **options: Any) -> Executor:
        made = Executor(self.server.url, self.done.append, **options)
        await made.start()
        self.executors.append(made)
        return made

    async def queue(self, *, after: int = 0) -> str:
        self.bench.now = _now()
        effect = self.bench.enqueue(self.run, Kind.SLEEP, due=self.bench.now + after)
        await self.bench.commit(effect, run=self.run.id)
        return effect.item.job

    async def one_by_one(self, count: int, *, after: int = 0) -> None:
        for _ in range(count):
            await self.until_done(await self.queue(after=after))
            await asyncio.sleep(0.01)  # until all wait again

    async def until_done(self, *jobs: str, seconds: float = 30) -> None:
        await until(lambda: set(jobs) <= set(self.done), seconds)


Open = Callable[[], Awaitable[World]]


class _Place:
    def __init__(self, url: str) -> None:
        self._url = url

    def store(self, _: Callable[[], int]) -> RedisEngineStore:  # by the server's clock
        return RedisEngineStore(self._url)


@pytest.fixture
async def world(server: RedisServer) -> AsyncIterator[World]:
    bench = Bench(_Place(server.url))
    await bench.start()
    run = await bench.create(start=False)
    world = World(server, bench, run)
    yield world
    for executor in world.executors:
        await executor.stop()
    await bench.store.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So patient that a slow machine does not make them impatient."""
    monkeypatch.setattr(bell, "WAKE_LEAST", 1500)
    monkeypatch.setattr(bell, "WAKE_MOST", 3000)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("after", [0, 40])
async def test_one_of_many_looks_for_one_item(world: World, after: int) -> None:
    """Items that are due when they are queued, and such that fall due while all wait."""
    for _ in range(EXECUTORS):
        await world.executor()
    await world.one_by_one(5, after=after)  # they find out who is the quickest
    world.server.client.config_resetstat()
    await world.one_by_one(20, after=after)
    # The commit that queues it, the look that finds it, the commit that completes it, the look after that.
    assert world.server.scripts_run() <= 20 * 4 + 10
    assert len(world.done) == 25


@pytest.mark.usefixtures("patient")
async def test_nobody_looks_because_of_what_is_due_later(world: World) -> None:
    for _ in range(EXECUTORS):
        await world.executor()
    await world.one_by_one(5)
    world.server.client.config_resetstat()
    for hours in range(20, 0, -1):  # each is the next to fall due
        await world.queue(after=hours * 3_600_000)
    await asyncio.sleep(0.05)
    assert world.server.scripts_run() == 20


async def test_who_dies_with_a_wake_up_takes_nothing_along(world: World) -> None:
    """The others are patient for less than a second, and then look by themselves."""
    for _ in range(EXECUTORS):
        await world.executor()
    await world.one_by_one(5)
    living = list(world.executors)
    while len(living) > 1:
        for executor in living:
            executor.dies = True
        job = await world.queue()
        await _one_dies(living)
        for executor in living:
            executor.dies = False
        living = [executor for executor in living if not executor.died.is_set()]
        if living:
            await world.until_done(job, seconds=20)
    assert WAKE_MOST < 1000


async def _one_dies(living: list[Executor]) -> None:
    await until(lambda: any(executor.died.is_set() for executor in living))


async def test_a_lone_executor_is_never_patient(world: World) -> None:
    executor = await world.executor()
    await world.one_by_one(10)
    await world.one_by_one(5, after=20)
    turn = executor.store._bell._turns[executor.store._ready(Queue.EXECUTOR)]
    assert turn._patience == 0


async def test_much_work_wakes_many(world: World) -> None:
    for _ in range(4):
        await world.executor(limit=1)
    await world.one_by_one(3)
    jobs = [await world.queue() for _ in range(100)]
    await world.until_done(*jobs)


@pytest.mark.parametrize("seed", range(3))
async def test_no_wake_up_is_lost(world: World, seed: int) -> None:
    """Executors come, hang and go, connections break, items come in bursts and fall due: all are done."""
    rng = random.Random(seed)
    jobs: list[str] = []
    for _ in range(3):
        await world.executor(limit=2)
    for _ in range(60):
        match rng.randrange(8):
            case 0:
                await world.executor(limit=rng.choice([1, 100]))
            case 1 if len(world.executors) > 1:
                leaving = world.executors.pop(rng.randrange(len(world.executors)))
                await leaving.stop()
            case 2:
                world.server.client.client_kill_filter(_type="pubsub")
            case _:
                for _ in range(rng.choice([1, 1, 5])):
                    jobs.append(await world.queue(after=rng.choice([0, 0, 5, 30])))
        if rng.random() < 0.5:
            await asyncio.sleep(rng.random() / 100)
    await world.until_done(*jobs, seconds=20)
