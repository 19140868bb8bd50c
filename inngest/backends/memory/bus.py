"""The bus inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from inngest.backends.mailbox import Answers, Mailbox, check_body
from inngest.core.errors import NobodyListens, RequestFailed, StoreUnavailable
from inngest.ports.bus import Answering, Handler, Message, Subscription

T = TypeVar("T")

_SYSTEM = "the bus in memory"


class MemoryBus:
    """See `inngest.ports.bus.Bus`. All who share the object are on one bus."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[Mailbox]] = {}
        self._answering: dict[str, list[_Answering]] = {}
        self._is_open = False

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False
        for mailbox in {mailbox for some in self._subscribers.values() for mailbox in some}:
            mailbox.end()
        self._subscribers.clear()
        for each in [each for some in self._answering.values() for each in some]:
            await each.close()

    def interrupt(self) -> None:
        """What a lost connection is to subscribers, for simulations."""
        for mailbox in {mailbox for some in self._subscribers.values() for mailbox in some}:
            mailbox.gap()

    async def publish(self, channel: str, body: bytes) -> None:
        self._check(body)
        message = Message(channel, body)
        for mailbox in self._subscribers.get(channel, ()):
            mailbox.put(message)

    async def subscribe(self, *channels: str) -> Subscription:
        self._check(b"")

        async def leave(mailbox: Mailbox) -> None:
            for channel in dict.fromkeys(channels):
                _remove(self._subscribers, channel, mailbox)

        mailbox = Mailbox(leave)
        for channel in dict.fromkeys(channels):
            self._subscribers.setdefault(channel, []).append(mailbox)
        return mailbox

    async def request(self, channel: str, body: bytes, seconds: float) -> bytes:
        self._check(body)
        answering = self._answering.get(channel)
        if not answering:
            raise NobodyListens(f"nobody answers on {channel}")
        first: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        async def reply(answer: bytes | None) -> None:
            if not first.done():
                first.set_result(answer)

        for each in list(answering):
            each.answers.work(body, reply)
        async with asyncio.timeout(seconds):
            answer = await first
        if answer is None:
            raise RequestFailed(f"a request on {channel} failed")
        check_body(answer, "a reply", _SYSTEM)
        return answer

    async def answer(self, channel: str, handler: Handler) -> Answering:
        self._check(b"")
        each = _Answering(Answers(channel, handler), lambda one: _remove(self._answering, channel, one))
        self._answering.setdefault(channel, []).append(each)
        return each

    def _check(self, body: bytes) -> None:
        if not self._is_open:
            raise StoreUnavailable(f"{_SYSTEM}: it is not open", system=_SYSTEM)
        check_body(body, "a message", _SYSTEM)


class _Answering:
    def __init__(self, answers: Answers, leave: Callable[[_Answering], None]) -> None:
        self.answers = answers
        self._leave = leave

    async def close(self) -> None:
        self._leave(self)
        await self.answers.end()


def _remove(lists: dict[str, list[T]], name: str, one: T) -> None:
    some = lists.get(name, [])
    if one in some:
        some.remove(one)
    if not some:
        lists.pop(name, None)
