"""Workers: replies that are lost, signs of life, leases by function."""

from __future__ import annotations

from engine_bench import FN, LEASE, OTHER, WORKER, Bench, function, partition, token

from inngest.core.model.runs import Cell, Kind, Leased, Queue, RunStatus
from inngest.core.model.transition import (
    Collect,
    Complete,
    Discover,
    EndRun,
    Lease,
    Retry,
    SaveStep,
    Transition,
)
from inngest.ports.engine import Take

SIGN = 4_000


def _names(leased: list[Leased]) -> list[tuple[str, int]]:
    return sorted((one.item.job, one.item.epoch) for one in leased)


async def _items(engine: Bench, *jobs: str, fn: str = FN) -> None:
    run = await engine.create(start=False, fn=fn)
    await engine.commit(*[engine.enqueue(run, job=job) for job in jobs], run=run.id, fn=fn)


# -- a lost reply --


async def test_what_a_lost_reply_gave_is_given_again(engine: Bench) -> None:
    await _items(engine, *"abc")
    lost = await engine.lease(2, request=1)
    assert len(lost) == 2
    again = await engine.lease(2, request=1, again=True)
    assert _names(again) == _names(lost)
    for one in again:
        assert one.run is not None
        assert not (await engine.complete(one)).stale


async def test_more_may_come_with_what_is_given_again(engine: Bench) -> None:
    await _items(engine, *"abc")
    lost = await engine.lease(2, request=1)
    again = await engine.lease(3, request=1, again=True)
    assert sorted(one.item.job for one in again) == ["a", "b", "c"]
    assert set(_names(lost)) <= set(_names(again))
    assert _names(await engine.lease(3, request=1, again=True)) == _names(again)


async def test_a_lost_reply_without_anything_gives_what_there_is(engine: Bench) -> None:
    assert await engine.lease(request=1) == []
    await _items(engine, "a")
    assert [one.item.job for one in await engine.lease(request=1, again=True)] == ["a"]


async def test_only_what_was_lost_is_given_again(engine: Bench) -> None:
    """Not what an earlier request gave, nor what others have, nor what is on the other queue."""
    await _items(engine, *"abcd")
    await engine.commit(engine.enqueue(None, Kind.CRON, "cron", name="c"))
    await engine.lease(1, request=1)
    await engine.lease(1, request=2, worker="other")
    lost = await engine.lease(1, request=2)
    await engine.lease(1, request=2, queue=Queue.RUNNER)
    assert _names(await engine.lease(1, request=2, again=True)) == _names(lost)
    assert await engine.jobs(request=3) == ["d"]


async def test_what_has_been_done_or_lost_since_is_not_given_again(engine: Bench) -> None:
    await _items(engine, *"abc")
    done, back, late = await engine.lease(request=1)
    await engine.complete(done)
    await engine.store.hand_back([token(back)])
    (other,) = await engine.lease(worker="other")
    assert other.item.job == back.item.job
    assert _names(await engine.lease(request=1, again=True)) == _names([late])


async def test_what_ran_out_meanwhile_is_given_under_a_new_lease(engine: Bench) -> None:
    await _items(engine, "a")
    (lost,) = await engine.lease(request=1)
    engine.expire()
    (again,) = await engine.lease(request=1, again=True)
    assert again.item.epoch > lost.item.epoch
    assert (await engine.complete(lost)).stale


async def test_a_collector_that_is_given_again_has_its_events(engine: Bench) -> None:
    item = engine.item(None, Kind.BATCH, "batch", payload=b'[{"n":1}]')
    collect = Collect(key="k", item=item, partition=partition(FN, "r"), event=b'{"n":1}', ts=1, max_size=1)
    await engine.commit(collect)
    (lost,) = await engine.lease(request=1, queue=Queue.RUNNER)
    (again,) = await engine.lease(request=1, queue=Queue.RUNNER, again=True)
    assert again.item == lost.item
    assert again.item.payload == b'[{"n":1}]'


async def test_the_lease_of_what_is_given_again_counts_from_then(engine: Bench) -> None:
    await _items(engine, "a")
    await engine.lease(request=1)
    engine.now += LEASE - 10
    (again,) = await engine.lease(request=1, again=True)
    engine.now += LEASE - 10
    assert await engine.lease() == []
    assert not (await engine.complete(again)).stale


# -- a commit whose reply is lost --


async def _commits(engine: Bench, leased: Leased, *, job: str = "next") -> Leased | None:
    assert leased.run is not None
    effects = [SaveStep(step=job, value=b"1"), Discover(item=engine.item(leased.run, job=job))]
    committed = await engine.complete(leased, *effects, take=True)
    assert not committed.stale
    return committed.next


async def test_a_commit_that_is_repeated_has_its_continuation(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    following = await _commits(engine, leased)
    assert following is not None
    for _ in range(2):
        repeated = await engine.complete(leased, take=True)
        assert (repeated.stale, repeated.won) == (True, [False])
        assert repeated.next is not None
        assert repeated.next.item == following.item
        assert repeated.next.run is not None
        assert repeated.next.run.steps == {"next": b"1"}
    assert await engine.lease() == []
    assert not (await engine.complete(following)).stale


async def test_without_leave_a_commit_that_is_repeated_has_nothing(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    assert await _commits(engine, leased) is not None
    assert (await engine.complete(leased)).next is None


async def test_a_continuation_that_has_been_worked_on_is_not_given_again(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    following = await _commits(engine, leased)
    assert following is not None
    further = await _commits(engine, following, job="further")
    assert further is not None
    assert (await engine.complete(leased, take=True)).next is None
    repeated = await engine.complete(following, take=True)
    assert repeated.next is not None
    assert repeated.next.item == further.item


async def test_a_continuation_that_others_have_taken_up_is_not_given_again(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    assert await _commits(engine, leased) is not None
    engine.expire()
    await engine.one(worker="other")
    assert (await engine.complete(leased, take=True)).next is None


async def test_a_continuation_of_a_run_that_has_ended_is_not_given_again(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    assert await _commits(engine, leased) is not None
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
    assert (await engine.complete(leased, take=True)).next is None


async def test_a_commit_that_took_nothing_gives_nothing_when_repeated(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    await _items(engine, "other", fn=OTHER)
    assert await _commits(engine, leased) is None
    assert (await engine.complete(leased, take=True)).next is None
    assert sorted(await engine.jobs()) == ["next", "other"]


# -- signs of life --


async def test_the_leases_of_a_worker_that_falls_silent_are_taken_up_before_they_run_out(
    engine: Bench,
) -> None:
    await _items(engine, *"ab")
    await engine.store.alive(WORKER, SIGN)
    held = await engine.lease(1)
    await engine.store.alive("other", 2 * SIGN)
    engine.now += SIGN - 1
    await engine.store.alive("other", 2 * SIGN)
    assert await engine.jobs(worker="other") == ["b"]
    engine.now += 1
    await engine.store.alive("other", 2 * SIGN)
    (taken,) = await engine.lease(worker="other")
    assert (taken.item.job, taken.item.epoch) == ("a", held[0].item.epoch + 1)
    assert (await engine.complete(held[0])).stale
    assert not (await engine.complete(taken)).stale


async def test_a_worker_that_gives_signs_keeps_its_leases(engine: Bench) -> None:
    await _items(engine, "a")
    await engine.store.alive(WORKER, SIGN)
    leased = await engine.one()
    for _ in range(LEASE // SIGN):
        engine.now += SIGN - 1
        for worker in (WORKER, "other"):
            await engine.store.alive(worker, SIGN)
        assert await engine.lease(worker="other") == []
    assert not (await engine.complete(leased)).stale


async def test_a_worker_that_never_gave_a_sign_is_judged_by_its_leases(engine: Bench) -> None:
    await _items(engine, "a")
    leased = await engine.one()
    await engine.store.alive("other", SIGN)
    engine.now += LEASE - 1
    await engine.store.alive("other", SIGN)
    assert await engine.lease(worker="other") == []
    assert not (await engine.complete(leased)).stale


async def test_a_worker_that_says_farewell_is_not_taken_for_dead(engine: Bench) -> None:
    await _items(engine, "a")
    await engine.store.alive(WORKER, SIGN)
    leased = await engine.one()
    await engine.store.alive(WORKER, 0)
    engine.now += LEASE - 1
    await engine.store.alive("other", SIGN)
    assert await engine.lease(worker="other") == []
    assert not (await engine.complete(leased)).stale


async def test_a_worker_that_was_taken_for_dead_may_go_on(engine: Bench) -> None:
    await _items(engine, "a")
    await engine.store.alive(WORKER, SIGN)
    lost = await engine.one()
    engine.now += SIGN
    await engine.store.alive(WORKER, SIGN)
    await engine.store.alive("other", SIGN)
    leases = await engine.lease(worker="other") or await engine.lease()
    for one in leases:
        assert (await engine.complete(lost)).stale
        assert not (await engine.complete(one)).stale
    if not leases:  # it was quicker than those who look for the dead
        assert not (await engine.complete(lost)).stale
    await _items(engine, "b")
    assert not (await engine.complete(await engine.one())).stale


async def test_capacity_returns_with_the_leases_of_a_silent_worker(engine: Bench) -> None:
    await engine.register(function(limits=[1]))
    parts = {"start": partition(FN, "s", Cell("c", 0)), "work": partition(FN, "w", Cell("c", 0))}
    for _ in range(2):
        await engine.create(engine.run(fields=parts))
    await engine.store.alive(WORKER, SIGN)
    await engine.one()
    engine.now += SIGN
    await engine.store.alive("other", SIGN)
    assert len(await engine.lease(worker="other")) == 1
    assert await engine.lease(worker="other") == []


async def test_a_continuation_that_was_taken_belongs_to_its_worker(engine: Bench) -> None:
    await engine.create()
    await engine.store.alive(WORKER, SIGN)
    following = await _commits(engine, await engine.one())
    assert following is not None
    engine.now += SIGN
    await engine.store.alive("other", SIGN)
    taken = await engine.one(worker="other")
    assert (taken.item.job, taken.item.epoch) == (following.item.job, following.item.epoch + 1)


async def test_very_many_leases_of_a_silent_worker_are_all_taken_up(engine: Bench) -> None:
    count = 1500
    run = await engine.create(start=False)
    for begin in range(0, count, 300):
        await engine.commit(*[engine.enqueue(run, job=f"{begin + n}") for n in range(300)], run=run.id)
    await engine.store.alive(WORKER, SIGN)
    held = 0
    while some := await engine.lease(500):
        held += len(some)
    assert held == count
    engine.now += SIGN
    await engine.store.alive("other", SIGN)
    taken: list[str] = []
    while jobs := await engine.jobs(500, worker="other"):
        taken += jobs
    assert len(set(taken)) == len(taken) == count


async def test_an_item_of_a_run_that_has_ended_is_not_taken_up_from_a_silent_worker(engine: Bench) -> None:
    run = await engine.create()
    await engine.store.alive(WORKER, SIGN)
    await engine.one()
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
    engine.now += SIGN
    await engine.store.alive("other", SIGN)
    assert await engine.lease(worker="other") == []
    assert (await engine.store.stats()).leased == 0


# -- leases name their function --


async def test_leases_of_several_functions_are_prolonged_and_handed_back_together(engine: Bench) -> None:
    for fn in (FN, OTHER):
        await engine.create(fn=fn)
    leases = [token(leased) for leased in await engine.lease()]
    assert sorted(lease.fn for lease in leases) == [FN, OTHER]
    assert await engine.store.extend(leases, 2 * LEASE) == []
    engine.now += LEASE + 5_000
    assert await engine.lease() == []
    await engine.store.hand_back(leases)
    again = await engine.lease()
    assert sorted(one.item.fn for one in again) == [FN, OTHER]
    assert await engine.store.extend(leases, LEASE) == leases


async def test_prolonging_never_shortens_a_lease(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    assert await engine.store.extend([token(leased)], 1) == []
    engine.now += LEASE - 1
    assert await engine.lease() == []


async def test_a_job_is_looked_for_in_its_function_alone(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    elsewhere = Lease(OTHER, leased.item.job, leased.item.epoch)
    assert await engine.store.item(OTHER, leased.item.job) is None
    (committed,) = await engine.store.commit(
        [Transition(fn=OTHER, run="", effects=[Complete()], lease=elsewhere)]
    )
    assert committed.stale
    assert await engine.store.extend([elsewhere], LEASE) == [elsewhere]
    await engine.store.hand_back([elsewhere])
    assert await engine.lease() == []
    assert not (await engine.complete(leased)).stale


async def test_handing_back_after_a_retry_changes_nothing(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    await engine.commit(Retry(due=engine.now + 1000, attempt=1), run=run.id, lease=leased)
    await engine.store.hand_back([token(leased)])
    assert await engine.lease() == []
    engine.now += 1000
    assert (await engine.one()).item.attempt == 1


async def test_a_take_names_its_worker(engine: Bench) -> None:
    """It is his if he falls silent, and not the committing store's."""
    run = await engine.create()
    leased = await engine.one()
    effects = [Discover(item=engine.item(run, job="next")), Complete()]
    transition = Transition(fn=FN, run=run.id, effects=list(effects), lease=token(leased))
    await engine.store.alive("third", SIGN)
    (committed,) = await engine.store.commit([transition], take=Take("third", LEASE))
    assert committed.next is not None
    engine.now += SIGN
    await engine.store.alive("other", SIGN)
    assert (await engine.one(worker="other")).item.job == "next"
