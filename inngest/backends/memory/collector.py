"""Collectors: events that are gathered before they start a run."""

from __future__ import annotations

import msgspec
from msgspec import field

from inngest.core.model.transition import Collect


class Collector(msgspec.Struct):
    """The events under one key: their item, when it was opened (ms), and, unless only the ``last`` counts,
    which is the item's payload, the events themselves.
    """

    key: str
    job: str
    opened: int
    last: bool = False
    events: list[bytes] = field(default_factory=list)
    size: int = 1

    def add(self, event: bytes) -> None:
        self.events.append(event)
        self.size += len(event) + 1

    def full(self, effect: Collect) -> bool:
        if effect.last:
            return False
        return 0 < effect.max_size <= len(self.events) or 0 < effect.max_bytes <= self.size

    def payload(self) -> bytes:
        """The JSON array of all events."""
        return b"[" + b",".join(self.events) + b"]"


class _Stamped(msgspec.Struct):
    ts: int


def collected_ts(payload: bytes) -> int:
    """The time stamp of the first event that is collected."""
    return msgspec.json.decode(payload, type=list[_Stamped])[0].ts
