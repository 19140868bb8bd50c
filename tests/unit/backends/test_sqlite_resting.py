"""Runs at rest: memory holds little of them, and they come back whole, whatever happens in between."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlite_bench import Disk, snapshot, until
from sqlite_world import FN, HOUR, World, function, opened

from inngest.backends.sqlite import journal as journals
from inngest.backends.sqlite import resting
from inngest.core.decisions.starting import eviction
from inngest.core.model.functions import App, Concurrency, Function
from inngest.core.model.history import What
from inngest.core.model.runs import Kind, Pause, PauseKind, Queue, Run, RunStatus, timeout_job
from inngest.core.model.transition import (
    Adopt,
    Await,
    Begin,
    Complete,
    CreateRun,
    Discover,
    EndRun,
    Enqueue,
    ForcePlan,
    PutPause,
    SaveStep,
    TakeLock,
    TakePause,
    Transition,
)
from inngest.core.policy import LEASE_BYTES

KIB = b'{"data":"%b"}' % (b"z" * 1000)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Each run rests as soon as it is written."""
    async with opened(tmp_path / "engine.db", awake=0) as world:
        yield world


def waiting(world: World, run: Run) -> Transition:
    """A run that has a result and waits for an event, a year at most."""
    step = f"{run.id}-wait"
    pause = Pause(
        id=f"{run.id}:{step}", kind=PauseKind.EVENT, fn=FN, run=run.id, event="approve", step=step,
        name="wait", condition=f'async.data.order == "{run.id}"', terms=[("data.order", f"s:{run.id}")],
        created=world.now, expires=world.now + 365 * 24 * HOUR, timeout_job=timeout_job(run.id, step),
        partition=run.work.id,
    )  # fmt: skip
    timer = world.item(
        run.id, Kind.TIMEOUT, job=pause.timeout_job, due=pause.expires, score=pause.expires, target=step
    )
    effects = [
        CreateRun(run=run, claim=HOUR),
        SaveStep(step="a", value=KIB, when=0),
        PutPause(pause=pause, when=0),
        Enqueue(item=timer, when=2),
    ]
    return Transition(fn=FN, run=run.id, effects=effects)


async def rested(world: World, run: str) -> None:
    """Written, and let go of with the next write."""
    await world.store._journal.settled()
    await world.commit("", Begin(at=1))
    other = world.run()
    await world.commit(other.id, CreateRun(run=other))
    await world.store._journal.settled()
    assert world.store._state.runs[run].rests


async def test_memory_holds_little_of_runs_that_wait(tmp_path: Path) -> None:
    count = 4000
    async with opened(tmp_path / "engine.db") as world:
        for _ in range(count // 500):
            await world.store.commit([waiting(world, world.run()) for _ in range(500)])
    gc.collect()
    tracemalloc.start()
    async with opened(tmp_path / "engine.db") as world:
        gc.collect()
        size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (await world.store.stats()).pauses == count
        state = world.store._state
        assert all(run.rests for run in state.runs.values())
        # Of each: its row in the tables, its wait and its timer; not its result of 1 KiB.
        assert size / count < 2400
        assert peak / count < 3000


async def test_runs_kept_whole_have_a_bound(tmp_path: Path) -> None:
    async with opened(tmp_path / "engine.db", awake=100_000) as world:
        runs = [world.run() for _ in range(300)]
        for run in runs:
            await world.store.commit([waiting(world, run)])
        whole = [state.run for state in world.store._state.runs.values() if not state.rests]
        assert 10 < len(whole) < 100
        assert [run.id for run in whole] == [run.id for run in runs[-len(whole) :]]  # the newest
        for run in runs:
            found = await world.store.run(FN, run.id)
            assert found is not None
            assert found.steps == {"a": KIB}
        await world.store._journal.settled()
        await world.store.commit([waiting(world, world.run())])
        assert sum(not state.rests for state in world.store._state.runs.values()) < 100


async def test_a_run_comes_back_whole(world: World) -> None:
    run = world.run()
    await world.store.commit([waiting(world, run)])
    await world.commit(
        run.id,
        Adopt(version=2),
        Begin(at=7),
        ForcePlan(),
        Await(steps=["b", "c"]),
        SaveStep(step="b", value=b"1"),
    )
    before = world.store._state.runs[run.id].run.copy()
    jobs = set(world.store._state.runs[run.id].jobs)
    await rested(world, run.id)
    assert await world.store.run(FN, run.id) == before
    assert world.store._state.runs[run.id].jobs == jobs
    assert before.pending == {"c"}


async def test_a_run_for_which_memory_is_short_is_not_damaged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.run()
    await world.store.commit([waiting(world, run)])
    await rested(world, run.id)
    with monkeypatch.context() as patch:
        patch.setattr(resting, "_unpack_run", short_of_memory)
        with pytest.raises(MemoryError):
            await world.store.run(FN, run.id)
        with pytest.raises(MemoryError):
            await world.commit(run.id, SaveStep(step="b", value=b"1"))
    await world.store._journal.settled()
    again = await world.open(snapshot(world.path))
    for store in (world.store, again):
        found = await store.run(FN, run.id)
        assert found is not None
        assert found.steps == {"a": KIB}
        assert (await store.stats()).damaged == 0


def short_of_memory(_: object) -> None:
    raise MemoryError


async def test_a_result_is_not_replaced_after_a_rest(world: World) -> None:
    run = world.run()
    await world.store.commit([waiting(world, run)])
    await rested(world, run.id)
    assert await world.commit(run.id, SaveStep(step="a", value=b"2")) == [False]
    await rested(world, run.id)
    timer = timeout_job(run.id, f"{run.id}-wait")
    assert await world.commit(run.id, Enqueue(item=world.item(run.id, Kind.SLEEP, job=timer))) == [False]


async def test_an_event_resumes_a_run_that_rests(world: World) -> None:
    run = world.run()
    await world.store.commit([waiting(world, run)])
    await rested(world, run.id)
    step = f"{run.id}-wait"
    discover = world.item(run.id, Kind.DISCOVER, job="next")
    won = await world.commit(
        run.id,
        TakePause(id=f"{run.id}:{step}"),
        SaveStep(step=step, value=b"{}", when=0),
        Discover(item=discover, when=0),
    )
    assert won == [True, True, True]
    (leased,) = await world.lease()
    assert leased.run is not None
    assert leased.run.stack == ["a", step]


async def test_a_lease_brings_runs_that_rest(world: World) -> None:
    runs = [world.run() for _ in range(3)]
    await world.store.commit([Transition(fn=FN, run=run.id, effects=world.creation(run)) for run in runs])
    for run in runs:
        await rested(world, run.id)
    leased = [one for _ in runs for one in await world.lease()]
    assert [one.run.id if one.run else "" for one in leased] == [run.id for run in runs]
    assert not any(world.store._state.runs[run.id].rests for run in runs)


async def test_what_is_leased_does_not_rest(world: World) -> None:
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    (leased,) = await world.lease()
    for _ in range(3):
        await world.commit(world.run().id)
        await world.store._journal.settled()
    assert not world.store._state.runs[run.id].rests
    await world.store.hand_back([])
    assert leased.run == world.store._state.runs[run.id].run


async def test_a_lock_is_taken_from_a_run_that_rests(world: World) -> None:
    old, new = world.run(lock="lock", order="1"), world.run(lock="lock", order="2")
    await world.commit(old.id, TakeLock(key="lock", order="1"), CreateRun(run=old))
    await rested(world, old.id)
    take = TakeLock(key="lock", order="2", evict=eviction(FN, new.id, world.now))
    assert await world.commit(new.id, take, CreateRun(run=new)) == [True, True]
    (evicted,) = await world.lease(Queue.RUNNER)
    assert (evicted.item.kind, evicted.run.id if evicted.run else "") == (Kind.EVICT, old.id)


async def test_a_run_that_rests_ends(world: World) -> None:
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    await rested(world, run.id)
    assert await world.commit(run.id, EndRun(status=RunStatus.CANCELLED)) == [True]
    assert await world.store.run(FN, run.id) is None
    assert (await world.store.stats()).queued == 0
    again = await world.open(snapshot(world.path))
    assert run.id not in again._state.runs


async def test_what_is_not_in_the_file_does_not_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the newest state is nowhere but in memory."""
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.01)
    first, second = world.run(), world.run()
    await world.store.commit([waiting(world, first), waiting(world, second)])
    await rested(world, second.id)
    disk = Disk(world.store._journal)
    disk.fill()
    saving = asyncio.create_task(world.commit(first.id, SaveStep(step="b", value=b"1" * 500_000)))
    await until(lambda: bool(world.store._journal._failure))
    assert (await world.store.run(FN, second.id)) is not None  # is fetched, and others may be let go of
    found = await world.store.run(FN, first.id)
    assert found is not None
    assert found.stack == ["a", "b"]
    disk.free()
    assert await saving == [True]
    await rested(world, first.id)
    assert await world.store.run(FN, first.id) == found


async def test_the_pages_of_a_function_wake_its_runs(world: World) -> None:
    runs = [world.run() for _ in range(5)]
    await world.store.commit([waiting(world, run) for run in runs])
    for run in runs:
        await rested(world, run.id)
    page = await world.store.runs(FN, 0, world.now + 1, "", 3)
    assert [(run.id, run.steps) for run in page.found] == [(run.id, {"a": KIB}) for run in runs[:3]]
    assert page.cursor == runs[2].id


async def test_places_of_runs_count_after_a_restart(world: World) -> None:
    """The capacity that a run holds from its start to its end, though nothing of it is read."""
    apps = (await world.store.registry()).apps
    await world.store.put_app(apps["app"], [replace(function(), run_concurrency=Concurrency(limit=1))])
    first, second = world.run(), world.run()
    for run in (first, second):
        await world.commit(run.id, *world.creation(run))
    (leased,) = await world.lease()
    world.store = await world.open(snapshot(world.path))
    (repeated,) = await world.lease()
    assert repeated.item.job == leased.item.job  # it has its place, and the other waits
    assert await world.lease() == []
    await world.commit(first.id, EndRun(status=RunStatus.COMPLETED))
    (following,) = await world.lease()
    assert following.item.run == second.id


async def test_a_run_that_cannot_be_read_is_gone_and_told_of(world: World) -> None:
    run, other = world.run(), world.run()
    await world.store.commit([waiting(world, run), waiting(world, other)])
    copy = snapshot(world.path)
    with sqlite3.connect(copy) as db:
        db.execute("UPDATE state SET value = x'c1' WHERE run = ? AND kind = 0", (run.id,))
    db.close()
    store = await world.open(copy)
    page = await store.runs(FN, 0, world.now + 1, "", 10)
    assert [found.id for found in page.found] == [other.id]
    stats = await store.stats()
    assert (stats.runs, stats.pauses, stats.queued, stats.damaged) == (1, 1, 1, 1)
    (entry,) = [each for each in (await store.history.take(100)).entries if each.what is What.ENDED]
    assert (entry.run, entry.fn, entry.outcome) == (run.id, FN, "Failed")
    world.store = store
    assert await world.commit(run.id, SaveStep(step="b", value=b"1")) == [False]
    again = await world.open(snapshot(copy))
    assert list(again._state.runs) == [other.id]


# -- many at once --

LARGE = b'"' + b"x" * 1_500_000 + b'"'
MANY = 90
TOGETHER = LEASE_BYTES // len(LARGE) + 1


async def test_runs_are_not_woken_all_together(world: World) -> None:
    """Neither by what is due, nor by what is decided of them, nor by who looks."""
    await world.store.put_app(App(id="app", name="app", url="http://app.test"), [unlimited()])
    runs = [world.run() for _ in range(MANY)]
    for run in runs:
        asleep = world.item(run.id, Kind.DISCOVER, job=f"{run.id}:next", due=world.now + HOUR)
        await world.commit(run.id, CreateRun(run=run), SaveStep(step="a", value=LARGE), Enqueue(item=asleep))
    await rested(world, runs[-1].id)
    woken = Awake(world)
    page = await world.store.runs(FN, 0, world.now + 1, "", 1000)
    assert page.cursor
    assert len(page.found) <= TOGETHER

    ends = [Transition(fn=FN, run=run.id, effects=[SaveStep(step="b", value=b"1")]) for run in runs]
    assert [done.won for done in await world.store.commit(ends)] == [[True]] * MANY

    world.now += 2 * HOUR
    leased: list[str] = []
    while len(leased) < MANY:
        some = await world.lease()
        assert 0 < len(some) <= TOGETHER
        leased += [one.item.run for one in some]
        for one in some:
            await world.commit(one.item.run, Complete(), lease=one)
    assert sorted(leased) == [run.id for run in runs]
    assert TOGETHER <= woken.most < 3 * TOGETHER  # what was used last is being written


def unlimited() -> Function:
    return replace(function(), concurrency=[], run_concurrency=None, throttle=None)


class Awake:
    """How many large runs were awake at once, looked at whenever some are woken."""

    def __init__(self, world: World) -> None:
        self.most = 0
        self._runs = world.store._state.runs
        wake = world.store._wake

        async def watched(runs: Collection[str]) -> None:
            await wake(runs)
            self.most = max(self.most, self.count())

        world.store._wake = watched  # type: ignore[method-assign]

    def count(self) -> int:
        return sum(not run.rests and run.weight > len(LARGE) for run in self._runs.values())


async def test_it_is_known_after_a_start_what_runs_will_weigh(world: World) -> None:
    run = world.run()
    await world.commit(run.id, CreateRun(run=run), SaveStep(step="a", value=LARGE))
    await world.store._journal.settled()
    again = await world.open(snapshot(world.path))
    state = again._state.runs[run.id]
    assert state.rests
    assert len(LARGE) <= state.weight < len(LARGE) + 2000
