"""One step after another: results, errors, retries, the end (wire protocol sections 3.3, 3.4 and 3.7)."""

from __future__ import annotations

import msgspec
import pytest
from engine_rig import NOW, Rig, event, failure, op, planned, ran

from inngest.core.decisions.advance import cancel
from inngest.core.decisions.checkpoints import checkpoint
from inngest.core.decisions.steps import StepTooLarge
from inngest.core.model.events import FAILED
from inngest.core.model.functions import DEFAULT_RETRIES, Throttle
from inngest.core.model.history import Outcome, What
from inngest.core.model.runs import Kind, RunStatus
from inngest.core.policy import BUSY_RETRY, MAX_REQUESTS, MIN_BUSY_RETRY, Policy
from inngest.core.sdk.responses import FUNCTION, Busy, Op, Reported, Returned, Step
from inngest.core.timing.backoff import RETRY_DELAYS_MS

MINUTE = 60_000


@pytest.mark.parametrize("version", [1, 2])
async def test_a_step_is_saved_and_the_next_call_follows(version: int) -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a", b'{"x":1}'), version=version)
    run = await rig.run()
    assert (run.request_version, run.started, run.force_plan) == (version, NOW, False)
    assert run.steps == {"a": b'{"data":{"x":1}}'}
    item = (await rig.items())["discover:a"]
    assert (item.kind, item.outgoing, item.attempt, item.max_attempts) == (
        Kind.DISCOVER, "a", 0, DEFAULT_RETRIES + 1,
    )  # fmt: skip
    assert await rig.jobs() == ["discover:a"]


async def test_a_function_that_returns_completes_the_run() -> None:
    rig = Rig()
    await rig.start()
    await rig.returned(b'{"ok":true}')
    assert await rig.ended()
    last = (await rig.history())[-1]
    assert (last.what, last.outcome, last.value) == (What.ENDED, RunStatus.COMPLETED, b'{"ok":true}')


async def test_only_the_first_version_counts() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a"), version=1)
    await rig.answer(ran("b"), version=2)
    assert (await rig.run()).request_version == 1


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (op(Op.RUN, data=b'"x"'), b'{"data":"x"}'),
        (op(Op.RUN), b'{"data":null}'),
        (op(Op.STEP, data=b'{"data":1}'), b'{"data":1}'),
        (op(Op.STEP), b"null"),
        (op(Op.FAILED, error=b'{"name":"E","message":"m","data":1.0}'),
         b'{"error":{"name":"E","message":"m","data":1.0}}'),
    ],
)  # fmt: skip
async def test_what_is_remembered_of_a_step(step: object, value: bytes) -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(step)  # type: ignore[arg-type]
    assert (await rig.run()).steps == {"s1": value}
    assert await rig.jobs() == ["discover:s1"]


async def test_a_failed_step_without_an_error_has_one_that_sdks_can_read() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(op(Op.FAILED))
    error = (await rig.steps())["s1"]["error"]
    assert isinstance(error["name"], str)
    assert isinstance(error["message"], str)


# -- errors --


async def test_an_error_of_the_function_is_retried_by_the_table() -> None:
    rig = Rig(retries=2)
    await rig.start()
    for attempt in range(2):
        await rig.reply(failure())
        item = (await rig.items())["start"]
        assert (item.attempt, item.due) == (attempt + 1, rig.now + RETRY_DELAYS_MS[attempt])
        rig.now = item.due
    await rig.reply(failure())
    assert await rig.ended()
    attempts = [e.outcome for e in await rig.history() if e.what is What.ATTEMPT]
    assert attempts == [Outcome.RETRY, Outcome.RETRY, Outcome.FAILED]


async def test_jitter_spreads_retries() -> None:
    rig = Rig()
    await rig.start()
    await rig.reply(failure(), jitter=0.5)
    assert (await rig.items())["start"].due == NOW + RETRY_DELAYS_MS[0] + 15_000


async def test_an_operator_may_fix_the_interval() -> None:
    rig = Rig()
    rig.policy = Policy(retry_interval=7)
    await rig.start()
    await rig.reply(failure(), jitter=0.5)
    assert (await rig.items())["start"].due == NOW + 7


async def test_retry_after_comes_first() -> None:
    rig = Rig()
    rig.policy = Policy(retry_interval=7)
    await rig.start()
    await rig.reply(failure(retry_at=NOW + 60_000))
    assert (await rig.items())["start"].due == NOW + 60_000


async def test_no_retry_ends_the_run_at_once() -> None:
    rig = Rig()
    await rig.start()
    await rig.reply(failure(no_retry=True))
    assert await rig.ended()
    assert (await rig.history())[-1].outcome == RunStatus.FAILED


async def test_a_failed_call_begins_the_run_too() -> None:
    rig = Rig()
    await rig.start()
    await rig.reply(failure())
    run = await rig.run()
    assert (run.started, run.request_version) == (NOW, -1)


async def test_a_call_that_was_not_made_is_no_attempt() -> None:
    """Nobody was free: nothing has begun, nothing is told, and the same call follows."""
    rig = Rig()
    await rig.start()
    await rig.history()
    before = await rig.run()
    for round_ in range(100):
        await rig.reply(Busy(retry_in=2_000))
        item = (await rig.items())["start"]
        assert (item.attempt, item.due) == (0, NOW + 2_000 * (round_ + 1))
        rig.now = item.due
    assert (await rig.run()) == before
    assert (await rig.run()).started == 0
    assert await rig.history() == []
    await rig.returned()
    assert await rig.ended()


async def test_a_later_call_that_was_not_made_keeps_its_attempts() -> None:
    rig = Rig()
    await rig.start()
    await rig.reply(failure())
    rig.now = (await rig.items())["start"].due
    await rig.reply(Busy())
    item = (await rig.items())["start"]
    assert (item.attempt, item.due) == (1, rig.now + BUSY_RETRY)


@pytest.mark.parametrize(
    ("retry_in", "jitter", "delay"),
    [(0, 0.0, MIN_BUSY_RETRY), (-5, 0.0, MIN_BUSY_RETRY), (1_000, 0.5, 1_250), (1_000, 0.999, 1_499)],
)
async def test_calls_that_were_not_made_come_back_neither_at_once_nor_together(
    retry_in: int, jitter: float, delay: int
) -> None:
    rig = Rig()
    await rig.start()
    await rig.reply(Busy(retry_in=retry_in), jitter=jitter)
    assert (await rig.items())["start"].due == NOW + delay


async def test_a_planned_step_that_nobody_was_free_for_stays_planned() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a", "b"))
    await rig.reply(Busy(), job="plan:a")
    item = (await rig.items())["plan:a"]
    assert (item.kind, item.attempt, item.due) == (Kind.PLAN, 0, NOW + BUSY_RETRY)


async def test_a_step_error_retries_the_same_call() -> None:
    rig = Rig(retries=1)
    await rig.start()
    await rig.answer(ran("a"))
    error = b'{"name":"E","message":"m"}'
    await rig.answer(op(Op.ERROR, "b", error=error), retry_at=NOW + 9_000)
    item = (await rig.items())["discover:a"]
    assert (item.attempt, item.due) == (1, NOW + 9_000)
    assert list((await rig.run()).steps) == ["a"]
    rig.now = item.due
    await rig.answer(op(Op.ERROR, "b", error=error))
    assert (await rig.run()).steps["b"] == b'{"error":' + error + b"}"
    assert await rig.jobs() == ["discover:b"]


async def test_a_step_error_that_may_not_be_retried_is_final() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(op(Op.ERROR, "b", error=b'{"name":"E","message":"m"}'), no_retry=True)
    assert "error" in (await rig.steps())["b"]
    assert await rig.jobs() == ["discover:b"]


async def test_a_step_that_succeeds_resets_the_attempts() -> None:
    rig = Rig(retries=1)
    await rig.start()
    await rig.reply(failure())
    rig.now = (await rig.items())["start"].due
    await rig.answer(ran("a"))
    assert (await rig.items())["discover:a"].attempt == 0


# -- answers that move little --


@pytest.mark.parametrize("steps", [[], [op(Op.NONE, "")], [op(Op.DEFER_ADD), op(Op.DEFER_ABORT, "x")]])
async def test_an_answer_without_a_step_is_an_attempt(steps: list[Step]) -> None:
    rig = Rig(retries=1)
    await rig.start()
    await rig.answer(*steps)
    assert {item.attempt for item in (await rig.items()).values()} == {1}
    rig.now += MINUTE
    await rig.answer(*steps)
    assert await rig.ended()
    assert "without a step to go on with" in await _error(rig)


@pytest.mark.parametrize(
    "steps",
    [
        [ran("a")],
        [ran("a"), ran("b")],
        [op(Op.SLEEP, "a", duration="0s")],
        [op(Op.FAILED, "a", error=b"{}")],
        planned("a", "b"),
    ],
    ids=lambda steps: "-".join(step.op for step in steps),
)
async def test_steps_that_have_their_results_are_no_answer(steps: list[Step]) -> None:
    """Nothing would follow: the calls after them were made long ago."""
    rig = Rig(retries=0)
    await rig.start()
    await rig.answer(ran("a"), ran("b"))
    await rig.answer(*steps)
    assert await rig.ended()
    assert "reported step 'a' again" in await _error(rig)


async def _error(rig: Rig) -> str:
    (ended,) = [entry for entry in await rig.history() if entry.what is What.ENDED]
    assert ended.outcome == "Failed"
    return str(msgspec.json.decode(ended.value or b"")["message"])


async def test_who_asks_to_be_called_again_and_again_gets_nowhere() -> None:
    rig = Rig(retries=0)
    await rig.start()
    for number in range(MAX_REQUESTS):
        await rig.answer(op(Op.DISCOVERY))
        assert not await rig.ended(), number
    await rig.answer(ran("a"), op(Op.DISCOVERY))
    for number in range(MAX_REQUESTS):
        await rig.answer(op(Op.DISCOVERY))
        assert not await rig.ended(), number
    await rig.answer(op(Op.DISCOVERY))
    assert await rig.ended()
    assert f"called again {MAX_REQUESTS} times" in await _error(rig)


@pytest.mark.parametrize("kind", [Op.ERROR, Op.FAILED])
async def test_an_op_tells_that_the_function_has_failed(kind: Op) -> None:
    """It is no step (protocol additions 2.4): `StepError` is tried again, and `StepFailed` is not."""
    rig = Rig(retries=1)
    await rig.start()
    told = op(kind, FUNCTION, error=b'{"name":"E","message":"m","extra":null}')
    defers = op(Op.DEFER_ADD, "d", fn_slug="app-x", input={})
    await rig.answer(defers, told)
    if kind is Op.ERROR:
        assert {item.attempt for item in (await rig.items()).values()} == {1}
        rig.now += MINUTE
        await rig.answer(ran("b"), defers, told)
    assert await rig.ended()
    (ended,) = [entry for entry in await rig.history() if entry.what is What.ENDED]
    assert ended.value == b'{"name":"E","message":"m","extra":null}'
    failed = next(event for event in await rig.events() if event.name == FAILED)
    error = msgspec.json.decode(failed.data)["error"]
    assert error == {"error": "E: m", "name": "E", "message": "m"}


async def test_a_request_to_be_called_again() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(op(Op.DISCOVERY))
    assert len(await rig.jobs()) == 1
    await rig.returned()
    assert await rig.ended()


@pytest.mark.parametrize("version", [1, 2])
async def test_several_finished_steps_of_one_answer_have_one_call_after_them(version: int) -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a"), ran("b"), op(Op.DISCOVERY, "more"), version=version)
    assert (await rig.run()).stack == ["a", "b"]
    assert await rig.jobs() == ["discover:b"]


async def test_the_end_in_checkpoint_mode_saves_the_last_steps() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a"), ran("b"), op(Op.COMPLETE, "end", data=b'"out"'))
    assert await rig.ended()
    history = await rig.history()
    assert [e.step for e in history if e.what is What.ATTEMPT] == ["a", "b", ""]
    assert (history[-1].outcome, history[-1].value) == (RunStatus.COMPLETED, b'"out"')


async def test_finished_steps_before_an_error_are_kept() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a"), op(Op.ERROR, "b", error=b"{}"))
    assert list((await rig.run()).steps) == ["a"]
    assert {job: item.attempt for job, item in (await rig.items()).items()} == {"start": 1}


async def test_a_repeated_result_does_not_change_the_first() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a", b"1"))
    await rig.answer(ran("a", b"2"), ran("b"))
    assert await rig.steps() == {"a": {"data": 1}, "b": {"data": 1}}


async def test_an_answer_to_a_run_that_has_ended_is_ignored() -> None:
    rig = Rig()
    await rig.start()
    leased = await rig.lease()
    assert leased.run is not None
    await rig.commit(cancel(leased.run, rig.moment()))
    told = await rig.events()
    committed = await rig.commit(rig.decide(leased, Reported(steps=[ran("a")], request_version=2)))
    assert not committed.stale
    assert len(told) == 2
    assert await rig.events() == []
    assert (await rig.store.stats()).leased == 0


# -- limits --


async def test_a_run_of_too_many_steps_fails() -> None:
    rig = Rig()
    rig.policy = Policy(max_steps=2)
    await rig.start()
    for step in "ab":
        assert await rig.before() is None
        rig.now += 60_000
        await rig.answer(ran(step))
    assert await rig.before() is not None
    assert await rig.ended()
    assert b"InngestErrFunctionOverflowed" in ((await rig.history())[-1].value or b"")
    assert Policy().max_steps == 1000


async def test_a_run_of_too_much_state_fails() -> None:
    rig = Rig()
    rig.policy = Policy(max_state=30)
    await rig.start()
    await rig.answer(ran("a", b'"' + b"x" * 10 + b'"'))
    await rig.answer(ran("b", b'"' + b"x" * 10 + b'"'))
    assert await rig.ended()
    assert b"InngestErrStateOverflowed" in ((await rig.history())[-1].value or b"")


async def test_a_step_of_too_much_output_fails_the_run() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(ran("a", b'"' + b"x" * (4 * 1024 * 1024) + b'"'))
    assert await rig.ended()
    assert b"output_too_large" in ((await rig.history())[-1].value or b"")


# -- before the call --


async def test_a_planned_step_that_has_its_result_is_not_requested() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(*planned("a"))
    run = await rig.run()
    run.save_step("a", b"1")
    assert await rig.before() is not None
    assert await rig.jobs() == ["discover:a"]


async def test_a_run_that_started_too_late_is_cancelled() -> None:
    rig = Rig(start_timeout=1000)
    await rig.start()
    rig.now += 1001
    assert await rig.before("start") is not None
    assert await rig.ended()
    assert (await rig.history())[-1].outcome == RunStatus.CANCELLED


async def test_a_run_that_takes_too_long_is_cancelled() -> None:
    rig = Rig(finish_timeout=1000)
    await rig.start()
    await rig.answer(ran("a"))
    rig.now += 1001
    assert await rig.before("discover:a") is not None
    assert await rig.ended()


async def test_the_start_timeout_spares_a_run_whose_first_call_is_under_way() -> None:
    rig = Rig(start_timeout=1000)
    await rig.start()
    leased = await rig.lease("start")
    rig.now += 1000
    await rig.tick("start-timeout")
    assert not await rig.ended()
    await rig.commit(rig.decide(leased, Returned(output=b"1")))
    assert (await rig.history())[-1].outcome == RunStatus.COMPLETED


async def test_the_start_timeout_cancels_a_run_that_still_queues() -> None:
    rig = Rig(start_timeout=1000, throttle=Throttle(limit=1, period=60_000))
    await rig.start()
    await rig.start(event(id="event-2"))
    await rig.lease("start")
    rig.now += 1000
    await rig.tick(f"{rig.run_id}:start-timeout")
    assert await rig.ended()


async def test_the_start_timeout_counts_from_when_the_run_may_start() -> None:
    rig = Rig(start_timeout=1000)
    await rig.start(event(ts=NOW + 5000))
    rig.now += 4999
    assert await rig.leased() == []
    rig.now += 1000
    assert await rig.before("start") is None
    assert not await rig.ended()


async def test_the_start_timeout_of_an_event_of_the_future_ends_too() -> None:
    rig = Rig(start_timeout=1000, throttle=Throttle(limit=1, period=60_000))
    await rig.start(event(ts=NOW + 5000))
    await rig.start(event(id="event-2", ts=NOW + 5001))
    rig.now += 6001
    await rig.tick(f"{rig.run_id}:start-timeout")
    assert await rig.ended()


async def test_the_finish_timeout_cancels_a_sleeping_run() -> None:
    rig = Rig(finish_timeout=1000)
    await rig.start()
    await rig.answer(op(Op.SLEEP, "s", duration="1h"))
    rig.now += 1000
    await rig.tick("finish-timeout")
    assert await rig.ended()


# -- checkpoints --


async def test_a_checkpoint_saves_without_a_continuation() -> None:
    rig = Rig()
    await rig.start()
    await rig.reply(failure())
    rig.now = (await rig.items())["start"].due
    leased = await rig.lease()
    assert leased.run is not None
    steps = [ran("a"), op(Op.PLANNED, "b"), op(Op.DEFER_ADD, "d")]
    await rig.commit(checkpoint(leased.run, leased.item, steps, rig.moment(), rig.now + 1))
    assert list((await rig.run()).steps) == ["a"]
    assert {job: item.attempt for job, item in (await rig.items()).items()} == {"start": 0}


async def test_a_checkpoint_refuses_what_waits() -> None:
    rig = Rig()
    run = await rig.start()
    leased = await rig.lease()
    with pytest.raises(ValueError, match="cannot checkpoint async steps: sleep 's1'"):
        checkpoint(run, leased.item, [op(Op.SLEEP)], rig.moment(), 0)
    with pytest.raises(StepTooLarge):
        checkpoint(run, leased.item, [ran("a", b"1" * (5 * 1024 * 1024))], rig.moment(), 0)


async def test_history_tells_of_each_step() -> None:
    rig = Rig()
    await rig.start()
    step = ran("a", b"7")
    step.started, step.duration = NOW + 5, 3
    step.opts = {"type": "step.sendEvent", "input": [1]}
    await rig.answer(step)
    entry = next(e for e in await rig.history() if e.step == "a")
    assert (entry.what, entry.outcome, entry.value) == (What.ATTEMPT, Outcome.OK, b"7")
    assert (entry.started, entry.at, entry.info) == (
        NOW + 5,
        NOW + 8,
        {"type": "step.sendEvent", "input": "[1]"},
    )
    assert msgspec.json.decode(msgspec.json.encode(entry), type=type(entry)) == entry


async def test_a_deferral_that_travels_with_a_step_changes_nothing() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(op(Op.DEFER_ADD, "d", fn_slug="app-x", input={}), ran("a"))
    assert await rig.steps() == {"a": {"data": 1}}
    assert await rig.jobs() == ["discover:a"]
    await rig.answer(op(Op.DEFER_ABORT, "e", target_hashed_id="d"), ran("b"))
    assert await rig.jobs() == ["discover:b"]
    await rig.returned()
    assert await rig.ended()
