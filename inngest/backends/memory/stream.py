"""The event stream of one process: a bounded log with a cursor for each consumer group."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from inngest.core.model.events import Event
from inngest.ports.stream import Delivery

CAPACITY = 100_000
"""Events held before publishers have to wait."""


class _Group:
    """One group's part: what it has yet to be given, and what it has not acknowledged."""

    def __init__(self) -> None:
        self.waiting: deque[Event] = deque()
        self.unacked: dict[int, int] = {}
        self.arrived = asyncio.Event()
        self.token = 0


class MemoryEventStream:
    """See `inngest.ports.stream.EventStream`. Every group named at the start gets every event."""

    def __init__(self, groups: Iterable[str] = ("runner", "indexer"), capacity: int = CAPACITY) -> None:
        self._groups = {name: _Group() for name in groups}
        self._capacity = capacity
        self._room = asyncio.Event()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    async def publish(self, events: Sequence[Event]) -> None:
        while any(len(group.waiting) >= self._capacity for group in self._groups.values()):
            self._room.clear()
            await self._room.wait()
        for group in self._groups.values():
            group.waiting.extend(events)
            group.arrived.set()

    async def fetch(self, group: str, limit: int, seconds: float) -> Delivery | None:
        state = self._groups[group]
        if not state.waiting:
            state.arrived.clear()
            try:
                async with asyncio.timeout(seconds):
                    await state.arrived.wait()
            except TimeoutError:
                return None
        events = [state.waiting.popleft() for _ in range(min(limit, len(state.waiting)))]
        if not events:
            return None
        self._room.set()
        state.token += 1
        state.unacked[state.token] = len(events)
        return Delivery(events=events, token=state.token)

    async def ack(self, group: str, token: int) -> None:
        self._groups[group].unacked.pop(token, None)

    async def backlog(self, group: str) -> int:
        state = self._groups[group]
        return len(state.waiting) + sum(state.unacked.values())
