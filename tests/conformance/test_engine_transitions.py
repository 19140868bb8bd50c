"""Transitions as wholes: conditions between effects, fencing, all or nothing."""

from __future__ import annotations

import msgspec
import pytest
from engine_bench import FN, Bench, token

from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import (
    Await,
    Begin,
    Complete,
    Discover,
    Emit,
    EndRun,
    Enqueue,
    ForcePlan,
    Lease,
    PutPause,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    TakePause,
    Transition,
)


async def test_when_follows_a_winner_and_not_a_loser(engine: Bench) -> None:
    run = await engine.create()
    effects = [SaveStep(step="a", value=b"1"), SaveStep(step="b", value=b"2", when=0)]
    assert await engine.won(*effects, run=run.id) == [True, True]
    effects[1].step = "c"
    assert await engine.won(*effects, run=run.id) == [False, False]
    state = await engine.state(run.id)
    assert state is not None
    assert state.stack == ["a", "b"]


async def test_unless_follows_a_loser_and_not_a_winner(engine: Bench) -> None:
    run = await engine.create()
    effects = [SaveStep(step="a", value=b"1"), SaveStep(step="b", value=b"2", unless=0)]
    assert await engine.won(*effects, run=run.id) == [True, False]
    assert await engine.won(*effects, run=run.id) == [False, True]


async def test_an_effect_that_does_not_happen_has_lost(engine: Bench) -> None:
    run = await engine.create()
    won = await engine.won(
        SaveStep(step="a", value=b"1"),
        SaveStep(step="b", value=b"2", unless=0),
        SaveStep(step="c", value=b"3", when=1),
        SaveStep(step="d", value=b"4", unless=2),
        run=run.id,
    )
    assert won == [True, False, False, True]


async def test_when_and_unless_together_need_both(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(SaveStep(step="lost", value=b"0"), run=run.id)
    won = await engine.won(
        SaveStep(step="a", value=b"1"),
        SaveStep(step="lost", value=b"1"),
        SaveStep(step="b", value=b"2", when=0, unless=1),
        SaveStep(step="c", value=b"2", when=0, unless=0),
        SaveStep(step="d", value=b"2", when=1, unless=1),
        run=run.id,
    )
    assert won == [True, False, True, False, False]


async def test_effects_on_a_run_that_does_not_exist_lose(engine: Bench) -> None:
    ghost = engine.run("ghost")
    won = await engine.won(
        Begin(at=engine.now),
        ForcePlan(),
        SaveStep(step="a", value=b"1"),
        Await(steps=["a"]),
        Discover(item=engine.item(ghost)),
        engine.enqueue(ghost),
        PutPause(pause=engine.pause(ghost)),
        TakePause(id="ghost:s1"),
        ResetAttempts(job="job", epoch=1, ms=1),
        EndRun(status=RunStatus.FAILED),
        run=ghost.id,
    )
    assert won == [False] * 10
    assert (await engine.store.stats()).queued == 0


async def test_effects_after_the_end_of_the_run_lose(engine: Bench) -> None:
    run = await engine.create()
    won = await engine.won(
        EndRun(status=RunStatus.COMPLETED),
        SaveStep(step="a", value=b"1"),
        engine.enqueue(run),
        EndRun(status=RunStatus.FAILED),
        Emit(event=b"{}", when=0),
        run=run.id,
    )
    assert won == [True, False, False, False, True]


async def test_a_stale_epoch_changes_nothing(engine: Bench) -> None:
    run = await engine.create()
    first = await engine.one()
    engine.expire()
    second = await engine.one()
    committed = await engine.commit(
        SaveStep(step="a", value=b"1"),
        engine.enqueue(run),
        Emit(event=b"{}"),
        Record(entry=engine.history()),
        EndRun(status=RunStatus.FAILED),
        Complete(),
        run=run.id,
        lease=first,
    )
    assert committed.stale
    assert committed.won == [False] * 6
    state = await engine.state(run.id)
    assert state is not None
    assert not state.steps
    stats = await engine.store.stats()
    assert (stats.queued, stats.leased, stats.outbox) == (0, 1, 0)
    assert not (await engine.complete(second)).stale


async def test_a_commit_repeated_after_its_reply_was_lost_is_stale(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    job = engine.enqueue(run, job="next")
    assert not (await engine.complete(leased, SaveStep(step="a", value=b"1"), job)).stale
    assert (await engine.complete(leased, SaveStep(step="b", value=b"2"), job)).stale
    assert [item.job for item in await engine.items(run.id)] == ["next"]


async def test_a_retry_repeated_after_its_reply_was_lost_is_stale(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    retry = Retry(due=engine.now, attempt=1)
    assert not (await engine.commit(retry, run=run.id, lease=leased)).stale
    assert (await engine.commit(retry, run=run.id, lease=leased)).stale
    again = await engine.one()
    assert again.item.attempt == 1
    assert (await engine.commit(retry, run=run.id, lease=leased)).stale


@pytest.mark.parametrize("epoch", [0, 2, 99])
async def test_an_epoch_that_was_never_given_is_stale(engine: Bench, epoch: int) -> None:
    run = await engine.create()
    leased = await engine.one()
    assert leased.item.epoch != epoch
    assert (await engine.commit(Complete(), run=run.id, lease=Lease(FN, leased.item.job, epoch))).stale


async def test_a_lease_on_an_unknown_job_is_stale(engine: Bench) -> None:
    run = await engine.create()
    assert (await engine.commit(Complete(), run=run.id, lease=Lease(FN, "no-such-job", 1))).stale


async def test_a_lease_that_ran_out_holds_until_somebody_takes_the_item_up(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    engine.expire()
    assert not (await engine.complete(leased, SaveStep(step="a", value=b"1"))).stale
    assert await engine.items(run.id) == []


async def test_transitions_of_one_commit_are_applied_in_order(engine: Bench) -> None:
    run = await engine.create()
    committed = await engine.store.commit(
        [
            Transition(fn=FN, run=run.id, effects=[SaveStep(step="a", value=b"1")]),
            Transition(fn=FN, run=run.id, effects=[SaveStep(step="a", value=b"2")]),
            Transition(fn=FN, run=run.id, effects=[EndRun(status=RunStatus.COMPLETED)]),
            Transition(fn=FN, run=run.id, effects=[EndRun(status=RunStatus.FAILED)]),
        ]
    )
    assert [one.won for one in committed] == [[True], [False], [True], [False]]


async def test_a_stale_transition_does_not_hold_back_the_others(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    done = Transition(fn=FN, run=run.id, effects=[Complete()], lease=token(leased))
    other = Transition(fn=FN, run=run.id, effects=[SaveStep(step="a", value=b"1")])
    first, second, third = await engine.store.commit([done, done, other])
    assert (first.stale, second.stale, third.stale) == (False, True, False)
    assert third.won == [True]


async def test_an_empty_commit_is_nothing(engine: Bench) -> None:
    assert await engine.store.commit([]) == []
    assert await engine.won() == []


async def test_what_is_committed_is_not_shared_with_the_caller(engine: Bench) -> None:
    """Effects may be changed or used again after the commit."""
    run = engine.run()
    start = Enqueue(item=engine.item(run), when=0)
    await engine.create(run, start=False)
    wait = Await(steps=["x"])
    await engine.commit(wait, Enqueue(item=start.item), run=run.id)
    wait.steps.append("y")
    start.item.attempt = 7
    run.steps["z"] = b"1"
    state = await engine.state(run.id)
    assert state is not None
    assert (state.pending, state.steps) == ({"x"}, {})
    assert (await engine.one()).item.attempt == 0


async def test_transitions_are_serialisable(engine: Bench) -> None:
    run = engine.run()
    transition = Transition(
        fn=FN,
        run=run.id,
        effects=[PutPause(pause=engine.pause(run)), Enqueue(item=engine.item(run), when=0), Complete()],
        lease=Lease(FN, "job", 3),
    )
    raw = msgspec.msgpack.encode(transition)
    assert msgspec.msgpack.decode(raw, type=Transition) == transition
