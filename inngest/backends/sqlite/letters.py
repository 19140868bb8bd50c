"""Dead letters in the embedded store's file. They are seldom, and few: nothing of them stays in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from inngest.backends.memory.letters import clipped, serial, serial_after, tell_of_dropped
from inngest.backends.sqlite.journal import PUT_META, Journal, Statement
from inngest.core.policy import MAX_LETTER_BYTES, MAX_LETTERS
from inngest.ports.stream import Dead, Entry, Letter

_LAST, _DROPPED = "letters.last", "letters.dropped"
_PAGE = 1000
_COLUMNS = "id, kind, grp, body, reason, at"


class SqliteLetters:
    """The letters of one stream. ``now`` tells the stream's time.

    Whoever reads and then writes does so with ``turn``; what is noted is written when the journal has
    settled.
    """

    def __init__(
        self,
        journal: Journal,
        now: Callable[[], int],
        most: int = MAX_LETTERS,
        most_bytes: int = MAX_LETTER_BYTES,
    ) -> None:
        self.turn = asyncio.Lock()
        self._journal = journal
        self._now = now
        self._most = most
        self._most_bytes = most_bytes
        self._noted: list[Statement] = []
        self._count = self._bytes = self._dropped = self._last = 0
        journal.add_source(self._statements)

    def load(self, db: sqlite3.Connection) -> None:
        self._count, self._bytes, last = db.execute(
            "SELECT count(*), ifnull(sum(length(body)), 0), ifnull(max(id), 0) FROM letters"
        ).fetchone()
        meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN (?, ?)", (_LAST, _DROPPED)))
        self._last = max(last, meta.get(_LAST, 0))
        self._dropped = meta.get(_DROPPED, 0)

    def _statements(self) -> Iterator[Statement]:
        if self._noted:
            noted, self._noted = self._noted, []
            yield from noted
            yield PUT_META, [(_LAST, self._last), (_DROPPED, self._dropped)]

    # -- writing --

    async def bury(self, group: str, entries: Sequence[Entry], reason: str, kind: str) -> None:
        async with self.turn:
            await self._journal.settled(patient=False)
            known = await self._journal.look(lambda db: _known(db, kind, group, entries))
            fresh: list[Entry] = []
            for entry in entries:
                if entry.id not in known:
                    known |= {entry.id} - {""}
                    fresh.append(entry)
            if fresh:
                self._note(group, fresh, clipped(reason), kind)
                await self._journal.settled(patient=False)
            await self._make_room()

    def _note(self, group: str, entries: Sequence[Entry], reason: str, kind: str) -> None:
        at = self._now()
        rows = [
            (number, kind, group, entry.id, at, reason, entry.body)
            for number, entry in enumerate(entries, start=self._last + 1)
        ]
        self._noted.append(("INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?)", rows))
        self._last += len(rows)
        self._count += len(rows)
        self._bytes += sum(len(entry.body) for entry in entries)
        self._journal.touch()

    async def _make_room(self) -> None:
        """Drop the oldest, in pages, until the others fit."""
        dropped = 0
        while self._too_many():
            oldest = await self._journal.look(_oldest)
            victims: list[int] = []
            for number, size in oldest:
                if not self._too_many(len(victims)):
                    break
                victims.append(number)
                self._bytes -= size
            self.remove(victims)
            dropped += len(victims)
            self._dropped += len(victims)
            await self._journal.settled(patient=False)
        if dropped:
            tell_of_dropped(dropped)

    def _too_many(self, gone: int = 0) -> bool:
        count = self._count - gone
        return count > self._most or (self._bytes > self._most_bytes and count > 1)

    def remove(self, numbers: Sequence[int], size: int = 0) -> None:
        """Note that letters which are there go; ``size`` is that of their bodies."""
        if numbers:
            self._noted.append(("DELETE FROM letters WHERE id = ?", [(number,) for number in numbers]))
            self._count -= len(numbers)
            self._bytes -= size
            self._journal.touch()

    async def discard(self, ids: Sequence[str]) -> list[str]:
        async with self.turn:
            found = await self.find(ids)
            self.remove(
                [int(letter.id) for letter in found.values()], sum(len(each.body) for each in found.values())
            )
            await self._journal.settled(patient=False)
        return list(found)

    # -- reading --

    async def page(self, after: str, limit: int) -> list[Letter]:
        last = serial_after(after)
        await self._journal.settled(patient=False)
        rows = await self._journal.look(
            lambda db: db.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
                (last, limit),
            ).fetchall()
        )
        return [_letter(row) for row in rows]

    async def find(self, ids: Sequence[str]) -> dict[str, Letter]:
        """Those that are there, by the ids that they were asked for, each once."""
        await self._journal.settled(patient=False)
        numbers = {number: letter_id for letter_id in ids if (number := serial(letter_id)) is not None}

        def look(db: sqlite3.Connection) -> list[Letter]:
            query = f"SELECT {_COLUMNS} FROM letters WHERE id = ?"  # noqa: S608
            rows = (db.execute(query, (number,)).fetchone() for number in numbers)
            return [_letter(row) for row in rows if row is not None]

        return {numbers[int(letter.id)]: letter for letter in await self._journal.look(look)}

    def dead(self) -> Dead:
        return Dead(letters=self._count, bytes=self._bytes, dropped=self._dropped)


def _known(db: sqlite3.Connection, kind: str, group: str, entries: Sequence[Entry]) -> set[str]:
    """Which of the entries have a letter."""
    query = "SELECT 1 FROM letters WHERE kind = ? AND grp = ? AND entry = ? AND entry <> ''"
    return {
        entry.id for entry in entries if entry.id and db.execute(query, (kind, group, entry.id)).fetchone()
    }


def _oldest(db: sqlite3.Connection) -> list[tuple[int, int]]:
    return db.execute("SELECT id, length(body) FROM letters ORDER BY id LIMIT ?", (_PAGE,)).fetchall()


def _letter(row: tuple[int, str, str, bytes, str, int]) -> Letter:
    number, kind, group, body, reason, at = row
    return Letter(id=str(number), kind=kind, group=group, body=body, reason=reason, at=at)
