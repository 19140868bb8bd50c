"""The data store of one process: the newest events and runs, in memory.

Writing is on the embedded server's hot path, so it only appends; what reads want is made when they ask.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from inngest.core.model.events import RESERVED, Event
from inngest.core.model.history import History, What
from inngest.core.model.records import RunRecord, opened, update
from inngest.ports.data import EventFilter, Position, RunFilter, TimeField, position

MAX_EVENTS = 100_000
MAX_RUNS = 100_000
MAX_BYTES = 512 * 1024 * 1024
"""Bytes of JSON kept: half of them for events, half for history."""

_encode = msgspec.json.Encoder().encode


class _Kept:
    """A run with its history."""

    __slots__ = ("entries", "record", "size")

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.entries: list[History] = []
        self.size = 0


class MemoryDataStore:
    """See `inngest.ports.data.DataStore`. Above the bounds the oldest events go, and the runs that ended
    first; runs that go on are kept, being bounded by the engine.
    """

    def __init__(
        self, *, max_events: int = MAX_EVENTS, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._max_events = max_events
        self._max_runs = max_runs
        self._max_bytes = max_bytes // 2
        self._events: dict[str, Event] = {}
        self._event_ids: list[str] = []  # sorted
        self._event_bytes = 0
        self._runs: dict[str, _Kept] = {}
        self._order: list[Position] = []  # by the time of queueing, sorted
        self._ended: deque[str] = deque()  # in the order of their ends
        self._run_bytes = 0
        self._runs_of: dict[str, list[str]] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    # -- the indexer --

    async def put_events(self, events: Sequence[Event]) -> None:
        known, ids = self._events, self._event_ids
        for event in events:
            if event.id in known:
                continue
            known[event.id] = event
            self._event_bytes += len(event.data)
            if not ids or ids[-1] < event.id:
                ids.append(event.id)
            else:
                insort(ids, event.id)
        if len(ids) > self._max_events or self._event_bytes > self._max_bytes:
            self._evict_events()

    def _evict_events(self) -> None:
        # A tenth more than needed: the list moves once, not with every event.
        most, room = self._max_events * 9 // 10, self._max_bytes * 9 // 10
        count = 0
        while count < len(self._event_ids) and (
            len(self._event_ids) - count > most or self._event_bytes > room
        ):
            self._event_bytes -= len(self._events.pop(self._event_ids[count]).data)
            count += 1
        del self._event_ids[:count]

    async def put_history(self, entries: Sequence[History]) -> None:
        runs = self._runs
        for entry in entries:
            what = entry.what
            if what is What.SCHEDULED or what is What.SKIPPED:
                self._open(entry)
            kept = runs.get(entry.run)
            if kept is None:
                continue
            kept.entries.append(entry)
            if entry.value is not None:
                kept.size += len(entry.value)
                self._run_bytes += len(entry.value)
            if what is What.STARTED:
                update(kept.record, entry)
            elif what is What.ENDED and update(kept.record, entry):
                self._ended.append(entry.run)
        if len(runs) > self._max_runs or self._run_bytes > self._max_bytes:
            self._evict_runs()

    def _open(self, entry: History) -> None:
        if entry.run in self._runs:
            return
        record = opened(entry)
        assert record is not None
        self._runs[record.id] = _Kept(record)
        place = (record.queued, record.id)
        if not self._order or self._order[-1] < place:
            self._order.append(place)
        else:
            insort(self._order, place)
        for event in record.events:
            self._runs_of.setdefault(event, []).append(record.id)
        if record.ended:
            self._ended.append(record.id)

    def _evict_runs(self) -> None:
        most, room = self._max_runs * 9 // 10, self._max_bytes * 9 // 10
        gone = set()
        while self._ended and (len(self._runs) > most or self._run_bytes > room):
            gone.add(self._forget(self._ended.popleft()))
        self._compact(gone)

    def _forget(self, run_id: str) -> Position:
        kept = self._runs.pop(run_id)
        self._run_bytes -= kept.size
        for event in kept.record.events:
            runs = self._runs_of[event]
            runs.remove(run_id)
            if not runs:
                del self._runs_of[event]
        return kept.record.queued, run_id

    def _compact(self, gone: set[Position]) -> None:
        if gone:
            self._order = [place for place in self._order if place not in gone]

    async def prune(self, before: int, limit: int = 10_000) -> int:
        old = [run_id for run_id in self._ended if self._runs[run_id].record.ended < before][:limit]
        gone = set(old)
        self._compact({self._forget(run_id) for run_id in old})
        self._ended = deque(run_id for run_id in self._ended if run_id not in gone)
        stale = []
        for event_id in self._event_ids:
            if self._events[event_id].received < before and not self._needed(event_id):
                stale.append(event_id)
                if len(stale) == limit:
                    break
        for event_id in stale:
            self._event_bytes -= len(self._events.pop(event_id).data)
        if stale:
            self._event_ids = [event_id for event_id in self._event_ids if event_id in self._events]
        return len(old) + len(stale)

    def _needed(self, event_id: str) -> bool:
        return any(not self._runs[run_id].record.ended for run_id in self._runs_of.get(event_id, ()))

    # -- events --

    async def events(self, where: EventFilter, *, after: str = "", limit: int) -> list[Event]:
        found: list[Event] = []
        for event in self._matching(where, after):
            if len(found) == limit:
                break
            found.append(event)
        return found

    async def count_events(self, where: EventFilter) -> int:
        return sum(1 for _ in self._matching(where, ""))

    def _matching(self, where: EventFilter, after: str) -> Iterator[Event]:
        end = bisect_left(self._event_ids, after) if after else len(self._event_ids)
        for place in range(end - 1, -1, -1):
            event = self._events[self._event_ids[place]]
            if where.names:
                if event.name not in where.names:
                    continue
            elif not where.internal and event.name.startswith(RESERVED):
                continue
            if event.received >= where.since and (not where.until or event.received < where.until):
                yield event

    async def events_by_id(self, ids: Sequence[str]) -> list[Event]:
        return [event for each in ids if (event := self._events.get(each)) is not None]

    # -- runs --

    async def run(self, run_id: str) -> RunRecord | None:
        kept = self._runs.get(run_id)
        return msgspec.structs.replace(kept.record) if kept is not None else None

    async def runs(
        self,
        where: RunFilter,
        *,
        order: TimeField = TimeField.QUEUED,
        descending: bool = True,
        after: Position | None = None,
        limit: int,
    ) -> list[RunRecord]:
        if order is TimeField.QUEUED:
            found: list[RunRecord] = []
            for place in self._places(after, descending=descending):
                if len(found) == limit:
                    break
                record = self._runs[place[1]].record
                if _fits(record, where):
                    found.append(record)
        else:
            fitting = (
                record
                for kept in self._runs.values()
                if _fits(record := kept.record, where)
                and (after is None or _follows(position(record, order), after, descending=descending))
            )
            pick = heapq.nlargest if descending else heapq.nsmallest
            found = pick(limit, fitting, key=lambda record: position(record, order))
        return [msgspec.structs.replace(record) for record in found]

    def _places(self, after: Position | None, *, descending: bool) -> Iterator[Position]:
        order = self._order
        if descending:
            end = len(order) if after is None else bisect_left(order, after)
            return (order[place] for place in range(end - 1, -1, -1))
        begin = 0 if after is None else bisect_right(order, after)
        return (order[place] for place in range(begin, len(order)))

    async def count_runs(self, where: RunFilter) -> int:
        return sum(_fits(kept.record, where) for kept in self._runs.values())

    async def runs_of(self, event_id: str) -> list[RunRecord]:
        return [
            msgspec.structs.replace(self._runs[run_id].record)
            for run_id in sorted(self._runs_of.get(event_id, ()))
        ]

    async def history(self, run_id: str) -> list[History]:
        kept = self._runs.get(run_id)
        if kept is None:
            return []
        once: dict[bytes, History] = {}
        for entry in kept.entries:
            once.setdefault(_encode(entry), entry)
        return list(once.values())


def _fits(record: RunRecord, where: RunFilter) -> bool:
    time = position(record, where.field)[0]
    return (
        time >= where.since
        and (not where.until or time < where.until)
        and (not where.statuses or record.status in where.statuses)
        and (not where.fns or record.fn in where.fns)
        and (not where.apps or record.app in where.apps)
    )


def _follows(place: Position, after: Position, *, descending: bool) -> bool:
    return place < after if descending else place > after
