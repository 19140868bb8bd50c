"""Invocations that cannot be carried out."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from inngest.core.decisions.draft import error_json
from inngest.core.decisions.moment import Moment
from inngest.core.model.events import FINISHED, Event, internal_event
from inngest.core.model.transition import Emit, Once, Transition


def unknown_function(event: Event, at: Moment) -> Transition | None:
    """The answer to an invocation whose target does not exist: a finished event that fails the caller's step
    (section 5.3). None if nobody waits for it.
    """
    correlation, caller = event.meta.get("correlation_id"), event.meta.get("source_fn_id")
    if not isinstance(correlation, str) or not isinstance(caller, str) or not caller:
        return None
    slug = event.meta.get("fn_id", "")
    message = f"could not find function with ID: {slug}"
    data: dict[str, Any] = {
        "function_id": slug,
        "run_id": "",
        "correlation_id": correlation,
        "error": Raw(error_json("Error", message)),
        "event": Raw(event.payload),
        "events": [Raw(event.payload)],
        "_inngest": {"status": "Failed"},
    }
    told = internal_event(at.new_id(), FINISHED, at.now, data)
    once = Once(key=event.id, at=event.received, forget=at.settled)
    return Transition(fn=caller, run="", effects=[once, Emit(event=told.encode(), when=0)])
