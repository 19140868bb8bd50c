"""The data store: what happened, kept for people. Nothing that decides reads it.

The indexer writes, the APIs read. Both deliveries are at-least-once, so every write may be repeated and
changes nothing then. ``tests/conformance`` holds every implementation to the words below.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias

from msgspec import Struct

from inngest.core.model.events import Event
from inngest.core.model.history import History
from inngest.core.model.records import RunRecord
from inngest.core.model.runs import RunStatus


class TimeField(StrEnum):
    """A time of a run's record, to filter and to order by; 0 sorts before every time."""

    QUEUED = "queued"
    STARTED = "started"
    ENDED = "ended"


Position: TypeAlias = tuple[int, str]
"""Where a run stands in an order: the time, and the run's id where times are equal."""


def position(record: RunRecord, field: TimeField) -> Position:
    match field:
        case TimeField.QUEUED:
            return record.queued, record.id
        case TimeField.STARTED:
            return record.started, record.id
        case TimeField.ENDED:
            return record.ended, record.id


class RunFilter(Struct, frozen=True, kw_only=True):
    """Which runs: of any of the statuses, function ids and app names (empty: all), whose ``field`` lies in
    the half-open window; an ``until`` of 0 leaves it open.
    """

    statuses: frozenset[RunStatus] = frozenset()
    fns: frozenset[str] = frozenset()
    apps: frozenset[str] = frozenset()
    field: TimeField = TimeField.QUEUED
    since: int = 0
    until: int = 0


class EventFilter(Struct, frozen=True, kw_only=True):
    """Which events: of any of the names (empty: all) and received in the half-open window. Those that the
    server made itself only with ``internal``, or by name.
    """

    names: frozenset[str] = frozenset()
    since: int = 0
    until: int = 0
    internal: bool = False


class DataStore(Protocol):
    """Every method may raise `StoreUnavailable`: it is then unknown whether a write happened, and repeating
    it is safe.
    """

    async def open(self) -> None:
        """Connect, and create or migrate what is stored. Raises `StoreUnavailable`, and of
        its kind `StoreUnusable` for what does not pass by itself.
        """

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Ask the backing system, cheaply, whether it would take a write. Raises `StoreUnavailable`."""

    # -- the indexer --

    async def put_events(self, events: Sequence[Event]) -> None:
        """Keep events; one whose id is known already changes nothing. They may come after their runs."""

    async def put_history(self, entries: Sequence[History]) -> None:
        """Keep history, in this order within each run. An entry that a run has already changes nothing; one
        of an unknown run (pruned, by now) is let go.
        """

    async def prune(self, before: int, limit: int = 10_000) -> int:
        """Forget up to ``limit`` runs that ended before this time, with their history, and as many events
        that were received before it and belong to no run that goes on. How many were forgotten; 0 means all
        of them.
        """

    # -- events --

    async def events(self, where: EventFilter, *, after: str = "", limit: int) -> list[Event]:
        """By internal id, newest first; ``after`` is the id of the last one seen."""

    async def count_events(self, where: EventFilter) -> int: ...

    async def events_by_id(self, ids: Sequence[str]) -> list[Event]:
        """Those of the events that are there, in the order of ``ids``, which are internal."""

    # -- runs --

    async def run(self, run_id: str) -> RunRecord | None: ...

    async def runs(
        self,
        where: RunFilter,
        *,
        order: TimeField = TimeField.QUEUED,
        descending: bool = True,
        after: Position | None = None,
        limit: int,
    ) -> list[RunRecord]:
        """By `position`; ``after`` is that of the last one seen."""

    async def count_runs(self, where: RunFilter) -> int: ...

    async def runs_of(self, event_id: str) -> list[RunRecord]:
        """The runs that an event started, or would have, oldest first."""

    async def history(self, run_id: str) -> list[History]:
        """Of one run, oldest first."""
