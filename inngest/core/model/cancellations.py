"""Bulk cancellations: all runs of a function in a window of time."""

from __future__ import annotations

from msgspec import Struct


class Cancellation(Struct, omit_defaults=True):
    """A bulk cancellation as it was ordered: it applies to the runs of a function that were created in
    [started_after, started_before] and fulfil ``condition``.
    """

    id: str
    fn: str  # function UUID
    slug: str
    app_id: str
    created: int
    started_before: int
    started_after: int = 0
    condition: str = ""
    begun: bool = False  # a runner has had the item that carries it out, and that one goes on by itself
