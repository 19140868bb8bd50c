"""The queries that SDK users' test suites and tools ask: REST v1 and GraphQL."""

from __future__ import annotations

import json

import pytest
from harness import HttpError, Line, eventually


def test_graphql_shows_a_run_as_the_python_suite_asks(line: Line) -> None:
    event = line.send("sequential", n=1)
    run = line.server.wait_run(event)
    found = line.server.query(
        "query Q($id: ID!) { event(query: {eventId: $id}) { functionRuns { id } } }", id=event
    )
    assert [each["id"] for each in found["event"]["functionRuns"]] == [run.id]

    query = """
    query Q($id: String!) {
      run(runID: $id) { output status function { slug } app { name } }
      runTrigger(runID: $id) { eventName IDs payloads isBatch }
    }
    """
    found = line.server.query(query, id=run.id)
    assert found["run"]["status"] == "COMPLETED"
    assert json.loads(found["run"]["output"]) == {"total": 6}
    assert found["run"]["function"]["slug"] == f"{line.name}-sequential"
    assert found["runTrigger"]["eventName"] == f"{line.name}/sequential"
    assert found["runTrigger"]["IDs"] == [event]
    assert [json.loads(payload)["data"]["k"] for payload in found["runTrigger"]["payloads"]] == [line.key]


def test_graphql_traces_a_run_as_the_typescript_suite_asks(line: Line) -> None:
    run = line.completed("sequential", n=1)
    trace = line.server.trace(run.id)["trace"]
    assert trace["name"] == "Run"
    assert trace["status"] == "COMPLETED"
    steps = {span["name"]: span for span in trace["childrenSpans"]}
    assert {"one", "two", "three"} <= steps.keys()
    assert steps["one"]["stepOp"] == "RUN"

    query = "query Q($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { message name } } }"
    whole = line.server.query(query, id=trace["outputID"])["runTraceSpanOutputByID"]
    assert json.loads(whole["data"]) == {"total": 6}
    assert whole["error"] is None
    two = line.server.query(query, id=steps["two"]["outputID"])["runTraceSpanOutputByID"]
    assert json.loads(two["data"]) == 2


def test_graphql_traces_the_error_of_a_failed_run(line: Line) -> None:
    run = line.run("non-retriable")
    trace = line.server.trace(run.id)
    assert trace["status"] == "FAILED"
    query = "query Q($id: String!) { runTraceSpanOutputByID(outputID: $id) { error { message name } } }"
    output = line.server.query(query, id=trace["trace"]["outputID"])["runTraceSpanOutputByID"]
    assert output["error"]["message"] == "bad input"


def test_a_retried_step_shows_its_attempts(line: Line) -> None:
    run = line.completed("step-retry", failures=1)
    spans = line.server.trace(run.id)["trace"]["childrenSpans"]
    (flaky,) = [span for span in spans if span["name"] == "flaky"]
    assert [(attempt["name"], attempt["status"]) for attempt in flaky["childrenSpans"]] == [
        ("Attempt 0", "FAILED"),
        ("Attempt 1", "COMPLETED"),
    ]


def test_graphql_lists_runs_and_apps(line: Line) -> None:
    run = line.completed("sequential")
    query = """
    query Q($app: String!) {
      apps { externalID connected }
      runs(first: 5, orderBy: [{field: QUEUED_AT, direction: DESC}],
           filter: {from: "2020-01-01T00:00:00Z", query: $app}) { edges { node { id status } } totalCount }
    }
    """
    found = line.server.query(query, app=f"event.data.k == '{line.key}'")
    assert line.name in [app["externalID"] for app in found["apps"]]
    assert [edge["node"] for edge in found["runs"]["edges"]] == [{"id": run.id, "status": "COMPLETED"}]


def test_rest_shows_the_jobs_of_a_sleeping_run(line: Line) -> None:
    run = line.server.wait_started(line.send("long-sleep"))
    line.wait_executed(run.id, "before")
    eventually(
        lambda: line.server.api("GET", f"/v1/runs/{run.id}/jobs")["data"], "the job that wakes the run"
    )
    line.server.api("DELETE", f"/v1/runs/{run.id}")
    line.server.wait_ended(run.id)


def test_an_unknown_run_is_not_found(line: Line) -> None:
    with pytest.raises(HttpError) as missing:
        line.server.run("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    body = json.loads(missing.value.body)
    assert (missing.value.status, body["status"]) == (404, 404)
    assert body["error"]


def test_registering_again_changes_nothing(line: Line) -> None:
    before = line.server.functions()
    line.server.register(line.app)
    assert line.server.functions() == before
    assert line.completed("sequential").output == {"total": 5}
