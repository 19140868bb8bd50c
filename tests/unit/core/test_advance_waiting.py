"""Sleeps, waits, invocations, signals and gateways (wire protocol sections 3.7 and 5)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_rig import NOW, Rig, event, op, ran

from inngest.core.decisions.advance import cancel, expire, gateway_result, resume
from inngest.core.decisions.draft import Call
from inngest.core.model.events import FAILED, FINISHED, INVOKED
from inngest.core.model.history import History, What
from inngest.core.model.ids import app_uuid
from inngest.core.model.runs import Kind, PauseKind, Run, RunStatus, signal_name
from inngest.core.policy import Policy
from inngest.core.sdk.responses import Op, Step
from inngest.core.timing.times import YEAR


async def _reported(*steps: Step, **fields: Any) -> Rig:
    rig = Rig(**fields)
    await rig.start()
    await rig.answer(*steps)
    return rig


# -- sleep --


@pytest.mark.parametrize(
    ("step", "delay"),
    [
        (op(Op.SLEEP, duration="5s"), 5_000),
        (op(Op.SLEEP, name="1m30s"), 90_000),
        (op(Op.SLEEP, name=""), 0),
        (op(Op.SLEEP, name="5s", duration="7s"), 7_000),
        (op(Op.SLEEP, name="2023-11-14T22:13:30Z"), 10_000),
        (op(Op.SLEEP, name="2001-01-01T00:00:00Z"), 0),
    ],
)
async def test_a_sleep_ends_at_its_time(step: Step, delay: int) -> None:
    rig = await _reported(step)
    assert (await rig.items())["sleep:s1"].due == NOW + delay
    rig.now += delay
    await rig.tick()
    assert await rig.steps() == {"s1": None}
    assert await rig.jobs() == ["discover:s1"]


async def test_a_sleep_that_cannot_be_read_fails_the_run() -> None:
    rig = await _reported(op(Op.SLEEP, name="whenever"))
    assert await rig.ended()
    assert b"cannot sleep" in ((await rig.history())[-1].value or b"")


@pytest.mark.parametrize("kind", [Op.SLEEP, Op.WAIT, Op.SIGNAL, Op.INVOKE])
async def test_nothing_waits_longer_than_366_days(kind: Op) -> None:
    rig = await _reported(op(kind, name="x", duration="367d", timeout="367d", function_id="f"))
    assert await rig.ended()
    assert b"InngestErrTimeoutTooLong" in ((await rig.history())[-1].value or b"")


async def test_a_sleep_beside_finished_steps() -> None:
    rig = await _reported(ran("a"), op(Op.SLEEP, "s", duration="5s"))
    assert await rig.jobs() == ["sleep:s"]
    rig.now += 5_000
    await rig.tick()
    assert len(await rig.jobs()) == 1
    assert (await rig.run()).stack == ["a", "s"]


# -- wait for an event --


async def test_an_event_ends_a_wait() -> None:
    rig = await _reported(op(Op.WAIT, event="app/x", timeout="1h"))
    (pause,) = await rig.pauses([event("app/x")])
    assert (pause.kind, pause.created, pause.expires) == (PauseKind.EVENT, NOW, NOW + 3_600_000)
    assert pause.ignore == "event-1"
    committed = await rig.commit(resume(pause, b'{"name":"app/x"}', rig.moment(), info={"event": "e"}))
    assert committed.won == [True] * 4
    assert await rig.steps() == {"s1": {"name": "app/x"}}
    assert await rig.jobs() == ["discover:s1"]
    again = await rig.commit(resume(pause, b'{"name":"other"}', rig.moment()))
    assert again.won == [False] * 4
    assert [e.info for e in await rig.history() if e.what is What.RESUMED] == [{"event": "e"}]


async def test_a_wait_times_out_with_null() -> None:
    rig = await _reported(op(Op.WAIT, name="app/x", timeout="1h"))
    rig.now += 3_600_000
    await rig.tick()
    assert await rig.steps() == {"s1": None}
    assert await rig.pauses([event("app/x")]) == []
    assert await rig.jobs() == ["discover:s1"]


async def test_an_event_that_comes_before_the_timeout_is_worked_off_wins() -> None:
    rig = await _reported(op(Op.WAIT, event="app/x", timeout="1h"))
    rig.now += 3_600_000
    leased = await rig.lease()
    (pause,) = await rig.pauses([event("app/x")])
    await rig.commit(resume(pause, b'{"e":1}', rig.moment()))
    assert leased.run is not None
    await rig.commit(expire(leased.run, rig.fn, leased.item, rig.moment()))
    assert await rig.steps() == {"s1": {"e": 1}}
    assert await rig.jobs() == ["discover:s1"]


async def test_a_wait_without_a_timeout_lasts_a_year() -> None:
    rig = await _reported(op(Op.WAIT, event="app/x"))
    assert (await rig.items())["timeout:s1"].due == NOW + YEAR


async def test_a_timeout_of_nothing_is_over_at_once() -> None:
    rig = await _reported(op(Op.WAIT, event="app/x", timeout=""))
    assert (await rig.items())["timeout:s1"].due == NOW
    await rig.tick()
    assert await rig.steps() == {"s1": None}


async def test_a_condition_is_bound_to_the_runs_event() -> None:
    rig = Rig()
    await rig.start(event(data={"u": "x"}))
    await rig.answer(op(Op.WAIT, event="app/x", timeout="1h", **{"if": "event.data.u == async.data.u"}))
    assert await rig.pauses([event("app/x", {"u": "y"})]) == []
    (pause,) = await rig.pauses([event("app/x", {"u": "x"})])
    assert pause.terms == [("data.u", "s:x")]
    assert "event.data" not in pause.condition.replace("async.data", "")


@pytest.mark.parametrize("source", ["event.data.", "nope(", "1 +"])
async def test_a_condition_that_does_not_compile_fails_the_run(source: str) -> None:
    rig = await _reported(op(Op.WAIT, event="app/x", timeout="1h", **{"if": source}))
    assert await rig.ended()
    assert b"InvalidExpression" in ((await rig.history())[-1].value or b"")


async def test_a_wait_that_is_reported_again_is_the_same() -> None:
    rig = Rig()
    await rig.start()
    wait = op(Op.WAIT, "w", event="app/x", timeout="1h")
    await rig.answer(op(Op.PLANNED, "a"), wait, version=1)
    await rig.answer(ran("a"), job="plan:a", version=1)
    rig.now += 1_000
    await rig.answer(wait, job="discover:a", version=1)
    (pause,) = await rig.pauses([event("app/x")])
    assert pause.expires == NOW + 3_600_000
    assert await rig.jobs() == ["timeout:w"]


# -- invoke --


def _invoke(**opts: Any) -> Step:
    return op(Op.INVOKE, "i", function_id="app-child", **opts)


async def test_an_invocation_is_sent_once() -> None:
    step = _invoke(payload={"data": {"k": 1}, "v": "2", "user": {"u": 1}}, timeout="1h")
    rig = Rig()
    run = await rig.start()
    await rig.answer(op(Op.PLANNED, "a"), step, version=1)
    (sent,) = await rig.events()
    meta = sent.value["data"]["_inngest"]
    assert (sent.name, sent.value["data"]["k"], sent.v, sent.value["user"]) == (INVOKED, 1, "2", {"u": 1})
    assert (meta["fn_id"], meta["correlation_id"]) == ("app-child", f"{run.id}.i")
    assert (meta["source_fn_id"], meta["expire"], meta["name"]) == (rig.fn.id, NOW + 3_600_000, "i")
    assert (meta["source_app_id"], meta["source_fn_v"]) == (app_uuid("app"), 1)
    await rig.answer(ran("a"), job="plan:a", version=1)
    await rig.answer(step, job="discover:a", version=1)
    assert await rig.events() == []


async def test_an_invocation_waits_for_its_own_answer() -> None:
    rig = await _reported(_invoke(timeout="1h"))
    run = await rig.run()
    assert await rig.pauses([event(FINISHED, {"correlation_id": "another.i"})]) == []
    (pause,) = await rig.pauses([event(FINISHED, {"correlation_id": f"{run.id}.i"})])
    assert pause.kind is PauseKind.INVOKE
    await rig.commit(resume(pause, b'{"data":5}', rig.moment()))
    assert await rig.steps() == {"i": {"data": 5}}


async def test_an_invocation_that_takes_too_long_fails_its_step() -> None:
    rig = await _reported(_invoke(timeout="1h"))
    rig.now += 3_600_000
    await rig.tick()
    error = (await rig.steps())["i"]["error"]
    assert error["name"] == "InngestInvokeTimeoutError"
    assert error["message"] == "Timed out waiting for invoked function to complete"


async def test_an_invocation_without_a_payload() -> None:
    rig = await _reported(_invoke(payload={"data": None, "v": None}))
    (sent,) = await rig.events()
    assert list(sent.value["data"]) == ["_inngest"]
    assert (sent.v, sent.value["user"]) == (None, {})


@pytest.mark.parametrize(("size", "fits"), [(30, True), (31, False)])
async def test_an_invocation_is_as_large_as_an_event_may_be(size: int, fits: bool) -> None:
    """The size is that of ``data`` and ``user``, as for every event."""
    rig = Rig()
    rig.policy = Policy(max_event=30)
    await rig.start()
    payload = {"data": {"k": "x" * (size - len('{"k":""}{"u":1}'))}, "user": {"u": 1}}
    await rig.answer(_invoke(payload=payload))
    (told, *_) = await rig.events()
    assert (told.name == INVOKED, await rig.ended()) == (fits, not fits)
    if not fits:
        assert await rig.pauses([event(FINISHED)]) == []
        assert (
            "cannot invoke: event data is 31 bytes; 30 are allowed" in told.value["data"]["error"]["message"]
        )


async def test_an_invocation_hands_on_its_sessions() -> None:
    meta = {"propagated_sessions": {"chat": "1", "cut": "2"}, "sessions": {"cut": None, "own": 3}}
    rig = await _reported(_invoke(payload={"meta": meta}))
    (sent,) = await rig.events()
    assert sent.value["meta"] == {"sessions": {"chat": "1", "own": "3"}}
    rig = await _reported(_invoke(payload={"meta": {"sessions": {"k": []}}}))
    assert await rig.ended()
    assert "cannot invoke: event meta is not valid" in bytes((await rig.events())[0].data).decode()


# -- signals --


async def _second_run(rig: Rig) -> tuple[str, Run]:
    first = rig.run_id
    return first, await rig.start(event(id="event-2"))


def _signal(step: str = "s1", **opts: Any) -> Step:
    return op(Op.SIGNAL, step, signal="sig", timeout="1h", **opts)


async def test_a_signal_ends_its_wait() -> None:
    rig = await _reported(_signal())
    pause = await rig.store.signal(signal_name("sig"))
    assert pause is not None
    await rig.commit(resume(pause, b'{"data":{"signal":"sig","data":1}}', rig.moment()))
    assert await rig.steps() == {"s1": {"data": {"signal": "sig", "data": 1}}}


async def test_a_second_wait_for_a_signal_fails_its_run() -> None:
    rig = await _reported(_signal())
    first, _ = await _second_run(rig)
    await rig.answer(_signal(), job=f"{rig.run_id}:start")
    assert await rig.ended()
    assert await rig.store.run(rig.fn.id, first) is not None
    assert {told.name for told in await rig.events()} == {FINISHED, FAILED}
    message = b"Signal conflict; signal wait already exists for another run"
    assert message in ((await rig.history())[-1].value or b"")


async def test_a_second_wait_may_replace_the_first() -> None:
    rig = await _reported(_signal())
    first, second = await _second_run(rig)
    await rig.answer(_signal(conflict="replace"), job=f"{second.id}:start")
    pause = await rig.store.signal(signal_name("sig"))
    assert pause is not None
    assert pause.run == second.id
    rig.run_id = first
    rig.now += 3_600_000
    await rig.tick(f"{first}:timeout:s1")
    assert await rig.steps() == {"s1": None}


async def test_a_signal_wait_that_is_reported_again_is_no_conflict() -> None:
    rig = Rig()
    await rig.start()
    await rig.answer(op(Op.PLANNED, "a"), _signal("w"), version=1)
    await rig.answer(ran("a"), job="plan:a", version=1)
    await rig.answer(_signal("w"), job="discover:a", version=1)
    assert await rig.jobs() == ["timeout:w"]


async def test_two_waits_of_one_run_for_one_signal() -> None:
    rig = await _reported(_signal("a"), _signal("b"))
    assert await rig.jobs() == ["timeout:a", "timeout:b"]
    for _ in range(2):
        pause = await rig.store.signal(signal_name("sig"))
        assert pause is not None
        await rig.commit(resume(pause, b"{}", rig.moment()))
    assert len(await rig.jobs()) == 1


# -- gateways --


async def _gateway(rig: Rig, value: bytes | None, error: bytes | None = None) -> None:
    leased = await rig.lease()
    assert leased.run is not None
    call = Call(started=rig.now, ended=rig.now)
    await rig.commit(
        gateway_result(leased.run, rig.fn, leased.item, value, error, rig.moment(), call=call, jitter=0)
    )


@pytest.mark.parametrize("kind", [Op.GATEWAY, Op.AI_GATEWAY])
async def test_a_gateway_request_is_an_item(kind: Op) -> None:
    rig = await _reported(op(kind, url="http://x.test", body="b"))
    item = (await rig.items())["gateway:s1"]
    assert (item.kind, item.target) == (Kind.GATEWAY, "s1")
    assert msgspec.json.decode(item.payload) == {"op": kind.value, "url": "http://x.test", "body": "b"}
    await _gateway(rig, b'{"status_code":500}')
    assert await rig.steps() == {"s1": {"data": {"status_code": 500}}}
    assert await rig.jobs() == ["discover:s1"]


async def test_the_key_of_an_inference_is_not_told_to_history() -> None:
    rig = await _reported(op(Op.AI_GATEWAY, url="http://x.test", auth_key="sk-secret", body={}))
    await _gateway(rig, None, b'{"name":"AIGatewayError","message":"m"}')
    rig.now = (await rig.items())["gateway:s1"].due
    await _gateway(rig, b"{}")
    assert [e.outcome for e in await _told(rig) if e.step == "s1"] == ["retry", "ok"]


async def _told(rig: Rig) -> list[History]:
    entries = await rig.history()
    assert b"sk-secret" not in msgspec.json.encode(entries)
    return entries


async def test_a_gateway_request_is_tried_again_and_then_fails_its_step() -> None:
    rig = await _reported(op(Op.GATEWAY, url="http://x.test"), retries=1)
    await _gateway(rig, None, b'{"name":"GatewayError","message":"m"}')
    item = (await rig.items())["gateway:s1"]
    assert item.attempt == 1
    rig.now = item.due
    await _gateway(rig, None, b'{"name":"GatewayError","message":"m"}')
    assert await rig.steps() == {"s1": {"error": {"name": "GatewayError", "message": "m"}}}


async def test_too_large_a_gateway_response_fails_its_step() -> None:
    rig = await _reported(op(Op.GATEWAY, url="http://x.test"))
    await _gateway(rig, b'"' + b"x" * (4 * 1024 * 1024) + b'"')
    assert (await rig.steps())["s1"]["error"]["name"] == "output_too_large"


# -- cancellation --


async def test_cancelling_takes_everything_back() -> None:
    rig = await _reported(
        op(Op.WAIT, "w", event="app/x", timeout="1h"), op(Op.SLEEP, "s", duration="1h"), op(Op.PLANNED, "p")
    )
    run = await rig.run()
    await rig.commit(cancel(run, rig.moment()))
    assert await rig.ended()
    assert await rig.pauses([event("app/x")]) == []
    stats = await rig.store.stats()
    assert (stats.queued, stats.leased, stats.pauses) == (0, 0, 0)
    assert (await rig.history())[-1].outcome == RunStatus.CANCELLED
    assert len(await rig.events()) == 2
    await rig.commit(cancel(run, rig.moment()))
    assert await rig.events() == []
