"""What was worked out once and may be asked for again, within a bound of bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values by key whose sizes, as ``put`` is told them, come to at most ``most`` bytes.

    The oldest make way. What alone is larger than a quarter of the bound is not kept: it would drive all
    else out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._known: dict[K, tuple[V, int]] = {}

    @property
    def held(self) -> int:
        """Bytes."""
        return self._held

    def get(self, key: K) -> V | None:
        found = self._known.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, size: int) -> V:
        """Returns the value; ``size`` is in bytes, key included."""
        if size > self._most // 4:
            return value
        _, before = self._known.pop(key, (None, 0))
        self._held += size - before
        while self._held > self._most:
            _, gone = self._known.pop(next(iter(self._known)))
            self._held -= gone
        self._known[key] = (value, size)
        return value
