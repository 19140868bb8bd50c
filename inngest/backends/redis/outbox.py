"""The outboxes on Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from inngest.backends.redis.bell import Bell
from inngest.backends.redis.link import Link
from inngest.backends.redis.scripts import OUTBOX_ACK, OUTBOX_TAKE
from inngest.ports.engine import Box

T = TypeVar("T")

_log = logging.getLogger(__name__)


class RedisOutbox(Generic[T]):
    """See `inngest.ports.engine.Outbox`. One drains it at a time: others find it empty meanwhile."""

    def __init__(
        self, link: Link, bell: Bell, prefix: str, name: str, owner: str, decode: Callable[[bytes], T]
    ) -> None:
        self._link = link
        self._bell = bell
        self._prefix = prefix
        self._name = name
        self._owner = owner
        self._decode = decode
        self.key = f"{prefix}outbox:{name}"
        self.damaged = 0

    async def take(self, limit: int) -> Box[T]:
        arrived = self._bell.events[self.key]
        arrived.clear()
        try:
            token, more, entries, claimed = await self._link.script(
                OUTBOX_TAKE, self.key, self._prefix, "", self._name, limit, self._owner
            )
        except BaseException:
            arrived.set()
            raise
        if more:
            arrived.set()
        if claimed:
            # Nobody calls if the one who has claimed it is dead.
            asyncio.get_running_loop().call_later(claimed / 1000, arrived.set)
        return Box(entries=self._decoded(entries), token=token)

    def _decoded(self, entries: Sequence[bytes]) -> list[T]:
        found = []
        for entry in entries:
            try:
                found.append(self._decode(entry))
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 -- a damaged entry keeps no other from its way
                self.damaged += 1
                _log.error("%s holds an entry that cannot be read and is dropped: %s", self.key, error)
        return found

    async def ack(self, token: int) -> None:
        left = await self._link.script(OUTBOX_ACK, self.key, self._prefix, "", self._name, token, self._owner)
        if left:
            self._bell.events[self.key].set()

    async def wait(self, seconds: float) -> None:
        await self._bell.wait(self.key, seconds)
