"""What the rows of the engine's file hold, under a run's id or, for items of no run, under ''."""

from __future__ import annotations

from typing import Final

import msgspec

from inngest.core.model.runs import Cell, Item, Partition, Pause

BODY: Final = 0
"""The run, as it was when it was first written; key: its `Place`, packed."""
HEAD: Final = 1
"""What has changed of it since, but for steps."""
STEP: Final = 2
"""Key: its place in the stack."""
ITEM: Final = 3
"""Key: the job; no value: it is done, but its id is remembered."""
PAUSE: Final = 4
EVENT: Final = 5
"""Of a collector; key: the job and its number."""


class Place(msgspec.Struct, array_like=True, gc=False):
    """What has to be known of a run that rests. An earlier release wrote none, and has an empty key there."""

    fn: str
    created: int
    run_cell: Cell | None = None


class Head(msgspec.Struct, array_like=True):
    request_version: int
    force_plan: bool
    started: int
    pending: set[str]
    revision: int
    evicted: bool = False


class OpenCollector(msgspec.Struct):
    """A collector that takes in events, without those it has."""

    key: str
    job: str
    opened: int


class QueuedItem(msgspec.Struct, array_like=True):
    """``order`` tells which of two was queued first; ``partition`` is None if the item implies it."""

    order: int
    item: Item
    collector: OpenCollector | None
    partition: Partition | None


class OpenPause(msgspec.Struct, array_like=True):
    pause: Pause
    hidden: bool = False
