"""The bus: what services tell each other in passing.

Everything on it is heard at most once. It wakes, hints, and asks who is there; what must not be lost is in a
store.

Channels are texts, bodies are bytes of at most `core.policy.BUS_BODY`. A channel needs no making. What is
published on it reaches all who are subscribed to it at that moment, in the order in which it was published;
there is no order between channels. Requests have channels of their own: who is subscribed to a channel hears
nothing of what is asked on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, Self

from msgspec import Struct


class Message(Struct, frozen=True):
    """What was published."""

    channel: str
    body: bytes


class Gap(Struct, frozen=True):
    """Here messages may be missing, on any channel of the subscription: ``dropped`` of them because they were
    not taken in time; of 0 it is unknown whether there were any, since the connection was lost.

    The gap is over when it is told: what is published from then on is heard.
    """

    dropped: int


Handler = Callable[[bytes], Awaitable[bytes]]
"""Answers requests: from the body of one to that of its reply."""


class Subscription(Protocol):
    """What one subscriber hears.

    It has a queue of `core.policy.BUS_MESSAGES` and `BUS_BYTES`: what comes when that is full is dropped,
    counted, and told of as a `Gap` in its place.
    """

    @property
    def dropped(self) -> int:
        """How many messages were, so far."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Message | Gap:
        """The next message, as soon as there is one. Raises StopAsyncIteration once closed."""

    async def close(self) -> None:
        """Hear nothing any more."""


class Answering(Protocol):
    """Somebody who answers."""

    async def close(self) -> None:
        """Answer nothing any more; what is being worked on is broken off."""


class Bus(Protocol):
    async def open(self) -> None:
        """Raises `StoreUnavailable`, and of its kind `StoreUnusable` for what does not pass by itself."""

    async def close(self) -> None:
        """All subscriptions and answers end with it."""

    async def publish(self, channel: str, body: bytes) -> None:
        """Whether somebody hears it is not told.

        Raises:
            StoreUnavailable: it may have been published all the same.
            StoreRefused: the body is too large.

        """

    async def subscribe(self, *channels: str) -> Subscription:
        """What is published on these channels after this has returned is heard. Raises `StoreUnavailable`."""

    async def request(self, channel: str, body: bytes, seconds: float) -> bytes:
        """Ask whoever answers on the channel; the first reply is returned, if several do.

        Raises:
            NobodyListens: at once.
            TimeoutError: nobody has answered within ``seconds``. The request may have been worked on.
            RequestFailed: the one who answered could not.
            StoreUnavailable: the request may have been worked on.
            StoreRefused: the body is too large, or the reply's.

        """

    async def answer(self, channel: str, handler: Handler) -> Answering:
        """Answer requests on the channel from now on, `core.policy.BUS_ANSWERS` at once; more are left
        unanswered. What the handler raises is logged, and its request fails. Raises `StoreUnavailable`.
        """
