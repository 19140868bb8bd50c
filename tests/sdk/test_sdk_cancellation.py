"""Cancellation: by event, by REST, in bulk, by GraphQL, by time-out."""

from __future__ import annotations

import datetime

import pytest
from harness import Line, Run


def sleeping(line: Line, **data: object) -> Run:
    """A run of `long-sleep` that has executed its first step."""
    run = line.server.wait_started(line.send("long-sleep", **data))
    line.wait_executed(run.id, "before")
    return run


def cancelled(line: Line, run: Run) -> None:
    ended = line.server.wait_ended(run.id)
    assert ended.status == "Cancelled"
    line.executed(ended, "before")


def test_an_event_that_matches_cancels_the_run(line: Line) -> None:
    run = sleeping(line)
    line.server.send({"name": f"{line.name}/cancel", "data": {"k": "somebody else"}})
    line.barrier()
    assert line.server.run(run.id).status == "Running"
    line.send("cancel")
    cancelled(line, run)


def test_rest_cancels_one_run(line: Line) -> None:
    run = sleeping(line)
    line.server.api("DELETE", f"/v1/runs/{run.id}")
    cancelled(line, run)


@pytest.mark.sdk("py")
def test_graphql_cancels_one_run(line: Line) -> None:
    run = sleeping(line)
    line.server.query("mutation Cancel($id: ULID!) { cancelRun(runID: $id) { id } }", id=run.id)
    cancelled(line, run)


@pytest.mark.sdk("py")
def test_bulk_cancellation_takes_the_runs_that_match(line: Line) -> None:
    chosen, spared = sleeping(line, chosen=True), sleeping(line, chosen=False)
    line.server.api(
        "POST",
        "/v1/cancellations",
        {
            "app_id": line.name,
            "function_id": "long-sleep",
            "started_before": datetime.datetime.now(datetime.UTC).isoformat(),
            "if": f"event.data.k == '{line.key}' && event.data.chosen == true",
        },
    )
    cancelled(line, chosen)
    assert line.server.run(spared.id).status == "Running"
    line.send("cancel")
    cancelled(line, spared)


def test_a_run_that_takes_too_long_is_cancelled(line: Line) -> None:
    run = line.run("finish-timeout")
    assert run.status == "Cancelled"
    line.executed(run, "before")
