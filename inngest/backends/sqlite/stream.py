"""The embedded event stream: the memory stream, followed by a journal."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.journal import PUT_META, Journal, Statement
from inngest.core.model.events import Event, decode_event
from inngest.ports.stream import Delivery

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


class SqliteEventStream(MemoryEventStream):
    """See `inngest.ports.stream.EventStream`.

    Events are numbered; each group has a cursor, up to which all is acknowledged. An event is delivered even
    before it is on disk: what an engine store on the same journal makes of it is never written before it.
    """

    def __init__(self, journal: Journal, groups: Iterable[str] = ("runner", "indexer")) -> None:
        super().__init__(groups)
        self._journal = journal
        self._seq = 0
        self._unwritten: list[bytes] = []  # those up to `_seq`
        self._delivered: dict[str, deque[tuple[int, int]]] = {name: deque() for name in self._groups}
        self._given: dict[str, int] = dict.fromkeys(self._groups, 0)
        self._cursors: dict[str, int] = dict.fromkeys(self._groups, 0)
        self._moved = False
        journal.add_source(self._statements)

    async def open(self) -> None:
        await self._journal.open()
        try:
            await self._journal.read(self._load)
        except BaseException:
            await self._journal.close()
            raise

    def _load(self, db: sqlite3.Connection) -> None:
        meta = dict(db.execute("SELECT key, value FROM meta"))
        for group in self._groups:
            self._cursors[group] = meta.get(_cursor(group), 0)
        # Those who were given all leave no event behind, but their cursors.
        self._seq = max(self._cursors.values(), default=0)
        for last, body in db.execute("SELECT seq, body FROM stream ORDER BY seq"):
            events = [decode_event(raw) for raw in _unpack(body)]
            first = last - len(events) + 1
            for group, state in self._groups.items():
                state.waiting.extend(events[max(self._cursors[group] + 1 - first, 0) :])
            self._seq = max(self._seq, last)
        for group, state in self._groups.items():
            self._given[group] = self._seq - len(state.waiting)

    async def close(self) -> None:
        await self._journal.close()

    async def ping(self) -> None:
        await self._journal.ping()

    async def died(self) -> None:
        await self._journal.died()

    async def publish(self, events: Sequence[Event]) -> None:
        self._journal.check()
        await super().publish(events)
        # Numbered after waiting for room, in the order in which they were taken.
        self._unwritten += [event.encode() for event in events]
        self._seq += len(events)
        self._journal.touch()
        await self._journal.settled(patient=False)

    async def fetch(self, group: str, limit: int, seconds: float) -> Delivery | None:
        delivery = await super().fetch(group, limit, seconds)
        if delivery is not None:
            self._given[group] += len(delivery.events)
            self._delivered[group].append((delivery.token, self._given[group]))
        return delivery

    async def ack(self, group: str, token: int) -> None:
        await super().ack(group, token)
        delivered, unacked = self._delivered[group], self._groups[group].unacked
        # The cursor passes only what is acknowledged without a gap.
        while delivered and delivered[0][0] not in unacked:
            self._cursors[group] = delivered.popleft()[1]
            self._moved = True
        if self._moved:
            self._journal.touch()

    def _statements(self) -> Iterator[Statement]:
        done = min(self._cursors.values(), default=self._seq)
        if self._unwritten:
            unwritten, self._unwritten = self._unwritten, []
            if self._seq > done:
                yield "INSERT INTO stream VALUES (?, ?)", [(self._seq, _pack(unwritten))]
        if self._moved:
            self._moved = False
            yield PUT_META, [(_cursor(group), seq) for group, seq in self._cursors.items()]
            yield "DELETE FROM stream WHERE seq <= ?", [(done,)]


def _cursor(group: str) -> str:
    return f"stream.{group}"
