"""The server's time, as it is known here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

DRIFT = 0.001
"""How much the server's clock may gain or lose against ours, as a share of the time that passes."""


def monotonic_ms() -> float:
    return time.monotonic_ns() / 1e6


class ServerClock:
    """Bounds of the server's clock: see `now` and `slack` of `inngest.ports.engine.EngineStore`.

    A reply that tells the server's time (whole ms, cut off) bounds it from both sides: it was read between
    the request and the reply. The tightest bounds are kept, and widen as time passes; a reply that
    contradicts them tells that the server's clock was set, or that it is another server's.
    """

    def __init__(self, elapsed: Callable[[], float] = monotonic_ms) -> None:
        self._elapsed = elapsed
        self._at = elapsed()
        # Until the server has been heard, our own clock has to do.
        self._low = self._high = time.time_ns() / 1e6 - self._at
        self._heard = False

    def start(self) -> float:
        """When a request is sent, for `tell`."""
        return self._elapsed()

    def tell(self, sent: float, server: int) -> None:
        """The reply to a request of then has told the server's time."""
        now = self._elapsed()
        widened = (now - self._at) * DRIFT
        low, high = self._low - widened, self._high + widened
        self._at = now
        new_low, new_high = server - now, server + 1 - sent + (now - sent) * DRIFT
        if self._heard and new_low <= high and new_high >= low:
            self._low, self._high = max(low, new_low), min(high, new_high)
        else:
            self._low, self._high, self._heard = new_low, new_high, True

    def now(self) -> int:
        now = self._elapsed()
        return math.floor(now + self._low - (now - self._at) * DRIFT)

    def slack(self) -> int:
        return math.ceil(self._high - self._low + 2 * (self._elapsed() - self._at) * DRIFT) + 1
