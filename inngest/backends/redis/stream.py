"""The event stream on Redis Streams."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from inngest.backends.memory.stream import GROUPS, LOSSY, check_sizes
from inngest.backends.redis.letters import RedisLetters
from inngest.backends.redis.link import Command, Link
from inngest.backends.redis.scripts import (
    STREAM_BACKLOG,
    STREAM_CLAIM,
    STREAM_OPEN,
    STREAM_SETTLED,
    STREAM_SIGN,
    STREAM_TRIM,
)
from inngest.core.errors import StoreUnavailable
from inngest.core.policy import COUNTED, DELIVERY_BYTES, LARGEST_ENTRY, STREAM_LAG_SHARED
from inngest.ports.stream import EVENT, Dead, Delivery, Entry, Letter, Token

DEAD_AFTER = 10.0
"""Seconds without a sign of life after which the deliveries of a consumer are given to others."""
_BEATS = 5
_LOOKS = 3
"""How often a consumer gives a sign of life, and looks for that of others, in `DEAD_AFTER`."""
_FAREWELL = 60_000
"""How long (ms) it is remembered that a consumer has left in order. After that it counts as silent."""
_SIZE = 64 * 1024
"""What an entry is taken to have of bytes before the first was seen."""

_Entry = list[Any]
"""The id; and names and values of the fields: ``event``, and ``for`` if it is for one group only. None in
place of the fields if the entry was deleted.
"""

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
        self.token = 0
        self.size = _SIZE  # bytes of an entry, about

    def count(self, limit: int) -> int:
        """How many entries to ask for, so that a delivery does not become too large."""
        return max(1, min(limit, DELIVERY_BYTES // self.size))

    def saw(self, entries: Sequence[_Entry]) -> None:
        mean = sum(len(fields[1]) for _, fields in entries) // len(entries)
        self.size = max(mean, self.size // 2, 1)


class RedisEventStream:
    """See `inngest.ports.stream.EventStream`. Many of them, in many processes, may share one server.

    An event is an entry of one stream, and accepted when the server has answered its XADD; concurrent
    publishes share a round trip. Each stream object is one consumer. It gives a sign of life all the time,
    however long it works on a delivery, and keeps its deliveries while it does. Those of a consumer that has
    left in order go to others at once, those of one that is silent for ``dead_after`` soon after. An entry
    that all groups of the stream have acknowledged is dropped with the next sign of life. The stream's time
    is that of the server, as it stands in the ids of entries.

    Args:
        url: as of ``redis.asyncio.Redis.from_url``: ``redis://``, ``rediss://`` or ``unix://``.
        prefix: of all keys.
        groups: the consumer groups; each gets all that the stream holds.
        lossy: those of them that lose the oldest entries when the stream grows too large for them.
        lag: bytes of the server's memory above which they do.
        dead_after: seconds.
        allow_unsafe: of `server.UNSAFE`, what of the server is borne; None for all.

    """

    largest = LARGEST_ENTRY

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "inngest:",
        groups: Collection[str] = GROUPS,
        lossy: Collection[str] = LOSSY,
        lag: int = STREAM_LAG_SHARED,
        dead_after: float = DEAD_AFTER,
        allow_unsafe: Collection[str] | None = None,
    ) -> None:
        self._link = Link(url, allow_unsafe=allow_unsafe)
        self._key = f"{prefix}{{stream}}"
        self._signs = f"{self._key}:sign:"
        self._name = ""
        self._groups = {name: _Group() for name in groups}
        self._lossy = [name for name in groups if name in lossy]
        self._lag = lag
        self._letters = RedisLetters(self._link, self._key)
        self._dead_after = dead_after
        self._trim = True
        self._losing = False
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
                await self._sign("gone", _FAREWELL)
        await self._link.close()

    async def ping(self) -> None:
        await self._link.ping(f"{self._key}:ping")

    async def _prepare(self) -> None:
        await self._sign("alive", int(self._dead_after * 1000))
        await self._link.script(STREAM_OPEN, self._key, *self._groups)

    async def _sign(self, word: str, ttl: int) -> None:
        await self._link.script(STREAM_SIGN, self._key, f"{self._signs}{self._name}", word, ttl)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._dead_after / _BEATS)
            try:
                await self._sign("alive", int(self._dead_after * 1000))
                if self._trim:
                    self._trim = False
                    await self._drop()
            except StoreUnavailable as error:
                self._trim = True
                _log.warning("no sign of life to the event stream: %s", error)
            except Exception:  # noqa: BLE001
                # Without a heart others would take what this consumer works on.
                _log.exception("the event stream cannot be looked after")

    async def _drop(self) -> None:
        """Drop what nobody needs any more, and what is too much, page by page."""
        dropped, lost = 1, 0
        while dropped:
            dropped, more = await self._link.script(STREAM_TRIM, self._key, self._lag, *self._lossy)
            lost += more
        if lost and not self._losing:
            _log.error("a reader lags too far behind: the oldest %d events are dropped for it", lost)
        self._losing = lost > 0

    # -- publishing --

    async def publish(self, bodies: Sequence[bytes]) -> None:
        check_sizes(bodies, self.largest)
        if bodies:
            await self._link.run([("XADD", self._key, "*", "event", body) for body in bodies])

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
                delivery = _deliver(state, await self._next(group, state, limit, end))
                if delivery is not None or loop.time() >= end:
                    return delivery
        finally:
            state.turn.release()

    async def _next(self, group: str, state: _Group, limit: int, end: float) -> list[_Entry]:
        limit = state.count(limit)
        if state.cut:
            await self._prepare()  # the server may be another, with nothing in it
            if lost := await self._lost(group, state, limit):
                return await self._pass_over(group, state, lost)
        state.cut = True
        entries = await self._claim(group, state, limit)
        if not entries:
            left = min(end, state.look) - asyncio.get_running_loop().time()
            entries = await self._read(group, limit, max(left, 0.001))
        entries = await self._pass_over(group, state, entries)
        state.cut = False
        return entries

    async def _pass_over(self, group: str, state: _Group, entries: list[_Entry]) -> list[_Entry]:
        """The entries that are for this group; it is done with the others."""
        if not entries:
            return entries
        state.saw(entries)
        others = [entry[0] for entry in entries if not _is_for(group, entry)]
        if not others:
            return entries
        await self._link.run([("XACK", self._key, group, *others)])
        self._trim = True
        return [entry for entry in entries if _is_for(group, entry)]

    async def _lost(self, group: str, state: _Group, limit: int) -> list[_Entry]:
        """What this consumer was given and never got."""
        known = set[bytes]().union(*state.unacked.values())
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
            STREAM_CLAIM, self._key, self._signs, group, self._name, limit, DELIVERY_BYTES, *state.silent
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

    async def ack(self, group: str, token: Token) -> None:
        """As of the port. Raises `StoreUnavailable`, and may then be repeated."""
        state = self._groups[group]
        if isinstance(token, int) and (ids := state.unacked.get(token)) is not None:
            await self._link.run([("XACK", self._key, group, *ids)])
            state.unacked.pop(token, None)
            self._trim = True

    async def backlog(self, group: str) -> int:
        return int(await self._link.script(STREAM_BACKLOG, self._key, group, COUNTED))

    async def settled(self, group: str) -> int:
        return int(await self._link.script(STREAM_SETTLED, self._key, group))

    async def dropped(self, group: str) -> int:
        (count,) = await self._link.run([("HGET", f"{self._key}:dropped", group)])
        return int(count or 0)

    # -- dead letters --

    async def bury(self, group: str, entries: Sequence[Entry], reason: str, *, kind: str = EVENT) -> None:
        await self._letters.bury(group, entries, reason, kind)

    async def letters(self, after: str = "", *, limit: int) -> list[Letter]:
        return await self._letters.page(after, limit)

    async def letter(self, letter_id: str) -> Letter | None:
        return await self._letters.get(letter_id)

    async def revive(self, ids: Sequence[str]) -> list[str]:
        return await self._letters.revive(ids, self.largest)

    async def discard(self, ids: Sequence[str]) -> list[str]:
        return await self._letters.discard(ids)

    async def dead(self) -> Dead:
        return await self._letters.dead()


def _entries(reply: Any) -> list[_Entry]:
    """Of a reply about one stream."""
    return list(reply[0][1]) if reply else []


def _is_for(group: str, entry: _Entry) -> bool:
    fields = entry[1]
    return len(fields) < 4 or fields[2] != b"for" or fields[3] == group.encode()


def _deliver(state: _Group, entries: Sequence[_Entry]) -> Delivery | None:
    if not entries:
        return None
    state.token += 1
    state.unacked[state.token] = [entry_id for entry_id, _ in entries]
    return Delivery(entries=[_entry(entry_id, fields) for entry_id, fields in entries], token=state.token)


def _entry(entry_id: bytes, fields: Sequence[bytes]) -> Entry:
    # What somebody else has put into the stream is delivered, too: it is nobody's to judge here.
    name = entry_id.decode()
    return Entry(body=fields[1], at=int(name.partition("-")[0]), id=name)
