"""The request with which a function is called (wire protocol sections 3.1 and 8, 13 to 18)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_rig import FN, Rig, event, function

from inngest.core.model.runs import Item, Kind, Run
from inngest.core.policy import MAX_STATE_SENT
from inngest.core.sdk.calls import Dispatched, call_request, dispatch_id, dispatched, step_url

REQUEST = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOW = 1_700_000_000_000


async def _run(*, events: list[bytes] | None = None, **steps: bytes) -> tuple[Run, Item]:
    rig = Rig()
    await rig.start(event(data={"n": 1}))
    leased = await rig.lease()
    assert leased.run is not None
    run = leased.run.copy()
    for step, value in steps.items():
        run.save_step(step, value)
    run.events = events or run.events
    return run, leased.item


def _body(run: Run, item: Item, **fields: Any) -> Any:
    return msgspec.json.decode(call_request(run, function(**fields), item, REQUEST, NOW).body)


async def test_the_first_call_has_all_that_sdks_ask_for() -> None:
    run, item = await _run()
    seen = event(data={"n": 1}).value
    job = item.job
    body = _body(run, item)
    assert body == {
        "ctx": {
            "attempt": 0,
            "disable_immediate_execution": False,
            "env": "",
            "fn_id": FN,
            "generation_id": 1,
            "job_id": job,
            "max_attempts": 5,
            "qi_id": f"{NOW}@{job}@1",
            "request_id": REQUEST,
            "run_id": run.id,
            "stack": {"current": 0, "stack": []},
            "step_id": "step",
            "use_api": False,
        },
        "defers": {},
        "event": seen,
        "events": [seen],
        "steps": {},
        "use_api": False,
        "version": -1,
    }
    assert type(body["event"]["ts"]) is int
    assert job


async def test_results_are_sent_in_the_order_of_their_completion() -> None:
    run, item = await _run(b=b'{"data":1e2}', a=b"null")
    run.request_version, run.force_plan = 1, True
    item.outgoing, item.attempt = "b", 2
    request = call_request(run, function(), item, REQUEST, NOW)
    assert b'"steps":{"b":{"data":1e2},"a":null}' in request.body
    body = msgspec.json.decode(request.body)
    assert body["ctx"]["stack"] == {"current": 1, "stack": ["b", "a"]}
    assert (body["version"], body["ctx"]["attempt"]) == (1, 2)
    assert body["ctx"]["disable_immediate_execution"] is True


async def test_only_a_planned_step_is_called_by_its_id() -> None:
    run, item = await _run()
    item.target = "abc"
    for kind, step in ((Kind.DISCOVER, "step"), (Kind.PLAN, "abc")):
        item.kind = kind
        request = call_request(run, function(url="http://h/i?fnId=f&stepId=step"), item, REQUEST, NOW)
        assert (request.step, request.url) == (step, f"http://h/i?fnId=f&stepId={step}")


@pytest.mark.parametrize(
    ("registered", "called"),
    [
        ("http://h/i", "http://h/i?stepId=x"),
        ("http://h/i?", "http://h/i?stepId=x"),
        ("http://h/i?stepId=step&fnId=a%20b&t=1", "http://h/i?fnId=a%20b&t=1&stepId=x"),
        ("http://h/i?fnId=f&step=step", "http://h/i?fnId=f&step=step&stepId=x"),
        ("http://h/i?fnId=f#part", "http://h/i?fnId=f&stepId=x#part"),
    ],
)
def test_the_rest_of_the_url_stays_as_it_was_registered(registered: str, called: str) -> None:
    assert step_url(registered, "x") == called


def _payload(size: int) -> bytes:
    empty = event(data={"x": ""}).payload
    return event(data={"x": "x" * (size - len(empty))}).payload


@pytest.mark.parametrize(
    ("event_size", "step_size", "large"),
    [
        (200, MAX_STATE_SENT - 500, False),
        (200, MAX_STATE_SENT, True),
        (MAX_STATE_SENT // 2, 0, False),
        (MAX_STATE_SENT // 2 + 1, 0, True),  # it is sent as `event` and in `events`
    ],
)
async def test_what_is_too_large_is_left_to_fetch(event_size: int, step_size: int, large: bool) -> None:
    given = _payload(event_size)
    steps = {"s": b'"%b"' % (b"x" * step_size)} if step_size else {}
    run, item = await _run(events=[given], **steps)
    body = _body(run, item)
    assert body["use_api"] is body["ctx"]["use_api"] is large
    assert (body["events"], body["steps"] == {}) == ([] if large else [body["event"]], large or not steps)
    assert body["event"] == msgspec.json.decode(given)
    assert body["ctx"]["stack"]["stack"] == list(steps)


async def test_an_sdk_that_cannot_fetch_is_sent_everything() -> None:
    """The function would see no step done, and do them all again for ever."""
    run, item = await _run(s=b'"%b"' % (b"x" * MAX_STATE_SENT))
    body = _body(run, item, whole_state=True)
    assert (body["use_api"], list(body["steps"]), len(body["events"])) == (False, ["s"], 1)


def test_a_dispatch_names_the_item_and_its_lease() -> None:
    item = Item(job="run:plan:a@2", kind=Kind.PLAN, fn=FN, epoch=3 * 2**20 + 7)
    assert dispatched(dispatch_id(item, NOW)) == Dispatched(item.job, item.epoch, NOW)
    assert dispatched(f"{item.job}@{item.epoch}") == Dispatched(item.job, item.epoch), "of an older release"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run:start",
        "run:start@",
        "@",
        "run:start@-1",
        "run:start@1e3",
        "x@" + "9" * 99,
        "1@2",
        "1@@2",
        "١@x@٣",
    ],
)
def test_what_is_no_dispatch_names_nothing(text: str) -> None:
    assert dispatched(text) == Dispatched()
