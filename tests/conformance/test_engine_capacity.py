"""Concurrency limits and throttles: who may be worked on at once, and who is next."""

from __future__ import annotations

from typing import Any

from engine_bench import FN, HOUR, OTHER, Bench, due_in, function, partition, token

from inngest.core.model.functions import Throttle
from inngest.core.model.runs import Cell, Kind, Leased, Run, RunStatus
from inngest.core.model.transition import CreateRun, EndRun, Enqueue, Retry


def _parts(fn: str, *cells: Cell, key: str = "", **start: Any) -> dict[str, Any]:
    """Both partitions of a run whose capacity is counted in ``cells``."""
    return {
        "start": partition(fn, f"s/{key}", *cells, **start),
        "work": partition(fn, f"w/{key}", *cells),
    }


async def _runs(engine: Bench, count: int, parts: dict[str, Any], fn: str = FN) -> list[Run]:
    return [await engine.create(engine.run(fn=fn, fields=parts)) for _ in range(count)]


async def _drain(engine: Bench, limit: int) -> int:
    """Complete everything, as it is handed out; never more than ``limit`` at once. How many there were."""
    done = 0
    held: list[Leased] = await engine.lease()
    while held:
        assert len(held) <= limit
        await engine.complete(held.pop(0))
        done += 1
        held += await engine.lease()
    return done


async def test_a_limit_holds(engine: Bench) -> None:
    await engine.register(function(limits=[2]))
    await _runs(engine, 5, _parts(FN, Cell("c", 0)))
    assert len(await engine.lease()) == 2
    assert await engine.lease() == []


async def test_each_completion_lets_the_next_in(engine: Bench) -> None:
    await engine.register(function(limits=[2]))
    runs = await _runs(engine, 5, _parts(FN, Cell("c", 0)))
    first, second = await engine.lease()
    await engine.complete(first)
    assert (await engine.one()).item.run == runs[2].id
    await engine.complete(second)
    assert (await engine.one()).item.run == runs[3].id


async def test_all_get_through_in_the_end(engine: Bench) -> None:
    await engine.register(function(limits=[3]))
    await _runs(engine, 20, _parts(FN, Cell("c", 0)))
    assert await _drain(engine, 3) == 20


async def test_no_limit_is_no_limit(engine: Bench) -> None:
    await engine.register(function(limits=[0]))
    await _runs(engine, 30, _parts(FN, Cell("c", 0)))
    assert len(await engine.lease()) == 30


async def test_a_function_that_nobody_registered_is_not_limited(engine: Bench) -> None:
    await _runs(engine, 5, _parts(FN, Cell("c", 0)))
    assert len(await engine.lease()) == 5


async def test_keys_have_limits_of_their_own(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    for key in "ab":
        await _runs(engine, 3, _parts(FN, Cell(key, 0), key=key))
    first = await engine.lease()
    assert len(first) == 2
    await engine.complete(first[0])
    assert len(await engine.lease()) == 1


async def test_a_full_key_does_not_hold_up_the_others(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    await _runs(engine, 5, _parts(FN, Cell("a", 0), key="a"))
    assert len(await engine.lease()) == 1
    await _runs(engine, 1, _parts(FN, Cell("b", 0), key="b"))
    assert len(await engine.lease()) == 1


async def test_start_and_work_share_their_limit(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    parts = _parts(FN, Cell("c", 0))
    (run,) = await _runs(engine, 1, parts)
    start = await engine.one()
    await engine.commit(engine.enqueue(run, job="work"), run=run.id)
    assert await engine.lease() == []
    await engine.complete(start)
    assert await engine.jobs() == ["work"]


async def test_among_those_who_wait_the_lowest_score_is_next(engine: Bench) -> None:
    await engine.register(function(limits=[1, 1]))
    shared = Cell("c", 0)
    held_run = (await _runs(engine, 1, _parts(FN, shared, Cell("x", 1), key="x")))[0]
    held = await engine.one()
    assert held.item.run == held_run.id
    waiting: dict[str, str] = {}
    for key, score in (("late", 30), ("early", 10), ("middle", 20)):
        parts = _parts(FN, shared, Cell(key, 1), key=key)
        run = await engine.create(engine.run(fields=parts), start=False)
        item = engine.item(run, Kind.START, score=engine.now + score)
        await engine.commit(Enqueue(item=item), run=run.id)
        waiting[run.id] = key
    assert await engine.lease() == []
    order = []
    for _ in range(3):
        await engine.complete(held)
        held = await engine.one()
        order.append(waiting[held.item.run])
    assert order == ["early", "middle", "late"]


async def test_who_comes_late_with_a_better_score_is_next(engine: Bench) -> None:
    """Also when its partition was already waiting."""
    await engine.register(function(limits=[1, 1]))
    shared = Cell("c", 0)
    await _runs(engine, 1, _parts(FN, shared, Cell("x", 1), key="x"))
    held = await engine.one()
    runs = {}
    for key in ("a", "b"):
        parts = _parts(FN, shared, Cell(key, 1), key=key)
        (runs[key],) = await _runs(engine, 1, parts)
    assert await engine.lease() == []
    urgent = engine.item(runs["b"], Kind.START, "urgent", score=engine.now - HOUR)
    await engine.commit(Enqueue(item=urgent), run=runs["b"].id)
    await engine.complete(held)
    assert await engine.jobs() == ["urgent"]


async def test_two_constraints_both_hold(engine: Bench) -> None:
    await engine.register(function(limits=[3, 1]))
    for key in "abcd":
        await _runs(engine, 2, _parts(FN, Cell("all", 0), Cell(key, 1), key=key))
    first = await engine.lease()
    assert len(first) == 3
    assert len({leased.run.start.id for leased in first if leased.run}) == 3
    done = 0
    held = first
    while held:
        keys = [leased.run.start.id for leased in held if leased.run]
        assert len(keys) == len(set(keys)) <= 3
        await engine.complete(held.pop())
        done += 1
        held += await engine.lease()
    assert done == 8


async def test_capacity_that_one_constraint_refuses_is_offered_to_the_next(engine: Bench) -> None:
    """A woken partition that cannot use the shared place must not keep it from others."""
    await engine.register(function(limits=[2, 1]))
    shared = Cell("all", 0)
    await _runs(engine, 3, _parts(FN, shared, Cell("a", 1), key="a"))
    await _runs(engine, 1, _parts(FN, shared, Cell("b", 1), key="b"))
    first = await engine.lease()
    assert len(first) == 2
    await _runs(engine, 2, _parts(FN, shared, Cell("c", 1), key="c"))
    held = {leased.run.start.id.rpartition("/")[2]: leased for leased in first if leased.run}
    assert sorted(held) == ["a", "b"]
    assert await engine.lease() == []
    await engine.complete(held["b"])
    following = await engine.one()
    assert following.run is not None
    assert following.run.start.id == f"{FN}/s/c"


async def test_functions_share_a_cell_each_with_its_own_limit(engine: Bench) -> None:
    await engine.register(function(FN, limits=[1]), function(OTHER, limits=[3]))
    shared = Cell("env", 0)
    await _runs(engine, 5, _parts(OTHER, shared), OTHER)
    held = await engine.lease()
    assert len(held) == 3
    await _runs(engine, 2, _parts(FN, shared))
    assert await engine.lease() == []
    await engine.complete(held.pop(), EndRun(status=RunStatus.COMPLETED))
    (more,) = await engine.lease()
    assert more.item.fn == OTHER
    held.append(more)
    await engine.complete(held.pop())
    (more,) = await engine.lease()
    assert more.item.fn == OTHER
    held.append(more)
    for _ in range(2):
        await engine.complete(held.pop())
        assert await engine.lease() == []
    await engine.complete(held.pop())
    assert (await engine.one()).item.fn == FN


async def test_a_lower_limit_ahead_does_not_block_a_higher_one_behind(engine: Bench) -> None:
    await engine.register(function(FN, limits=[1, 9]), function(OTHER, limits=[2, 9]))
    shared = Cell("env", 0)
    await _runs(engine, 2, _parts(OTHER, shared), OTHER)
    held = await engine.lease()
    assert len(held) == 2
    for n in range(70):
        await _runs(engine, 1, _parts(FN, shared, Cell(f"k{n}", 1), key=str(n)))
    await _runs(engine, 3, _parts(OTHER, shared), OTHER)
    assert await engine.lease() == []
    await engine.complete(held.pop())
    (more,) = await engine.lease()
    assert more.item.fn == OTHER


async def test_timers_need_no_capacity(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    (run,) = await _runs(engine, 1, _parts(FN, Cell("c", 0)))
    await engine.one()
    for kind in (Kind.SLEEP, Kind.TIMEOUT, Kind.START_TIMEOUT, Kind.FINISH_TIMEOUT):
        await engine.commit(engine.enqueue(run, kind), run=run.id)
    assert len(await engine.lease()) == 4


async def test_a_retry_gives_capacity_back_while_it_waits(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    first, second = await _runs(engine, 2, _parts(FN, Cell("c", 0)))
    leased = await engine.one()
    await engine.commit(Retry(due=engine.now + 1000, attempt=1), run=first.id, lease=leased)
    other = await engine.one()
    assert other.item.run == second.id
    engine.now += 1000
    assert await engine.lease() == []
    await engine.complete(other)
    assert (await engine.one()).item.run == first.id


async def test_a_lease_that_ran_out_gives_capacity_back(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    await _runs(engine, 2, _parts(FN, Cell("c", 0)))
    await engine.one()
    engine.expire()
    assert len(await engine.lease()) == 1
    assert await engine.lease() == []


async def test_what_is_handed_back_gives_capacity_back(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    await _runs(engine, 2, _parts(FN, Cell("c", 0)))
    leased = await engine.one()
    await engine.store.hand_back([token(leased)])
    assert len(await engine.lease()) == 1
    assert await engine.lease() == []


async def test_a_queued_run_that_is_cancelled_leaves_no_gap(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    first, second, third = await _runs(engine, 3, _parts(FN, Cell("c", 0)))
    held = await engine.one()
    assert held.item.run == first.id
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=second.id)
    await engine.complete(held)
    assert (await engine.one()).item.run == third.id


async def test_a_whole_waiting_partition_that_is_cancelled_leaves_no_gap(engine: Bench) -> None:
    await engine.register(function(limits=[1, 1]))
    shared = Cell("c", 0)
    await _runs(engine, 1, _parts(FN, shared, Cell("x", 1), key="x"))
    held = await engine.one()
    (gone,) = await _runs(engine, 1, _parts(FN, shared, Cell("a", 1), key="a"))
    (here,) = await _runs(engine, 1, _parts(FN, shared, Cell("b", 1), key="b"))
    assert await engine.lease() == []
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=gone.id)
    await engine.complete(held)
    assert (await engine.one()).item.run == here.id


async def test_a_cancelled_run_holds_capacity_until_its_call_is_over(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    first, second = await _runs(engine, 2, _parts(FN, Cell("c", 0)))
    held = await engine.one()
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=first.id)
    assert await engine.lease() == []
    await engine.complete(held)
    assert (await engine.one()).item.run == second.id


async def test_a_cancelled_run_whose_worker_is_gone_gives_capacity_back(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    first, second = await _runs(engine, 2, _parts(FN, Cell("c", 0)))
    await engine.one()
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=first.id)
    engine.expire()
    assert (await engine.one()).item.run == second.id


# -- limits that change --


async def test_a_higher_limit_wakes_those_who_wait(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    await _runs(engine, 5, _parts(FN, Cell("c", 0)))
    assert len(await engine.lease()) == 1
    await engine.register(function(limits=[3]))
    assert len(await engine.lease()) == 2


async def test_no_limit_any_more_wakes_all(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    await _runs(engine, 5, _parts(FN, Cell("c", 0)))
    assert len(await engine.lease()) == 1
    await engine.register(function(limits=[0]))
    assert len(await engine.lease()) == 4


async def test_a_lower_limit_holds_for_what_is_queued(engine: Bench) -> None:
    await engine.register(function(limits=[3]))
    await _runs(engine, 6, _parts(FN, Cell("c", 0)))
    held = await engine.lease()
    await engine.register(function(limits=[1]))
    for _ in range(2):
        await engine.complete(held.pop())
        assert await engine.lease() == []
    await engine.complete(held.pop())
    assert len(await engine.lease()) == 1


async def test_limits_of_another_function_change_nothing(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    await _runs(engine, 2, _parts(FN, Cell("c", 0)))
    assert len(await engine.lease()) == 1
    await engine.register(function(limits=[1]), function(OTHER, limits=[9]))
    assert await engine.lease() == []


# -- runs at once --


def _run_cell(key: str = "") -> dict[str, Any]:
    return _parts(FN, Cell("steps", 0), key=key, run_cell=Cell(f"run/{key}", 1))


async def test_a_run_holds_its_place_from_its_start_to_its_end(engine: Bench) -> None:
    await engine.register(function(limits=[0], run_limit=1))
    first, second = await _runs(engine, 2, _run_cell())
    leased = await engine.one()
    assert leased.item.run == first.id
    sleep = engine.enqueue(first, Kind.SLEEP, "sleep", due=engine.now + 1000)
    await engine.complete(leased, sleep)
    assert await engine.lease() == []
    engine.now += 1000
    leased = await engine.one()
    await engine.complete(leased, engine.enqueue(first, job="work"))
    assert await engine.jobs() == ["work"]
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=first.id)
    assert (await engine.one()).item.run == second.id


async def test_run_places_have_keys(engine: Bench) -> None:
    await engine.register(function(limits=[0], run_limit=1))
    for key in "ab":
        await _runs(engine, 2, _run_cell(key))
    assert len(await engine.lease()) == 2


async def test_a_start_that_is_tried_again_has_its_place(engine: Bench) -> None:
    await engine.register(function(limits=[0], run_limit=1))
    first, _ = await _runs(engine, 2, _run_cell())
    leased = await engine.one()
    await engine.commit(Retry(due=engine.now + 1000, attempt=1), run=first.id, lease=leased)
    assert await engine.lease() == []
    engine.now += 1000
    leased = await engine.one()
    assert leased.item.run == first.id
    engine.expire()
    assert (await engine.one()).item.run == first.id


async def test_runs_that_wait_for_their_place_do_not_block_the_steps_of_others(
    engine: Bench,
) -> None:
    await engine.register(function(limits=[1], run_limit=1))
    first, _ = await _runs(engine, 2, _run_cell())
    leased = await engine.one()
    await engine.complete(leased, engine.enqueue(first, job="one"))
    for job in ("one", "two", "three"):
        leased = await engine.one()
        assert leased.item.job == job
        follow = {"one": "two", "two": "three", "three": "four"}[job]
        await engine.complete(leased, engine.enqueue(first, job=follow))


async def test_a_run_that_is_cancelled_before_its_start_frees_nothing_it_did_not_hold(engine: Bench) -> None:
    await engine.register(function(limits=[0], run_limit=1))
    first, second, third = await _runs(engine, 3, _run_cell())
    assert (await engine.one()).item.run == first.id
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=second.id)
    assert await engine.lease() == []
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=first.id)
    assert (await engine.one()).item.run == third.id


async def test_run_places_do_not_leak(engine: Bench) -> None:
    await engine.register(function(limits=[2], run_limit=3))
    runs = await _runs(engine, 12, _run_cell())
    open_runs: set[str] = set()
    ended = 0
    while ended < len(runs):
        for leased in await engine.lease():
            open_runs.add(leased.item.run)
            assert len(open_runs) <= 3
            await engine.complete(leased)
        victim = min(open_runs)
        open_runs.remove(victim)
        await engine.commit(EndRun(status=RunStatus.COMPLETED), run=victim)
        ended += 1
    assert await engine.lease() == []


# -- throttles --


def _throttled(key: str = "", *cells: Cell) -> dict[str, Any]:
    return _parts(FN, *cells, key=key, throttle=f"throttle/{key}")


ONE_A_MINUTE = Throttle(limit=1, period=60_000)


async def test_a_throttle_spaces_starts(engine: Bench) -> None:
    await engine.register(function(throttle=ONE_A_MINUTE))
    runs = await _runs(engine, 3, _throttled())
    for run in runs:
        work = await engine.work()
        assert [leased.item.run for leased in work.items] == [run.id]
        await engine.complete(work.items[0])
        assert await engine.lease() == []
        engine.now += 59_999
        assert await engine.lease() == []
        engine.now += 1


async def test_a_throttle_names_the_time_of_the_next_start(engine: Bench) -> None:
    await engine.register(function(throttle=ONE_A_MINUTE))
    await _runs(engine, 2, _throttled())
    await engine.complete(await engine.one())
    assert due_in(await engine.work()) == 60_000


async def test_a_throttle_lets_its_burst_in_at_once(engine: Bench) -> None:
    await engine.register(function(throttle=Throttle(limit=2, period=60_000, burst=1)))
    await _runs(engine, 6, _throttled())
    assert len(await engine.lease()) == 3
    engine.now += 29_999
    assert await engine.lease() == []
    engine.now += 1
    fresh = [leased for leased in await engine.lease() if leased.item.epoch == 1]
    assert len(fresh) == 1


async def test_a_throttle_that_is_made_faster_holds_nobody_by_the_old_period(engine: Bench) -> None:
    await engine.register(function(throttle=Throttle(limit=1, period=HOUR)))
    first, second, third = await _runs(engine, 3, _throttled())
    assert (await engine.one()).item.run == first.id
    await engine.register(function(throttle=Throttle(limit=1, period=1000)))
    assert await engine.lease() == []
    engine.now += 1000
    assert (await engine.one()).item.run == second.id
    engine.now += 999
    assert await engine.lease() == []
    engine.now += 1
    assert (await engine.one()).item.run == third.id


async def test_throttle_keys_are_separate(engine: Bench) -> None:
    await engine.register(function(throttle=ONE_A_MINUTE))
    for key in "ab":
        await _runs(engine, 2, _throttled(key))
    assert len(await engine.lease()) == 2


async def test_a_throttle_is_for_starts_only(engine: Bench) -> None:
    await engine.register(function(throttle=ONE_A_MINUTE))
    first, _ = await _runs(engine, 2, _throttled())
    leased = await engine.one()
    await engine.complete(leased, engine.enqueue(first, job="a"), engine.enqueue(first, job="b"))
    assert await engine.jobs() == ["a", "b"]


async def test_a_start_that_is_tried_again_was_admitted_already(engine: Bench) -> None:
    await engine.register(function(throttle=ONE_A_MINUTE))
    first, second = await _runs(engine, 2, _throttled())
    leased = await engine.one()
    await engine.commit(Retry(due=engine.now + 1000, attempt=1), run=first.id, lease=leased)
    engine.now += 59_000
    again = await engine.one()
    assert again.item.run == first.id
    await engine.complete(again)
    engine.now += 1_000
    assert (await engine.one()).item.run == second.id


async def test_a_cancelled_head_does_not_use_up_an_admission(engine: Bench) -> None:
    await engine.register(function(throttle=ONE_A_MINUTE))
    _, second, third = await _runs(engine, 3, _throttled())
    await engine.complete(await engine.one())
    assert await engine.lease() == []
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=second.id)
    engine.now += 60_000
    assert (await engine.one()).item.run == third.id


async def test_a_start_without_capacity_does_not_use_up_an_admission(engine: Bench) -> None:
    await engine.register(function(limits=[1], throttle=Throttle(limit=2, period=60_000)))
    await _runs(engine, 3, _throttled("", Cell("c", 0)))
    leased = await engine.one()
    assert await engine.lease() == []
    await engine.complete(leased)
    leased = await engine.one()
    await engine.complete(leased)
    assert await engine.lease() == []
    engine.now += 30_000
    await engine.one()


async def test_a_throttled_function_leaves_capacity_to_others(engine: Bench) -> None:
    throttled = function(limits=[1], throttle=ONE_A_MINUTE)
    await engine.register(throttled, function(OTHER, limits=[1]))
    env = Cell("env", 0)
    await _runs(engine, 2, _throttled("", env))
    held = await engine.one()
    await _runs(engine, 1, _parts(OTHER, env), OTHER)
    assert await engine.lease() == []
    await engine.complete(held)
    assert (await engine.one()).item.fn == OTHER


async def test_a_changed_throttle_wakes_those_who_wait(engine: Bench) -> None:
    await engine.register(function(throttle=Throttle(limit=1, period=HOUR)))
    await _runs(engine, 4, _throttled())
    assert len(await engine.lease()) == 1
    await engine.register(function(throttle=None))
    assert len(await engine.lease()) == 3


async def test_a_changed_throttle_after_its_old_wake_up_time(engine: Bench) -> None:
    """The wake-up of the old throttle finds a partition that waits for something else by then."""
    await engine.register(function(limits=[1], throttle=ONE_A_MINUTE))
    await _runs(engine, 3, _throttled("", Cell("c", 0)))
    held = await engine.one()
    await engine.complete(held)
    assert await engine.lease() == []
    await engine.register(function(limits=[1]))
    held = await engine.one()
    assert await engine.lease() == []
    await engine.store.extend([token(held)], HOUR)
    engine.now += 60_000
    assert await engine.lease() == []
    assert await engine.lease() == []
    await engine.complete(held)
    await engine.one()


async def test_all_limits_together_lose_nobody(engine: Bench) -> None:
    """Step, key and run limits and a throttle, cancellations and lost workers: everybody gets through."""
    await engine.register(
        function(limits=[3, 2], run_limit=4, throttle=Throttle(limit=5, period=10_000, burst=1))
    )
    waiting: set[str] = set()
    for n in range(40):
        key = "abc"[n % 3]
        cells = (Cell("all", 0), Cell(key, 1))
        parts = _parts(FN, *cells, key=key, run_cell=Cell("runs", 2), throttle="throttle")
        run = engine.run(fields=parts, key=f"k{n}")
        await engine.commit(
            CreateRun(run=run, claim=HOUR), Enqueue(item=engine.item(run, Kind.START)), run=run.id
        )
        waiting.add(run.id)
    held: list[Leased] = []
    step = 0
    while waiting:
        step += 1
        assert step < 2_000, f"{len(waiting)} runs are stuck"
        work = await engine.work()
        held += work.items
        if step % 11 == 0:
            held.clear()  # the worker is gone
            engine.expire()
        elif held:
            leased = held.pop(0)
            end = await engine.complete(leased, EndRun(status=RunStatus.COMPLETED))
            if not end.stale:
                waiting.discard(leased.item.run)
        elif step % 7 == 0:
            victim = max(waiting)
            await engine.commit(EndRun(status=RunStatus.CANCELLED), run=victim)
            waiting.discard(victim)
        elif (coming := due_in(work)) is not None:
            engine.now += coming
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued) == (0, 0)
