"""The queue in time: order, fairness, leases and their end, waiting, the continuation in the same commit."""

from __future__ import annotations

import asyncio

import pytest
from engine_bench import FN, HOUR, LEASE, OTHER, Bench, due_in, function, partition, token

from inngest.core.model.runs import Cell, Kind, Leased, Queue, Run, RunStatus
from inngest.core.model.transition import (
    Adopt,
    Await,
    Complete,
    Discover,
    Drop,
    EndRun,
    Enqueue,
    Lease,
    Retry,
    SaveStep,
    Transition,
)


async def _due(engine: Bench, *jobs: str, run: Run | None = None, **fields: int) -> Run:
    run = run or await engine.create(start=False)
    await engine.commit(*[engine.enqueue(run, job=job, **fields) for job in jobs], run=run.id)
    return run


# -- order --


async def test_items_come_in_score_order(engine: Bench) -> None:
    run = await engine.create(start=False)
    for job, score in (("c", 30), ("a", -10), ("b", 20)):
        await engine.commit(engine.enqueue(run, job=job, score=engine.now + score), run=run.id)
    assert await engine.jobs() == ["a", "b", "c"]


async def test_items_of_one_score_come_in_the_order_of_their_arrival(engine: Bench) -> None:
    await _due(engine, *"dbac", score=5)
    assert await engine.jobs() == list("dbac")


async def test_a_limit_takes_the_first(engine: Bench) -> None:
    await _due(engine, *"abcd")
    assert await engine.jobs(2) == ["a", "b"]
    assert await engine.jobs(1) == ["c"]
    assert await engine.jobs(0) == []
    assert await engine.jobs() == ["d"]


async def test_priority_reorders_what_was_delayed_too(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(engine.enqueue(run, job="late", score=engine.now), run=run.id)
    early = engine.enqueue(run, job="early", due=engine.now + 1000, score=engine.now - 1)
    await engine.commit(early, run=run.id)
    engine.now += 1000
    assert await engine.jobs() == ["early", "late"]


async def test_order_holds_although_earlier_items_of_the_partition_are_gone(engine: Bench) -> None:
    """A partition with nothing ready is still the same partition for what falls due in it."""
    run = await engine.create(start=False)
    delayed = engine.enqueue(run, job="first", due=engine.now + 10, score=engine.now)
    await engine.commit(engine.enqueue(run, job="gone"), delayed, run=run.id)
    await engine.complete(await engine.one())
    assert await engine.lease() == []
    await engine.commit(engine.enqueue(run, job="second", score=engine.now + 10), run=run.id)
    engine.now += 10
    assert await engine.jobs() == ["first", "second"]


async def test_partitions_take_turns(engine: Bench) -> None:
    big = await engine.create(start=False)
    await _due(engine, *[f"big{n}" for n in range(10)], run=big)
    small = await engine.create(start=False, fn=OTHER)
    await engine.commit(engine.enqueue(small, job="small"), run=small.id, fn=OTHER)
    taken = await engine.jobs(2)
    assert sorted(taken) == ["big0", "small"]


async def test_partitions_take_turns_over_many_calls(engine: Bench) -> None:
    runs = [await engine.create(start=False, fn=f"fn-{n}") for n in range(3)]
    for run in runs:
        for n in range(4):
            await engine.commit(engine.enqueue(run, job=f"{run.fn}:{n}"), run=run.id, fn=run.fn)
    taken = [(await engine.jobs(1))[0] for _ in range(12)]
    for turn in range(4):
        round_ = taken[turn * 3 : turn * 3 + 3]
        assert sorted(round_) == [f"fn-{n}:{turn}" for n in range(3)]


async def test_a_partition_of_many_does_not_starve_the_one_that_comes_later(engine: Bench) -> None:
    await _due(engine, *[f"big{n}" for n in range(50)])
    await engine.jobs(5)
    late = await engine.create(start=False, fn=OTHER)
    await engine.commit(engine.enqueue(late, job="late"), run=late.id, fn=OTHER)
    assert "late" in await engine.jobs(2)


async def test_partitions_take_turns_in_the_order_in_which_they_got_work(engine: Bench) -> None:
    names = ["fn-c", "fn-a", "fn-d", "fn-b"]
    for delay in (0, 1000):
        for fn in names:
            run = await engine.create(start=False, fn=fn)
            due = engine.now + delay
            await engine.commit(engine.enqueue(run, due=due, queued=engine.now), run=run.id, fn=fn)
        engine.now += delay
        assert [leased.item.fn for leased in await engine.lease(3)] == names[:3]
        assert [leased.item.fn for leased in await engine.lease()] == names[3:]


async def test_a_partition_whose_work_was_taken_back_has_lost_its_turn(engine: Bench) -> None:
    first = await _due(engine, "taken back")
    second = await engine.create(start=False, fn=OTHER)
    await engine.commit(engine.enqueue(second, job="second"), run=second.id, fn=OTHER)
    await engine.commit(Drop(job="taken back"), run=first.id)
    await _due(engine, "later", run=first)
    assert await engine.jobs() == ["second", "later"]


# -- time --


async def test_nothing_is_early(engine: Bench) -> None:
    await _due(engine, "a", due=engine.now + 1000)
    engine.now += 999
    work = await engine.work()
    assert (work.items, due_in(work)) == ([], 1)
    engine.now += 1
    assert await engine.jobs() == ["a"]


async def test_the_next_due_time_is_the_earliest(engine: Bench) -> None:
    run = await engine.create(start=False)
    assert due_in(await engine.work()) is None
    for delay in (3000, 1000, 2000):
        sleep = engine.enqueue(run, Kind.SLEEP, f"{delay}", due=engine.now + delay)
        await engine.commit(sleep, run=run.id)
    assert due_in(await engine.work()) == 1000


async def test_the_next_due_time_forgets_what_was_taken_back(engine: Bench) -> None:
    run = await engine.create(start=False)
    near = engine.enqueue(run, Kind.SLEEP, "near", due=engine.now + 1000)
    await engine.commit(near, run=run.id)
    other = await engine.create(start=False)
    far = engine.enqueue(other, Kind.SLEEP, "far", due=engine.now + 5000)
    await engine.commit(far, run=other.id)
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
    assert due_in(await engine.work()) == 5000


async def test_queues_are_separate(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(engine.enqueue(None, Kind.CRON, "cron", name="c"))
    await engine.commit(engine.enqueue(None, Kind.BATCH, "batch", due=engine.now + 10))
    assert [leased.item.run for leased in await engine.lease()] == [run.id]
    work = await engine.work(queue=Queue.RUNNER)
    assert [leased.item.job for leased in work.items] == ["cron"]
    assert work.items[0].run is None
    coming = due_in(work)
    assert coming is not None
    assert coming <= 10


async def test_ten_thousand_timers_fall_due_in_order(engine: Bench) -> None:
    run = await engine.create(start=False)
    count = 10_000
    effects = [
        Enqueue(item=engine.item(run, Kind.SLEEP, f"{n}", due=engine.now + n, score=engine.now + n))
        for n in range(count)
    ]
    for at in range(0, count, 1000):
        await engine.commit(*reversed(effects[at : at + 1000]), run=run.id)
    engine.now += count
    taken: list[str] = []
    while jobs := await engine.jobs(1000):
        taken += jobs
    assert taken == [str(n) for n in range(count)]


# -- leases --


async def test_a_lease_brings_the_run(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(SaveStep(step="a", value=b"1"), Adopt(version=2), Await(steps=["b"]), run=run.id)
    leased = await engine.one()
    assert leased.run is not None
    assert (leased.run.id, leased.run.steps, leased.run.stack) == (run.id, {"a": b"1"}, ["a"])
    assert (leased.run.request_version, leased.run.pending) == (2, {"b"})
    assert leased.item.epoch >= 1


async def test_a_leased_item_is_not_leased_again_before_its_time(engine: Bench) -> None:
    await engine.create()
    assert len(await engine.lease()) == 1
    engine.now += LEASE - 1
    assert await engine.lease() == []


async def test_a_lease_that_ran_out_is_taken_up_under_a_higher_epoch(engine: Bench) -> None:
    await engine.create()
    epochs = []
    for _ in range(3):
        leased = await engine.one()
        epochs.append(leased.item.epoch)
        assert leased.item.attempt == 0
        engine.expire()
    assert epochs == sorted(set(epochs))


async def test_an_idle_worker_hears_of_leases_that_run_out(engine: Bench) -> None:
    """Whoever sleeps for ``next_in``, time after time, takes the item up soon."""
    await engine.create()
    await engine.one()
    for _ in range(LEASE):
        work = await engine.work()
        if work.items:
            break
        coming = due_in(work)
        assert coming is not None
        assert coming > 0
        engine.now += coming
    assert len(work.items) == 1


async def test_an_extended_lease_lasts(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    assert await engine.store.extend([token(leased)], 3 * LEASE) == []
    engine.expire()
    assert await engine.lease() == []
    assert not (await engine.complete(leased)).stale


async def test_an_extended_lease_ends_too(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    await engine.store.extend([token(leased)], 2 * LEASE)
    engine.now += LEASE
    engine.expire()
    assert (await engine.one()).item.epoch > leased.item.epoch


async def test_lost_leases_are_named(engine: Bench) -> None:
    await engine.create()
    await engine.create()
    first, second = await engine.lease()
    engine.expire()
    (again,) = await engine.lease(1)
    old = first if first.item.job == again.item.job else second
    (other,) = await engine.lease()
    await engine.complete(other)
    leases = [token(old), token(again), token(other), Lease(FN, "unknown", 1)]
    lost = await engine.store.extend(leases, LEASE)
    assert lost == [leases[0], leases[2], leases[3]]
    assert await engine.store.extend([], LEASE) == []


async def test_what_is_handed_back_is_due_at_once(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    await engine.store.hand_back([token(leased)])
    again = await engine.one()
    assert (again.item.job, again.item.attempt) == (leased.item.job, 0)
    assert (await engine.complete(leased)).stale
    assert not (await engine.complete(again)).stale


@pytest.mark.parametrize("lost", [False, True])
async def test_an_item_of_an_ended_run_does_not_go_back(engine: Bench, lost: bool) -> None:
    run = await engine.create()
    leased = await engine.one()
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
    if lost:
        engine.expire()
        assert await engine.lease() == []
    else:
        await engine.store.hand_back([token(leased)])
    stats = await engine.store.stats()
    assert (stats.queued, stats.leased) == (0, 0)
    assert await engine.item_of(leased.item.job) is None


async def test_a_lost_lease_is_not_handed_back(engine: Bench) -> None:
    await engine.create()
    first = await engine.one()
    engine.expire()
    second = await engine.one()
    await engine.store.hand_back([token(first), Lease(FN, "unknown", 1)])
    assert await engine.lease() == []
    assert not (await engine.complete(second)).stale


async def test_leases_run_out_one_by_one(engine: Bench) -> None:
    for _ in range(3):
        await engine.create()
    for _ in range(3):
        assert len(await engine.lease(1)) == 1
        engine.now += 10_000
    engine.now += 2_000
    assert len(await engine.lease()) == 1
    engine.now += 20_000
    assert len(await engine.lease()) == 2


# -- waiting --


async def _wakes(engine: Bench, effect: Transition) -> None:
    waiting = asyncio.create_task(engine.store.wait(Queue.EXECUTOR, 60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await engine.store.commit([effect])
    await asyncio.wait_for(waiting, 10)


async def test_new_work_wakes_the_worker(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.lease()
    await _wakes(engine, Transition(fn=FN, run=run.id, effects=[engine.enqueue(run)]))


async def test_an_earlier_timer_wakes_the_worker(engine: Bench) -> None:
    """When it is set, or when it is due."""
    run = await engine.create(start=False)
    await engine.commit(engine.enqueue(run, Kind.SLEEP, due=engine.now + 2 * HOUR), run=run.id)
    await engine.lease()
    sleep = engine.enqueue(run, Kind.SLEEP, due=engine.now + 500)
    await _wakes(engine, Transition(fn=FN, run=run.id, effects=[sleep]))


async def test_returning_capacity_wakes_the_worker(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    cell = Cell("cell", 0)
    run = engine.run(work=partition(FN, "w", cell))
    await engine.create(run, start=False)
    await _due(engine, "a", "b", run=run)
    leased = await engine.one()
    assert await engine.lease() == []
    done = Transition(fn=FN, run=run.id, effects=[Complete()], lease=token(leased))
    await _wakes(engine, done)
    assert await engine.jobs() == ["b"]


async def test_what_came_between_lease_and_wait_is_not_missed(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.lease()
    await _due(engine, "a", run=run)
    await asyncio.wait_for(engine.store.wait(Queue.EXECUTOR, 60), 10)


async def test_what_a_lease_left_over_is_not_waited_for(engine: Bench) -> None:
    await _due(engine, "a", "b")
    await engine.lease(1)
    await asyncio.wait_for(engine.store.wait(Queue.EXECUTOR, 60), 10)


async def test_waiting_ends_by_itself(engine: Bench) -> None:
    await engine.lease()
    await engine.store.wait(Queue.EXECUTOR, 0.001)
    await engine.store.wait(Queue.RUNNER, 0)


async def test_all_that_wait_are_woken_or_the_work_is_not_lost(engine: Bench) -> None:
    """Two workers wait, one item comes: after both returned or one took it, it is in somebody's hands."""
    run = await engine.create(start=False)
    await engine.lease()

    async def worker() -> list[Leased]:
        while True:
            items = await engine.lease(1)
            if items:
                return items
            await engine.store.wait(Queue.EXECUTOR, 60)

    workers = [asyncio.create_task(worker()) for _ in range(2)]
    await asyncio.sleep(0.01)
    await _due(engine, "a", run=run)
    done, rest = await asyncio.wait(workers, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    await _due(engine, "b", run=run)
    await asyncio.wait_for(asyncio.gather(*rest), 60)


# -- the continuation --


async def _step(engine: Bench, leased: Leased, *, take: bool = True, **fields: object) -> Leased | None:
    assert leased.run is not None
    item = engine.item(leased.run, job=f"next-{engine.serial()}", **fields)
    committed = await engine.complete(
        leased, SaveStep(step=item.job, value=b"1"), Discover(item=item), take=take
    )
    assert not committed.stale
    return committed.next


async def test_the_continuation_comes_with_the_commit(engine: Bench) -> None:
    run = await engine.create()
    following = await _step(engine, await engine.one())
    assert following is not None
    assert following.item.kind is Kind.DISCOVER
    assert following.run is not None
    assert list(following.run.steps) == following.run.stack == [following.item.job]
    assert await engine.lease() == []
    assert [item.job for item in await engine.items(run.id)] == [following.item.job]
    engine.now += LEASE - 1
    assert await engine.lease() == []
    assert (await engine.complete(following)).stale is False


async def test_without_leave_the_continuation_is_queued(engine: Bench) -> None:
    await engine.create()
    assert await _step(engine, await engine.one(), take=False) is None
    await engine.one()


async def test_a_continuation_overtakes_no_other_partition(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    other = await engine.create(fn=OTHER)
    assert await _step(engine, leased) is None
    assert sorted(one.item.run for one in await engine.lease()) == sorted([leased.item.run, other.id])


async def test_a_continuation_does_not_wait_for_work_that_was_taken_back(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    other = await engine.create(start=False, fn=OTHER)
    await engine.commit(engine.enqueue(other, job="other"), run=other.id, fn=OTHER)
    await engine.commit(Drop(job="other"), run=other.id, fn=OTHER)
    assert await _step(engine, leased) is not None


async def test_a_continuation_overtakes_nobody_in_its_own_partition(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    await _due(engine, "before", run=run, score=engine.now - 1)
    assert await _step(engine, leased) is None
    assert (await engine.jobs())[0] == "before"


async def test_a_continuation_overtakes_no_timer_that_is_due(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    sleep = engine.enqueue(run, Kind.SLEEP, "sleep", due=engine.now + 5)
    await engine.commit(sleep, run=run.id)
    engine.now += 5
    assert await _step(engine, leased) is None


async def test_a_continuation_that_is_not_due_is_not_taken(engine: Bench) -> None:
    await engine.create()
    assert await _step(engine, await engine.one(), due=engine.now + 1000) is None
    engine.now += 1000
    await engine.one()


async def test_a_timer_is_no_continuation(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    committed = await engine.complete(leased, engine.enqueue(run, Kind.SLEEP), take=True)
    assert committed.next is None
    await engine.one()


async def test_a_retry_is_no_continuation(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    retry = Retry(due=engine.now, attempt=1)
    assert (await engine.commit(retry, run=run.id, lease=leased, take=True)).next is None
    await engine.one()


async def test_an_ended_run_has_no_continuation(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    committed = await engine.complete(
        leased, engine.enqueue(run), EndRun(status=RunStatus.COMPLETED), take=True
    )
    assert committed.next is None
    assert await engine.lease() == []


async def test_a_planned_step_is_taken_like_a_discovery(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    committed = await engine.complete(leased, engine.enqueue(run, Kind.PLAN, "plan", target="t"), take=True)
    assert committed.next is not None
    assert committed.next.item.target == "t"


async def test_a_continuation_without_capacity_waits_its_turn(engine: Bench) -> None:
    """The end of a sleep holds nothing that its continuation could take over."""
    await engine.register(function(limits=[1]))
    cells = {"start": partition(FN, "s", Cell("cell", 0)), "work": partition(FN, "w", Cell("cell", 0))}
    busy, sleeper = engine.run(**cells), engine.run(**cells)
    await engine.create(busy)
    await engine.create(sleeper, start=False)
    held = await engine.one()
    await engine.commit(engine.enqueue(sleeper, Kind.SLEEP, "sleep"), run=sleeper.id)
    sleep = await engine.one()
    assert await _step(engine, sleep) is None
    assert await engine.lease() == []
    await engine.complete(held)
    assert (await engine.one()).item.run == sleeper.id


async def test_a_continuation_takes_over_the_capacity_of_its_step(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    cells = {"start": partition(FN, "s", Cell("cell", 0)), "work": partition(FN, "w", Cell("cell", 0))}
    await engine.create(engine.run(**cells))
    leased: Leased | None = await engine.one()
    for _ in range(5):
        assert leased is not None
        leased = await _step(engine, leased)
    assert leased is not None
    await engine.complete(leased)
    await engine.create(engine.run(**cells))
    await engine.one()
