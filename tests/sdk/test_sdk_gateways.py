"""Calls that the server makes on behalf of a step: step.fetch and step.ai.infer."""

from __future__ import annotations

import pytest
from harness import Line


@pytest.mark.sdk("ts3", "ts4", "go")
def test_fetch_returns_the_answer(line: Line) -> None:
    output = line.completed("fetch").output
    assert output == {
        "status": 200,
        "body": {"method": "PUT", "path": "/echo", "body": "hello", "trial": "yes"},
    }


@pytest.mark.sdk("ts3", "ts4", "go")
def test_fetch_takes_any_status_for_an_answer(line: Line) -> None:
    assert line.completed("fetch-503").output == {"status": 503}


def test_inference_is_authorised_and_its_key_kept_secret(line: Line) -> None:
    run = line.completed("ai-infer")
    assert run.output == {"content": "echo ping", "authorization": "Bearer sk-test"}
    (span,) = [span for span in line.server.trace(run.id)["trace"]["childrenSpans"] if span["name"] == "ask"]
    query = "query Q($id: String!) { runTraceSpanOutputByID(outputID: $id) { input } }"
    shown = line.server.query(query, id=span["outputID"])["runTraceSpanOutputByID"]
    assert "sk-test" not in str(shown)
    assert span["stepOp"] == "AI_GATEWAY"
