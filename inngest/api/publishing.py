"""Events on their way to the stream: encoded, and none larger than the stream takes."""

from __future__ import annotations

from collections.abc import Sequence

from inngest.api.answers import ApiError
from inngest.core.model.events import Event


def encoded(events: Sequence[Event], largest: int) -> list[bytes]:
    """As they are published. Raises `ApiError` 413 if one has more than ``largest`` bytes: none is taken."""
    bodies = [event.encode() for event in events]
    for place, body in enumerate(bodies):
        if len(body) > largest:
            which = f"Event {place + 1} of {len(bodies)}" if len(bodies) > 1 else "Event"
            raise ApiError(
                413,
                f"{which} is over the max size: {len(body)} bytes as it is stored, the event stream takes "
                f"{largest}",
                code="event_too_large",
            )
    return bodies
