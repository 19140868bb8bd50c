"""What the event API has taken in, and what it has refused: counted for metrics."""

from __future__ import annotations

REASONS = ("key", "size", "invalid", "unavailable")
"""Why something is refused: no valid key, too large, not an event, the stream does not answer."""


class Intake:
    """Events accepted with their bytes (of the bodies they came in), and requests refused by reason."""

    __slots__ = ("bytes", "events", "refused")

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.refused = dict.fromkeys(REASONS, 0)
