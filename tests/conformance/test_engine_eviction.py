"""Runs that are to be cancelled: nothing of them goes on but the item that tells their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from engine_bench import FN, HOUR, Bench, function, partition, token

from inngest.core.model.runs import Cell, Item, Kind, Leased, PauseKind, Queue, Run, RunStatus, evict_job
from inngest.core.model.transition import (
    Begin,
    Complete,
    CreateRun,
    Discover,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    EnqueueFirst,
    Evict,
    PutPause,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    TakeLock,
    TakePause,
    Transition,
)


def _form(engine: Bench, run: str = "") -> Item:
    """The item that tells the end; without a run, the form that a store fills in."""
    return Item(
        job=evict_job(run) if run else "", kind=Kind.EVICT, fn=FN, run=run, due=engine.now, score=engine.now,
        partition=f"{FN}/r", queued=engine.now,
    )  # fmt: skip


async def _evict(engine: Bench, run: Run) -> bool:
    (won,) = await engine.won(Evict(item=_form(engine, run.id)), run=run.id)
    return won


async def _tell(engine: Bench) -> Leased:
    """Work off the one item that tells an end."""
    leased = await engine.one(queue=Queue.RUNNER)
    assert (leased.item.kind, leased.item.job) == (Kind.EVICT, evict_job(leased.item.run))
    assert leased.run is not None
    committed = await engine.complete(leased, EndRun(status=RunStatus.CANCELLED), Emit(event=b"end", when=0))
    assert committed.won == [True, True, True]
    return leased


async def test_an_evicted_run_ends_by_its_item(engine: Bench) -> None:
    run = await engine.create()
    assert await _evict(engine, run)
    assert await engine.store.locate(run.id) == FN
    leased = await _tell(engine)
    assert leased.item.run == run.id
    assert await engine.state(run.id) is None
    assert await engine.store.locate(run.id) is None
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued, stats.leased, stats.pauses) == (0, 0, 0, 0)
    assert await engine.events() == [b"end"]


async def test_a_run_is_evicted_once(engine: Bench) -> None:
    run = await engine.create()
    assert await _evict(engine, run)
    assert not await _evict(engine, run)
    await _tell(engine)
    assert not await _evict(engine, run)
    assert not await _evict(engine, engine.run("ghost"))
    assert await engine.lease(queue=Queue.RUNNER) == []


async def test_a_run_that_has_ended_is_not_evicted(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    assert not await _evict(engine, run)
    assert await engine.lease(queue=Queue.RUNNER) == []


async def test_nothing_of_an_evicted_run_goes_on(engine: Bench) -> None:
    run = await engine.create()
    sleep = engine.enqueue(run, Kind.SLEEP, "sleep", due=engine.now + 1000)
    timeout = engine.enqueue(run, Kind.FINISH_TIMEOUT, "timeout", due=engine.now + 1000)
    waiting, cancelling = engine.pause(run), engine.pause(run, "", "app/stop", kind=PauseKind.CANCEL)
    pauses = [PutPause(pause=waiting), PutPause(pause=cancelling)]
    await engine.commit(sleep, timeout, engine.enqueue(run, job="call"), *pauses, run=run.id)
    assert await _evict(engine, run)
    assert await engine.pauses(engine.event()) == []
    assert await engine.pauses(engine.event("app/stop")) == []
    engine.now += HOUR
    assert await engine.lease() == []
    assert [item.job for item in await engine.items(run.id)] == [evict_job(run.id)]
    stats = await engine.store.stats()
    assert (stats.queued, stats.pauses) == (1, 0)
    await _tell(engine)


async def test_an_evicted_run_does_not_exist_for_others(engine: Bench) -> None:
    run = await engine.create()
    pause = engine.pause(run)
    await engine.commit(SaveStep(step="before", value=b"1"), PutPause(pause=pause), run=run.id)
    await _evict(engine, run)
    won = await engine.won(
        Begin(at=engine.now),
        SaveStep(step="a", value=b"1"),
        engine.enqueue(run, job="late"),
        EnqueueFirst(items=[engine.item(run, job="first")]),
        Discover(item=engine.item(run, job="discovery", race=True)),
        PutPause(pause=engine.pause(run, "s2")),
        TakePause(id=pause.id),
        EndRun(status=RunStatus.COMPLETED),
        Emit(event=b"1"),
        run=run.id,
    )
    assert won == [False] * 8 + [True]
    leased = await _tell(engine)
    assert leased.run is not None
    assert leased.run.steps == {"before": b"1"}


async def test_effects_after_the_eviction_in_its_own_transition_lose(engine: Bench) -> None:
    run = await engine.create()
    evict = Evict(item=_form(engine, run.id))
    effects = [SaveStep(step="a", value=b"1"), evict, SaveStep(step="b", value=b"1"), engine.enqueue(run)]
    assert await engine.won(*effects, run=run.id) == [True, True, False, False]
    assert (await _tell(engine)).run is not None


async def test_a_run_is_created_and_evicted_in_one_commit(engine: Bench) -> None:
    run = engine.run()
    effects: list[Effect] = [CreateRun(run=run), Enqueue(item=engine.item(run, Kind.START), when=0)]
    assert await engine.won(*effects, Evict(item=_form(engine, run.id)), run=run.id) == [True] * 3
    assert await engine.lease() == []
    await _tell(engine)


async def test_the_run_that_tells_its_end_still_has_its_state(engine: Bench) -> None:
    run = await engine.create(engine.run(events=[b'{"name":"a"}'], priority=3))
    await engine.commit(SaveStep(step="a", value=b"1"), Begin(at=7), run=run.id)
    await _evict(engine, run)
    leased = await engine.one(queue=Queue.RUNNER)
    assert leased.run is not None
    assert (leased.run.events, leased.run.steps, leased.run.started) == (run.events, {"a": b"1"}, 7)


async def test_the_telling_of_an_end_goes_on_if_its_runner_dies_or_fails(engine: Bench) -> None:
    run = await engine.create()
    await _evict(engine, run)
    first = await engine.one(queue=Queue.RUNNER)
    engine.expire()
    second = await engine.one(queue=Queue.RUNNER)
    assert (await engine.complete(first, EndRun(status=RunStatus.CANCELLED))).stale
    retry = Retry(due=engine.now + 1000, attempt=1)
    assert await engine.won(retry, run=run.id, lease=second) == [True]
    engine.now += 1000
    third = await engine.one(queue=Queue.RUNNER)
    assert third.item.attempt == 1
    await engine.store.hand_back([token(third)])
    await _tell(engine)


# -- calls under way --


Answer = Callable[[Bench, Leased], Awaitable[Any]]


async def _completes(engine: Bench, leased: Leased) -> None:
    effects: list[Effect] = [
        SaveStep(step="a", value=b"1"),
        Discover(item=engine.item(leased.run, job="next")),
        EndRun(status=RunStatus.COMPLETED),
        Record(entry=engine.history(), when=2),
    ]
    committed = await engine.complete(leased, *effects, take=True)
    assert (committed.stale, committed.won, committed.next) == (False, [False] * 4 + [True], None)


async def _retries(engine: Bench, leased: Leased) -> None:
    retry = Retry(due=engine.now, attempt=1)
    assert not (await engine.commit(retry, run=leased.item.run, lease=leased)).stale


async def _is_handed_back(engine: Bench, leased: Leased) -> None:
    await engine.store.hand_back([token(leased)])


async def _runs_out(engine: Bench, leased: Leased) -> None:
    engine.expire()
    assert await engine.lease() == []
    assert (await engine.complete(leased)).stale


ANSWERS = [_completes, _retries, _is_handed_back, _runs_out]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_call_under_way_changes_nothing_of_an_evicted_run(engine: Bench, answer: Answer) -> None:
    run = await engine.create()
    leased = await engine.one()
    await _evict(engine, run)
    assert await engine.lease() == []
    await answer(engine, leased)
    assert await engine.lease() == []
    stats = await engine.store.stats()
    assert (stats.leased, stats.outbox) == (0, 0)
    assert [item.job for item in await engine.items(run.id)] == [evict_job(run.id)]
    await _tell(engine)
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued, stats.leased) == (0, 0, 0)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_call_under_way_may_end_after_the_run(engine: Bench, answer: Answer) -> None:
    run = await engine.create()
    leased = await engine.one()
    await _evict(engine, run)
    await _tell(engine)
    await answer(engine, leased)
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued, stats.leased) == (0, 0, 0)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("told_first", [True, False])
async def test_the_capacity_of_a_call_under_way_returns_with_its_end(
    engine: Bench, answer: Answer, told_first: bool
) -> None:
    await engine.register(function(limits=[1]))
    parts = {"start": partition(FN, "s", Cell("c", 0)), "work": partition(FN, "w", Cell("c", 0))}
    run, other = [await engine.create(engine.run(fields=parts)) for _ in range(2)]
    leased = await engine.one()
    assert leased.item.run == run.id
    await _evict(engine, run)
    if told_first:
        await _tell(engine)
    assert await engine.lease() == [], "the application is still called"
    if answer is _runs_out:
        engine.expire()
    else:
        await answer(engine, leased)
    assert (await engine.one()).item.run == other.id


async def test_a_run_that_was_evicted_before_its_start_frees_what_others_wait_for(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    parts = {"start": partition(FN, "s", Cell("c", 0)), "work": partition(FN, "w", Cell("c", 0))}
    first, second, third = [await engine.create(engine.run(fields=parts)) for _ in range(3)]
    held = await engine.one()
    await _evict(engine, second)
    await engine.complete(held)
    assert (held.item.run, (await engine.one()).item.run) == (first.id, third.id)


async def test_a_runs_own_place_returns_when_its_end_is_told(engine: Bench) -> None:
    await engine.register(function(limits=[0], run_limit=1))
    parts = {"start": partition(FN, "s", run_cell=Cell("r", 1)), "work": partition(FN, "w")}
    run, other = [await engine.create(engine.run(fields=parts)) for _ in range(2)]
    await engine.complete(await engine.one(), engine.enqueue(run, Kind.SLEEP, due=engine.now + HOUR))
    await _evict(engine, run)
    await _tell(engine)
    assert (await engine.one()).item.run == other.id


async def test_a_report_of_a_call_under_way_changes_nothing(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    await _evict(engine, run)
    reset = ResetAttempts(job=leased.item.job, epoch=leased.item.epoch, ms=HOUR)
    assert await engine.won(SaveStep(step="a", value=b"1"), reset, run=run.id, lease=leased) == [False, False]


# -- locks --


def _holding(engine: Bench, order: str, *, evict: bool = False, **fields: Any) -> tuple[Run, list[Effect]]:
    run = engine.run(lock="lock", order=order, **fields)
    form = _form(engine) if evict else None
    effects: list[Effect] = [TakeLock(key="lock", order=order, evict=form), CreateRun(run=run, when=0)]
    return run, [*effects, Enqueue(item=engine.item(run, Kind.START), when=1)]


async def test_an_evicted_run_gives_its_lock_back_at_once(engine: Bench) -> None:
    run, effects = _holding(engine, "1")
    await engine.commit(*effects, run=run.id)
    await _evict(engine, run)
    assert await engine.holder("lock") is None
    other, effects = _holding(engine, "2")
    assert await engine.won(*effects, run=other.id) == [True] * 3
    await _tell(engine)
    assert await engine.holder("lock") == other.id


async def test_a_later_run_evicts_the_holder_of_its_lock(engine: Bench) -> None:
    first, effects = _holding(engine, "1")
    await engine.commit(*effects, run=first.id)
    second, effects = _holding(engine, "2", evict=True)
    assert await engine.won(*effects, run=second.id) == [True] * 3
    assert await engine.holder("lock") == second.id
    assert [leased.item.run for leased in await engine.lease()] == [second.id]
    assert (await _tell(engine)).item.run == first.id
    assert await engine.holder("lock") == second.id


@pytest.mark.parametrize("order", ["1", "2"])
async def test_an_earlier_run_evicts_nobody(engine: Bench, order: str) -> None:
    """Nor does one of the same event."""
    first, effects = _holding(engine, "2")
    await engine.commit(*effects, run=first.id)
    second, effects = _holding(engine, order, evict=True)
    assert await engine.won(*effects, run=second.id) == [False] * 3
    assert await engine.holder("lock") == first.id
    assert await engine.lease(queue=Queue.RUNNER) == []


async def test_without_leave_a_later_run_evicts_nobody(engine: Bench) -> None:
    first, effects = _holding(engine, "1")
    await engine.commit(*effects, run=first.id)
    second, effects = _holding(engine, "2")
    assert await engine.won(*effects, run=second.id) == [False] * 3
    assert await engine.holder("lock") == first.id


async def test_of_many_in_any_order_the_latest_keeps_the_lock(engine: Bench) -> None:
    made = [_holding(engine, order, evict=True) for order in "3172645"]
    results = await engine.store.commit(
        [Transition(fn=FN, run=run.id, effects=effects) for run, effects in made]
    )
    assert [result.won[0] for result in results] == [True, False, True, False, False, False, False]
    assert await engine.holder("lock") == made[2][0].id
    assert [leased.item.run for leased in await engine.lease()] == [made[2][0].id]
    assert (await _tell(engine)).item.run == made[0][0].id


async def test_a_call_under_way_of_a_holder_that_gave_way_changes_nothing(engine: Bench) -> None:
    first, effects = _holding(engine, "1")
    await engine.commit(*effects, run=first.id)
    leased = await engine.one()
    second, effects = _holding(engine, "2", evict=True)
    await engine.commit(*effects, run=second.id)
    await _completes(engine, leased)
    await _tell(engine)
    assert await engine.holder("lock") == second.id


async def test_a_holder_may_take_its_lock_again(engine: Bench) -> None:
    run, effects = _holding(engine, "1")
    await engine.commit(*effects, run=run.id)
    assert await engine.won(TakeLock(key="lock", order="1", evict=_form(engine)), run=run.id) == [True]
    assert await engine.holder("lock") == run.id
    assert await engine.lease(queue=Queue.RUNNER) == []


async def test_a_leased_commit_may_evict_and_start(engine: Bench) -> None:
    """As a tick or a collector of a singleton does."""
    first, effects = _holding(engine, "1")
    await engine.commit(*effects, run=first.id)
    await engine.commit(engine.enqueue(None, Kind.CRON, "cron", name="c"))
    tick = await engine.one(queue=Queue.RUNNER)
    second, effects = _holding(engine, "2", evict=True)
    for stale in (False, True):
        committed = await engine.commit(*effects, Complete(), run=second.id, lease=tick)
        assert committed.stale is stale
    assert await engine.holder("lock") == second.id


# -- after a restart --


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("leased", [False, True])
async def test_an_evicted_run_stays_evicted_after_a_restart(engine: Bench, crash: bool, leased: bool) -> None:
    run, effects = _holding(engine, "1")
    await engine.commit(*effects, run=run.id)
    pause = PutPause(pause=engine.pause(run))
    await engine.commit(SaveStep(step="a", value=b"1"), pause, engine.enqueue(run, job="x"), run=run.id)
    held = await engine.lease(1) if leased else []
    await _evict(engine, run)
    await engine.reopen(crash=crash)
    assert await engine.holder("lock") is None
    assert await engine.pauses(engine.event()) == []
    assert await engine.won(SaveStep(step="b", value=b"1"), run=run.id) == [False]
    engine.expire()
    assert await engine.lease() == [], "no call is made again"
    for one in held:
        assert (await engine.complete(one)).stale
    told = await _tell(engine)
    assert told.run is not None
    assert told.run.steps == {"a": b"1"}
    await engine.reopen(crash=crash)
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued, stats.leased, stats.pauses) == (0, 0, 0, 0)


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_the_order_of_a_lock_is_known_after_a_restart(engine: Bench, crash: bool) -> None:
    first, effects = _holding(engine, "2")
    await engine.commit(*effects, run=first.id)
    await engine.reopen(crash=crash)
    earlier, effects = _holding(engine, "1", evict=True)
    assert await engine.won(*effects, run=earlier.id) == [False] * 3
    later, effects = _holding(engine, "3", evict=True)
    assert await engine.won(*effects, run=later.id) == [True] * 3


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_a_lock_of_a_run_that_was_not_created_keeps_nobody_from_opening(
    engine: Bench, crash: bool
) -> None:
    assert await engine.won(TakeLock(key="lock", order="1"), run="never") == [True]
    await engine.reopen(crash=crash)
    run, effects = _holding(engine, "1")
    assert await engine.won(*effects, run=run.id) == [True] * 3
