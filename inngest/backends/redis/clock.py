"""The server's time, as it is known here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def monotonic_ms() -> float:
    return time.monotonic_ns() / 1e6


class ServerClock:
    """An estimate of the server's clock that is never behind it: see `inngest.ports.engine.EngineStore.now`.

    A reply that tells the server's time (whole ms, cut off) bounds it from both sides: it was read between
    the request and the reply. The lowest upper bound that no later reply contradicts is kept.
    """

    def __init__(self, elapsed: Callable[[], float] = monotonic_ms) -> None:
        self._elapsed = elapsed
        self._offset = time.time_ns() / 1e6 - elapsed()  # until the server has been heard
        self._heard = False

    def start(self) -> float:
        """When a request is sent, for `tell`."""
        return self._elapsed()

    def tell(self, sent: float, server: int) -> None:
        """A reply to a request of then told the server's time."""
        upper, lower = server + 1 - sent, server - self._elapsed()
        if not self._heard or upper < self._offset or lower > self._offset:
            self._offset, self._heard = upper, True

    def now(self) -> int:
        return math.ceil(self._elapsed() + self._offset)
