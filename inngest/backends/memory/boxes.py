"""An outbox in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Generic, TypeVar

from inngest.ports.engine import Box

T = TypeVar("T")


class MemoryOutbox(Generic[T]):
    """See `inngest.ports.engine.Outbox`.

    Args:
        settle: what is taken is durable when it returns.
        acked: told the number up to which all is acknowledged.
        most: entries that are kept; of more the oldest are dropped, and counted. 0 for no bound.

    """

    def __init__(
        self, settle: Callable[[], Awaitable[None]], acked: Callable[[int], None], most: int = 0
    ) -> None:
        self.slots: deque[tuple[int, T]] = deque()
        self.dropped = 0
        self._settle = settle
        self._acked = acked
        self._most = most
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self.slots)

    def put(self, seq: int, entry: T) -> None:
        self.slots.append((seq, entry))
        if self._most and len(self.slots) > self._most:
            gone, _ = self.slots.popleft()
            self.dropped += 1
            self._acked(gone)
        self._arrived.set()

    async def take(self, limit: int) -> Box[T]:
        self._arrived.clear()
        taken = list(islice(self.slots, limit))
        if len(taken) < len(self.slots):
            self._arrived.set()
        await self._settle()
        return Box(entries=[entry for _, entry in taken], token=taken[-1][0] if taken else 0)

    async def ack(self, token: int) -> None:
        before = len(self.slots)
        while self.slots and self.slots[0][0] <= token:
            self.slots.popleft()
        if len(self.slots) < before:  # else a newer token came first
            self._acked(token)

    async def wait(self, seconds: float) -> None:
        if self.slots:
            return
        await wait_for(self._arrived, seconds)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, at the latest after ``seconds``."""
    if event.is_set() or seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
