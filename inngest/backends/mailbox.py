"""What the adapters of the bus have in common: the queue of a subscriber, and the work of one who answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

import structlog

from inngest.core.errors import StoreRefused
from inngest.core.policy import BUS_ANSWERS, BUS_BODY, BUS_BYTES, BUS_MESSAGES
from inngest.ports.bus import Gap, Handler, Message

log = structlog.get_logger("inngest.bus")

_OVERHEAD = 100


class Mailbox:
    """See `inngest.ports.bus.Subscription`. ``leave`` is called once, when it is closed."""

    def __init__(
        self,
        leave: Callable[[Mailbox], Awaitable[None]],
        *,
        messages: int = BUS_MESSAGES,
        size: int = BUS_BYTES,
    ) -> None:
        self._leave = leave
        self._messages = messages
        self._size = size
        self._queue: deque[Message | Gap] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        return self._dropped

    def put(self, message: Message) -> None:
        if self._closed:
            return
        weight = len(message.body) + _OVERHEAD
        full = len(self._queue) >= self._messages or self._bytes + weight > self._size
        if full and self._queue:
            self._dropped += 1
            self._gap(1)
        else:
            self._queue.append(message)
            self._bytes += weight
        self._arrived.set()

    def gap(self) -> None:
        """The connection was lost, and is back."""
        if not self._closed:
            self._gap(0)
            self._arrived.set()

    def _gap(self, dropped: int) -> None:
        """Gaps with nothing between them are one."""
        if self._queue and isinstance(last := self._queue[-1], Gap):
            self._queue[-1] = Gap(dropped=last.dropped + dropped)
        else:
            self._queue.append(Gap(dropped=dropped))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message | Gap:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        heard = self._queue.popleft()
        if isinstance(heard, Message):
            self._bytes -= len(heard.body) + _OVERHEAD
        return heard

    def end(self) -> None:
        """Hear nothing more; what is in the queue is forgotten."""
        self._closed = True
        self._queue.clear()
        self._arrived.set()

    async def close(self) -> None:
        if not self._closed:
            self.end()
            await self._leave(self)


class Answers:
    """The requests that one handler works on."""

    def __init__(self, channel: str, handler: Handler) -> None:
        self.channel = channel
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    def work(self, body: bytes, reply: Callable[[bytes | None], Awaitable[None]]) -> None:
        """Begin with a request, unless there is too much to do. ``reply`` gets None if the handler fails."""
        if len(self._tasks) >= BUS_ANSWERS:
            log.warning("a request is left unanswered, there are too many", action="bus.answer")
            return
        task = asyncio.create_task(self._work(body, reply), name=f"answer {self.channel}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, body: bytes, reply: Callable[[bytes | None], Awaitable[None]]) -> None:
        try:
            answer: bytes | None = await self._handler(body)
        except Exception as error:
            log.error("a request failed", action="bus.answer", channel=self.channel, exc_info=error)
            answer = None
        try:
            await reply(answer)
        except Exception as error:  # noqa: BLE001  who asked finds out by the time it takes
            log.warning("a reply is lost", action="bus.answer", channel=self.channel, error=str(error))

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_body(body: bytes, what: str, system: str) -> None:
    """Raises `StoreRefused`."""
    if len(body) > BUS_BODY:
        raise StoreRefused(
            f"{system}: {what} of {len(body)} bytes is too large, the bus takes {BUS_BODY}",
            system=system,
            size=len(body),
            largest=BUS_BODY,
        )
