"""Errors: retries of steps and functions, errors caught, errors that end the run, failure handlers."""

from __future__ import annotations

import json

from harness import Line, eventually


def test_a_failing_step_is_retried_until_it_succeeds(line: Line) -> None:
    run = line.completed("step-retry", failures=2)
    assert run.output == {"executions": 3}
    assert line.app.executions(run.id) == {"flaky": 3}


def test_a_step_out_of_retries_fails_the_run(line: Line) -> None:
    run = line.run("step-retry", failures=10)
    assert run.status == "Failed"
    assert "failure 4" in json.dumps(run.output)
    assert line.app.executions(run.id) == {"flaky": 4}


def test_the_function_may_catch_a_failed_step(line: Line) -> None:
    run = line.completed("step-caught")
    assert run.output == {"caught": "boom", "after": "compensated"}
    assert line.app.executions(run.id) == {"fails": 2, "compensate": 1}


def test_a_failing_function_is_retried_without_its_finished_steps(line: Line) -> None:
    run = line.completed("function-retry")
    assert run.output == {"executions": 2}
    assert line.app.executions(run.id) == {"before": 1, "body": 2}


def test_a_non_retriable_error_ends_the_run_at_once(line: Line) -> None:
    run = line.run("non-retriable")
    assert run.status == "Failed"
    assert "bad input" in json.dumps(run.output)
    assert line.app.executions(run.id) == {"body": 1}


def test_a_non_retriable_error_in_a_step_is_not_retried(line: Line) -> None:
    run = line.run("non-retriable-step")
    assert run.status == "Failed"
    assert "bad input" in json.dumps(run.output)
    assert line.app.executions(run.id) == {"fails": 1}


def test_the_application_chooses_when_to_be_retried(line: Line) -> None:
    """The server's own interval is one second; the application asks for three (Go in whole seconds)."""
    run = line.completed("retry-after")
    first, second = line.app.times(run.id, "body")
    assert second - first >= 1.9


def test_a_failed_run_calls_its_failure_handler_once(line: Line) -> None:
    run = line.run("on-failure")
    assert run.status == "Failed"
    assert "order lost" in json.dumps(run.output)
    assert line.app.executions(run.id) == {"before": 1}

    def handlers() -> list[str]:
        return [entry["run"] for entry in line.app.entries() if entry.get("step") == "failure-handler"]

    def handled() -> str | None:
        for handler in handlers():
            if line.server.wait_ended(handler).output == {"handled": run.id}:
                return handler
        return None

    handler = eventually(handled, f"the failure handler of run {run.id}")
    line.barrier()
    outputs = [line.server.run(other).output for other in handlers() if other != handler]
    assert {"handled": run.id} not in outputs
