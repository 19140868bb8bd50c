"""The time and the identifiers of a decision."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Moment(Struct, frozen=True, gc=False):
    """The time and the identifiers of a decision, given from outside.

    ``now`` is the engine store's time. ``settled``: no event that was accepted before is delivered again.
    """

    now: int
    new_id: Callable[[], str]
    settled: int = 0
