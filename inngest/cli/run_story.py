"""A run with all that happened in it, read over GraphQL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from inngest.cli.server import Refused, Server

_SPAN = """
  name status attempts duration outputID queuedAt startedAt endedAt stepOp stepID
  stepInfo {
    ... on InvokeStepInfo { functionID runID invokeTimedOut: timedOut }
    ... on SleepStepInfo { sleepUntil }
    ... on WaitForEventStepInfo { eventName expression waitUntil: timeout waitTimedOut: timedOut }
    ... on WaitForSignalStepInfo { signal signalUntil: timeout signalTimedOut: timedOut }
  }
"""
_RUN = f"""
query Run($id: String!) {{
  run(runID: $id) {{
    id status output queuedAt startedAt endedAt eventName triggerIDs cronSchedule originalRunID skipReason
    functionID function {{ slug name }} app {{ name }}
    trace {{ childrenSpans {{ {_SPAN} childrenSpans {{ {_SPAN} }} }} }}
  }}
}}
"""
_OUTPUTS_AT_ONCE = 20


def story(server: Server, run_id: str) -> dict[str, Any]:
    """What `runs show --json` prints. Raises `Refused` for an unknown run."""
    run = server.query(_RUN, id=run_id)["run"]
    if run is None:
        raise Refused(f"{server.url} knows no run {run_id[:64]!r}")
    spans = (run["trace"] or {}).get("childrenSpans") or []
    wanted = [each["outputID"] for span in spans for each in _walk(span) if each["outputID"]]
    outputs = _outputs(server, wanted)
    return {
        "run_id": run["id"],
        "status": run["status"].capitalize(),
        "app": (run["app"] or {}).get("name"),
        "function": (run["function"] or {}).get("slug"),
        "function_id": run["functionID"],
        "event_name": run["eventName"],
        "event_ids": run["triggerIDs"],
        "cron": run["cronSchedule"],
        "queued_at": run["queuedAt"],
        "started_at": run["startedAt"],
        "ended_at": run["endedAt"],
        "original_run_id": run["originalRunID"],
        "skip_reason": run["skipReason"],
        "output": _decoded(run["output"]),
        "steps": [_step(span, outputs) for span in spans],
    }


def _walk(span: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield span
    yield from span.get("childrenSpans") or ()


def _outputs(server: Server, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    unique = list(dict.fromkeys(ids))
    for start in range(0, len(unique), _OUTPUTS_AT_ONCE):
        some = unique[start : start + _OUTPUTS_AT_ONCE]
        declared = " ".join(f"$o{place}: String!" for place in range(len(some)))
        fields = " ".join(
            f"o{place}: runTraceSpanOutputByID(outputID: $o{place}) "
            "{ input data error { name message stack } }"
            for place in range(len(some))
        )
        variables = {f"o{place}": each for place, each in enumerate(some)}
        answer = server.query(f"query Outputs({declared}) {{ {fields} }}", **variables)
        found.update({each: answer[f"o{place}"] or {} for place, each in enumerate(some)})
    return found


def _step(span: dict[str, Any], outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    told = outputs.get(span["outputID"] or "", {})
    attempts = span["childrenSpans"] or []
    return {
        "name": span["name"],
        "id": span["stepID"],
        "op": span["stepOp"],
        "status": span["status"].capitalize(),
        "queued_at": span["queuedAt"],
        "started_at": span["startedAt"],
        "ended_at": span["endedAt"],
        "duration_ms": span["duration"],
        "input": _decoded(told.get("input")),
        "output": _decoded(told.get("data")),
        "error": told.get("error"),
        "waits_for": {key: value for key, value in (span["stepInfo"] or {}).items() if value is not None},
        "attempts": [
            {
                "attempt": place,
                "status": each["status"].capitalize(),
                "started_at": each["startedAt"],
                "ended_at": each["endedAt"],
                "duration_ms": each["duration"],
                "error": outputs.get(each["outputID"] or "", {}).get("error"),
            }
            for place, each in enumerate(attempts)
        ],
    }


def _decoded(text: str | None) -> Any:
    """The value of JSON text; the text itself if it is none."""
    if text is not None:
        with suppress(ValueError):
            return json.loads(text)
    return text
