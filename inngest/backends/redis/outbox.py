"""The outboxes on Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from inngest.backends.damage import Damage
from inngest.backends.redis.bell import Bell
from inngest.backends.redis.link import Link
from inngest.backends.redis.scripts import OUTBOX_ACK, OUTBOX_TAKE
from inngest.ports.engine import Box

T = TypeVar("T")


class RedisOutbox(Generic[T]):
    """See `inngest.ports.engine.Outbox`. One drains it at a time: others find it empty meanwhile."""

    def __init__(
        self,
        link: Link,
        bell: Bell,
        prefix: str,
        name: str,
        owner: str,
        decode: Callable[[bytes], T],
        damage: Damage,
    ) -> None:
        self._link = link
        self._bell = bell
        self._prefix = prefix
        self._name = name
        self._owner = owner
        self._decode = decode
        self.key = f"{prefix}outbox:{name}"
        self._damage = damage

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
        what = f"entry of {self.key}"
        found = (self._damage.read(what, repr(entry[:80]), self._decode, entry) for entry in entries)
        return [entry for entry in found if entry is not None]

    async def ack(self, token: int) -> None:
        left = await self._link.script(OUTBOX_ACK, self.key, self._prefix, "", self._name, token, self._owner)
        if left:
            self._bell.events[self.key].set()

    async def wait(self, seconds: float) -> None:
        await self._bell.wait(self.key, seconds)
