"""A mapping whose entries vanish after a time, without a timer of their own."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

V = TypeVar("V")

_DROPPED_AT_ONCE = 4


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

    def expire(self, now: int) -> None:
        """Drop a few outdated entries."""
        for _ in range(_DROPPED_AT_ONCE):
            if not self._heap or self._heap[0][0] > now:
                return
            key = heapq.heappop(self._heap)[1]
            entry = self._entries.get(key)
            if entry is not None and entry[0] <= now:  # not put again since, with a later end
                del self._entries[key]
