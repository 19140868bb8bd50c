"""The clock of a store that has none of its own to ask."""

from __future__ import annotations

import time
from collections.abc import Callable


def wall_clock() -> int:
    """Unix epoch milliseconds."""
    return time.time_ns() // 1_000_000


def elapsed() -> int:
    """Milliseconds that pass, whatever the wall clock is set to."""
    return time.monotonic_ns() // 1_000_000


class SteadyClock:
    """Unix epoch milliseconds that never go back, whatever ``source`` says."""

    __slots__ = ("_last", "_source")

    def __init__(self, source: Callable[[], int] = wall_clock) -> None:
        self._source = source
        self._last = 0

    def now(self) -> int:
        self._last = max(self._last, self._source())
        return self._last

    def pass_(self, ms: int) -> None:
        """From here on it is at least so late."""
        self._last = max(self._last, ms)
