"""The event stream of one process, in its memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence

import structlog

from inngest.backends.memory.clock import SteadyClock, wall_clock
from inngest.backends.memory.letters import MemoryLetters, serial
from inngest.core.errors import StoreRefused, StoreUnavailable
from inngest.core.policy import DELIVERY_BYTES, LARGEST_ENTRY, ROOM_SECONDS, STREAM_LAG
from inngest.ports.stream import EVENT, Dead, Delivery, Entry, Letter, Token

log = structlog.get_logger("inngest.stream")

GROUPS = ("runner", "indexer")
LOSSY = ("indexer",)
"""The groups of a server, and those of them that nothing depends on."""
_OVERHEAD = 200
"""Bytes that an entry takes beside its body."""


def check_sizes(bodies: Sequence[bytes], largest: int) -> None:
    """Raises `StoreRefused` if one is larger."""
    for body in bodies:
        if len(body) > largest:
            raise StoreRefused(
                f"an entry has {len(body)} bytes, the event stream takes {largest}",
                system="event stream",
                size=len(body),
                largest=largest,
            )


class _Group:
    """One group's part: what it has yet to be given, and what it has not acknowledged."""

    def __init__(self, name: str, *, lossy: bool) -> None:
        self.name = name
        self.lossy = lossy
        self.waiting: deque[Entry] = deque()
        self.bytes = 0
        self.unacked: dict[int, tuple[int, int]] = {}  # by token: how many entries, the first one's time
        self.arrived = asyncio.Event()
        self.token = 0
        self.dropped = 0
        self.dropping = False

    def add(self, entries: Sequence[Entry]) -> None:
        self.waiting.extend(entries)
        self.bytes += sum(len(entry.body) + _OVERHEAD for entry in entries)
        self.arrived.set()

    def pop(self) -> Entry:
        entry = self.waiting.popleft()
        self.bytes -= len(entry.body) + _OVERHEAD
        return entry

    def take(self, limit: int) -> list[Entry]:
        entries: list[Entry] = []
        size = 0
        while self.waiting and len(entries) < limit and size < DELIVERY_BYTES:
            entries.append(self.pop())
            size += len(entries[-1].body)
        return entries

    def shed(self, most: int) -> None:
        """Drop the oldest above a size; that is told once, until it has caught up."""
        while self.bytes > most and len(self.waiting) > 1:
            self.pop()
            self.dropped += 1
            if not self.dropping:
                self.dropping = True
                log.error(
                    "a reader lags too far behind: the oldest events are dropped for it",
                    action="stream.drop",
                    group=self.name,
                    bytes=self.bytes,
                )


class MemoryEventStream:
    """See `inngest.ports.stream.EventStream`. Nothing outlives it.

    Args:
        groups: their names.
        lossy: those of them that may lose the oldest entries when they lag behind. No other ever does: for
            them publishers wait.
        clock: the stream's clock, Unix epoch milliseconds. It may go back, the stream's time does not.
        lag: bytes that may wait for a group.
        room_seconds: how long a publisher waits for room.

    """

    largest = LARGEST_ENTRY

    def __init__(
        self,
        groups: Collection[str] = GROUPS,
        *,
        lossy: Collection[str] = LOSSY,
        clock: Callable[[], int] = wall_clock,
        lag: int = STREAM_LAG,
        room_seconds: float = ROOM_SECONDS,
    ) -> None:
        self._groups = {name: _Group(name, lossy=name in lossy) for name in groups}
        self._clock = SteadyClock(clock)
        self._letters = MemoryLetters(self._clock.now)
        self._lag = lag
        self._room_seconds = room_seconds
        self._room = asyncio.Event()
        self._seq = 0
        self._at = 0  # of the last entry

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    # -- publishing --

    async def publish(self, bodies: Sequence[bytes]) -> None:
        check_sizes(bodies, self.largest)
        if self._full() is not None:
            await self._wait_for_room()
        if bodies:
            self._accept(bodies, list(self._groups.values()))

    def _full(self) -> _Group | None:
        for group in self._groups.values():
            if group.bytes >= self._lag and not group.lossy:
                return group
        return None

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(self._room_seconds):
                while self._full() is not None:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            group = self._full()
            if group is not None:
                raise StoreUnavailable(
                    f"the event stream is full: {group.bytes} bytes wait for the {group.name}",
                    system="event stream",
                    group=group.name,
                    bytes=group.bytes,
                ) from None

    def _accept(self, bodies: Sequence[bytes], groups: Sequence[_Group]) -> None:
        self._at = self._clock.now()
        first, self._seq = self._seq + 1, self._seq + len(bodies)
        entries = [Entry(body, self._at, str(seq)) for seq, body in enumerate(bodies, start=first)]
        for group in groups:
            group.add(entries)
            if group.lossy:
                group.shed(self._lag)

    # -- consuming --

    async def fetch(self, group: str, limit: int, seconds: float) -> Delivery | None:
        state = self._groups[group]
        if not state.waiting:
            try:
                async with asyncio.timeout(seconds):
                    while not state.waiting:
                        state.arrived.clear()
                        await state.arrived.wait()
            except TimeoutError:
                return None
        entries = state.take(limit)
        if state.bytes < self._lag:
            self._room.set()
            state.dropping = state.dropping and state.bytes > self._lag // 2
        state.token += 1
        state.unacked[state.token] = (len(entries), entries[0].at)
        return Delivery(entries=entries, token=state.token)

    async def ack(self, group: str, token: Token) -> None:
        if isinstance(token, int):
            self._groups[group].unacked.pop(token, None)

    async def backlog(self, group: str) -> int:
        state = self._groups[group]
        return len(state.waiting) + sum(count for count, _ in state.unacked.values())

    async def settled(self, group: str) -> int:
        state = self._groups[group]
        for _, at in state.unacked.values():
            return at  # the first one that was given is the oldest
        return state.waiting[0].at if state.waiting else self._at

    async def dropped(self, group: str) -> int:
        return self._groups[group].dropped

    # -- dead letters --

    async def bury(self, group: str, entries: Sequence[Entry], reason: str, *, kind: str = EVENT) -> None:
        self._letters.bury(group, entries, reason, kind)

    async def letters(self, after: str = "", *, limit: int) -> list[Letter]:
        return self._letters.page(after, limit)

    async def letter(self, letter_id: str) -> Letter | None:
        return self._letters.get(letter_id)

    async def revive(self, ids: Sequence[str]) -> list[str]:
        revived = []
        for letter_id in ids:
            letter = self._letters.get(letter_id)
            group = self._groups.get(letter.group) if letter is not None else None
            if letter is None or group is None or letter.kind != EVENT or len(letter.body) > self.largest:
                continue
            self._letters.take(serial(letter_id))
            self._accept([letter.body], [group])
            revived.append(letter_id)
        return revived

    async def discard(self, ids: Sequence[str]) -> list[str]:
        return [letter_id for letter_id in ids if self._letters.take(serial(letter_id)) is not None]

    async def dead(self) -> Dead:
        return self._letters.dead()
