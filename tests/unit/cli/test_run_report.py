from __future__ import annotations

from typing import Any

from inngest.cli.run_report import report

RUN: dict[str, Any] = {
    "run_id": "R",
    "status": "Completed",
    "app": "shop",
    "function": "shop-order",
    "function_id": "F",
    "event_name": "order/placed",
    "event_ids": ["E1", "E2", "E3"],
    "cron": None,
    "queued_at": "2026-11-27T20:00:00Z",
    "started_at": "2026-11-27T20:00:01.5Z",
    "ended_at": "2026-11-27T20:00:03Z",
    "original_run_id": None,
    "skip_reason": None,
    "output": None,
    "steps": [],
}
STEP: dict[str, Any] = {
    "name": "one",
    "id": "s",
    "op": "RUN",
    "status": "Completed",
    "started_at": "2026-11-27T20:00:00Z",
    "ended_at": "2026-11-27T20:00:01Z",
    "duration_ms": 1000,
    "output": None,
    "error": None,
    "waits_for": {},
    "attempts": [],
}


def told(**run: Any) -> list[str]:
    return list(report({**RUN, **run}))


def step(**fields: Any) -> str:
    return " ".join(told(steps=[{**STEP, **fields}])[-1].split())


def test_the_facts_of_a_run() -> None:
    assert told() == [
        "Run R: Completed",
        "  function  shop-order of shop",
        "  event     order/placed E1 and 2 more",
        "  queued    2026-11-27 20:00:00Z",
        "  started   2026-11-27 20:00:01Z",
        "  ended     2026-11-27 20:00:03Z, after 1.5 s",
    ]


def test_a_run_of_a_function_that_is_gone_and_was_skipped() -> None:
    lines = told(status="Skipped", app=None, function=None, started_at=None, ended_at=None, skip_reason="x")
    assert lines[1] == "  function  F"
    assert lines[-1] == "  skipped   x"
    assert not any("started" in line or "ended" in line for line in lines)


def test_what_steps_wait_for() -> None:
    assert step(waits_for={"sleepUntil": "T"}) == "one Completed 1.0 s until T"
    waits = {"eventName": "a/b", "expression": "event.x", "waitUntil": "T", "waitTimedOut": True}
    assert step(waits_for=waits) == "one Completed 1.0 s event a/b, if event.x, until T, timed out"
    assert step(waits_for={"functionID": "shop-pay", "runID": "R2"}) == (
        "one Completed 1.0 s function shop-pay, run R2"
    )


def test_a_step_that_goes_on_has_no_duration() -> None:
    assert step(status="Running", ended_at=None) == "one Running"


def test_each_attempt_has_its_error() -> None:
    attempt = {"status": "Failed", "ended_at": "t", "duration_ms": 5, "error": {"name": "E", "message": "m"}}
    attempts = [{**attempt, "attempt": 0}, {**attempt, "attempt": 1, "error": {"message": "only"}}]
    lines = told(steps=[{**STEP, "status": "Failed", "error": {"message": "last"}, "attempts": attempts}])
    assert [" ".join(line.split()) for line in lines[-2:]] == [
        "attempt 1 Failed 5 ms E: m",
        "attempt 2 Failed 5 ms only",
    ]


def test_what_a_failed_run_returned_is_its_error() -> None:
    lines = told(status="Failed", output={"name": "E", "message": "m", "stack": "at a\n  at b"})
    assert lines[-4:] == ["Error", "  E: m", "  at a", "    at b"]
    assert told(status="Failed", output="plain")[-2:] == ["Output", '  "plain"']


def test_nothing_of_a_run_moves_the_terminal() -> None:
    error = {"name": "\x1b[2J", "message": "\r\x07", "stack": "\x1b]0;x\x07\nb\x9b"}
    lines = told(
        status="Failed",
        event_name="\x1b[1m",
        output=error,
        steps=[{**STEP, "name": "\x1b", "output": "\x1b\u202e"}],
    )
    lines += told(output={"a": "\x1b\x9b\u202e"})
    assert all(line.isprintable() for line in lines)


def test_long_texts_are_cut_with_a_word() -> None:
    lines = told(output=list(range(1000)))
    assert lines[-1] == "  … and 802 more lines, which --json shows"
    assert len(lines) < 220
