"""Wake-ups: one subscription a store, from the server's channels to local events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from inngest.core.errors import StoreUnavailable

_PAUSE = 1.0
"""Seconds between attempts to subscribe again."""

_log = logging.getLogger(__name__)


class Bell:
    """An event for each channel. After a gap in the subscription all of them ring: anything may have been
    missed.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        self.events = {channel: asyncio.Event() for channel in channels}
        self._task: asyncio.Task[None] | None = None

    async def open(self, client: Redis, address: str) -> None:
        """Returns when what is published from now on will be heard. Raises `StoreUnavailable`."""
        subscription = client.pubsub()
        try:
            await self._subscribe(subscription)
        except (RedisError, OSError) as error:
            await subscription.aclose()  # type: ignore[no-untyped-call]
            raise StoreUnavailable(f"redis {address}: cannot subscribe: {error}") from error
        self._task = asyncio.create_task(self._listen(subscription, address))

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def ring_all(self) -> None:
        for event in self.events.values():
            event.set()

    async def wait(self, channel: str, seconds: float) -> None:
        """Return when the channel has rung since its event was cleared, at the latest after ``seconds``."""
        event = self.events[channel]
        if event.is_set():
            return
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await event.wait()
        except TimeoutError:
            return

    async def _subscribe(self, subscription: PubSub) -> None:
        await subscription.subscribe(*self.events)
        for _ in self.events:
            await subscription.parse_response(block=True)

    async def _listen(self, subscription: PubSub, address: str) -> None:
        try:
            while True:
                try:
                    message = await subscription.parse_response(block=True)
                    self._ring(message)
                except (RedisError, OSError) as error:
                    _log.warning("redis %s: the subscription broke: %s", address, error)
                    await self._again(subscription)
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]

    def _ring(self, message: object) -> None:
        if isinstance(message, list) and message[0] == b"message":
            event = self.events.get(message[1].decode())
            if event is not None:
                event.set()

    async def _again(self, subscription: PubSub) -> None:
        while True:
            await subscription.aclose()  # type: ignore[no-untyped-call]
            try:
                await self._subscribe(subscription)
            except (RedisError, OSError):
                await asyncio.sleep(_PAUSE)
            else:
                self.ring_all()
                return
