"""The data store of one process: the newest events and runs, in memory.

Everything is kept as it was encoded: objects would take several times as much, and hold on to what was made
of them on their way. Writing is on the embedded server's hot path, so it only appends; what reads want is
made when they ask.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from msgspec import Struct

from inngest.backends.damage import Damage
from inngest.core.model.events import RESERVED, Event, decode_event
from inngest.core.model.history import History, What, decode_history, encode_history
from inngest.core.model.records import RunRecord, opened
from inngest.core.model.runs import RunStatus
from inngest.ports.data import (
    Count,
    EventFilter,
    Position,
    Refusal,
    RunFilter,
    TimeField,
    refused,
)

MAX_EVENTS = 100_000
MAX_RUNS = 100_000
MAX_BYTES = 512 * 1024 * 1024
"""Bytes of memory: half of them for events, half for runs with their history."""

_SYSTEM = "memory"
_LONG = 512
"""Bytes from which on the end of an encoder's buffer is worth a copy."""
_SHARED = 1000
"""Texts of which one copy serves all."""

# What Python takes for each beside the encoded text, in bytes: objects and places in containers.
_EVENT = 270
_RUN = 480
_ENTRY = 45
_EVENT_OF_RUN = 200


class _Event(Struct, gc=False):
    name: str
    received: int
    body: bytes

    @property
    def size(self) -> int:
        return _EVENT + len(self.name) + len(self.body)


class _Run(Struct, gc=False):
    """A run with its history. The first entry opened it, that at ``end`` ended it."""

    fn: str
    app: str
    status: RunStatus
    queued: int
    events: tuple[str, ...]
    entries: list[bytes]
    started: int = 0
    ended: int = 0
    end: int = -1
    size: int = 0

    def time(self, field: TimeField) -> int:
        match field:
            case TimeField.QUEUED:
                return self.queued
            case TimeField.STARTED:
                return self.started
            case TimeField.ENDED:
                return self.ended


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
        self._events: dict[str, _Event] = {}
        self._event_ids: list[str] = []  # sorted
        self._event_bytes = 0
        self._runs: dict[str, _Run] = {}
        self._order: list[Position] = []  # by the time of queueing, sorted
        self._ended: deque[str] = deque()  # in the order of their ends
        self._run_bytes = 0
        self._runs_of: dict[str, tuple[str, ...]] = {}
        self._shared: dict[str, str] = {}
        self._damage = Damage(_SYSTEM)

    @property
    def damaged(self) -> int:
        return self._damage.count

    @property
    def accounted(self) -> int:
        """Bytes of memory that events and runs take, about."""
        return self._event_bytes + self._run_bytes

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    def _share(self, text: str) -> str:
        shared = self._shared
        if len(shared) >= _SHARED and text not in shared:
            shared.clear()
        return shared.setdefault(text, text)

    # -- the indexer --

    async def put_events(self, events: Sequence[Event]) -> None:
        known, ids = self._events, self._event_ids
        refusals = []
        for place, event in enumerate(events):
            if event.id in known:
                continue
            try:
                body = _exact(event.encode())
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this event alone
                refusals.append(Refusal(place, event.id, f"{type(error).__name__}: {error}"))
                continue
            known[event.id] = kept = _Event(self._share(event.name), event.received, body)
            self._event_bytes += kept.size
            if not ids or ids[-1] < event.id:
                ids.append(event.id)
            else:
                insort(ids, event.id)
        if len(ids) > self._max_events or self._event_bytes > self._max_bytes:
            self._evict_events()
        if refusals:
            raise refused(_SYSTEM, "event", refusals)

    def _evict_events(self) -> None:
        # A tenth more than needed: the list moves once, not with every event.
        most, room = self._max_events * 9 // 10, self._max_bytes * 9 // 10
        count = 0
        while count < len(self._event_ids) and (
            len(self._event_ids) - count > most or self._event_bytes > room
        ):
            self._event_bytes -= self._events.pop(self._event_ids[count]).size
            count += 1
        del self._event_ids[:count]

    async def put_history(self, entries: Sequence[History]) -> None:
        refusals = []
        for place, entry in enumerate(entries):
            try:
                self._put(entry)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this entry alone
                refusals.append(Refusal(place, entry.id, f"{type(error).__name__}: {error}"))
        if len(self._runs) > self._max_runs or self._run_bytes > self._max_bytes:
            self._evict_runs()
        if refusals:
            raise refused(_SYSTEM, "history", refusals)

    def _put(self, entry: History) -> None:
        """All of it or, when it raises, nothing."""
        raw = _exact(encode_history(entry))
        what = entry.what
        kept = self._runs.get(entry.run)
        if kept is None:
            record = opened(entry)
            if record is None:
                return
            kept = self._open(record)
        elif what is What.STARTED:
            if not kept.started and not kept.ended:
                kept.started = entry.started or entry.at
                kept.status = RunStatus.RUNNING
        elif what is What.ENDED:
            status = RunStatus(entry.outcome)
            if not kept.ended:
                kept.status, kept.ended, kept.end = status, entry.at, len(kept.entries)
                self._ended.append(entry.run)
        kept.entries.append(raw)
        size = _ENTRY + len(raw)
        kept.size += size
        self._run_bytes += size

    def _open(self, record: RunRecord) -> _Run:
        kept = _Run(
            fn=self._share(record.fn),
            app=self._share(record.app),
            status=record.status,
            queued=record.queued,
            events=tuple(record.events),
            ended=record.ended,
            entries=[],
            size=_RUN + _EVENT_OF_RUN * len(record.events),
        )
        self._run_bytes += kept.size
        self._runs[record.id] = kept
        place = (record.queued, record.id)
        if not self._order or self._order[-1] < place:
            self._order.append(place)
        else:
            insort(self._order, place)
        for event in kept.events:
            self._runs_of[event] = (*self._runs_of.get(event, ()), record.id)
        if record.ended:
            self._ended.append(record.id)
        return kept

    def _evict_runs(self) -> None:
        most, room = self._max_runs * 9 // 10, self._max_bytes * 9 // 10
        gone = set()
        while self._ended and (len(self._runs) > most or self._run_bytes > room):
            gone.add(self._forget(self._ended.popleft()))
        self._compact(gone)

    def _forget(self, run_id: str) -> Position:
        kept = self._runs.pop(run_id)
        self._run_bytes -= kept.size
        for event in kept.events:
            runs = tuple(run for run in self._runs_of[event] if run != run_id)
            if runs:
                self._runs_of[event] = runs
            else:
                del self._runs_of[event]
        return kept.queued, run_id

    def _compact(self, gone: set[Position]) -> None:
        if gone:
            self._order = [place for place in self._order if place not in gone]

    async def prune(self, before: int, limit: int = 10_000) -> int:
        old = list(islice((run for run in self._ended if self._runs[run].ended < before), limit))
        gone = set(old)
        if gone:
            self._compact({self._forget(run_id) for run_id in old})
            self._ended = deque(run_id for run_id in self._ended if run_id not in gone)
        stale = list(islice(self._stale(before), limit))
        for event_id in stale:
            self._event_bytes -= self._events.pop(event_id).size
        if stale:
            self._event_ids = [event_id for event_id in self._event_ids if event_id in self._events]
        return len(old) + len(stale)

    def _stale(self, before: int) -> Iterator[str]:
        for event_id in self._event_ids:
            if self._events[event_id].received < before:
                runs = self._runs_of.get(event_id, ())
                if all(self._runs[run_id].ended for run_id in runs):
                    yield event_id

    # -- events --

    async def events(self, where: EventFilter, *, after: str = "", limit: int) -> list[Event]:
        return list(islice(self._readable(self._matching(where, after)), limit))

    async def count_events(self, where: EventFilter, *, most: int) -> Count:
        return _count(self._matching(where, ""), most)

    def _matching(self, where: EventFilter, after: str) -> Iterator[str]:
        end = bisect_left(self._event_ids, after) if after else len(self._event_ids)
        for place in range(end - 1, -1, -1):
            event_id = self._event_ids[place]
            event = self._events[event_id]
            if where.names:
                if event.name not in where.names:
                    continue
            elif not where.internal and event.name.startswith(RESERVED):
                continue
            if _within(event.received, where.since, where.until):
                yield event_id

    def _readable(self, ids: Iterable[str]) -> Iterator[Event]:
        for event_id in ids:
            event = self._damage.read("event", event_id, decode_event, self._events[event_id].body)
            if event is not None:
                yield event

    async def events_by_id(self, ids: Sequence[str]) -> list[Event]:
        return list(self._readable(each for each in ids if each in self._events))

    # -- runs --

    async def run(self, run_id: str) -> RunRecord | None:
        kept = self._runs.get(run_id)
        if kept is None:
            return None
        for record in self._records([run_id]):
            record.output = self._output(run_id, kept)
            return record
        return None

    def _records(self, ids: Iterable[str]) -> Iterator[RunRecord]:
        for run_id in ids:
            kept = self._runs[run_id]
            record = self._damage.read("run", run_id, _decode_opening, kept.entries[0])
            if record is not None:
                record.status, record.started, record.ended = kept.status, kept.started, kept.ended
                yield record

    def _output(self, run_id: str, kept: _Run) -> bytes | None:
        if kept.end < 0:
            return None
        ending = self._damage.read("history", run_id, decode_history, kept.entries[kept.end])
        return ending.value if ending is not None else None

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
            places = self._places(after, descending=descending)
            found = (run for _, run in places if _fits(self._runs[run], where))
        else:
            fitting = (
                place
                for run_id, kept in self._runs.items()
                if _fits(kept, where)
                and _follows(place := (kept.time(order), run_id), after, descending=descending)
            )
            found = (run_id for _, run_id in sorted(fitting, reverse=descending))
        return list(islice(self._records(found), limit))

    def _places(self, after: Position | None, *, descending: bool) -> Iterator[Position]:
        order = self._order
        if descending:
            end = len(order) if after is None else bisect_left(order, after)
            return (order[place] for place in range(end - 1, -1, -1))
        begin = 0 if after is None else bisect_right(order, after)
        return (order[place] for place in range(begin, len(order)))

    async def count_runs(self, where: RunFilter, *, most: int) -> Count:
        return _count((run for run in self._runs.values() if _fits(run, where)), most)

    async def runs_of(self, event_ids: Sequence[str]) -> dict[str, list[RunRecord]]:
        return {
            event_id: list(self._records(sorted(self._runs_of.get(event_id, ())))) for event_id in event_ids
        }

    async def outputs(self, run_ids: Sequence[str]) -> dict[str, bytes]:
        known = ((run_id, self._runs[run_id]) for run_id in run_ids if run_id in self._runs)
        return {
            run_id: output for run_id, kept in known if (output := self._output(run_id, kept)) is not None
        }

    async def history(self, run_ids: Sequence[str]) -> dict[str, list[History]]:
        return {run_id: self._history(run_id) for run_id in run_ids}

    def _history(self, run_id: str) -> list[History]:
        kept = self._runs.get(run_id)
        once: dict[str, History] = {}
        for raw in kept.entries if kept is not None else ():
            entry = self._damage.read("history", run_id, decode_history, raw)
            if entry is not None:
                once.setdefault(entry.id, entry)
        return list(once.values())


def _exact(encoded: bytes) -> bytes:
    """In memory of just its size: the encoder leaves up to half as much again behind a long text."""
    return bytes(memoryview(encoded)) if len(encoded) > _LONG else encoded


def _count(found: Iterable[object], most: int) -> Count:
    number = sum(1 for _ in islice(found, most + 1))
    return Count(min(number, most), exact=number <= most)


def _decode_opening(raw: bytes) -> RunRecord:
    record = opened(decode_history(raw))
    assert record is not None
    return record


def _within(time: int, since: int, until: int) -> bool:
    return (not since or time >= since) and (not until or time < until)


def _fits(run: _Run, where: RunFilter) -> bool:
    return (
        _within(run.time(where.field), where.since, where.until)
        and (not where.statuses or run.status in where.statuses)
        and (not where.fns or run.fn in where.fns)
        and (not where.apps or run.app in where.apps)
    )


def _follows(place: Position, after: Position | None, *, descending: bool) -> bool:
    return after is None or (place < after if descending else place > after)
