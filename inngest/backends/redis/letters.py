"""Dead letters on Redis: a stream of their own, beside the event stream."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from inngest.backends.memory.letters import clipped
from inngest.backends.redis.link import Link
from inngest.backends.redis.scripts import LETTERS_BURY, LETTERS_DISCARD, LETTERS_REVIVE
from inngest.core.errors import StoreRefused
from inngest.core.policy import DELIVERY_BYTES, MAX_LETTER_BYTES, MAX_LETTERS
from inngest.ports.stream import EVENT, Dead, Entry, Letter

_PAGE = 100
"""Letters or ids in one call of a script."""

_is_id = re.compile(r"[0-9]{1,15}-[0-9]{1,15}").fullmatch
_log = logging.getLogger(__name__)


class RedisLetters:
    """The letters of the event stream ``key``."""

    def __init__(
        self, link: Link, key: str, most: int = MAX_LETTERS, most_bytes: int = MAX_LETTER_BYTES
    ) -> None:
        self._link = link
        self._stream = key
        self._key = f"{key}:letters"
        self._most = most
        self._most_bytes = most_bytes

    async def bury(self, group: str, entries: Sequence[Entry], reason: str, kind: str) -> None:
        limits = (self._most, self._most_bytes)
        for page in _pages(entries):
            pairs = [each for entry in page for each in (entry.id, entry.body)]
            more = True
            while more:
                dropped, more = await self._link.script(
                    LETTERS_BURY, self._stream, *limits, kind, group, clipped(reason), *pairs
                )
                pairs = []
                if dropped:
                    _log.error("%d dead letters are dropped, the oldest first: there are too many", dropped)

    async def page(self, after: str, limit: int) -> list[Letter]:
        if after and not _is_id(after):
            raise StoreRefused(f"{after[:64]!r} is no id of a dead letter", system="event stream")
        (reply,) = await self._link.run(
            [("XRANGE", self._key, f"({after}" if after else "-", "+", "COUNT", limit)]
        )
        return [_letter(*entry) for entry in reply]

    async def get(self, letter_id: str) -> Letter | None:
        if not _is_id(letter_id):
            return None
        (reply,) = await self._link.run([("XRANGE", self._key, letter_id, letter_id)])
        return _letter(*reply[0]) if reply else None

    async def revive(self, ids: Sequence[str], largest: int) -> list[str]:
        revived: list[str] = []
        for page in _known(ids):
            reply = await self._link.script(LETTERS_REVIVE, self._stream, EVENT, largest, *page)
            revived += [letter_id.decode() for letter_id in reply]
        return revived

    async def discard(self, ids: Sequence[str]) -> list[str]:
        removed: list[str] = []
        for page in _known(ids):
            reply = await self._link.script(LETTERS_DISCARD, self._stream, *page)
            removed += [letter_id.decode() for letter_id in reply]
        return removed

    async def dead(self) -> Dead:
        count, (size, dropped) = await self._link.run(
            [("XLEN", self._key), ("HMGET", f"{self._key}:sums", "bytes", "dropped")]
        )
        return Dead(letters=count, bytes=int(size or 0), dropped=int(dropped or 0))


def _pages(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """What one call of a script may do."""
    page: list[Entry] = []
    size = 0
    for entry in entries:
        if page and (len(page) >= _PAGE or size + len(entry.body) > DELIVERY_BYTES):
            yield page
            page, size = [], 0
        page.append(entry)
        size += len(entry.body)
    if page:
        yield page


def _known(ids: Sequence[str]) -> Iterator[list[str]]:
    """Those that may be ids, in pages."""
    known = [letter_id for letter_id in ids if _is_id(letter_id)]
    for begin in range(0, len(known), _PAGE):
        yield known[begin : begin + _PAGE]


def _letter(letter_id: bytes, flat: Sequence[bytes]) -> Letter:
    fields: dict[bytes, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
    name = letter_id.decode()
    return Letter(
        id=name,
        kind=fields[b"kind"].decode(),
        group=fields[b"group"].decode(),
        body=fields[b"body"],
        reason=fields[b"reason"].decode(errors="replace"),
        at=int(name.partition("-")[0]),
    )
