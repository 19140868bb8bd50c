"""The bus on Redis: its publish/subscribe, on one more connection.

A message is what is published, as it is, on ``<prefix><channel>``; scripts may publish too. A request is
published on ``?<prefix><channel>``, and names the channel of its sender's own for the reply.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from uuid import uuid4

import msgspec
import structlog
from redis.exceptions import RedisError

from inngest.backends.mailbox import Answers, Mailbox, check_body
from inngest.backends.redis.connection import Connection, Reply, pack
from inngest.backends.redis.link import TROUBLE, Link
from inngest.backends.redis.replies import store_error
from inngest.core.errors import NobodyListens, RequestFailed, StoreError, StoreUnavailable
from inngest.core.policy import STORE_AGAIN, STORE_CONNECT, STORE_WATCH
from inngest.ports.bus import Answering, Handler, Message, Subscription

log = structlog.get_logger("inngest.redis")

_FIRST_PAUSE = 0.02
"""Seconds before the second try at a lost connection; the first is made at once."""


class _Ask(msgspec.Struct, array_like=True):
    inbox: str
    number: int
    body: bytes


class _Reply(msgspec.Struct, array_like=True):
    number: int
    body: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode_ask = msgspec.msgpack.Decoder(_Ask).decode
_decode_reply = msgspec.msgpack.Decoder(_Reply).decode


class RedisBus:
    """See `inngest.ports.bus.Bus`. Many of them, in many processes, may share one server.

    Args:
        link: what is published goes over it, and it makes the connection for what is heard.
        prefix: of all channels.
        owns: whether the link is the bus's own, to be opened and closed with it. Else it is open before.

    """

    def __init__(self, link: Link, *, prefix: str = "", owns: bool = False, watch: int = STORE_WATCH) -> None:
        self._link = link
        self._prefix = prefix
        self._owns = owns
        self._watch_seconds = watch / 1000
        self._channels: dict[str, _Channel] = {}
        self._unconfirmed: dict[str, int] = {}  # how many confirmations of a channel are of no meaning
        self._connection: Connection | None = None
        self._heard = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._inbox = f"!{prefix}{uuid4().hex}"
        self._asked: dict[int, asyncio.Future[bytes | None]] = {}
        self._number = 0

    async def open(self) -> None:
        if self._owns:
            await self._link.open()
        try:
            connection = await self._attach()
        except BaseException:
            if self._owns:
                await self._link.close()
            raise
        self._tasks = [asyncio.create_task(self._listen(connection)), asyncio.create_task(self._watch())]

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._link.hang_up(connection)
        self._lost(self._away())
        channels, self._channels = self._channels, {}
        for each in {each for channel in channels.values() for each in channel.listeners}:
            await each.end()
        if self._owns:
            await self._link.close()

    # -- messages --

    async def publish(self, channel: str, body: bytes) -> None:
        check_body(body, "a message", self._link.system)
        await self._link.run([("PUBLISH", self._prefix + channel, body)])

    async def subscribe(self, *channels: str) -> Subscription:
        names = [self._prefix + channel for channel in dict.fromkeys(channels)]
        subscriber = _Subscriber(self, names, len(self._prefix))
        await self._join(subscriber, names)
        return subscriber.mailbox

    # -- requests --

    async def request(self, channel: str, body: bytes, seconds: float) -> bytes:
        check_body(body, "a request", self._link.system)
        async with asyncio.timeout(seconds):
            if self._inbox not in self._channels:
                await self._join(_Inbox(self._asked), [self._inbox])
            elif not self._channels[self._inbox].confirmed.done():
                await asyncio.shield(self._channels[self._inbox].confirmed)
            self._number += 1
            number = self._number
            answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
            self._asked[number] = answer
            try:
                ask = _encode(_Ask(self._inbox, number, body))
                (reached,) = await self._link.run([("PUBLISH", f"?{self._prefix}{channel}", ask)])
                if not reached:
                    raise NobodyListens(f"nobody answers on {channel}")
                found = await answer
            finally:
                del self._asked[number]
        if found is None:
            raise RequestFailed(f"a request on {channel} failed")
        return found

    async def answer(self, channel: str, handler: Handler) -> Answering:
        name = f"?{self._prefix}{channel}"
        answering = _Answering(self, name, Answers(channel, handler))
        await self._join(answering, [name])
        return answering

    async def reply(self, ask: _Ask, answer: bytes | None) -> None:
        """Raises `StoreUnavailable`, `StoreRefused`."""
        check_body(answer or b"", "a reply", self._link.system)
        await self._link.run([("PUBLISH", ask.inbox, _encode(_Reply(ask.number, answer)))])

    # -- listeners --

    async def _join(self, listener: _Listener, names: Sequence[str]) -> None:
        """Let somebody hear these channels from now on. Raises `StoreUnavailable`."""
        connection = self._connection
        if connection is None:
            raise self._away()
        loop = asyncio.get_running_loop()
        fresh = [name for name in names if name not in self._channels]
        for name in fresh:
            self._channels[name] = _Channel(loop.create_future())
        channels = [self._channels[name] for name in names]
        for channel in channels:
            channel.listeners.append(listener)
        try:
            async with asyncio.timeout(STORE_CONNECT / 1000):
                if fresh:
                    await connection.say([pack(("SUBSCRIBE", *fresh))])
                for channel in channels:
                    await asyncio.shield(channel.confirmed)
        except BaseException as error:
            await self.part(listener, names)
            if isinstance(error, TROUBLE):
                raise store_error(self._link.system, error) from error
            raise

    async def part(self, listener: _Listener, names: Iterable[str]) -> None:
        """Let somebody hear these channels no more."""
        left = []
        for name in names:
            channel = self._channels.get(name)
            if channel is None or listener not in channel.listeners:
                continue
            channel.listeners.remove(listener)
            if not channel.listeners:
                del self._channels[name]
                left.append(name)
                if not channel.confirmed.done():
                    channel.confirmed.cancel()
                    self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
        if left and self._connection is not None:
            try:
                await self._connection.say([pack(("UNSUBSCRIBE", *left))])
            except TROUBLE:
                return  # whoever listens on it finds out

    # -- the connection --

    async def _attach(self) -> Connection:
        """A connection on which all channels are heard. Raises `StoreUnavailable`."""
        connection = await self._link.dial()
        try:
            async with asyncio.timeout(STORE_CONNECT / 1000):
                asked = set(self._channels)
                if asked:
                    await connection.say([pack(("SUBSCRIBE", *asked))])
                missing = set(asked)
                while missing:
                    missing.discard(self._take(await connection.hear()))
                if left := asked - set(self._channels):
                    await connection.say([pack(("UNSUBSCRIBE", *left))])
        except BaseException as error:
            await self._link.hang_up(connection)
            if isinstance(error, TROUBLE):
                raise store_error(self._link.system, error) from error
            raise
        self._connection = connection
        return connection

    async def _listen(self, connection: Connection) -> None:
        while True:
            try:
                while True:
                    self._take(await connection.hear())
            except TROUBLE as error:
                self._connection = None
                self._lost(store_error(self._link.system, error))
            except Exception as error:
                self._connection = None
                log.error("unexpected error", action="redis.bus", exc_info=error)
                self._lost(self._away())
            await self._link.hang_up(connection)
            connection = await self._again()

    async def _again(self) -> Connection:
        """The connection anew, as soon as there can be one. Subscribers are told."""
        pause = 0.0
        while True:
            try:
                connection = await self._attach()
            except Exception as error:
                if not isinstance(error, StoreError):
                    log.error("unexpected error", action="redis.bus", exc_info=error)
                pause = min(max(_FIRST_PAUSE, 2 * pause), STORE_AGAIN / 1000)
                await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 -- nobody gains by it
                continue
            for each in {each for channel in self._channels.values() for each in channel.listeners}:
                each.gap()
            return connection

    async def _watch(self) -> None:
        """A connection may be lost without a word: a PING that nothing follows tells."""
        while True:
            await asyncio.sleep(self._watch_seconds)
            connection, before = self._connection, self._heard
            if connection is None:
                continue
            try:
                await connection.say([pack(("PING",))])
            except TROUBLE:
                continue
            await asyncio.sleep(STORE_CONNECT / 1000)
            if self._heard == before and connection is self._connection:
                await connection.close()

    def _take(self, said: Reply) -> str:
        """Heed what the server says. Returns the channel, if it confirms that it is heard.

        Raises the `RedisError` that it says.
        """
        self._heard += 1
        if isinstance(said, RedisError):
            raise said
        if not isinstance(said, list) or len(said) != 3:
            return ""  # the answer to a PING
        kind, name = said[0], str(said[1], "utf-8", "replace")
        channel = self._channels.get(name)
        if kind == b"message" and channel is not None:
            for listener in channel.listeners:
                listener.put(name, said[2])
        if kind != b"subscribe":
            return ""
        if waits := self._unconfirmed.get(name):
            self._unconfirmed[name] = waits - 1
        elif channel is not None and not channel.confirmed.done():
            channel.confirmed.set_result(None)
        return name

    def _lost(self, failure: StoreError) -> None:
        """Tell who waits for something on the connection."""
        self._unconfirmed.clear()
        for channel in self._channels.values():
            if not channel.confirmed.done():
                channel.confirmed.set_exception(failure)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(failure)

    def _away(self) -> StoreUnavailable:
        system = self._link.system
        return StoreUnavailable(f"{system}: the connection of the bus is lost", system=system)


class _Channel:
    """``confirmed``: the server has said that it is heard."""

    __slots__ = ("confirmed", "listeners")

    def __init__(self, confirmed: asyncio.Future[None]) -> None:
        self.confirmed = confirmed
        self.listeners: list[_Listener] = []


class _Listener:
    """Somebody in this process who hears channels."""

    def put(self, name: str, body: bytes) -> None:
        raise NotImplementedError

    def gap(self) -> None:
        """Something may have been missed."""

    async def end(self) -> None:
        """The bus is closed."""


class _Subscriber(_Listener):
    def __init__(self, bus: RedisBus, names: Sequence[str], skip: int) -> None:
        self._skip = skip

        async def leave(_: Mailbox) -> None:
            await bus.part(self, names)

        self.mailbox = Mailbox(leave)

    def put(self, name: str, body: bytes) -> None:
        self.mailbox.put(Message(name[self._skip :], body))

    def gap(self) -> None:
        self.mailbox.gap()

    async def end(self) -> None:
        self.mailbox.end()


class _Inbox(_Listener):
    """Replies to this process."""

    def __init__(self, asked: dict[int, asyncio.Future[bytes | None]]) -> None:
        self._asked = asked

    def put(self, name: str, body: bytes) -> None:
        try:
            reply = _decode_reply(body)
        except msgspec.MsgspecError:
            return  # somebody else's
        future = self._asked.get(reply.number)
        if future is not None and not future.done():
            future.set_result(reply.body)


class _Answering(_Listener):
    def __init__(self, bus: RedisBus, name: str, answers: Answers) -> None:
        self._bus = bus
        self._name = name
        self._answers = answers

    def put(self, name: str, body: bytes) -> None:
        try:
            ask = _decode_ask(body)
        except msgspec.MsgspecError:
            log.warning("a request cannot be read", action="redis.bus", channel=name)
            return

        async def reply(answer: bytes | None) -> None:
            await self._bus.reply(ask, answer)

        self._answers.work(ask.body, reply)

    async def close(self) -> None:
        await self._bus.part(self, [self._name])
        await self.end()

    async def end(self) -> None:
        await self._answers.end()
