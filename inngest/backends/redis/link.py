"""Round trips to the server: what concurrent callers send at the same time shares one."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from inngest.backends.redis.scripts import SCRIPTS, Script
from inngest.core.errors import StoreUnavailable, StoreUnusable

Command = tuple[Any, ...]
Reply = Any

LANES = 2
"""Connections for commands. While one is busy, what arrives gathers for the next that is free."""
BATCH = 64
"""Callers that share a round trip at most."""
TIMEOUT = 15.0
"""Seconds for a round trip, after which the connection is given up."""
OLDEST = (7, 0)

_log = logging.getLogger(__name__)


class _Request:
    __slots__ = ("commands", "future")

    def __init__(self, commands: Sequence[Command], future: asyncio.Future[list[Reply]]) -> None:
        self.commands = commands
        self.future = future


class Link:
    """One server. ``on_break`` is called whenever a connection to it broke."""

    def __init__(
        self,
        url: str,
        *,
        lanes: int = LANES,
        timeout: float = TIMEOUT,
        on_break: Callable[[], None] | None = None,
    ) -> None:
        # Nothing is repeated behind the caller's back: a commit that happened must not look stale to it.
        self._pool: ConnectionPool = ConnectionPool.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=timeout,
            socket_timeout=None,
            **({} if url.startswith("unix:") else _keepalive()),
        )
        kwargs = self._pool.connection_kwargs
        self.address = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        self._lanes = lanes
        self._timeout = timeout
        self._on_break = on_break
        self._tasks: list[asyncio.Task[None]] = []
        self._queue: deque[_Request] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self.round_trips = 0

    @property
    def client(self) -> Redis:
        """A client on the same connections, for what blocks."""
        return Redis(connection_pool=self._pool)

    async def open(self) -> None:
        """Check the server and give it the scripts.

        Raises:
            StoreUnusable: it is too old, or does not let us in.
            StoreUnavailable: it does not answer.

        """
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._lane()) for _ in range(self._lanes)]
        try:
            await self._check()
        except BaseException:
            await self.close()
            raise

    async def _check(self) -> None:
        (info,) = await self.run([("INFO", "server")])
        version = _field(info, "redis_version")
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise StoreUnusable(f"redis {self.address}: version {version} is too old, 7.0 is needed")
        (info,) = await self.run([("INFO", "memory")])
        policy = _field(info, "maxmemory_policy")
        if policy != "noeviction":
            _log.warning(
                "redis %s: maxmemory-policy is %s: under pressure it will drop runs; set it to noeviction",
                self.address,
                policy,
            )
        await self.run([("SCRIPT", "LOAD", script.source) for script in SCRIPTS.values()])

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for request in self._queue:
            request.future.cancel()
        self._queue.clear()
        self._idle.clear()
        await self._pool.disconnect()

    # -- callers --

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands, in order, in one round trip.

        Raises:
            StoreUnavailable: the server is gone, or refused one of them; the others may have been done.

        """
        if not self._tasks:
            raise StoreUnavailable(f"redis {self.address}: the store is not open")
        request = _Request(commands, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        while self._idle:
            lane = self._idle.popleft()
            if not lane.done():
                lane.set_result(None)
                break
        replies = await request.future
        for reply in replies:
            if isinstance(reply, RedisError):
                raise self._unavailable(reply)
        return replies

    async def script(self, script: Script, key: str, *args: Any) -> Reply:
        """Run one script. Raises `StoreUnavailable`."""
        (reply,) = await self.run([call(script, key, *args)])
        return reply

    async def ping(self, key: str) -> None:
        """Write something of no meaning: a server that only answers may be a replica, or short of disk or
        memory. Raises `StoreUnavailable`.
        """
        await self.run([("SET", key, "", "PX", 1000)])

    async def block(self, command: Command, seconds: float) -> Reply:
        """Send a command that the server may answer only after ``seconds``, on a connection of its own.

        Raises:
            StoreUnavailable: the server is gone, or refused it. It may have been done all the same.

        """
        try:
            async with asyncio.timeout(seconds + self._timeout):
                (reply,) = await self._exchange([command])
        except (RedisError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error
        if isinstance(reply, RedisError):
            raise self._unavailable(reply)
        return reply

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        if isinstance(error.__cause__, RedisError):
            error = error.__cause__  # what went wrong while connecting
        kind = StoreUnusable if isinstance(error, _FINAL) else StoreUnavailable
        return kind(f"redis {self.address}: {_reason(error)}")

    # -- lanes --

    async def _lane(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                continue
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            batch = [request for request in batch if not request.future.done()]
            try:
                await self._serve(batch)
            except asyncio.CancelledError:
                for request in batch:
                    request.future.cancel()
                raise
            except Exception as error:  # noqa: BLE001  the callers are told, and the lane goes on
                _fail(batch, error)

    async def _serve(self, batch: list[_Request]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                replies = await self._exchange([c for request in batch for c in request.commands])
        except (RedisError, OSError, TimeoutError) as error:
            if self._on_break is not None:
                self._on_break()
            _fail(batch, self._unavailable(error))
            return
        place = 0
        for request in batch:
            end = place + len(request.commands)
            if not request.future.done():
                request.future.set_result(replies[place:end])
            place = end

    async def _exchange(self, commands: list[Command]) -> list[Reply]:
        if not commands:
            return []
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            replies = await self._send(connection, commands)
            unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                # The server was restarted or its scripts were flushed.
                again = [commands[place] for place in unknown]
                loads = [
                    ("SCRIPT", "LOAD", SCRIPTS[sha].source) for sha in dict.fromkeys(c[1] for c in again)
                ]
                repeated = await self._send(connection, [*loads, *again])
                for place, reply in zip(unknown, repeated[len(loads) :], strict=True):
                    replies[place] = reply
            # Replication belongs here: WAIT counts the replicas that have this connection's writes.
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
        return replies

    async def _send(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Reply]:
        self.round_trips += 1
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Reply] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies


def _fail(batch: Sequence[_Request], error: Exception) -> None:
    for request in batch:
        if not request.future.done():
            request.future.set_exception(error)


def call(script: Script, key: str, *args: Any) -> Command:
    """The command that runs a script on the slot of ``key``."""
    return ("EVALSHA", script.sha, 1, key, *args)


def _keepalive() -> dict[str, Any]:
    """A peer that vanished without a word is noticed within half a minute."""
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    options = {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
    return {"socket_keepalive": True, "socket_keepalive_options": options}


def _field(info: bytes, name: str) -> str:
    for line in info.decode().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value
    return ""


_CLASSES: tuple[tuple[type[RedisError], str], ...] = (
    (ReadOnlyError, "it is a replica and takes no writes"),
    (OutOfMemoryError, "its memory is full"),
    (BusyLoadingError, "it is loading its data"),
    (AuthenticationError, "it does not let us in"),
    (RedisTimeoutError, "it did not answer in time"),
)
_FINAL = (AuthenticationError, NoPermissionError)
_CODES = {
    "NOREPLICAS": "it has too few replicas to take writes",
    "MISCONF": "it cannot write to its disk and takes no writes",
    "NOGROUP": "it has lost its data",
}


def _reason(error: BaseException) -> str:
    words = str(error)
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    for kind, reason in _CLASSES:
        if isinstance(error, kind):
            return f"{reason} ({words})"
    reason = _CODES.get(words.partition(" ")[0], "")
    return f"{reason} ({words})" if reason else words or type(error).__name__
