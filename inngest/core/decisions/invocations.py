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
    caller = event.meta.get("source_fn_id")
    message = f"could not find function with ID: {event.meta.get('fn_id', '')}"
    told = refusal(event, at.new_id(), at.now, message, shown=Raw(event.payload))
    if told is None or not isinstance(caller, str) or not caller:
        return None
    once = Once(key=event.id, at=event.received, forget=at.settled)
    return Transition(fn=caller, run="", effects=[once, Emit(event=told.encode(), when=0)])


def refusal(event: Event, internal_id: str, now: int, message: str, *, shown: Raw) -> Event | None:
    """The finished event that fails the step which has invoked. None if nobody waits for it.

    Args:
        event: the invocation.
        internal_id: of the finished event.
        message: why, for people.
        shown: the invocation as handlers of the finished event see it.

    """
    correlation = event.meta.get("correlation_id")
    if not isinstance(correlation, str):
        return None
    data: dict[str, Any] = {
        "function_id": event.meta.get("fn_id", ""),
        "run_id": "",
        "correlation_id": correlation,
        "error": Raw(error_json("Error", message)),
        "event": shown,
        "events": [shown],
        "_inngest": {"status": "Failed"},
    }
    return internal_event(internal_id, FINISHED, now, data)
