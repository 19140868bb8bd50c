"""No script does more than so much, whatever waits; and what waits is worked off, call by call.

Counted is what the server did (commands of scripts), not how long it took.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import pytest
from engine_bench import FN, HOUR, WORKER, Bench, function, partition
from redis import Redis
from redis_places import RedisPlace, empty, engine_at, server

from inngest.core.model.runs import Cell, Kind, Partition, Queue, RunStatus, timers
from inngest.core.model.transition import (
    CreateRun,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    Once,
    PutPause,
    Transition,
)

T = TypeVar("T")

MANY = 20_000
HELD, WAITING = 6_000, 6_000
PAGE = 500
"""Transitions a commit, when filling."""

LEASE_COMMANDS = 16_000
"""Of a call that finds all at once: leases run out, timers due, partitions to wake and to look at."""
ALIVE_COMMANDS = 12_000
READ_COMMANDS = 3_000
END_COMMANDS = 20_000
"""The end of a run that has as many steps as it may."""


class Counted(Bench):
    def __init__(self) -> None:
        empty()
        super().__init__(RedisPlace(engine_at))
        self.redis = Redis.from_url(server())

    def _calls(self) -> tuple[int, int]:
        stats = self.redis.info("commandstats")
        own = ("cmdstat_info", "cmdstat_evalsha", "cmdstat_publish")
        commands = sum(value["calls"] for name, value in stats.items() if name not in own)
        return commands, stats.get("cmdstat_evalsha", {}).get("calls", 0)

    async def bounded(self, call: Awaitable[T], bound: int, *, pages: bool = False) -> T:
        """Nothing more than so much is done by this call; with ``pages``, by each of its scripts."""
        commands, scripts = self._calls()
        result = await call
        after, ran = self._calls()
        did = (after - commands) / (max(ran - scripts, 1) if pages else 1)
        assert did <= bound, f"{did} commands"
        return result

    async def fill(self, transitions: list[Transition]) -> None:
        pages = [transitions[first : first + PAGE] for first in range(0, len(transitions), PAGE)]
        for page in pages:
            for committed in await self.store.commit(page):
                assert all(committed.won)

    def begin(self, place: Partition, *more: Effect, start: bool = True, **fields: Any) -> Transition:
        run = self.run(start=place, work=place, **fields)
        effects: list[Effect] = [CreateRun(run=run)]
        if start:
            effects.append(Enqueue(item=self.item(run, Kind.START)))
        return Transition(FN, run.id, [*effects, *more])

    async def all_leased(self) -> list[str]:
        """The runs of all that can be leased, call by call."""
        found: list[str] = []
        for _ in range(10 * MANY // 100):
            work = await self.bounded(
                self.store.lease(Queue.EXECUTOR, 1000, 100 * HOUR, WORKER), LEASE_COMMANDS
            )
            found += [leased.item.run for leased in work.items]
            if work.next_in != 0 and not work.items and not self.redis.exists("inngest:ring:executor"):
                return found
        raise AssertionError("there is no end of it")


@pytest.fixture
async def engine() -> AsyncIterator[Counted]:
    bench = Counted()
    await bench.start()
    yield bench
    bench.redis.close()
    await bench.store.close()


def keyed(number: int) -> Partition:
    return partition(FN, f"w{number}", Cell(f"{FN}:0", 0), Cell(f"{FN}:1:{number}", 1))


async def test_partitions_that_wait_for_a_cell(engine: Counted) -> None:
    """Then the limit is raised, and all of them come."""
    await engine.register(function(limits=[1, 1]))
    await engine.fill([engine.begin(keyed(number)) for number in range(MANY)])
    assert len(await engine.all_leased()) == 1
    assert engine.redis.hlen("inngest:{fn-a}:parked") == MANY - 1
    await engine.bounded(engine.register(function(limits=[2 * MANY, 1])), LEASE_COMMANDS)
    found = await engine.all_leased()
    assert len(set(found)) == len(found) == MANY - 1
    assert engine.redis.hlen("inngest:{fn-a}:parked") == 0


async def test_timers_that_are_due(engine: Counted) -> None:
    place = partition(FN, "w")
    for _ in range(MANY // PAGE):
        run = engine.run(start=place, work=place)
        items = [
            Enqueue(item=engine.item(run, Kind.SLEEP, due=engine.now + 1000), partition=timers(FN))
            for _ in range(PAGE)
        ]
        await engine.fill([Transition(FN, run.id, [CreateRun(run=run), *items])])
    engine.now += 1000
    assert len(await engine.all_leased()) == MANY


async def _all_held(engine: Counted, worker: str) -> None:
    """As many leases, on one cell, and one that waits for it."""
    await engine.register(function(limits=[HELD, 1]))
    await engine.fill([engine.begin(keyed(number)) for number in range(HELD)])
    held = 0
    while held < HELD:
        held += len((await engine.store.lease(Queue.EXECUTOR, 1000, HOUR, worker)).items)
    await engine.fill([engine.begin(keyed(number)) for number in range(HELD, HELD + WAITING)])
    assert await engine.all_leased() == []


async def test_leases_that_ran_out(engine: Counted) -> None:
    await _all_held(engine, "dead")
    engine.now += HOUR
    found = await engine.all_leased()
    assert len(set(found)) == len(found) == HELD


async def test_leases_of_a_dead_worker(engine: Counted) -> None:
    await engine.store.alive("dead", 1000)
    await _all_held(engine, "dead")
    engine.now += 1000
    await engine.bounded(engine.store.alive(WORKER, HOUR), ALIVE_COMMANDS, pages=True)
    assert engine.redis.zcard("inngest:leases") == 0
    assert len(set(await engine.all_leased())) == HELD


async def test_a_long_outbox(engine: Counted) -> None:
    emits: list[Effect] = [Emit(event=b"%d" % number) for number in range(MANY)]
    await engine.fill([Transition(FN, "", emits[first : first + PAGE]) for first in range(0, MANY, PAGE)])
    found: list[bytes] = []
    while True:
        box = await engine.bounded(engine.store.events.take(MANY), READ_COMMANDS)
        if not box.entries:
            break
        found += box.entries
        await engine.bounded(engine.store.events.ack(box.token), 20)
    assert found == [b"%d" % number for number in range(MANY)]


async def test_what_was_decided_on_is_forgotten(engine: Counted) -> None:
    marks: list[Effect] = [Once(key=f"e{number}", at=engine.now) for number in range(MANY)]
    await engine.fill([Transition(FN, "", marks[first : first + PAGE]) for first in range(0, MANY, PAGE)])
    for number in range(MANY // 64 + 1):
        once = Once(key=f"new{number}", at=engine.now + 2, forget=engine.now + 1)
        assert await engine.bounded(engine.won(once), 20) == [True]
    assert engine.redis.zcard("inngest:{fn-a}:seen") < MANY // 50


async def test_pages_of_runs(engine: Counted) -> None:
    place = partition(FN, "w")
    await engine.fill([engine.begin(place, start=False) for _ in range(MANY)])
    for what in ("runs", "orphans"):
        seen: set[str] = set()
        cursor = ""
        while True:
            call = (
                engine.store.runs(FN, 0, 1 << 60, cursor, 500)
                if what == "runs"
                else engine.store.orphans(-1, cursor, 500)
            )
            page = await engine.bounded(call, READ_COMMANDS, pages=True)
            seen |= {run.id for run in page.found}
            cursor = page.cursor
            if not cursor:
                break
        assert len(seen) == MANY


async def test_the_end_of_a_large_run(engine: Counted) -> None:
    """As large as the policy lets it be: the work is in proportion to it, and no more."""
    run = await engine.create()
    for number in range(1000):
        pause = engine.pause(run, f"s{number}", terms=[("data.x", f"n:{number}")])
        timeout = engine.item(run, Kind.TIMEOUT, pause.timeout_job, due=engine.now + HOUR)
        await engine.won(PutPause(pause=pause), Enqueue(item=timeout, partition=timers(FN)), run=run.id)
    await engine.bounded(engine.won(EndRun(status=RunStatus.CANCELLED), run=run.id), END_COMMANDS)
    stats = await engine.store.stats()
    assert (stats.runs, stats.pauses, stats.queued) == (0, 0, 0)


async def test_a_cell_that_many_functions_share(engine: Counted) -> None:
    """One release wakes one, and looks at no more than the limits there are."""
    fns = [f"fn-{number}" for number in range(1000)]
    await engine.register(*[function(fn, limits=[1]) for fn in fns])
    shared = Cell("env:shared", 0)
    runs = [engine.run(fn=fn, **dict.fromkeys(("start", "work"), partition(fn, "w", shared))) for fn in fns]
    await engine.fill(
        [Transition(r.fn, r.id, [CreateRun(run=r), Enqueue(item=engine.item(r, Kind.START))]) for r in runs]
    )
    found = []
    for _ in fns:
        while not (leased := await engine.lease()):
            await asyncio.sleep(0)
        found.append(leased[0].item.run)
        await engine.bounded(engine.complete(leased[0]), 100)
    assert len(set(found)) == len(fns)
