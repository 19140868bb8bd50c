"""The embedded event stream: a table that a journal writes, and a window on it in memory for each group."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import structlog

from inngest.backends.memory.clock import SteadyClock, wall_clock
from inngest.backends.memory.stream import GROUPS, check_sizes
from inngest.backends.sqlite.journal import PUT_META, Journal, Statement
from inngest.backends.sqlite.letters import SqliteLetters
from inngest.core.policy import DELIVERY_BYTES, LARGEST_ENTRY, STREAM_WINDOW
from inngest.ports.stream import EVENT, Dead, Delivery, Entry, Letter, Token

log = structlog.get_logger("inngest.stream")

_Row = tuple[int, int, str | None, bytes]
"""Of the table: the entry's number, its time, the only group that it is for, its body."""

_AT = "stream.at"
_PAGE = 1000
"""Entries read at a time."""
_OVERHEAD = 200
"""Bytes that an entry takes beside its body."""


class _Group:
    """One group's part. Entries up to ``given`` were given away, those up to ``tail`` are in the window, and
    what comes after is in the file alone.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.window: deque[tuple[int, Entry | None]] = deque()  # None: not for this group
        self.size = 0
        self.tail = 0
        self.given = 0
        self.given_at = 0  # when the last one given was accepted, or the next one, whichever is known
        self.cursor = 0  # up to here all is acknowledged
        self.delivered: deque[tuple[int, int]] = deque()  # token and last entry; gone when acknowledged
        self.unacked: dict[int, tuple[int, int]] = {}  # by token: how many entries, the first one's time
        self.token = 0
        self.arrived = asyncio.Event()
        self.turn = asyncio.Lock()  # of who fills the window

    def begin(self, cursor: int, at: int) -> None:
        self.cursor = self.given = self.tail = cursor
        self.given_at = at

    def append(self, rows: Sequence[_Row], most: int) -> None:
        """Take rows that follow the window, as long as there is room."""
        for seq, at, only, body in rows:
            if self.size >= most:
                return
            if only is None or only == self.name:
                self.window.append((seq, Entry(body, at, str(seq))))
                self.size += len(body) + _OVERHEAD
                self.tail = seq
            else:
                self.skip(seq)

    def skip(self, seq: int) -> None:
        """There is nothing for this group between the window and here."""
        self.window.append((seq, None))
        self.size += _OVERHEAD
        self.tail = seq

    def take(self, limit: int) -> list[Entry]:
        entries: list[Entry] = []
        size = 0
        window = self.window
        while window and (window[0][1] is None or (len(entries) < limit and size < DELIVERY_BYTES)):
            self.given, entry = window.popleft()
            self.size -= _OVERHEAD
            if entry is not None:
                entries.append(entry)
                size += len(entry.body)
                self.given_at = entry.at
        self.size -= size
        return entries


class SqliteEventStream:
    """See `inngest.ports.stream.EventStream`.

    Entries are numbered; each group has a cursor, up to which all is acknowledged, and a window of what comes
    next. A group that lags costs a window and room on the disk. An entry is delivered even before it is on
    disk: what an engine store on the same journal makes of it is never written before it.

    Args:
        journal: the file.
        groups: their names; none of them loses anything.
        clock: the stream's clock, Unix epoch milliseconds. It may go back, the stream's time does not.
        window: bytes in memory for each group.

    """

    largest = LARGEST_ENTRY

    def __init__(
        self,
        journal: Journal,
        groups: Collection[str] = GROUPS,
        *,
        clock: Callable[[], int] = wall_clock,
        window: int = STREAM_WINDOW,
    ) -> None:
        self._journal = journal
        self._groups = {name: _Group(name) for name in groups}
        self._clock = SteadyClock(clock)
        self._letters = SqliteLetters(journal, self._clock.now)
        self._window = window
        self._seq = 0
        self._at = 0  # of the last entry
        self._unwritten: list[_Row] = []  # those up to `_seq`
        self._moved = False
        journal.add_source(self._statements)

    async def open(self) -> None:
        await self._journal.open()
        try:
            await self._journal.look(self._load)
        except BaseException:
            await self._journal.close()
            raise

    def _load(self, db: sqlite3.Connection) -> None:
        meta = dict(db.execute("SELECT key, value FROM meta"))
        cursors = {name: meta.get(_cursor(name), 0) for name in self._groups}
        last = db.execute("SELECT seq, at FROM stream ORDER BY seq DESC LIMIT 1").fetchone() or (0, 0)
        # Groups that were given all leave no entry behind, but their cursors.
        self._seq = max(last[0], *cursors.values(), 0)
        self._at = max(last[1], meta.get(_AT, 0))
        self._clock.pass_(self._at)
        for name, state in self._groups.items():
            query = "SELECT at FROM stream WHERE seq > ? ORDER BY seq LIMIT 1"
            (at,) = db.execute(query, (cursors[name],)).fetchone() or (self._at,)
            state.begin(cursors[name], at)
        self._letters.load(db)

    async def close(self) -> None:
        await self._journal.close()

    async def ping(self) -> None:
        await self._journal.ping()

    async def died(self) -> None:
        await self._journal.died()

    # -- publishing --

    async def publish(self, bodies: Sequence[bytes]) -> None:
        self._journal.check()
        check_sizes(bodies, self.largest)
        if bodies:
            self._accept(bodies)
            await self._journal.settled(patient=False)

    def _accept(self, bodies: Sequence[bytes], only: str | None = None) -> None:
        first, self._seq = self._seq + 1, self._seq + len(bodies)
        self._at = at = self._clock.now()
        rows = [(seq, at, only, body) for seq, body in enumerate(bodies, start=first)]
        self._unwritten += rows
        self._journal.touch()
        for state in self._groups.values():
            if state.tail == first - 1:
                state.append(rows, self._window)
            state.arrived.set()

    # -- consuming --

    async def fetch(self, group: str, limit: int, seconds: float) -> Delivery | None:
        state = self._groups[group]
        end = asyncio.get_running_loop().time() + seconds
        while True:
            if not state.window and state.tail < self._seq:
                await self._fill(state)
            if (delivery := self._take(state, limit)) is not None:
                return delivery
            if state.tail == self._seq:
                state.arrived.clear()
                try:
                    async with asyncio.timeout_at(end):
                        await state.arrived.wait()
                except TimeoutError:
                    return None

    async def _fill(self, state: _Group) -> None:
        """Read what comes next from the file. Raises `StoreUnavailable`."""
        async with state.turn:
            if state.window or state.tail == self._seq:
                return
            page = partial(_page, after=state.tail, most=self._window)
            rows = await self._journal.look(page)
            if not rows:
                last = self._seq
                await self._journal.settled(patient=False)  # it was not written yet
                rows = await self._journal.look(page)
                if not rows:
                    log.error(
                        "events are missing in the file",
                        action="stream.read",
                        path=str(self._journal.path),
                        group=state.name,
                        count=last - state.tail,
                    )
                    state.skip(last)
                    return
            state.append(rows, self._window)

    def _take(self, state: _Group, limit: int) -> Delivery | None:
        before = state.given
        entries = state.take(limit)
        if state.given == before:
            return None
        state.token += 1
        state.delivered.append((state.token, state.given))
        if not entries:  # all for other groups
            self._advance(state)
            return None
        state.unacked[state.token] = (len(entries), entries[0].at)
        return Delivery(entries=entries, token=state.token)

    async def ack(self, group: str, token: Token) -> None:
        state = self._groups[group]
        if isinstance(token, int) and state.unacked.pop(token, None) is not None:
            self._advance(state)

    def _advance(self, state: _Group) -> None:
        # The cursor passes only what is acknowledged without a gap.
        while state.delivered and state.delivered[0][0] not in state.unacked:
            state.cursor = state.delivered.popleft()[1]
            self._moved = True
        if self._moved:
            self._journal.touch()

    async def backlog(self, group: str) -> int:
        state = self._groups[group]
        return self._seq - state.given + sum(count for count, _ in state.unacked.values())

    async def settled(self, group: str) -> int:
        at = self._oldest(self._groups[group])
        # An acknowledgement that is not on disk would be undone by a crash.
        await self._journal.settled(patient=False)
        return at

    def _oldest(self, state: _Group) -> int:
        for _, at in state.unacked.values():
            return at  # the first one that was given is the oldest
        for _, entry in state.window:
            if entry is not None:
                return entry.at
        return state.given_at if state.tail < self._seq else self._at

    async def dropped(self, group: str) -> int:
        return 0

    # -- dead letters --

    async def bury(self, group: str, entries: Sequence[Entry], reason: str, *, kind: str = EVENT) -> None:
        await self._letters.bury(group, entries, reason, kind)

    async def letters(self, after: str = "", *, limit: int) -> list[Letter]:
        return await self._letters.page(after, limit)

    async def letter(self, letter_id: str) -> Letter | None:
        return (await self._letters.find([letter_id])).get(letter_id)

    async def revive(self, ids: Sequence[str]) -> list[str]:
        async with self._letters.turn:
            found = await self._letters.find(ids)
            revived = {
                letter_id: letter
                for letter_id, letter in found.items()
                if letter.kind == EVENT and letter.group in self._groups and len(letter.body) <= self.largest
            }
            # Noted together, and so written together.
            for letter in revived.values():
                self._accept([letter.body], letter.group)
                self._letters.remove([int(letter.id)], len(letter.body))
            await self._journal.settled(patient=False)
        return list(revived)

    async def discard(self, ids: Sequence[str]) -> list[str]:
        return await self._letters.discard(ids)

    async def dead(self) -> Dead:
        return self._letters.dead()

    # -- writing --

    def _statements(self) -> Iterator[Statement]:
        done = min((state.cursor for state in self._groups.values()), default=self._seq)
        if self._unwritten:
            rows, self._unwritten = self._unwritten, []
            yield "INSERT INTO stream VALUES (?, ?, ?, ?)", [row for row in rows if row[0] > done]
        if self._moved:
            self._moved = False
            yield PUT_META, [(_cursor(state.name), state.cursor) for state in self._groups.values()]
            yield PUT_META, [(_AT, self._at)]
            yield "DELETE FROM stream WHERE seq <= ?", [(done,)]


def _cursor(group: str) -> str:
    return f"stream.{group}"


def _page(db: sqlite3.Connection, *, after: int, most: int) -> list[_Row]:
    """Entries that follow one, about as many as fit."""
    query = "SELECT seq, at, grp, body FROM stream WHERE seq > ? ORDER BY seq LIMIT ?"
    rows: list[_Row] = []
    size = 0
    found = db.execute(query, (after, _PAGE))
    for row in found:
        rows.append(row)
        size += len(row[3]) + _OVERHEAD
        if size >= most:
            break
    found.close()
    return rows
