"""The effects on queue items: enqueue, drop, complete, retry, the reset of attempts, discovery."""

from __future__ import annotations

from engine_bench import FN, HOUR, LEASE, Bench, partition, runner_partition

from inngest.core.model.runs import Item, Kind, PauseKind, Queue, RunStatus, timers
from inngest.core.model.transition import (
    Adopt,
    Await,
    Complete,
    Discover,
    Drop,
    Emit,
    EndRun,
    Enqueue,
    EnqueueFirst,
    ForcePlan,
    PutPause,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
)


async def test_an_item_comes_back_as_it_was_queued(engine: Bench) -> None:
    run = await engine.create(start=False)
    item = engine.item(
        run,
        Kind.PLAN,
        attempt=2,
        max_attempts=5,
        target="t",
        outgoing="o",
        name="n\u00e9",
        race=True,
        coalesce="c",
        payload=b'{"x":1}',
    )
    await engine.commit(Enqueue(item=item), run=run.id)
    leased = await engine.one()
    leased.item.epoch = 0
    assert leased.item == item


async def test_a_job_id_is_used_once_in_a_run_for_ever(engine: Bench) -> None:
    run = await engine.create(start=False)
    effect = engine.enqueue(run, job="job")
    assert await engine.won(effect, effect, run=run.id) == [True, False]
    leased = await engine.one()
    assert await engine.won(effect, run=run.id) == [False]
    assert (await engine.complete(leased, effect)).won == [False, True]
    assert await engine.won(effect, run=run.id) == [False]
    assert await engine.lease() == []


async def test_a_dropped_job_id_stays_used(engine: Bench) -> None:
    run = await engine.create(start=False)
    effect = engine.enqueue(run, job="job")
    assert await engine.won(effect, Drop(job="job"), effect, run=run.id) == [True, True, False]


async def test_a_job_id_without_a_run_is_free_when_it_is_not_queued(engine: Bench) -> None:
    effect = engine.enqueue(None, Kind.CRON, "cron", name="c")
    assert await engine.won(effect, effect) == [True, False]
    leased = await engine.one(queue=Queue.RUNNER)
    assert await engine.won(effect) == [False]
    await engine.complete(leased)
    assert await engine.won(effect) == [True]


async def test_an_item_of_a_run_that_has_ended_is_not_queued(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    assert await engine.won(engine.enqueue(run), run=run.id) == [False]


async def test_items_go_to_the_runs_own_partitions(engine: Bench) -> None:
    """START to the run's start partition, calls to its work partition, timers to the function's."""
    run = await engine.create(start=False)
    for kind in (Kind.START, Kind.DISCOVER, Kind.PLAN, Kind.GATEWAY, Kind.SLEEP, Kind.TIMEOUT):
        await engine.commit(engine.enqueue(run, kind, f"job-{kind}"), run=run.id)
    assert len(await engine.lease()) == 6


async def test_a_named_partition_takes_the_item(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(Enqueue(item=engine.item(run), partition=partition(FN, "elsewhere")), run=run.id)
    await engine.one()


async def test_a_dropped_item_is_not_leased(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(engine.enqueue(run, job="ready"), run=run.id)
    await engine.commit(engine.enqueue(run, Kind.SLEEP, "later", due=engine.now + 1000), run=run.id)
    assert await engine.won(Drop(job="ready"), Drop(job="later"), Drop(job="never"), run=run.id) == [
        True,
        True,
        False,
    ]
    engine.now += 1000
    assert await engine.lease() == []
    assert await engine.items(run.id) == []


async def test_a_leased_item_is_not_dropped(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    assert await engine.won(Drop(job=leased.item.job), run=run.id) == [False]
    assert not (await engine.complete(leased)).stale


async def test_an_item_of_another_run_is_not_dropped(engine: Bench) -> None:
    run, other = await engine.create(start=False), await engine.create(start=False)
    await engine.commit(engine.enqueue(other, job="theirs"), run=other.id)
    assert await engine.won(Drop(job="theirs"), run=run.id) == [False]
    assert [item.job for item in await engine.items(other.id)] == ["theirs"]


async def test_a_completed_item_is_gone(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    assert (await engine.complete(leased)).won == [True]
    assert await engine.item_of(leased.item.job) is None
    assert await engine.items(run.id) == []
    engine.expire()
    assert await engine.lease() == []
    assert (await engine.store.stats()).leased == 0


async def test_a_retried_item_comes_again_at_its_time(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    retry = Retry(due=engine.now + 5000, attempt=1)
    assert await engine.won(retry, run=run.id, lease=leased) == [True]
    item = await engine.item_of(leased.item.job)
    assert item is not None
    assert (item.due, item.attempt, item.payload) == (engine.now + 5000, 1, b"")
    engine.now += 4999
    assert await engine.lease() == []
    engine.now += 1
    again = await engine.one()
    assert (again.item.job, again.item.attempt) == (leased.item.job, 1)
    assert again.item.epoch > leased.item.epoch


async def test_a_retry_may_replace_the_payload(engine: Bench) -> None:
    run = await engine.create()
    retry = Retry(due=engine.now, attempt=1, payload=b"new")
    await engine.commit(retry, run=run.id, lease=await engine.one())
    assert (await engine.one()).item.payload == b"new"


async def test_a_retry_due_at_once_is_ready_at_once(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(Retry(due=engine.now, attempt=3), run=run.id, lease=await engine.one())
    assert (await engine.one()).item.attempt == 3


async def test_a_retry_of_a_run_that_has_ended_is_dropped(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
    committed = await engine.commit(Retry(due=engine.now, attempt=1), run=run.id, lease=leased)
    assert not committed.stale
    assert await engine.lease() == []
    assert (await engine.store.stats()).leased == 0


async def test_an_item_without_a_run_is_retried(engine: Bench) -> None:
    await engine.commit(engine.enqueue(None, Kind.CRON, "cron", name="c"))
    leased = await engine.one(queue=Queue.RUNNER)
    await engine.commit(Retry(due=engine.now, attempt=1), lease=leased)
    assert (await engine.one(queue=Queue.RUNNER)).item.attempt == 1


# -- progress --


async def test_progress_resets_the_attempts_of_the_leased_item(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(Retry(due=engine.now, attempt=3), run=run.id, lease=await engine.one())
    leased = await engine.one()
    reset = ResetAttempts(job=leased.item.job, epoch=leased.item.epoch, ms=2 * LEASE)
    assert await engine.won(SaveStep(step="a", value=b"1"), reset, run=run.id, lease=leased) == [True, True]
    item = await engine.item_of(leased.item.job)
    assert item is not None
    assert item.attempt == 0


async def test_progress_extends_the_lease(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    reset = ResetAttempts(job=leased.item.job, epoch=leased.item.epoch, ms=3 * LEASE)
    await engine.commit(reset, run=run.id, lease=leased)
    engine.expire()
    assert await engine.lease() == []
    engine.now += 2 * LEASE
    engine.expire()
    assert (await engine.one()).item.job == leased.item.job


async def test_progress_never_shortens_the_lease(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    reset = ResetAttempts(job=leased.item.job, epoch=leased.item.epoch, ms=1)
    assert await engine.won(reset, run=run.id, lease=leased) == [True]
    engine.now += LEASE - 1
    assert await engine.lease() == []


async def test_progress_under_another_lease_loses(engine: Bench) -> None:
    run = await engine.create()
    first = await engine.one()
    engine.expire()
    second = await engine.one()
    reset = ResetAttempts(job=first.item.job, epoch=first.item.epoch, ms=HOUR)
    assert await engine.won(reset, run=run.id) == [False]
    await engine.complete(second)
    reset = ResetAttempts(job=second.item.job, epoch=second.item.epoch, ms=HOUR)
    assert await engine.won(reset, run=run.id) == [False]


async def test_progress_of_an_item_that_is_not_leased_loses(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    await engine.commit(Retry(due=engine.now, attempt=3), run=run.id, lease=leased)
    reset = ResetAttempts(job=leased.item.job, epoch=leased.item.epoch, ms=HOUR)
    assert await engine.won(reset, run=run.id) == [False]
    assert (await engine.one()).item.attempt == 3


# -- discovery --


async def test_a_discovery_waits_for_the_pending_steps(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(Await(steps=["a", "b"]), run=run.id)
    first, second = Discover(item=engine.item(run, job="d")), Discover(item=engine.item(run, job="d"))
    assert await engine.won(SaveStep(step="a", value=b"1"), first, run=run.id) == [True, False]
    assert await engine.won(SaveStep(step="b", value=b"1"), second, run=run.id) == [True, True]
    assert await engine.jobs() == ["d"]


async def test_a_discovery_that_had_to_wait_does_not_use_up_its_job_id(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(Await(steps=["a"]), run=run.id)
    discover = Discover(item=engine.item(run, job="d"))
    assert await engine.won(discover, run=run.id) == [False]
    assert await engine.won(SaveStep(step="a", value=b"1"), discover, discover, run=run.id) == [
        True,
        True,
        False,
    ]


async def test_a_race_discovery_does_not_wait(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(Await(steps=["a", "b"]), run=run.id)
    assert await engine.won(Discover(item=engine.item(run, race=True)), run=run.id) == [True]


async def test_a_discovery_loses_if_its_job_was_used(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(engine.enqueue(run, job="d"), run=run.id)
    await engine.complete(await engine.one())
    assert await engine.won(Discover(item=engine.item(run, job="d")), run=run.id) == [False]


async def test_a_discovery_is_queued_among_the_runs_work(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(Discover(item=engine.item(run, job="d")), run=run.id)
    assert [item.partition for item in await engine.items(run.id)] == [run.work.id]


async def test_forced_planning_before_version_two_lasts(engine: Bench) -> None:
    for version, cleared in ((1, False), (2, True), (3, True)):
        run = await engine.create(start=False)
        await engine.commit(
            Adopt(version=version),
            ForcePlan(),
            Discover(item=engine.item(run, job=f"d{version}")),
            run=run.id,
        )
        state = await engine.state(run.id)
        assert state is not None
        assert state.force_plan is not cleared


async def test_a_discovery_that_has_to_wait_leaves_planning_forced(engine: Bench) -> None:
    run = await engine.create(start=False)
    effects = [Adopt(version=2), ForcePlan(), Await(steps=["a"]), Discover(item=engine.item(run))]
    assert await engine.won(*effects, run=run.id) == [True, True, True, False]
    state = await engine.state(run.id)
    assert state is not None
    assert state.force_plan


async def test_planning_stays_forced_while_anything_else_may_ask_for_a_call(engine: Bench) -> None:
    """A step that two calls find must be planned by both."""
    others = {
        "call": lambda run: engine.enqueue(run, Kind.PLAN, target="t"),
        "sleep": lambda run: engine.enqueue(run, Kind.SLEEP, due=engine.now + HOUR),
        "wait": lambda run: PutPause(pause=engine.pause(run)),
    }
    for name, other in others.items():
        run = await engine.create(start=False)
        await engine.commit(Adopt(version=2), ForcePlan(), other(run), run=run.id)
        discover = Discover(item=engine.item(run, job=f"d-{name}", race=True))
        assert await engine.won(discover, run=run.id) == [True]
        state = await engine.state(run.id)
        assert state is not None
        assert state.force_plan, name


async def test_the_end_of_forced_planning_heeds_neither_timeouts_of_the_run_nor_the_item_itself(
    engine: Bench,
) -> None:
    run = await engine.create()
    timeout = engine.enqueue(run, Kind.FINISH_TIMEOUT, due=engine.now + HOUR)
    cancel = PutPause(pause=engine.pause(run, "", kind=PauseKind.CANCEL))
    await engine.commit(Adopt(version=2), ForcePlan(), timeout, cancel, run=run.id)
    await engine.complete(await engine.one(), Discover(item=engine.item(run)))
    state = await engine.state(run.id)
    assert state is not None
    assert not state.force_plan


async def test_a_discovery_that_loses_leaves_planning_forced(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(Adopt(version=2), engine.enqueue(run, job="d"), run=run.id)
    await engine.complete(await engine.one())
    assert await engine.won(ForcePlan(), Discover(item=engine.item(run, job="d")), run=run.id) == [
        True,
        False,
    ]
    state = await engine.state(run.id)
    assert state is not None
    assert state.force_plan


# -- the first that is free --


async def test_of_several_items_the_first_is_queued_whose_job_was_never_used(engine: Bench) -> None:
    run = await engine.create(start=False)
    items = [engine.item(run, job=job) for job in "abc"]
    await engine.commit(engine.enqueue(run, job="a"), run=run.id)
    await engine.complete(await engine.one())
    first = EnqueueFirst(items=items)
    assert await engine.won(first, run=run.id) == [True]
    assert [item.job for item in await engine.items(run.id)] == ["b"]
    assert await engine.won(first, first, run=run.id) == [True, False]
    assert await engine.jobs() == ["b", "c"]
    assert await engine.won(first, run=run.id) == [False]


async def test_without_items_or_a_run_there_is_no_first(engine: Bench) -> None:
    run = await engine.create(start=False)
    assert await engine.won(EnqueueFirst(items=[]), run=run.id) == [False]
    await engine.commit(EndRun(status=RunStatus.FAILED), run=run.id)
    assert await engine.won(EnqueueFirst(items=[engine.item(run)]), run=run.id) == [False]
    assert await engine.lease() == []


async def test_the_first_that_is_free_goes_where_the_runs_items_go_and_may_be_taken(engine: Bench) -> None:
    run = await engine.create()
    committed = await engine.complete(
        await engine.one(), EnqueueFirst(items=[engine.item(run, job="next")]), take=True
    )
    assert committed.next is not None
    assert committed.next.item.partition == run.work.id


# -- schedules --


def _crons(engine: Bench, *names: str, due: int | None = None, version: int = 1) -> SetCrons:
    at = engine.now + HOUR if due is None else due
    return SetCrons(
        items=[
            engine.item(None, Kind.CRON, f"cron:{name}:{at}", name=name, due=at, score=at) for name in names
        ],
        partition=runner_partition(FN),
        version=version,
    )


async def _queued(engine: Bench) -> list[str]:
    engine.now += 24 * HOUR
    return sorted(leased.item.job for leased in await engine.lease(queue=Queue.RUNNER))


async def test_schedules_are_added_kept_and_dropped(engine: Bench) -> None:
    first = engine.now + HOUR
    assert await engine.won(_crons(engine, "a", "b")) == [True]
    assert await engine.won(_crons(engine, "b", "c", due=first + 1)) == [True]
    assert await _queued(engine) == [f"cron:b:{first}", f"cron:c:{first + 1}"]


async def test_all_schedules_can_be_dropped(engine: Bench) -> None:
    await engine.commit(_crons(engine, "a", "b"))
    await engine.commit(_crons(engine))
    assert await _queued(engine) == []
    assert (await engine.store.stats()).queued == 0


async def test_schedules_of_an_older_registry_take_nothing_back(engine: Bench) -> None:
    first = engine.now + HOUR
    assert await engine.won(_crons(engine, "new", version=3)) == [True]
    assert await engine.won(_crons(engine, "old", version=2), _crons(engine, version=1)) == [False, False]
    assert await engine.won(_crons(engine, "new", "more", due=first + 1, version=3)) == [True]
    assert await _queued(engine) == [f"cron:more:{first + 1}", f"cron:new:{first}"]


async def test_each_function_has_the_version_of_its_own_schedules(engine: Bench) -> None:
    await engine.commit(_crons(engine, "a", version=7))
    other = Item(job="other", kind=Kind.CRON, fn="fn-b", name="a", due=engine.now, partition="fn-b/r")
    effect = SetCrons(items=[other], partition=runner_partition("fn-b"), version=2)
    assert await engine.won(effect, fn="fn-b") == [True]


async def test_a_tick_is_not_set_again_after_it_has_fired_for_an_older_registry(engine: Bench) -> None:
    await engine.commit(_crons(engine, "a", due=engine.now, version=2))
    await engine.complete(await engine.one(queue=Queue.RUNNER))
    assert await engine.won(_crons(engine, "a", due=engine.now, version=1)) == [False]
    assert await engine.lease(queue=Queue.RUNNER) == []
    assert await engine.won(_crons(engine, "a", version=2)) == [True]
    assert len(await _queued(engine)) == 1


async def test_a_leased_tick_stays_and_is_not_doubled(engine: Bench) -> None:
    await engine.commit(_crons(engine, "a", due=engine.now))
    leased = await engine.one(queue=Queue.RUNNER)
    await engine.commit(_crons(engine, "a"))
    await engine.commit(_crons(engine))
    following = engine.item(None, Kind.CRON, "next", name="a", due=engine.now + HOUR)
    committed = await engine.complete(leased, Enqueue(item=following, partition=runner_partition(FN)))
    assert committed.won == [True, True]
    await engine.commit(_crons(engine, "a", due=engine.now + 2 * HOUR))
    assert await _queued(engine) == ["next"]


async def test_schedules_of_other_functions_and_collectors_stay(engine: Bench) -> None:
    other = Item(job="other", kind=Kind.CRON, fn="fn-b", name="a", due=engine.now, partition="fn-b/r")
    await engine.commit(SetCrons(items=[other], partition=runner_partition("fn-b"), version=1), fn="fn-b")
    await engine.commit(engine.enqueue(None, Kind.DEBOUNCE, "debounce"))
    await engine.commit(_crons(engine))
    assert await _queued(engine) == ["debounce", "other"]


async def test_a_timer_needs_no_partition_of_its_own(engine: Bench) -> None:
    run = await engine.create(start=False)
    item = engine.item(run, Kind.SLEEP, partition=timers(FN).id)
    assert await engine.won(Enqueue(item=item), Emit(event=b"{}"), Complete(), run=run.id) == [True] * 3
    await engine.one()
