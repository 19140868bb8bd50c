"""Steps at once: planning, fan-in, races, by request version (wire protocol section 3.7)."""

from __future__ import annotations

from engine_rig import NOW, Rig, event, failure, op, planned, ran

from inngest.core.decisions.advance import resume
from inngest.core.model.runs import Kind
from inngest.core.sdk.responses import Op, Reported, Returned


async def test_planned_steps_are_called_each_for_itself() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"))
    run = await rig.run()
    assert (run.force_plan, run.pending) == (True, {"a", "b"})
    items = await rig.items()
    assert sorted(items) == ["plan:a", "plan:b"]
    assert {(item.kind, item.target) for item in items.values()} == {(Kind.PLAN, "a"), (Kind.PLAN, "b")}


async def test_version_two_calls_once_when_the_last_is_done() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"))
    await rig.answer(ran("a"), job="plan:a")
    assert await rig.jobs() == ["plan:b"]
    await rig.answer(ran("b"), job="plan:b")
    (job,) = await rig.jobs()
    assert job.startswith("discover:")
    run = await rig.run()
    assert (run.stack, run.pending, run.force_plan) == (["a", "b"], set(), False)


async def test_after_a_sleep_that_ends_a_group_the_next_call_still_plans() -> None:
    """Protocol additions 9.2: the plan is left behind by the step that this call finds."""
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a"), op(Op.SLEEP, "z", duration="1s"))
    await rig.answer(ran("a"), job="plan:a")
    rig.now += 1_000
    await rig.tick("sleep:z")
    assert await rig.jobs() == [next(job for job in await rig.jobs() if job.startswith("discover"))]
    assert (await rig.run()).force_plan
    await rig.answer(*planned("b"))
    await rig.answer(ran("b"), job="plan:b")
    assert not (await rig.run()).force_plan
    await rig.returned()
    assert await rig.ended()


async def test_a_step_that_got_its_result_during_a_call_may_be_reported_by_it() -> None:
    """With version 1 calls meet: what one is told of was not there when the other was made."""
    rig = Rig(retries=0)
    await rig.start()
    await rig.answer(*planned("a", "b"), version=1)
    await rig.answer(ran("a"), job="plan:a", version=1)
    discovery, other = sorted(await rig.leased(), key=lambda leased: leased.item.job)
    assert discovery.run is not None
    seen = len(discovery.run.stack)
    await rig.commit(rig.decide(other, Reported(steps=[ran("b")], request_version=1)))
    await rig.commit(rig.decide(discovery, Reported(steps=planned("b"), request_version=1), seen=seen))
    assert await rig.jobs() == ["discover:b"]
    await rig.returned()
    assert await rig.ended()


async def test_version_one_calls_after_each_and_goes_on_planning() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"), version=1)
    run = await rig.run()
    assert (run.force_plan, run.pending) == (True, set())
    await rig.answer(ran("a"), job="plan:a", version=1)
    assert await rig.jobs() == ["discover:a", "plan:b"]
    # It reports what is unfinished once more: nothing is doubled.
    await rig.answer(*planned("b"), job="discover:a", version=1)
    assert await rig.jobs() == ["plan:b"]
    await rig.answer(ran("b"), job="plan:b", version=1)
    assert await rig.jobs() == ["discover:b"]
    assert (await rig.run()).force_plan


async def test_a_finished_step_that_is_planned_once_more_is_not_called_again() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"), version=1)
    await rig.answer(ran("b"), job="plan:b", version=1)
    await rig.answer(*planned("a", "b"), job="discover:b", version=1)
    assert await rig.jobs() == ["plan:a"]


async def test_a_mixed_group_waits_for_all_of_it() -> None:
    rig = Rig()
    await rig.start()
    wait = op(Op.WAIT, "w", event="app/x", timeout="9s")
    await rig.answer(*planned("a"), op(Op.SLEEP, "s", duration="5s"), wait)
    await rig.answer(ran("a"), job="plan:a")
    rig.now += 5_000
    await rig.tick("sleep:s")
    assert await rig.jobs() == ["timeout:w"]
    rig.now += 4_000
    await rig.tick("timeout:w")
    (job,) = await rig.jobs()
    assert job.startswith("discover:")
    assert await rig.steps() == {"a": {"data": 1}, "s": None, "w": None}


async def test_a_group_whose_steps_are_all_done_already_goes_on() -> None:
    """The call was quick, the commit late: nobody else would continue."""
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"))
    await rig.answer(ran("a"), job="plan:a")
    await rig.answer(ran("b"), job="plan:b")
    run = await rig.run()
    assert run.stack == ["a", "b"]
    await rig.answer(*planned("a", "b"))
    assert (await rig.run()).pending == set()


async def test_steps_that_are_done_do_not_block_a_new_group() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a"))
    await rig.answer(*planned("a", "b"))
    assert (await rig.run()).pending == {"b"}
    await rig.answer(ran("b"), job="plan:b")
    assert len([job for job in await rig.jobs() if job.startswith("discover:")]) == 1


async def test_a_branch_may_fail_and_be_retried_alone() -> None:
    rig = Rig(retries=1)
    await rig.start()
    await rig.answer(*planned("a", "b"))
    await rig.answer(op(Op.ERROR, "a", error=b"{}"), job="plan:a")
    item = (await rig.items())["plan:a"]
    assert (item.attempt, item.target) == (1, "a")
    await rig.answer(ran("b"), job="plan:b")
    rig.now = item.due
    await rig.answer(op(Op.ERROR, "a", error=b"{}"), job="plan:a")
    assert (await rig.steps())["a"] == {"error": {}}
    assert len(await rig.jobs()) == 1


async def test_a_planned_call_that_answers_with_something_else_is_tried_again() -> None:
    for answer in ([], planned("a"), [ran("other")], [op(Op.SLEEP, "s", duration="1s")]):
        rig = Rig()
        await rig.start()
        await rig.answer(*planned("a", "b"))
        await rig.answer(*answer, job="plan:a")
        assert (await rig.items())["plan:a"].attempt == 1
        assert (await rig.run()).steps == {}


async def test_a_branch_that_fails_for_good_fails_the_run() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"))
    await rig.reply(failure(no_retry=True), job="plan:a")
    assert await rig.ended()


async def test_two_ends_of_a_run_are_told_once() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"), version=1)
    for step in "ab":
        await rig.answer(ran(step), job=f"plan:{step}", version=1)
    first, second = await rig.lease("discover:a"), await rig.lease("discover:b")
    await rig.commit(rig.decide(first, Returned(output=b"1")))
    await rig.commit(rig.decide(second, Returned(output=b"2")))
    (told,) = await rig.events()
    assert told.value["data"]["result"] == 1


# -- races --


async def test_the_first_of_a_race_goes_on_without_the_others() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b", parallelMode="race"))
    assert all(item.race for item in (await rig.items()).values())
    await rig.answer(ran("a"), job="plan:a")
    assert await rig.jobs() == ["discover:a", "plan:b"]


async def test_what_follows_a_race_does_not_wait_for_its_loser() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(
        op(Op.PLANNED, "a", parallelMode="race"), op(Op.SLEEP, "late", duration="1h", parallelMode="race")
    )
    await rig.answer(ran("a"), job="plan:a")
    loser = op(Op.SLEEP, "late", duration="1h", parallelMode="race")
    await rig.answer(loser, *planned("z"), job="discover:a")
    await rig.answer(ran("z"), job="plan:z")
    assert await rig.jobs() == ["discover:z", "sleep:late"]
    await rig.returned(job="discover:z")
    assert await rig.ended()


async def test_steps_stay_planned_while_the_loser_may_still_come() -> None:
    rig = Rig()
    await rig.start()
    loser = op(Op.SLEEP, "late", duration="5s", parallelMode="race")
    await rig.answer(op(Op.PLANNED, "a", parallelMode="race"), loser)
    await rig.answer(ran("a"), job="plan:a")
    assert (await rig.run()).force_plan
    await rig.answer(loser, *planned("z"), job="discover:a")
    rig.now += 5_000
    await rig.tick("sleep:late")
    await rig.answer(*planned("z"), job="discover:late")
    assert await rig.jobs() == ["plan:z"]
    await rig.answer(ran("z"), job="plan:z")
    assert not (await rig.run()).force_plan
    assert await rig.jobs() == ["discover:z"]


async def test_a_wait_in_a_race_goes_on_at_once() -> None:
    rig = Rig()
    await rig.start()
    waiting = op(Op.WAIT, "w", event="app/x", timeout="1h", parallelMode="race")
    await rig.answer(waiting, op(Op.PLANNED, "a", parallelMode="race"))
    (pause,) = await rig.pauses([event("app/x")])
    assert pause.race
    await rig.commit(resume(pause, b"{}", rig.moment()))
    assert await rig.jobs() == ["discover:w", "plan:a"]


async def test_priority_holds_for_all_items() -> None:
    rig = Rig(priority="event.data.p")
    await rig.start(event(data={"p": 100}))
    await rig.answer(*planned("a", "b"))
    assert {item.score for item in (await rig.items()).values()} == {NOW - 100_000}
