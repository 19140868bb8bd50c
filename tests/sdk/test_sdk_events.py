"""Events: triggers, deduplication, waits, invocations, signals."""

from __future__ import annotations

import base64
import os
import time

import pytest
from harness import HttpError, Line, eventually, request


def test_a_trigger_expression_filters_events(line: Line) -> None:
    small = line.send("filtered", n=10)
    assert line.completed("filtered", n=11).output == "big"
    line.barrier()
    assert line.server.runs(small) == []


def test_a_wildcard_trigger_matches_by_prefix(line: Line) -> None:
    assert line.completed("tree/leaf").output == f"{line.name}/tree/leaf"


def test_one_request_may_carry_many_events(line: Line) -> None:
    ids = line.server.send(*(line.event("double", n=n) for n in range(20)))
    assert len(set(ids)) == 20
    assert [line.server.wait_run(event).output for event in ids] == [{"doubled": 2 * n} for n in range(20)]


def test_an_event_id_triggers_one_run(line: Line) -> None:
    event = {**line.event("sequential"), "id": line.key}
    first, second = line.server.send(event)[0], line.server.send(event)[0]
    assert first != second
    assert line.server.wait_run(first).status == "Completed"
    line.barrier()
    assert line.server.runs(second) == []


def test_a_repeated_seed_gives_the_same_ids_and_no_second_run(line: Line) -> None:
    seed = f"{int(time.time() * 1000)},{base64.b64encode(os.urandom(10)).decode()}"
    events = [line.event("double", n=1), line.event("double", n=2)]
    url, headers = f"{line.server.url}/e/{line.server.event_key}", {"x-inngest-event-id-seed": seed}
    first, second = (request("POST", url, events, headers)["ids"] for _ in range(2))
    assert first == second
    runs = [line.server.wait_run(event) for event in first]
    line.barrier()
    assert [len(line.server.runs(event)) for event in first] == [1, 1]
    assert [run.output for run in runs] == [{"doubled": 2}, {"doubled": 4}]


def test_an_idempotency_key_triggers_one_run(line: Line) -> None:
    first, second = line.send("idempotent"), line.send("idempotent")
    assert line.server.wait_run(first).status == "Completed"
    line.barrier()
    assert line.server.runs(second) == []


def test_a_waiting_run_takes_the_event_that_matches(line: Line) -> None:
    waiting = line.server.wait_started(line.send("wait-match"))
    line.wait_executed(waiting.id, "before")

    def answered() -> bool:
        # Sent again until the wait is open and has taken one: an event from before the wait does not count.
        line.server.send({"name": f"{line.name}/answer", "data": {"k": "somebody else", "answer": 0}})
        line.send("answer", answer=42)
        return line.server.run(waiting.id).status == "Completed"

    eventually(answered, "the answer to be taken")
    run = line.server.run(waiting.id)
    assert run.output == {"answer": 42, "after": "done"}
    line.executed(run, "before", "after")


def test_a_wait_times_out_with_nothing(line: Line) -> None:
    run = line.completed("wait-timeout")
    assert run.output == {"event": None, "after": "done"}
    line.executed(run, "after")


def test_invoke_returns_the_result_of_the_function(line: Line) -> None:
    run = line.completed("invoke-ok")
    assert run.output == {"result": {"doubled": 42}, "after": "done"}
    line.executed(run, "after")


def test_invoke_raises_the_error_of_the_function(line: Line) -> None:
    assert "target failed" in line.completed("invoke-fails").output["caught"]


def test_invoke_times_out(line: Line) -> None:
    caught = line.completed("invoke-timeout").output["caught"]
    assert "Timed out waiting for invoked function to complete" in caught


def test_invoke_of_an_unknown_function_fails_at_once(line: Line) -> None:
    caught = line.completed("invoke-unknown").output["caught"]
    assert f"could not find function with ID: {line.name}-no-such-function" in caught


def test_a_step_may_send_events(line: Line) -> None:
    run = line.completed("send-event")
    assert run.output["after"] == "done"
    targets = [line.server.wait_run(event) for event in run.output["ids"]]
    assert [target.output for target in targets] == [{"n": 1}, {"n": 2}]
    for target in targets:
        line.executed(target, "received")


def send_signal(line: Line, data: object) -> str | None:
    """Signal the waiter and return its run, or None if nobody waits yet."""
    try:
        return str(
            line.server.api("POST", "/v1/signals", {"signal": line.key, "data": data})["data"]["run_id"]
        )
    except HttpError as err:
        if err.status == 404:
            return None
        raise


@pytest.mark.sdk("ts3", "ts4", "go")
def test_a_signal_resumes_its_waiter(line: Line) -> None:
    waiting = line.server.wait_started(line.send("signal"))
    assert eventually(lambda: send_signal(line, {"n": 1}), "the waiter of the signal") == waiting.id
    run = line.server.wait_ended(waiting.id)
    assert run.output == {"signal": {"signal": line.key, "data": {"n": 1}}, "after": "done"}
    line.executed(run, "before", "after")
    assert send_signal(line, {"n": 2}) is None


@pytest.mark.sdk("ts3", "ts4", "go")
def test_a_wait_for_a_signal_times_out_with_nothing(line: Line) -> None:
    assert line.completed("signal-timeout").output == {"signal": None, "after": "done"}


@pytest.mark.sdk("ts3", "ts4")
def test_a_step_may_send_a_signal(line: Line) -> None:
    waiting = line.server.wait_started(line.send("signal"))
    line.wait_executed(waiting.id, "before")

    def taken() -> bool:
        line.run("send-signal")
        return line.server.run(waiting.id).status == "Completed"

    eventually(taken, "the signal to be taken")
    signal = line.server.run(waiting.id).output["signal"]
    assert signal == {"signal": line.key, "data": {"from": "a step"}}


@pytest.mark.sdk("ts3", "ts4", "go")
def test_a_second_waiter_for_a_signal_fails(line: Line) -> None:
    first = line.server.wait_started(line.send("signal"))
    line.wait_executed(first.id, "before")
    eventually(lambda: line.server.waits(first.id), "the first waiter")
    second = line.run("signal")
    assert second.status == "Failed"
    assert eventually(lambda: send_signal(line, {"n": 1}), "the first waiter") == first.id
    assert line.server.wait_ended(first.id).status == "Completed"


def test_reserved_event_names_are_refused(line: Line) -> None:
    for name in ("inngest/function.failed", "INNGEST/anything"):
        with pytest.raises(HttpError, match="reserved") as refused:
            line.server.send({"name": name, "data": {}})
        assert refused.value.status == 400


def test_events_can_be_read_back(line: Line) -> None:
    event = line.send("sequential")
    line.server.wait_run(event)
    stored = line.server.api("GET", f"/v1/events/{event}")["data"]
    assert stored["internal_id"] == event
    assert stored["name"] == f"{line.name}/sequential"
    assert stored["data"]["k"] == line.key
