"""The event stream on Redis Streams."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import msgspec

from inngest.backends.redis.link import Command, Link
from inngest.backends.redis.scripts import STREAM_BACKLOG, STREAM_CLAIM, STREAM_OPEN, STREAM_TRIM
from inngest.core.errors import StoreUnavailable
from inngest.core.model.events import Event, decode_event
from inngest.ports.stream import Delivery

DEAD_AFTER = 10.0
"""Seconds without a sign of life after which the deliveries of a consumer are given to others."""
_BEATS = 5
_LOOKS = 3
"""How often a consumer gives a sign of life, and looks for that of others, in `DEAD_AFTER`."""
_FAREWELL = 60_000
"""How long (ms) it is remembered that a consumer has left in order. After that it counts as silent."""

_Entry = list[Any]  # the id; a field's name and the event, or None if the entry was deleted

_log = logging.getLogger(__name__)


class _Group:
    """This consumer's part of a group.

    One reads at a time. While ``cut``, a read was broken off, and the server may have given entries that
    nobody got.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.cut = False
        self.look = 0.0  # when to look for the dead again, on the loop's clock
        self.silent: list[bytes] = []  # who gave no sign of life at the last look
        self.unacked: dict[int, list[bytes]] = {}  # ids by token
        self.refused: set[bytes] = set()  # ids of entries that are no events
        self.token = 0


class RedisEventStream:
    """See `inngest.ports.stream.EventStream`. Many of them, in many processes, may share one server.

    An event is an entry of one stream, and accepted when the server has answered its XADD; concurrent
    publishes share a round trip. Each stream object is one consumer. It gives a sign of life all the time,
    however long it works on a delivery, and keeps its deliveries while it does. Those of a consumer that has
    left in order go to others at once, those of one that is silent for ``dead_after`` soon after. An entry
    that all groups of the stream have acknowledged is dropped with the next sign of life.

    Args:
        url: as of ``redis.asyncio.Redis.from_url``: ``redis://``, ``rediss://`` or ``unix://``.
        prefix: of all keys.
        groups: the consumer groups; each gets all that the stream holds.
        dead_after: seconds.
        allow_unsafe: of `server.UNSAFE`, what of the server is borne; None for all.

    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "inngest:",
        groups: Iterable[str] = ("runner", "indexer"),
        dead_after: float = DEAD_AFTER,
        allow_unsafe: Collection[str] | None = None,
    ) -> None:
        self._link = Link(url, allow_unsafe=allow_unsafe)
        self._key = f"{prefix}{{stream}}"
        self._signs = f"{self._key}:sign:"
        self._name = ""
        self._groups = {name: _Group() for name in groups}
        self._dead_after = dead_after
        self._trim = True
        self._heart: asyncio.Task[None] | None = None

    @property
    def warnings(self) -> list[str]:
        """What should be set otherwise at the server."""
        return self._link.warnings

    async def open(self) -> None:
        """Raises `StoreUnavailable`."""
        # A consumer is never taken up again: what it left behind goes to those who are there.
        self._name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._groups = {name: _Group() for name in self._groups}
        await self._link.open()
        try:
            await self._prepare()
        except BaseException:
            await self._link.close()
            raise
        self._heart = asyncio.create_task(self._beat())

    async def close(self) -> None:
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
            with suppress(StoreUnavailable):  # then others find out by themselves
                await self._link.run([self._sign("gone", _FAREWELL)])
        await self._link.close()

    async def ping(self) -> None:
        await self._link.ping(f"{self._key}:ping")

    async def _prepare(self) -> None:
        await self._link.run([self._sign("alive", int(self._dead_after * 1000))])
        await self._link.script(STREAM_OPEN, self._key, *self._groups)

    def _sign(self, word: str, ttl: int) -> Command:
        return ("SET", f"{self._signs}{self._name}", word, "PX", ttl)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._dead_after / _BEATS)
            try:
                await self._link.run([self._sign("alive", int(self._dead_after * 1000))])
                if self._trim:
                    self._trim = False
                    await self._link.script(STREAM_TRIM, self._key)
            except StoreUnavailable as error:
                self._trim = True
                _log.warning("no sign of life to the event stream: %s", error)

    # -- publishing --

    async def publish(self, events: Sequence[Event]) -> None:
        if events:
            await self._link.run([("XADD", self._key, "*", "event", event.encode()) for event in events])

    # -- consuming --

    async def fetch(self, group: str, limit: int, seconds: float) -> Delivery | None:
        """As of the port. Raises `StoreUnavailable`; what was given then is given again by the next fetch."""
        state = self._groups[group]
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        try:
            async with asyncio.timeout(seconds):
                await state.turn.acquire()
        except TimeoutError:
            return None
        try:
            while True:
                delivery = self._deliver(state, await self._next(group, state, limit, end))
                if delivery is not None or loop.time() >= end:
                    return delivery
        finally:
            state.turn.release()

    async def _next(self, group: str, state: _Group, limit: int, end: float) -> list[_Entry]:
        if state.cut:
            await self._prepare()  # the server may be another, with nothing in it
            if lost := await self._lost(group, state, limit):
                return lost
        state.cut = True
        entries = await self._claim(group, state, limit)
        if not entries:
            left = min(end, state.look) - asyncio.get_running_loop().time()
            entries = await self._read(group, limit, max(left, 0.001))
        state.cut = False
        return entries

    async def _lost(self, group: str, state: _Group, limit: int) -> list[_Entry]:
        """What this consumer was given and never got."""
        known = state.refused.union(*state.unacked.values())
        last: bytes | str = "0"
        while True:
            (reply,) = await self._link.run([self._reading(group, limit, last)])
            page = _entries(reply)
            if not page:
                return []
            lost = [entry for entry in page if entry[0] not in known]
            deleted = [entry[0] for entry in lost if entry[1] is None]
            if deleted:
                await self._link.run([("XACK", self._key, group, *deleted)])
            lost = [entry for entry in lost if entry[1] is not None]
            if lost:
                return lost
            last = page[-1][0]

    async def _claim(self, group: str, state: _Group, limit: int) -> list[_Entry]:
        """What dead consumers have left behind, if it is time to look for it."""
        now = asyncio.get_running_loop().time()
        if now < state.look:
            return []
        entries, state.silent = await self._link.script(
            STREAM_CLAIM, self._key, self._signs, group, self._name, limit, *state.silent
        )
        if entries:
            _log.info("%d deliveries of dead consumers of %s go on here", len(entries), group)
        else:
            state.look = now + self._dead_after / _LOOKS
        return list(entries)

    async def _read(self, group: str, limit: int, seconds: float) -> list[_Entry]:
        """What nobody of the group was given yet."""
        milliseconds = int(seconds * 1000) + 1
        return _entries(
            await self._link.block(self._reading(group, limit, ">", "BLOCK", milliseconds), seconds)
        )

    def _reading(self, group: str, limit: int, after: bytes | str, *options: Any) -> Command:
        consumer = ("GROUP", group, self._name)
        return ("XREADGROUP", *consumer, "COUNT", limit, *options, "STREAMS", self._key, after)

    def _deliver(self, state: _Group, entries: Sequence[_Entry]) -> Delivery | None:
        events, ids = [], []
        for entry_id, fields in entries:
            try:
                events.append(decode_event(fields[1]))
            except msgspec.MsgspecError as error:
                # Kept, for whoever finds out what it is, but nobody's stop.
                state.refused.add(entry_id)
                _log.error("entry %s of %s is no event: %s", entry_id.decode(), self._key, error)
            else:
                ids.append(entry_id)
        if not events:
            return None
        state.token += 1
        state.unacked[state.token] = ids
        return Delivery(events=events, token=state.token)

    async def ack(self, group: str, token: int) -> None:
        """As of the port. Raises `StoreUnavailable`, and may then be repeated."""
        state = self._groups[group]
        ids = state.unacked.get(token)
        if ids is not None:
            await self._link.run([("XACK", self._key, group, *ids)])
            state.unacked.pop(token, None)
            self._trim = True

    async def backlog(self, group: str) -> int:
        return int(await self._link.script(STREAM_BACKLOG, self._key, group))


def _entries(reply: Any) -> list[_Entry]:
    """Of a reply about one stream."""
    return list(reply[0][1]) if reply else []
