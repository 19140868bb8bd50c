"""A run with all that happened in it, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from inngest.cli.table import duration, lines, moment, plain, short
from inngest.core.timing.durations import parse_date

_MOST_LINES = 200
"""Of an output or a stack; --json has all of it."""
_WAITS = {
    "sleepUntil": "until",
    "waitUntil": "until",
    "signalUntil": "until",
    "eventName": "event",
    "expression": "if",
    "signal": "signal",
    "functionID": "function",
    "runID": "run",
}
_TIMED_OUT = ("waitTimedOut", "signalTimedOut", "invokeTimedOut")


def report(run: dict[str, Any]) -> Iterator[str]:
    """The lines that `runs show` prints."""
    yield f"Run {run['run_id']}: {run['status']}"
    for name, value in _facts(run):
        if value:
            yield f"  {name.ljust(9)} {plain(value)}"
    if run["steps"]:
        yield ""
        yield "Steps"
        width = max(len(plain(step["name"], 40)) for step in run["steps"])
        for step in run["steps"]:
            yield from _step(step, width)
    output, error = run["output"], None
    if run["status"] == "Failed" and isinstance(output, dict):
        error, output = output, None
    if error is not None:
        yield ""
        yield "Error"
        yield f"  {_error(error)}"
        stack = error.get("stack")
        yield from _bounded(lines(stack) if isinstance(stack, str) else [])
    if output is not None:
        yield ""
        yield "Output"
        yield from _bounded(lines(json.dumps(output, indent=2, ensure_ascii=False)))


def _facts(run: dict[str, Any]) -> Iterator[tuple[str, object]]:
    app = f" of {run['app']}" if run["app"] else ""
    yield "function", f"{run['function'] or run['function_id']}{app}"
    if run["cron"]:
        yield "cron", run["cron"]
    ids = run["event_ids"]
    more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    if run["event_name"]:
        yield "event", f"{run['event_name']} {ids[0] if ids else ''}{more}"
    yield "queued", moment(run["queued_at"])
    yield "started", moment(run["started_at"])
    took = _between(run["started_at"], run["ended_at"])
    yield "ended", moment(run["ended_at"]) + (f", after {took}" if took else "")
    yield "repeats", run["original_run_id"]
    yield "skipped", run["skip_reason"]


def _between(start: str | None, end: str | None) -> str:
    begun, ended = parse_date(start or ""), parse_date(end or "")
    return duration(ended - begun) if begun is not None and ended is not None else ""


def _step(step: dict[str, Any], width: int) -> Iterator[str]:
    parts = [plain(step["name"], 40).ljust(width), step["status"].ljust(9)]
    parts.append((duration(step["duration_ms"]) if step["ended_at"] else "").ljust(8))
    waits = step["waits_for"]
    told = [f"{_WAITS[key]} {value}" for key, value in waits.items() if key in _WAITS]
    if any(waits.get(key) for key in _TIMED_OUT):
        told.append("timed out")
    if told:
        parts.append(plain(", ".join(told)))
    elif step["output"] is not None:
        parts.append(short(step["output"]))
    elif step["error"] and not step["attempts"]:
        parts.append(_error(step["error"]))
    yield f"  {'  '.join(parts)}".rstrip()
    for attempt in step["attempts"]:
        error = _error(attempt["error"]) if attempt["error"] else ""
        took = duration(attempt["duration_ms"]) if attempt["ended_at"] else ""
        line = f"attempt {attempt['attempt'] + 1}  {attempt['status'].ljust(9)}  {took.ljust(8)}  {error}"
        yield f"    {line}".rstrip()


def _error(error: dict[str, Any]) -> str:
    told = [str(error[part]) for part in ("name", "message") if error.get(part)]
    return plain(": ".join(told) or error.get("error") or "an error without a message")


def _bounded(text: list[str]) -> Iterator[str]:
    for line in text[:_MOST_LINES]:
        yield f"  {line}".rstrip()
    if len(text) > _MOST_LINES:
        yield f"  … and {len(text) - _MOST_LINES} more lines, which --json shows"
