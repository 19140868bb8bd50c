"""Invocations that cannot be carried out."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from inngest.core.decisions.moment import Moment
from inngest.core.model.events import FINISHED, Event, internal_event


def invoke_error(message: str) -> bytes:
    return msgspec.json.encode({"error": message, "message": message, "name": "Error"})


def unknown_function(event: Event, at: Moment) -> list[Event]:
    """The answer to an invocation whose target does not exist: a finished event that fails the caller's step
    (section 5.3).
    """
    correlation = event.meta.get("correlation_id")
    if not isinstance(correlation, str):
        return []
    slug = event.meta.get("fn_id", "")
    message = f"could not find function with ID: {slug}"
    data: dict[str, Any] = {
        "function_id": slug,
        "run_id": "",
        "correlation_id": correlation,
        "error": {"error": message, "message": message, "name": "Error"},
        "event": Raw(event.payload),
        "events": [Raw(event.payload)],
        "_inngest": {"status": "Failed"},
    }
    return [internal_event(at.new_id(), FINISHED, at.now, data)]
