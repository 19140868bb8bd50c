"""What is kept in a file for a time: maps of entries that run out, and what functions have decided on."""

from __future__ import annotations

import heapq
import sqlite3
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

import msgspec

from inngest.backends.damage import Damage
from inngest.backends.memory.expiring import Expiring
from inngest.backends.memory.seen import Seen
from inngest.backends.sqlite.journal import Journal, Statement
from inngest.backends.sqlite.packing import pack

_unpack_entries = msgspec.msgpack.Decoder(list[tuple[str, str, Any, int]]).decode
_unpack_seen = msgspec.msgpack.Decoder(list[tuple[str, str, int]]).decode

V = TypeVar("V")


class Followed(Expiring[V]):
    """An `Expiring` that tells what is put into it; it outlives by itself."""

    __slots__ = ("_kind", "_ledger", "_name")

    def __init__(self, name: str, ledger: Ledger, kind: type = object) -> None:
        super().__init__()
        self._name = name
        self._kind = kind
        self._ledger = ledger

    def put(self, key: str, value: V, until: int) -> None:
        super().put(key, value, until)
        self._ledger.note(self._name, key, value, until)

    def drop(self, key: str) -> None:
        super().drop(key)
        self._ledger.note(self._name, key, None, 0)

    def expire(self, now: int) -> None:
        self._ledger.now = max(self._ledger.now, now)
        super().expire(now)

    def restore(self, key: str, value: V, until: int) -> None:
        """Raises TypeError if it can be no value of this map."""
        if value is not None and not isinstance(value, self._kind):
            raise TypeError(f"{self._name} have no {type(value).__name__}")
        super().put(key, value, until)


class Ledger:
    """What is put into the followed maps, in order, a row a write. A row goes when all in it is over."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._new: list[tuple[str, str, Any, int]] = []
        self._rows: list[tuple[int, int]] = []  # when it is over, its number; a heap
        self._last = 0
        self.now = 0

    def note(self, name: str, key: str, value: Any, until: int) -> None:
        self._new.append((name, key, value, until))
        self._journal.touch()

    def statements(self) -> Iterator[Statement]:
        if self._new:
            new, self._new = self._new, []
            self._last += 1
            heapq.heappush(self._rows, (max(until for _, _, _, until in new), self._last))
            yield "INSERT INTO expiring VALUES (?, ?)", [(self._last, pack(new))]
        over = []
        while self._rows and self._rows[0][0] <= self.now:
            over.append((heapq.heappop(self._rows)[1],))
        if over:
            yield "DELETE FROM expiring WHERE seq = ?", over

    def load(self, db: sqlite3.Connection, maps: dict[str, Followed[Any]], damage: Damage) -> None:
        """A row that cannot be read goes with the first that is over."""
        for seq, body in db.execute("SELECT seq, body FROM expiring ORDER BY seq"):
            entries = damage.read("limits and keys", str(seq), _unpack_entries, body) or []
            self._last = seq
            heapq.heappush(self._rows, (max((until for _, _, _, until in entries), default=0), seq))
            for name, key, value, until in entries:
                if name in maps:  # else of an earlier release, and not needed any more
                    damage.read(name, key, partial(maps[name].restore, key, until=until), value)


class FollowedSeen(Seen):
    """A `Seen` that tells what is added to it."""

    __slots__ = ("_book", "_fn")

    def __init__(self, fn: str, book: SeenBook) -> None:
        super().__init__()
        self._fn = fn
        self._book = book

    def add(self, key: str, at: int) -> None:
        super().add(key, at)
        self._book.note(self._fn, key, at)

    def forget(self, before: int) -> None:
        self._book.forget(before)
        super().forget(before)

    def restore(self, key: str, at: int) -> None:
        super().add(key, at)


class SeenBook:
    """What functions have decided on, a row a write. A row goes when nothing in it is needed any more."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._new: list[tuple[str, str, int]] = []
        self._rows: deque[tuple[int, int]] = deque()  # the newest time in it, its number
        self._last = 0
        self._forgotten = 0

    def note(self, fn: str, key: str, at: int) -> None:
        self._new.append((fn, key, at))
        self._journal.touch()

    def forget(self, before: int) -> None:
        self._forgotten = max(self._forgotten, before)

    def statements(self) -> Iterator[Statement]:
        if self._new:
            new, self._new = self._new, []
            self._last += 1
            self._rows.append((max(at for _, _, at in new), self._last))
            yield "INSERT INTO seen VALUES (?, ?)", [(self._last, pack(new))]
        over = []
        while self._rows and self._rows[0][0] < self._forgotten:
            over.append((self._rows.popleft()[1],))
        if over:
            yield "DELETE FROM seen WHERE seq = ?", over

    def load(self, db: sqlite3.Connection, seen: dict[str, Seen], damage: Damage) -> None:
        """A row that cannot be read goes with the first that is not needed any more."""
        for seq, body in db.execute("SELECT seq, body FROM seen ORDER BY seq"):
            entries = damage.read("what was decided on", str(seq), _unpack_seen, body) or []
            self._last = seq
            self._rows.append((max((at for _, _, at in entries), default=0), seq))
            for fn, key, at in entries:
                known = seen.get(fn)
                if not isinstance(known, FollowedSeen):
                    known = seen[fn] = FollowedSeen(fn, self)
                known.restore(key, at)
