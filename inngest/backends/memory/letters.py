"""Dead letters in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from inngest.core.errors import StoreRefused
from inngest.core.policy import MAX_LETTER_BYTES, MAX_LETTERS, MAX_REASON
from inngest.ports.stream import Dead, Entry, Letter

log = structlog.get_logger("inngest.stream")


def serial(letter_id: str) -> int | None:
    """The number of a letter whose id is one; None for what is no such id."""
    return int(letter_id) if len(letter_id) <= 18 and letter_id.isascii() and letter_id.isdecimal() else None


def serial_after(letter_id: str) -> int:
    """The same for a place in the list, where nothing is the beginning. Raises `StoreRefused`."""
    number = serial(letter_id or "0")
    if number is None:
        raise StoreRefused(f"{letter_id[:64]!r} is no id of a dead letter", system="event stream")
    return number


def tell_of_dropped(count: int) -> None:
    """Nobody has looked at them, and nobody will."""
    log.error(
        "dead letters are dropped, the oldest first: there are too many",
        action="stream.letters",
        dropped=count,
    )


def clipped(reason: str) -> str:
    """As much of a reason as is kept, as text that can be written anywhere."""
    return reason[:MAX_REASON].encode(errors="backslashreplace").decode()


class MemoryLetters:
    """The letters of one stream. ``now`` tells the stream's time."""

    def __init__(
        self, now: Callable[[], int], most: int = MAX_LETTERS, most_bytes: int = MAX_LETTER_BYTES
    ) -> None:
        self._now = now
        self._most = most
        self._most_bytes = most_bytes
        self._kept: dict[int, Letter] = {}  # by their numbers, which only grow
        self._known: dict[tuple[str, str, str], int] = {}  # those of entries with an id
        self._names: dict[int, tuple[str, str, str]] = {}  # the same, the other way round
        self._last = 0
        self._bytes = 0
        self._dropped = 0

    def bury(self, group: str, entries: Sequence[Entry], reason: str, kind: str) -> None:
        at, reason = self._now(), clipped(reason)
        for entry in entries:
            name = (kind, group, entry.id)
            if entry.id and name in self._known:
                continue
            self._last += 1
            if entry.id:
                self._known[name] = self._last
                self._names[self._last] = name
            self._kept[self._last] = Letter(
                id=str(self._last), kind=kind, group=group, body=entry.body, reason=reason, at=at
            )
            self._bytes += len(entry.body)
        self._make_room()

    def _make_room(self) -> None:
        dropped = 0
        while len(self._kept) > self._most or (self._bytes > self._most_bytes and len(self._kept) > 1):
            self.take(next(iter(self._kept)))
            dropped += 1
        if dropped:
            self._dropped += dropped
            tell_of_dropped(dropped)

    def page(self, after: str, limit: int) -> list[Letter]:
        last = serial_after(after)
        return [letter for number, letter in self._kept.items() if number > last][:limit]

    def get(self, letter_id: str) -> Letter | None:
        number = serial(letter_id)
        return self._kept.get(number) if number is not None else None

    def take(self, number: int | None) -> Letter | None:
        """Remove a letter; it, if it was there."""
        letter = self._kept.pop(number, None) if number is not None else None
        if number is not None and letter is not None:
            self._bytes -= len(letter.body)
            if (name := self._names.pop(number, None)) is not None:
                del self._known[name]
        return letter

    def dead(self) -> Dead:
        return Dead(letters=len(self._kept), bytes=self._bytes, dropped=self._dropped)
