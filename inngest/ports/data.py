"""The data store: what happened, kept for people. Nothing that decides reads it.

The indexer writes, the APIs read. Both deliveries are at-least-once, so every write may be repeated and
changes nothing then: an event is known by its id, an entry of history by its own. ``tests/conformance`` holds
every implementation to the words below.

One bad record keeps no other from its place. What can never be kept is refused by name, and all that came
with it is kept; what was kept and cannot be read any more is left out of what is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from inngest.core.errors import StoreRefused
from inngest.core.model.cancellations import Cancellation
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


class Count(Struct, frozen=True):
    """How many there are; if not ``exact``, at least so many."""

    number: int
    exact: bool = True


class Refusal(Struct, frozen=True):
    """Of what was given to be kept: the one at ``place``, from 0, and why it can never be."""

    place: int
    id: str
    reason: str


_SHOWN = 3


def refused(system: str, what: str, refusals: Sequence[Refusal]) -> StoreRefused:
    """The error that names them: ``facts`` has ``what`` ("event" or "history") and ``refusals``."""
    shown = "; ".join(f"{each.id[:64]!r} at {each.place}: {each.reason}" for each in refusals[:_SHOWN])
    more = f"; and {len(refusals) - _SHOWN} more" if len(refusals) > _SHOWN else ""
    return StoreRefused(
        f"{system} cannot keep {what} {shown}{more}", system=system, what=what, refusals=tuple(refusals)
    )


class DataStore(Protocol):
    """Every method may raise `StoreUnavailable`: it is then unknown whether a write happened, and repeating
    it is safe. `StoreRefused` says that this very request can never pass.
    """

    @property
    def damaged(self) -> int:
        """How often a record that was kept could not be read and was left out, since the store was made. Of
        each the log tells, once.
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
        """Keep events; one whose id is known already changes nothing. They may come after their runs.

        When this returns they are safe from all that the store is safe from.

        Raises:
            StoreRefused: see `refused`; it names events that can never be kept. All others are kept.

        """

    async def put_history(self, entries: Sequence[History]) -> None:
        """Keep history, in this order within each run. An entry whose id a run has already changes nothing,
        whatever else it says; one of an unknown run (pruned, by now) is let go.

        When this returns it is safe from all that the store is safe from.

        Raises:
            StoreRefused: see `refused`; it names entries that can never be kept. All others are kept.

        """

    async def prune(self, before: int, limit: int = 10_000) -> int:
        """Forget runs that ended before this time, with their history, and events that were received before
        it.

        Never sooner: what ended or came at ``before`` or later stays, and so does all of a run that goes on,
        whatever its age: its record, its history and the events it belongs to. But later, if it is cheaper: a
        store may forget by whole periods of time (a partition of a day), once all of a period is old enough,
        having moved out of it what has to stay.

        Args:
            before: Unix milliseconds.
            limit: bounds the work of one call: about so many runs and so many events, or one period.

        Returns:
            How many were forgotten, at least 1 if any were; 0 means that there is nothing more to forget now.

        """

    # -- events --

    async def events(self, where: EventFilter, *, after: str = "", limit: int) -> list[Event]:
        """By internal id, newest first; ``after`` is the id of the last one seen. Fewer than ``limit`` only
        at the end.
        """

    async def count_events(self, where: EventFilter, *, most: int) -> Count:
        """Exact up to ``most``; a store may stop counting there."""

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
        """By `position`; ``after`` is that of the last one seen. Fewer than ``limit`` only at the end.

        Without their outputs, which may be megabytes each: `outputs` has those.
        """

    async def count_runs(self, where: RunFilter, *, most: int) -> Count:
        """Exact up to ``most``; a store may stop counting there."""

    async def runs_of(self, event_ids: Sequence[str]) -> dict[str, list[RunRecord]]:
        """The runs that each of the events started, or would have, oldest first, without their outputs. Every
        id that was asked for is a key.
        """

    async def outputs(self, run_ids: Sequence[str]) -> dict[str, bytes]:
        """What the runs returned or failed with, of those that have such a thing."""

    async def history(self, run_ids: Sequence[str]) -> dict[str, list[History]]:
        """Of each of the runs, in the order in which it was kept. Every id that was asked for is a key."""


@runtime_checkable
class Predecessor(Protocol):
    """A data store that an older release may have left bulk cancellations in, which are the engine's now."""

    async def left_cancellations(self) -> list[Cancellation]:
        """Oldest first, without those that cannot be read."""

    async def forget_cancellation(self, cancellation_id: str) -> None: ...
