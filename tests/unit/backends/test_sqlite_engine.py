"""The embedded engine store: what a crash leaves on disk is what was in memory, and nothing else piles up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlite_bench import Disk, sizes, snapshot, until
from sqlite_world import FN, HOUR, World, function, opened, picture

from inngest.backends.sqlite import journal as journals
from inngest.core.decisions.starting import eviction
from inngest.core.errors import StoreUnavailable
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.functions import App, Throttle
from inngest.core.model.history import History, What
from inngest.core.model.runs import (
    Cell,
    Kind,
    Leased,
    Partition,
    Pause,
    PauseKind,
    Queue,
    Run,
    RunStatus,
    arrival,
    runner_items,
    signal_name,
    timeout_job,
)
from inngest.core.model.transition import (
    Admit,
    Adopt,
    Await,
    Begin,
    Collect,
    Complete,
    Discover,
    Drop,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    EnqueueFirst,
    Evict,
    ForcePlan,
    Once,
    PutPause,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
    TakeLock,
    TakePause,
    Transition,
    lease_of,
)
from inngest.core.timing import gcra
from inngest.ports.engine import Take


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path / "engine.db") as world:
        yield world


# -- memory and file


class Chaos:
    """Random operations, sensible or not."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.leased: list[Leased] = []

    def runs(self) -> list[str]:
        return list(self.world.store._state.runs)

    async def step(self) -> None:
        rng, world = self.rng, self.world
        world.now += rng.choice((0, 1, 50, 5000))
        roll = rng.random()
        if roll < 0.2 or not self.runs():
            run = world.run(lock=rng.choice(("", "lock-a", "lock-b")))
            evict = rng.choice((None, eviction(FN, "", world.now)))
            order = arrival(world.now, run.id)
            locks: list[Effect] = [TakeLock(key=run.lock, order=order, evict=evict)] if run.lock else []
            begin = [Begin(at=world.now)] if rng.random() < 0.3 else []
            await world.commit(run.id, *world.creation(run), *locks, *begin, *self.some(run.id))
        elif roll < 0.35:
            queue = rng.choice((Queue.EXECUTOR, Queue.RUNNER))
            self.leased += (await world.store.lease(queue, rng.randint(1, 5), 9000, "worker")).items
        elif roll < 0.6 and self.leased:
            leased = self.leased.pop(rng.randrange(len(self.leased)))
            payload = b"again" if leased.item.run else None
            last = [Complete(), Retry(due=world.now + rng.choice((0, 4000)), attempt=1, payload=payload)]
            await world.commit(leased.item.run, *self.some(leased.item.run), rng.choice(last), lease=leased)
        elif roll < 0.7:
            await self.without_run()
        elif roll < 0.75:
            box, old = await world.store.events.take(rng.randint(1, 3)), await world.store.history.take(2)
            if box.entries:
                await world.store.events.ack(box.token)
            if old.entries and rng.random() < 0.5:
                await world.store.history.ack(old.token)
        else:
            run_id = rng.choice(self.runs())
            await world.commit(run_id, *self.some(run_id))

    def some(self, run: str) -> list[Effect]:
        effects = [self.effect(run) for _ in range(self.rng.randint(0, 4))] if run else []
        if run and self.rng.random() < 0.12:
            effects.append(EndRun(status=RunStatus.COMPLETED))
        elif run and self.rng.random() < 0.08:
            effects.append(Evict(item=eviction(FN, run, self.world.now)))
        return effects

    def effect(self, run: str) -> Effect:
        rng, world = self.rng, self.world
        step = rng.choice("abcdef")
        state = world.store._state.runs.get(run)
        jobs = sorted(state.jobs) if state is not None and not state.rests else ["none"]
        kind = rng.choice((Kind.DISCOVER, Kind.PLAN, Kind.SLEEP, Kind.TIMEOUT))
        due = world.now + rng.choice((0, 3000, HOUR))
        terms = rng.choice(([], [("data.id", "s:x")], [("data.id", "s:y")]))
        name = signal_name("s") if rng.random() < 0.3 else rng.choice(("go", "stop"))
        pause = Pause(
            id=f"{run}:{step}", kind=PauseKind.EVENT, fn=FN, run=run, event=name, step=step,
            timeout_job=timeout_job(run, step), terms=terms if name in {"go", "stop"} else [],
            created=world.now,
        )  # fmt: skip
        leased = rng.choice(self.leased) if self.leased else None
        other = Partition(id=f"{FN}/own", fn=FN, cells=(Cell("other", 0),))
        choices: list[Effect] = [
            SaveStep(step=step, value=msgspec.json.encode(rng.random())),
            Await(steps=rng.sample("abcdef", 2)),
            Adopt(version=2),
            ForcePlan(),
            Begin(at=world.now),
            Enqueue(item=world.item(run, kind, due=due, score=due)),
            Enqueue(item=world.item(run, kind), partition=other),
            Discover(item=world.item(run, Kind.DISCOVER, job=f"{run}:discover:{step}")),
            EnqueueFirst(items=[world.item(run, Kind.DISCOVER, job=f"{run}:{n}") for n in range(3)]),
            Drop(job=rng.choice(jobs or ["none"])),
            PutPause(
                pause=pause, exclusive=rng.choice(("fail", "replace")) if name not in {"go", "stop"} else ""
            ),
            TakePause(id=pause.id),
            Emit(event=b"event"),
            Record(entry=History(id=f"{run}:1", what=What.ATTEMPT, run=run, fn=FN, at=world.now)),
            ResetAttempts(
                job=leased.item.job if leased else "none",
                epoch=leased.item.epoch if leased else 0,
                ms=1000,
            ),
        ]
        return rng.choice(choices)

    async def without_run(self) -> None:
        rng, world = self.rng, self.world
        event = msgspec.json.encode({"ts": world.now})
        kind = rng.choice((Kind.BATCH, Kind.DEBOUNCE))
        item = world.item("", kind, due=world.now + 4000, payload=b"[" + event + b"]")
        collect = Collect(
            key=f"{kind}-{rng.randint(0, 2)}", item=item, partition=runner_items(FN), event=event,
            ts=world.now, last=kind is Kind.DEBOUNCE, bound=10_000, max_size=3,
        )  # fmt: skip
        ticks = [
            world.item("", Kind.CRON, name=name, due=world.now + 9000, job=f"cron-{name}-{world.serial()}")
            for name in rng.sample("abc", 2)
        ]
        admit = Admit(
            key=f"rate-{rng.randint(0, 3)}", params=gcra.rate_limit(10, 60_000),
        )  # fmt: skip
        version = world.serial() - rng.choice((0, 0, 5))
        crons = SetCrons(items=ticks, partition=runner_items(FN), version=version)
        settled = world.now - rng.choice((HOUR, 60_000))
        once = Once(key=f"event-{rng.randint(0, 99)}", at=world.now, forget=settled, mark=rng.random() < 0.8)
        await world.commit("", rng.choice((collect, collect, crons, admit, once)))
        number = str(rng.randint(0, 3))
        if rng.random() < 0.3:
            order = Cancellation(id=number, fn=FN, slug=FN, app_id="app", created=1, started_before=world.now)
            await world.store.put_cancellation(order)
        elif rng.random() < 0.3:
            await world.store.delete_cancellation(number)


@pytest.mark.parametrize("seed", range(12))
async def test_a_crash_leaves_what_was_in_memory(world: World, seed: int) -> None:
    chaos = Chaos(world, random.Random(seed))
    for _ in range(8):
        for _ in range(20):
            # Side by side, they share transactions.
            await asyncio.gather(*[chaos.step() for _ in range(chaos.rng.choice((1, 1, 4, 12)))])
        await world.store._journal.settled()
        again = await world.open(snapshot(world.path))
        assert await picture(again, world.now) == await picture(world.store, world.now)
        if chaos.rng.random() < 0.4:
            world.store, world.path, chaos.leased = again, again._journal.path, []
    assert len(chaos.runs()) > 3


async def test_nobody_exceeds_a_limit_after_a_crash(world: World) -> None:
    runs = [world.run() for _ in range(12)]
    for run in runs:
        await world.commit(run.id, *world.creation(run))
    for _ in range(2):
        for leased in await world.lease():
            await world.commit(leased.item.run, Begin(at=world.now), Complete(), lease=leased)
    begun = [state.run.id for state in world.store._state.runs.values() if state.run.started]
    assert len(begun) == 5
    world.store = await world.open(snapshot(world.path))
    assert await world.lease() == []
    await world.commit(begun[0], EndRun(status=RunStatus.COMPLETED))
    assert len(await world.lease()) == 1


async def test_a_start_passes_its_throttle_once(world: World) -> None:
    fn = replace(function(), throttle=Throttle(limit=1, period=HOUR))
    await world.store.put_app(App(id="app", name="app", url="http://app.test"), [fn])
    runs = [world.run() for _ in range(2)]
    for run in runs:
        await world.commit(run.id, *world.creation(run))
    assert [leased.item.run for leased in await world.lease()] == [runs[0].id]
    world.store = await world.open(snapshot(world.path))
    assert [leased.item.run for leased in await world.lease()] == [runs[0].id]
    world.now += HOUR
    assert {leased.item.run for leased in await world.lease()} == {run.id for run in runs}


# -- one group


async def test_a_run_within_one_transaction_is_not_written(world: World) -> None:
    run = world.run()
    statements: list[str] = []
    world.store._journal._connection().set_trace_callback(statements.append)
    steps = [SaveStep(step="a", value=b"1"), Begin(at=1), PutPause(pause=_pause(run))]
    await world.commit(run.id, *world.creation(run), *steps, EndRun(status=RunStatus.COMPLETED))
    world.store._journal._connection().set_trace_callback(None)
    assert not [sql for sql in statements if "state" in sql]
    assert sizes(world.path)["state"] == 0
    again = await world.open(snapshot(world.path))
    assert await picture(again, world.now) == await picture(world.store, world.now)
    assert again._state.claims.get(run.key, world.now) == 1


async def test_what_happens_to_a_new_run_in_its_first_transaction(world: World) -> None:
    run = world.run()
    commits = [
        world.commit(run.id, *world.creation(run), Begin(at=1)),
        world.commit(run.id, SaveStep(step="a", value=b"1"), Adopt(version=2), Await(steps=["a", "b"])),
        world.commit(run.id, SaveStep(step="b", value=b"2"), PutPause(pause=_pause(run))),
    ]
    await asyncio.gather(*commits)
    again = await world.open(snapshot(world.path))
    state = await again.run(FN, run.id)
    assert state is not None
    assert (state.stack, state.pending, state.started, state.request_version) == (["a", "b"], set(), 1, 2)
    assert await picture(again, world.now) == await picture(world.store, world.now)


def _pause(run: Run) -> Pause:
    return Pause(id="p", kind=PauseKind.EVENT, fn=FN, run=run.id, event="go", step="s", timeout_job="t")


# -- bounds


async def test_nothing_piles_up(world: World) -> None:
    store = world.store
    for _ in range(30):
        runs = [world.run(lock=f"lock-{world.serial()}") for _ in range(10)]
        for run in runs:
            admit = Admit(
                key=f"rate-{run.id}",
                params=gcra.rate_limit(1, 1000),
            )
            once = Once(key=run.id, at=world.now, forget=world.now - HOUR)
            lock = TakeLock(key=run.lock, order="1")
            await world.commit(run.id, once, lock, *world.creation(run), admit, Emit(event=b"e"))
        for leased in await world.lease():
            save = SaveStep(step="a", value=b"1")
            await world.commit(
                leased.item.run, save, PutPause(pause=_pause(runs[0])), Complete(), lease=leased
            )
        for run in runs:
            entry = History(id=f"{run.id}:2", what=What.ENDED, run=run.id, fn=FN, at=world.now)
            await world.commit(run.id, EndRun(status=RunStatus.COMPLETED), Record(entry=entry))
        await store.events.ack((await store.events.take(1000)).token)
        await store.history.ack((await store.history.take(1000)).token)
        world.now += HOUR // 4
    await store._journal.settled()
    counts = sizes(world.path)
    # An hour of claims, a row a transaction; four rounds an hour, at most 40 transactions a round.
    assert counts.pop("expiring") <= 4 * 40
    assert counts.pop("seen") <= 5 * 40
    assert len(store._state.seen[FN]) <= 5 * 10
    for table in ("locks", "state", "outbox_events", "outbox_history"):
        assert counts[table] == 0, table


async def test_no_statement_looks_at_a_whole_table(world: World) -> None:
    statements: set[str] = set()
    db = world.store._journal._connection()
    db.set_trace_callback(statements.add)
    chaos = Chaos(world, random.Random(1))
    for _ in range(400):
        await chaos.step()
    await world.store._journal.settled()
    db.set_trace_callback(None)
    searches = [sql for sql in statements if sql.startswith("DELETE")]
    assert {sql.split()[2] for sql in searches} == {
        "state",
        "expiring",
        "seen",
        "cancellations",
        "locks",
        "outbox_events",
        "outbox_history",
    }
    for sql in searches:
        (plan,) = db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        assert plan[3].startswith("SEARCH"), (sql, plan)


# -- a disk that fails


async def test_a_full_disk_holds_commits_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.01)
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    disk = Disk(world.store._journal)
    disk.fill()
    committing = asyncio.create_task(world.commit(run.id, SaveStep(step="a", value=b"1" * 500_000)))
    await until(lambda: bool(world.store._journal._failure))
    leasing = asyncio.create_task(world.lease())
    with pytest.raises(StoreUnavailable, match="full"):
        await world.store.put_app(App(id="b", name="b", url="http://b.test"), [])
    assert not committing.done()
    assert not leasing.done()
    disk.free()
    assert await committing == [True]
    assert [leased.item.kind for leased in await leasing] == [Kind.START]
    again = await world.open(snapshot(world.path))
    assert await picture(again, world.now) == await picture(world.store, world.now)


async def test_leases_count_from_when_they_are_durable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else what waits for a full disk is handed out again before it has been at all."""
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.01)
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    disk = Disk(world.store._journal)
    disk.fill()
    await world.store.alive("worker", 4_000)
    leasing = asyncio.create_task(world.lease())
    writing = asyncio.create_task(world.commit(run.id, SaveStep(step="a", value=b"1" * 500_000)))
    await until(lambda: bool(world.store._journal._failure))
    world.now += 31_000
    await world.store.alive("other", 4_000)
    assert await world.store.extend([], 1) == []
    disk.free()
    (first,) = await leasing
    await writing
    assert await world.lease() == []
    world.now += 29_999
    assert await world.lease() == []
    assert await world.commit(run.id, Complete(), lease=first) == [True]


async def test_a_continuation_counts_from_when_it_is_durable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.01)
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    (leased,) = await world.lease()
    disk = Disk(world.store._journal)
    disk.fill()
    effects = [SaveStep(step="a", value=b"1" * 500_000), Discover(item=world.item(run.id, Kind.DISCOVER))]
    transition = Transition(fn=FN, run=run.id, effects=[*effects, Complete()], lease=lease_of(leased.item))
    committing = asyncio.create_task(world.store.commit([transition], take=Take("worker", 30_000)))
    await until(lambda: bool(world.store._journal._failure))
    world.now += 31_000
    # Repeated, since the worker has heard nothing: it has the continuation when that is durable.
    repeating = asyncio.create_task(world.store.commit([transition], take=Take("worker", 30_000)))
    disk.free()
    (committed,), (repeated,) = await committing, await repeating
    assert committed.next is not None
    assert repeated.next is not None
    assert (repeated.stale, repeated.next.item) == (True, committed.next.item)
    world.now += 29_999
    assert await world.lease() == []


async def test_nobody_gets_a_result_that_may_still_be_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While what was leased becomes durable, another saves a step, which takes as long again."""
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    store = world.store
    settle = store._settle
    saving: list[asyncio.Task[Any]] = []

    async def slow() -> None:
        monkeypatch.setattr(store, "_settle", settle)
        saving.append(asyncio.create_task(world.commit(run.id, SaveStep(step="b", value=b"1"))))
        await asyncio.sleep(0)
        await settle()

    monkeypatch.setattr(store, "_settle", slow)
    work = await store.lease(Queue.EXECUTOR, 10, 30_000, "worker")
    (leased,) = work.items
    await saving[0]
    assert leased.run is not None
    assert "b" not in leased.run.steps
    known = await store.run(FN, run.id)
    assert known is not None
    assert "b" in known.steps
