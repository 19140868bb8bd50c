"""The time and the identifiers of a decision."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Moment(Struct, frozen=True, gc=False):
    """The time and the identifiers of a decision, given from outside.

    ``now`` is the engine store's time as far as it is known, never ahead of it, and behind by at most
    ``slack`` ms. ``settled``: no event that was accepted before is delivered again.
    """

    now: int
    new_id: Callable[[], str]
    settled: int = 0
    slack: int = 0

    @property
    def latest(self) -> int:
        """What the time may be by now: what is due so long after it is not due early."""
        return self.now + self.slack
