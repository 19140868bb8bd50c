"""A mapping whose entries vanish after a time, without a timer of their own."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

V = TypeVar("V")


class Expiring(Generic[V]):
    """Keys with a value until an instant (ms). Old entries are dropped a few at a time, whenever something is
    put.
    """

    __slots__ = ("_entries", "_heap")

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, str, V]] = {}
        self._heap: list[tuple[int, str, V]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now: int) -> V | None:
        entry = self._entries.get(key)
        return entry[2] if entry is not None and entry[0] > now else None

    def put(self, key: str, value: V, until: int) -> None:
        entry = self._entries[key] = (until, key, value)
        heapq.heappush(self._heap, entry)

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)

    def expire(self, now: int, most: int = 4) -> list[str]:
        """Drop up to ``most`` outdated entries; their keys are returned."""
        gone = []
        while self._heap and most > 0 and self._heap[0][0] <= now:
            key = heapq.heappop(self._heap)[1]
            most -= 1
            entry = self._entries.get(key)
            if entry is not None and entry[0] <= now:  # not put again since, with a later end
                del self._entries[key]
                gone.append(key)
        return gone
