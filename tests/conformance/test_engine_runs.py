"""The effects on a run, its pauses and its end, and what they send out."""

from __future__ import annotations

import asyncio

import pytest
from engine_bench import HOUR, Bench

from inngest.core.model.runs import UNSET_VERSION, Kind, Pause, PauseKind, Run, RunStatus, signal_name
from inngest.core.model.transition import (
    Adopt,
    Await,
    Begin,
    Complete,
    Emit,
    EndRun,
    Enqueue,
    ForcePlan,
    PutPause,
    Record,
    SaveStep,
    SignalTaken,
    TakePause,
)


async def _state(engine: Bench, run: Run) -> Run:
    state = await engine.state(run.id)
    assert state is not None
    return state


async def test_a_run_begins_once(engine: Bench) -> None:
    run = await engine.create()
    assert (await _state(engine, run)).started == 0
    assert await engine.won(Begin(at=5), Begin(at=6), run=run.id) == [True, False]
    assert (await _state(engine, run)).started == 5


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_the_first_request_version_is_adopted(engine: Bench, version: int) -> None:
    run = await engine.create()
    assert (await _state(engine, run)).request_version == UNSET_VERSION
    assert await engine.won(Adopt(version=version), Adopt(version=9), run=run.id) == [True, False]
    assert (await _state(engine, run)).request_version == version


async def test_planning_is_forced(engine: Bench) -> None:
    run = await engine.create()
    assert not (await _state(engine, run)).force_plan
    assert await engine.won(ForcePlan(), ForcePlan(), run=run.id) == [True, True]
    assert (await _state(engine, run)).force_plan


async def test_the_first_result_of_a_step_is_kept(engine: Bench) -> None:
    run = await engine.create()
    first, second = SaveStep(step="a", value=b'{"data":1}'), SaveStep(step="a", value=b'{"data":2}')
    assert await engine.won(first, second, run=run.id) == [True, False]
    assert await engine.won(second, run=run.id) == [False]
    state = await _state(engine, run)
    assert state.steps == {"a": b'{"data":1}'}
    assert state.stack == ["a"]
    assert state.size == len(b'{"data":1}')


async def test_steps_stand_in_the_order_of_their_completion(engine: Bench) -> None:
    run = await engine.create()
    for step in "cab":
        await engine.commit(SaveStep(step=step, value=b"null"), run=run.id)
    state = await _state(engine, run)
    assert state.stack == list("cab")
    assert set(state.steps) == set("abc")
    assert state.size == 12


async def test_values_are_kept_to_the_byte(engine: Bench) -> None:
    run = await engine.create()
    values = [b'{"a" : 1.0e2}', '"\u20ac\U0001f600"'.encode(), b"", b"\x00\xff" * 100]
    for place, value in enumerate(values):
        await engine.commit(SaveStep(step=str(place), value=value), run=run.id)
    assert [(await _state(engine, run)).steps[str(place)] for place in range(4)] == values


async def test_awaited_steps_leave_as_they_are_saved(engine: Bench) -> None:
    run = await engine.create()
    assert await engine.won(Await(steps=["a", "b"]), run=run.id) == [True]
    assert (await _state(engine, run)).pending == {"a", "b"}
    await engine.commit(SaveStep(step="a", value=b"1"), run=run.id)
    assert (await _state(engine, run)).pending == {"b"}


async def test_awaiting_replaces_what_was_awaited_and_leaves_out_what_is_saved(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(Await(steps=["a", "b"]), SaveStep(step="b", value=b"1"), run=run.id)
    assert await engine.won(Await(steps=["b", "c"]), run=run.id) == [True]
    assert (await _state(engine, run)).pending == {"c"}


async def test_awaiting_nothing_but_saved_steps_loses(engine: Bench) -> None:
    run = await engine.create()
    await engine.commit(Await(steps=["x"]), SaveStep(step="a", value=b"1"), run=run.id)
    assert await engine.won(Await(steps=["a"]), run=run.id) == [False]
    assert (await _state(engine, run)).pending == set()
    assert await engine.won(Await(steps=[]), run=run.id) == [False]


# -- pauses --


async def test_a_pause_is_put_once(engine: Bench) -> None:
    run = await engine.create()
    pause = engine.pause(run)
    assert await engine.won(PutPause(pause=pause), PutPause(pause=pause), run=run.id) == [True, False]
    assert (await engine.store.stats()).pauses == 1


async def test_a_step_with_a_result_is_not_paused(engine: Bench) -> None:
    run = await engine.create()
    won = await engine.won(SaveStep(step="s1", value=b"1"), PutPause(pause=engine.pause(run)), run=run.id)
    assert won == [True, False]
    assert (await engine.store.stats()).pauses == 0


async def test_a_pause_may_come_again_once_it_was_taken_unless_its_step_has_a_result(engine: Bench) -> None:
    run = await engine.create()
    pause = engine.pause(run)
    taken = TakePause(id=pause.id)
    assert (
        await engine.won(PutPause(pause=pause), taken, PutPause(pause=pause), taken, run=run.id) == [True] * 4
    )
    won = await engine.won(SaveStep(step="s1", value=b"1"), PutPause(pause=pause), run=run.id)
    assert won == [True, False]


async def test_a_pause_comes_back_as_it_was_put(engine: Bench) -> None:
    run = await engine.create()
    pause = engine.pause(
        run,
        name="wait",
        condition='async.data.a == "x"',
        terms=[("data.a", "s:x"), ("data.b", "n:1")],
        race=True,
        coalesce="c",
        ignore="event-1",
        max_attempts=3,
        priority=9,
    )
    await engine.commit(PutPause(pause=pause), run=run.id)
    event = engine.event(data=b'{"a":"x"}')
    assert await engine.pauses(event) == [pause]


async def test_a_pause_is_taken_once_and_its_timeout_with_it(engine: Bench) -> None:
    run = await engine.create(start=False)
    pause = engine.pause(run)
    timeout = engine.enqueue(run, Kind.TIMEOUT, pause.timeout_job, due=pause.expires)
    await engine.commit(PutPause(pause=pause), timeout, run=run.id)
    assert len(await engine.items(run.id)) == 1
    assert await engine.won(TakePause(id=pause.id), TakePause(id=pause.id), run=run.id) == [True, False]
    assert await engine.pauses(engine.event()) == []
    assert await engine.items(run.id) == []
    engine.now = pause.expires
    assert await engine.lease() == []


async def test_a_timeout_that_is_worked_on_takes_the_pause_and_completes(engine: Bench) -> None:
    run = await engine.create(start=False)
    pause = engine.pause(run, expires=engine.now)
    timeout = engine.enqueue(run, Kind.TIMEOUT, pause.timeout_job)
    await engine.commit(PutPause(pause=pause), timeout, run=run.id)
    leased = await engine.one()
    save = SaveStep(step="s1", value=b"null", when=0)
    committed = await engine.complete(leased, TakePause(id=pause.id), save)
    assert committed.won == [True, True, True]
    assert await engine.items(run.id) == []


async def test_between_an_event_and_a_leased_timeout_one_wins(engine: Bench) -> None:
    run = await engine.create(start=False)
    pause = engine.pause(run, expires=engine.now)
    timeout = engine.enqueue(run, Kind.TIMEOUT, pause.timeout_job)
    await engine.commit(PutPause(pause=pause), timeout, run=run.id)
    leased = await engine.one()
    event = [TakePause(id=pause.id), SaveStep(step="s1", value=b'{"e":1}', when=0)]
    assert await engine.won(*event, run=run.id) == [True, True]
    late = [TakePause(id=pause.id), SaveStep(step="s1", value=b"null", when=0)]
    committed = await engine.complete(leased, *late)
    assert (committed.stale, committed.won) == (False, [False, False, True])
    assert (await _state(engine, run)).steps == {"s1": b'{"e":1}'}


# -- signals --


def _signal(engine: Bench, run: Run, step: str = "s1", signal: str = "sig") -> Pause:
    return engine.pause(run, step, signal_name(signal), kind=PauseKind.SIGNAL)


def _taken(pause: Pause) -> SignalTaken:
    return SignalTaken(name=pause.event, pause=pause.id, step=pause.step)


async def test_a_signal_has_one_waiter(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    first, second = _signal(engine, run), _signal(engine, other)
    assert await engine.won(PutPause(pause=first, exclusive="fail"), _taken(first), run=run.id) == [
        True,
        False,
    ]
    assert await engine.won(PutPause(pause=second, exclusive="fail"), _taken(second), run=other.id) == [
        False,
        True,
    ]
    assert await engine.store.signal(signal_name("sig")) == first


async def test_signals_have_names_of_their_own(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    await engine.commit(PutPause(pause=_signal(engine, run), exclusive="fail"), run=run.id)
    different = _signal(engine, other, signal="other")
    assert await engine.won(PutPause(pause=different, exclusive="fail"), run=other.id) == [True]
    assert await engine.store.signal(signal_name("none")) is None


async def test_a_signal_is_free_again_when_its_wait_is_over(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    pause = _signal(engine, run)
    await engine.commit(PutPause(pause=pause, exclusive="fail"), TakePause(id=pause.id), run=run.id)
    assert await engine.store.signal(signal_name("sig")) is None
    assert await engine.won(PutPause(pause=_signal(engine, other), exclusive="fail"), run=other.id) == [True]


async def test_a_signal_is_free_again_when_its_run_has_ended(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    await engine.commit(PutPause(pause=_signal(engine, run), exclusive="fail"), run=run.id)
    await engine.commit(EndRun(status=RunStatus.FAILED), run=run.id)
    assert await engine.won(PutPause(pause=_signal(engine, other), exclusive="fail"), run=other.id) == [True]


async def test_a_replaced_wait_lasts_until_its_timeout(engine: Bench) -> None:
    run, other = await engine.create(start=False), await engine.create(start=False)
    first, second = _signal(engine, run), _signal(engine, other)
    timeout = engine.enqueue(run, Kind.TIMEOUT, first.timeout_job, due=first.expires)
    await engine.commit(PutPause(pause=first, exclusive="fail"), timeout, run=run.id)
    assert await engine.won(PutPause(pause=second, exclusive="replace"), run=other.id) == [True]
    assert await engine.store.signal(signal_name("sig")) == second
    assert [item.job for item in await engine.items(run.id)] == [first.timeout_job]
    assert await engine.won(TakePause(id=first.id), run=run.id) == [True]
    assert await engine.store.signal(signal_name("sig")) == second


async def test_the_end_of_a_replaced_run_leaves_the_new_wait(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    await engine.commit(PutPause(pause=_signal(engine, run), exclusive="fail"), run=run.id)
    second = _signal(engine, other)
    await engine.commit(PutPause(pause=second, exclusive="replace"), run=other.id)
    await engine.commit(EndRun(status=RunStatus.FAILED), run=run.id)
    assert await engine.store.signal(signal_name("sig")) == second
    await engine.commit(EndRun(status=RunStatus.FAILED), run=other.id)
    assert await engine.store.signal(signal_name("sig")) is None


async def test_a_replaced_run_that_reports_its_wait_again_is_in_no_conflict(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    first = _signal(engine, run)
    await engine.commit(PutPause(pause=first, exclusive="fail"), run=run.id)
    await engine.commit(PutPause(pause=_signal(engine, other), exclusive="replace"), run=other.id)
    assert await engine.won(PutPause(pause=first, exclusive="fail"), _taken(first), run=run.id) == [
        False,
        False,
    ]


async def test_a_finished_wait_that_is_reported_again_is_in_no_conflict(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    first = _signal(engine, run)
    await engine.commit(SaveStep(step=first.step, value=b"null"), run=run.id)
    await engine.commit(PutPause(pause=_signal(engine, other), exclusive="fail"), run=other.id)
    assert await engine.won(PutPause(pause=first, exclusive="fail"), _taken(first), run=run.id) == [
        False,
        False,
    ]


async def test_two_waits_of_one_run_for_one_signal_are_no_conflict(engine: Bench) -> None:
    run = await engine.create()
    first, second = _signal(engine, run, "s1"), _signal(engine, run, "s2")
    assert await engine.won(PutPause(pause=first, exclusive="fail"), run=run.id) == [True]
    won = await engine.won(PutPause(pause=second, exclusive="fail"), _taken(second), run=run.id)
    assert won == [True, False]
    for _ in range(2):
        found = await engine.store.signal(signal_name("sig"))
        assert found is not None
        assert await engine.won(TakePause(id=found.id), run=run.id) == [True]
    assert await engine.store.signal(signal_name("sig")) is None


# -- the end --


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
async def test_a_run_ends_once(engine: Bench, status: RunStatus) -> None:
    run = await engine.create()
    won = await engine.won(EndRun(status=status), Emit(event=b"1", when=0), run=run.id)
    assert won == [True, True]
    won = await engine.won(EndRun(status=RunStatus.FAILED), Emit(event=b"2", when=0), run=run.id)
    assert won == [False, False]
    assert await engine.events(10) == [b"1"]


async def test_nothing_of_a_run_is_left_after_its_end(engine: Bench) -> None:
    run = await engine.create(lock="lock")
    await engine.commit(SaveStep(step="a", value=b"1"), PutPause(pause=engine.pause(run)), run=run.id)
    await engine.commit(engine.enqueue(run, Kind.SLEEP, due=engine.now + HOUR), run=run.id)
    await engine.commit(PutPause(pause=_signal(engine, run, "s2"), exclusive="fail"), run=run.id)
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    assert await engine.state(run.id) is None
    assert await engine.items(run.id) == []
    assert await engine.runs() == []
    assert await engine.pauses(engine.event()) == []
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued, stats.leased, stats.pauses) == (0, 0, 0, 0)
    engine.now += 2 * HOUR
    assert await engine.lease() == []


async def test_the_end_under_a_lease_completes_the_item(engine: Bench) -> None:
    await engine.create()
    leased = await engine.one()
    assert (await engine.complete(leased, EndRun(status=RunStatus.COMPLETED))).won == [True, True]
    assert (await engine.store.stats()).leased == 0


async def test_a_leased_item_survives_the_end_until_it_completes(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
    assert (await engine.store.stats()).leased == 1
    committed = await engine.complete(leased, SaveStep(step="a", value=b"1"))
    assert (committed.stale, committed.won) == (False, [False, True])
    assert (await engine.store.stats()).leased == 0


async def test_a_leased_item_of_a_run_that_has_ended_is_never_handed_out_again(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
    engine.expire()
    assert await engine.lease() == []
    assert (await engine.complete(leased)).stale
    assert (await engine.store.stats()).leased == 0


# -- what goes out --


async def test_events_leave_in_order_and_stay_until_they_are_acknowledged(engine: Bench) -> None:
    await engine.commit(*[Emit(event=b"%d" % n) for n in range(5)])
    first = await engine.store.events.take(2)
    assert first.entries == [b"0", b"1"]
    assert await engine.events(2) == [b"0", b"1"]
    await engine.store.events.ack(first.token)
    second = await engine.store.events.take(10)
    assert second.entries == [b"2", b"3", b"4"]
    await engine.store.events.ack(first.token)
    assert await engine.events(10) == second.entries
    await engine.store.events.ack(second.token)
    assert await engine.events(10) == []


async def test_what_arrives_after_the_reading_is_not_acknowledged_by_it(engine: Bench) -> None:
    await engine.commit(Emit(event=b"1"))
    box = await engine.store.events.take(10)
    await engine.commit(Emit(event=b"2"))
    await engine.store.events.ack(box.token)
    assert await engine.events(10) == [b"2"]


async def test_history_leaves_in_order_and_apart_from_events(engine: Bench) -> None:
    entries = [engine.history(str(n), info={"n": n}, value=b'{"v":1}') for n in range(4)]
    await engine.commit(*[Record(entry=entry) for entry in entries], Emit(event=b"e"))
    assert (await engine.store.stats()).outbox == 5
    first = await engine.store.history.take(3)
    assert first.entries == entries[:3]
    await engine.store.history.ack(first.token)
    assert await engine.told(10) == entries[3:]
    assert await engine.events(10) == [b"e"]


async def test_an_empty_outbox_acknowledges_nothing(engine: Bench) -> None:
    box = await engine.store.events.take(10)
    await engine.commit(Emit(event=b"1"), Record(entry=engine.history()))
    await engine.store.events.ack(box.token)
    await engine.store.history.ack((await engine.store.history.take(0)).token)
    assert (await engine.store.stats()).outbox == 2


async def test_waiting_for_the_outbox_ends_with_what_arrives(engine: Bench) -> None:
    for wait, effect in (
        (engine.store.events.wait, Emit(event=b"1")),
        (engine.store.history.wait, Record(entry=engine.history())),
    ):
        await engine.store.events.take(10)
        await engine.store.history.take(10)
        waiting = asyncio.create_task(wait(60))
        await asyncio.sleep(0)
        await engine.commit(effect)
        await asyncio.wait_for(waiting, 10)


async def test_waiting_for_the_outbox_does_not_miss_what_came_before(engine: Bench) -> None:
    await engine.store.events.take(10)
    await engine.commit(Emit(event=b"1"))
    await asyncio.wait_for(engine.store.events.wait(60), 10)


async def test_waiting_for_the_outbox_ends_by_itself(engine: Bench) -> None:
    await engine.store.events.take(10)
    await engine.store.events.wait(0.001)
    await engine.store.history.wait(0)


async def test_effects_of_one_run_meet_no_other(engine: Bench) -> None:
    run, other = await engine.create(), await engine.create()
    save = [SaveStep(step="a", value=b"1"), Await(steps=["b"]), ForcePlan(), Begin(at=1), Complete()]
    await engine.commit(*save, run=run.id)
    state = await _state(engine, other)
    assert (state.steps, state.pending, state.force_plan, state.started) == ({}, set(), False, 0)
    await engine.commit(Enqueue(item=engine.item(other, job="same")), run=other.id)
    await engine.commit(EndRun(status=RunStatus.FAILED), run=run.id)
    assert len(await engine.lease()) == 2
