"""Round trips to the server: what concurrent callers send at the same time shares one.

Nothing is repeated behind a caller's back: a commit that happened must not look stale to it. Nothing is
believed of a server that is another now, or has become a replica: its connections are dropped, replies that
came on them count as lost, and ``on_break`` is called.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from inngest.backends.redis import server
from inngest.backends.redis.commands import NOTHING, call, writes
from inngest.backends.redis.connection import Command, Connection, Reply, pack
from inngest.backends.redis.outage import Outage, outage_of
from inngest.backends.redis.replies import (
    code,
    is_elsewhere,
    is_state,
    leaves,
    never_fits,
    reason,
    store_error,
)
from inngest.backends.redis.scripts import SCRIPTS, Script
from inngest.backends.redis.server import Identity, Survey
from inngest.core.errors import StoreError, StoreRefused, StoreUnavailable, StoreUnusable
from inngest.core.policy import (
    STORE_ANSWER,
    STORE_ARGUMENT,
    STORE_BATCH,
    STORE_BATCH_BYTES,
    STORE_BYTES,
    STORE_CONNECT,
    STORE_REQUESTS,
    STORE_WATCH,
)

LANES = 2
"""Connections for commands. While one is busy, what arrives gathers for the next that is free."""

TROUBLE = (RedisError, OSError, TimeoutError)
"""What a connection raises."""

__all__ = ["Command", "Link", "Reply", "call"]

log = structlog.get_logger("inngest.redis")


class _Request:
    """``era`` is that of the connection on which the replies came."""

    __slots__ = ("commands", "era", "future", "packed", "size")

    def __init__(self, commands: Sequence[Command], future: asyncio.Future[list[Reply]]) -> None:
        self.commands = [command[:2] for command in commands]  # their names
        self.packed = [pack(command) for command in commands]
        self.size = sum(map(len, self.packed))
        self.future = future
        self.era = -1


class Link:
    """One server.

    Args:
        url: as of ``redis.asyncio.Redis.from_url``.
        allow_unsafe: of `server.UNSAFE`, what does not keep the link from being opened; None for all.
        lanes: connections for commands.
        answer: ms for a round trip.
        watch: ms between two looks at which server it is.
        on_break: called whenever a connection broke, and whenever the server is no longer the one it was.

    """

    def __init__(
        self,
        url: str,
        *,
        allow_unsafe: Collection[str] | None = None,
        lanes: int = LANES,
        answer: int = STORE_ANSWER,
        watch: int = STORE_WATCH,
        on_break: Callable[[], None] | None = None,
    ) -> None:
        self._pool: ConnectionPool = ConnectionPool.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=STORE_CONNECT / 1000,
            socket_timeout=None,
            **({} if url.startswith("unix:") else _keepalive()),
        )
        kwargs = self._pool.connection_kwargs
        self.address = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        self.system = f"redis {self.address}"
        self._allow_unsafe = allow_unsafe
        self._lanes = lanes
        self._answer = answer / 1000
        self._watch_seconds = watch / 1000
        self._on_break = on_break
        self._tasks: list[asyncio.Task[None]] = []
        self._queue: deque[_Request] = deque()
        self._queued = 0  # bytes
        self._idle: deque[asyncio.Future[None]] = deque()
        self._connections: set[Connection] = set()
        self._spare: list[Connection] = []  # for what blocks
        self._era = 0
        self._why = ""  # the last era ended
        self._identity: Identity | None = None
        self._ready_for: Identity | None = None  # has the scripts
        self._survey = Survey({}, 0)
        self._outage = outage_of(self.system)
        self._crowd = Outage(
            self.system, "more is asked of Redis than it answers, the rest is refused", "Redis keeps up again"
        )
        self.round_trips = 0

    @property
    def warnings(self) -> list[str]:
        """What should be set otherwise at the server."""
        return list(self._survey.unsafe.values())

    @property
    def is_open(self) -> bool:
        return bool(self._tasks)

    async def open(self) -> None:
        """Check the server and give it the scripts.

        Raises:
            StoreUnusable: it is too old, does not let us in, or would lose what it must keep.
            StoreUnavailable: it does not answer, or is a replica.

        """
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._lane()) for _ in range(self._lanes)]
            self._tasks.append(asyncio.create_task(self._watch()))
        try:
            await self.run([("PING",)])
            if refused := self._survey.refused(self._allow_unsafe):
                said = "; ".join(self._survey.unsafe[name] for name in refused)
                names = ", ".join(f'"{name}"' for name in refused)
                raise StoreUnusable(
                    f"{self.system}: {said}; or allow it by name (allowUnsafe: [{names}])",
                    system=self.system,
                    unsafe=refused,
                )
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting = list(self._queue)
        self._queue.clear()
        self._queued = 0
        _fail(waiting, self._closed())
        self._idle.clear()
        self._spare.clear()
        self._identity = self._ready_for = None
        for connection in list(self._connections):
            await self.hang_up(connection)

    # -- callers --

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands, in order, in one round trip.

        Raises:
            StoreUnavailable: the server is gone, or is not able to do one of them; the others may have been
                done. Or too much is waiting already, and nothing was done.
            StoreUnusable: it does not let us in.
            StoreRefused: one of them can never pass.
            StoreDefect: it failed on one of them; the others were done.

        """
        return await self._run(commands, {})

    async def read(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands that read. What is damaged, as it is of another type, reads as if it were not there.
        Raises as `run`.
        """
        return await self._run(commands, NOTHING)

    async def _run(self, commands: Sequence[Command], nothing: Mapping[str, Reply]) -> list[Reply]:
        if not self._tasks:
            raise self._closed()
        request = self._request(commands)
        self._admit(request)
        self._queue.append(request)
        self._queued += request.size
        while self._idle:
            lane = self._idle.popleft()
            if not lane.done():
                lane.set_result(None)
                break
        replies = await request.future
        if request.era != self._era:
            raise self._elsewhere()
        return self._judged(request, replies, nothing)

    def _judged(self, request: _Request, replies: list[Reply], nothing: Mapping[str, Reply]) -> list[Reply]:
        """The replies without errors. Raises as `run`."""
        for place, (command, reply) in enumerate(zip(request.commands, replies, strict=False)):
            if isinstance(reply, RedisError):
                name = str(command[0])
                if name not in nothing or code(reply) != "WRONGTYPE":
                    raise store_error(self.system, reply, command)
                log.error(
                    "a record is of a wrong type and is passed over",
                    action="redis.damaged",
                    system=self.system,
                    key=str(command[1]),
                )
                replies[place] = nothing[name]
        return replies

    async def script(self, script: Script, key: str, *args: Any) -> Reply:
        """Run one script. Raises as `run`."""
        (reply,) = await self.run([call(script, key, *args)])
        return reply

    async def ping(self, key: str) -> None:
        """Write something of no meaning: a server that only answers may be a replica, or short of disk or
        memory. Raises `StoreUnavailable`.
        """
        await self.run([("SET", key, "", "PX", 1000)])

    async def block(self, command: Command, seconds: float) -> Reply:
        """Send a command that the server may answer only after ``seconds``, on a connection of its own.

        Raises as `run`; it may have been done all the same.
        """
        if not self._tasks:
            raise self._closed()
        request = self._request([command])
        connection = await self._free()
        replies: list[Reply] = []
        try:
            async with asyncio.timeout(seconds + self._answer):
                await self._exchange(connection, request, replies)
        except BaseException as error:
            await self.hang_up(connection)
            if not isinstance(error, TROUBLE):
                raise
            raise self._broke(connection, error, 1) from error
        if await self._heed(connection, request.commands, replies):
            self._spare.append(connection)
        else:
            await self.hang_up(connection)
        if connection.era != self._era:
            raise self._elsewhere()
        if isinstance(replies[0], RedisError):
            raise store_error(self.system, replies[0], command)
        return replies[0]

    async def _free(self) -> Connection:
        """A connection for what blocks."""
        while self._spare:
            connection = self._spare.pop()
            if await self._is_good(connection):
                return connection
            await self.hang_up(connection)
        try:
            return await self.dial()
        except StoreError as failure:
            self._outage.failed(self._short(failure), 1)
            raise

    def _request(self, commands: Sequence[Command]) -> _Request:
        try:
            request = _Request(commands, asyncio.get_running_loop().create_future())
        except (TypeError, UnicodeEncodeError) as error:
            raise StoreRefused(
                f"{self.system}: this cannot be sent: {error}",
                system=self.system,
                command=str(commands[0][0]),
            ) from error
        largest = self._survey.largest or STORE_ARGUMENT
        if request.size > largest:
            for command, packed in zip(commands, request.packed, strict=True):
                longest = max(len(arg) for arg in command if isinstance(arg, str | bytes))
                if len(packed) > largest and longest > largest:
                    raise StoreRefused(
                        f"{self.system}: an argument of {longest} bytes is too large: "
                        f"the server takes {largest} (proto-max-bulk-len)",
                        system=self.system,
                        command=str(command[0]),
                        size=longest,
                        largest=largest,
                    )
        return request

    def _admit(self, request: _Request) -> None:
        """Raises `StoreUnavailable` if too much is waiting."""
        waiting = len(self._queue)
        if waiting and (waiting >= STORE_REQUESTS or self._queued + request.size > STORE_BYTES):
            words = f"{waiting} requests of {self._queued} bytes are waiting for an answer already"
            self._crowd.failed(words, 1)
            raise StoreUnavailable(
                f"{self.system}: {words}", system=self.system, waiting=waiting, bytes=self._queued
            )

    def _short(self, failure: StoreError) -> str:
        return str(failure).removeprefix(f"{self.system}: ")

    def _closed(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self.system}: the store is not open", system=self.system)

    def _elsewhere(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.system}: {self._why}; what the server said before is not believed", system=self.system
        )

    # -- lanes --

    async def _lane(self) -> None:
        loop = asyncio.get_running_loop()
        connection: Connection | None = None
        while True:
            if not self._queue:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                continue
            batch = self._gather()
            good = False
            try:
                if connection is not None and not await self._is_good(connection):
                    await self.hang_up(connection)
                    connection = None
                if connection is None:
                    connection = await self._dial_for(batch)
                if connection is not None:
                    good = await self._serve(connection, batch)
            except asyncio.CancelledError:
                _fail(batch, self._closed())
                raise
            except Exception as error:
                log.error("unexpected error", action="redis.lane", system=self.system, exc_info=error)
                _fail(batch, error)
            if connection is not None and not good:
                await self.hang_up(connection)
                connection = None

    def _gather(self) -> list[_Request]:
        """What is sent next."""
        batch: list[_Request] = []
        size = 0
        while self._queue and len(batch) < STORE_BATCH:
            request = self._queue[0]
            if batch and size + request.size > STORE_BATCH_BYTES:
                break
            self._queue.popleft()
            self._queued -= request.size
            if not request.future.done():  # else nobody waits for it any more
                batch.append(request)
                size += request.size
        if self._crowd.lasts and len(self._queue) < STORE_REQUESTS // 2 and self._queued < STORE_BYTES // 2:
            self._crowd.answered(writes=True)
        return batch

    async def _is_good(self, connection: Connection) -> bool:
        return connection.era == self._era and await connection.usable()

    async def _dial_for(self, batch: Sequence[_Request]) -> Connection | None:
        """A new connection. If there is none, all who wait are told, and nobody is kept for the next try."""
        try:
            return await self.dial()
        except StoreError as failure:
            waiting = [*batch, *self._queue]
            self._outage.failed(self._short(failure), len(waiting))
            self._queue.clear()
            self._queued = 0
            _fail(waiting, failure)
            return None

    async def _serve(self, connection: Connection, batch: Sequence[_Request]) -> bool:
        """Whether the connection is still good."""
        together = _Together(batch)
        replies: list[Reply] = []
        try:
            async with asyncio.timeout(self._answer):
                await self._exchange(connection, together, replies)
        except TROUBLE as error:
            left = _settle(batch, replies, connection.era)
            _fail(left, self._broke(connection, error, len(left)))
            return False
        good = await self._heed(connection, together.commands, replies)
        _settle(batch, replies, connection.era)
        return good

    async def _exchange(self, connection: Connection, asked: _Asked, replies: list[Reply]) -> None:
        self.round_trips += 1
        await connection.ask(asked.packed, replies)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # They were flushed. None of these has run.
            self.round_trips += 1
            shas = dict.fromkeys(asked.commands[place][1] for place in unknown)
            loads = [pack(("SCRIPT", "LOAD", SCRIPTS[sha].source)) for sha in shas]
            repeated: list[Reply] = []
            await connection.ask([*loads, *(asked.packed[place] for place in unknown)], repeated)
            for place, reply in zip(unknown, repeated[len(loads) :], strict=True):
                replies[place] = reply
        # Replication belongs here: WAIT counts the replicas that have this connection's writes.

    async def _heed(
        self, connection: Connection, commands: Sequence[Command], replies: Sequence[Reply]
    ) -> bool:
        """Draw the consequences of error replies. Whether the connection is still good."""
        errors = [reply for reply in replies if isinstance(reply, RedisError)]
        unable = [error for error in errors if is_state(error)]
        if unable:
            self._outage.failed(reason(unable[0]), len(unable), writes=True)
        elif self._outage.lasts:
            self._outage.answered(writes=any(map(writes, commands)))
        if connection.era != self._era:
            return False
        for error in errors:
            if is_elsewhere(error):
                await self._leave(reason(error))
                return False
        return not any(map(leaves, errors))

    # -- connections --

    async def dial(self) -> Connection:
        """A new connection, to be given back by `hang_up`. It is closed when the server turns out to be no
        longer the one it was. Raises `StoreUnavailable`, `StoreUnusable`.
        """
        if not self._tasks:
            raise self._closed()
        connection = Connection(self._pool.make_connection(), self._era)  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(STORE_CONNECT / 1000):
                await connection.connect()
                await self._greet(connection)
            if not self._tasks:
                raise self._closed()
        except BaseException as error:
            await connection.close()
            if isinstance(error, TROUBLE):
                # What was a Redis server once is waited for, whatever answers there now.
                if self._identity is None and (why := never_fits(error)):
                    raise StoreUnusable(f"{self.system}: {why}", system=self.system) from error
                raise store_error(self.system, error) from error
            raise
        connection.era = self._era
        self._connections.add(connection)
        return connection

    async def hang_up(self, connection: Connection) -> None:
        self._connections.discard(connection)
        await connection.close()

    async def _greet(self, connection: Connection) -> None:
        """Find out where a new connection leads, and make the server ready."""
        replies = await _answers(connection, [*_WHO, *server.SURVEY], of=len(_WHO))
        about, replication, *stock = replies
        if server.is_too_old(server.fields(about)):
            version = server.fields(about).get("redis_version", "?")
            raise StoreUnusable(
                f"{self.system}: version {version} is too old, 7.0 is needed", system=self.system
            )
        identity = await self._recognise(about, replication)
        self._take_stock(server.survey(*stock))
        if self._ready_for != identity:
            # Before anything is asked: what is sent together is done in its order, if nothing is unknown.
            await _answers(connection, [("SCRIPT", "LOAD", script.source) for script in SCRIPTS.values()])
            self._ready_for = identity

    async def _recognise(self, about: Reply, replication: Reply) -> Identity:
        """Which server has told this. Raises `ReadOnlyError` if it is a replica."""
        one, other = server.fields(about), server.fields(replication)
        if other.get("role", "master") != "master":
            await self._leave(_REPLICA)
            raise ReadOnlyError(_REPLICA)
        identity = Identity(one.get("run_id", ""), other.get("master_replid", ""))
        if self._identity is not None and self._identity != identity:
            await self._leave("another server answers at this address, or the same after a restart")
        self._identity = identity
        return identity

    def _take_stock(self, found: Survey) -> None:
        for name, words in found.unsafe.items():
            if self._survey.unsafe.get(name) != words:
                log.warning(words, action="redis.unsafe", system=self.system, unsafe=name)
        self._survey = found

    async def _watch(self) -> None:
        """Nothing else tells who is idle that the server has become a replica, or another."""
        while True:
            await asyncio.sleep(self._watch_seconds)
            try:
                await self._recognise(*await self.run(_WHO))
            except (StoreError, RedisError):
                continue  # it has had its consequences
            except Exception as error:
                log.error("unexpected error", action="redis.watch", system=self.system, exc_info=error)

    async def _leave(self, why: str) -> None:
        """Give up all connections, and what was said on them."""
        self._era += 1
        self._why = why
        self._spare.clear()
        connections, self._connections = self._connections, set()
        for connection in connections:
            await connection.close()
        self._forget()

    def _broke(self, connection: Connection, error: BaseException, requests: int) -> StoreError:
        """A connection is lost with this many requests on it; what they are told."""
        if not self._tasks:
            return self._closed()
        if connection.era != self._era:
            failure: StoreError = self._elsewhere()
            self._outage.failed(self._why, requests)
        else:
            failure = store_error(self.system, error)
            self._outage.failed(reason(error), requests)
        self._forget()
        return failure

    def _forget(self) -> None:
        if self._on_break is not None:
            self._on_break()


class _Asked(Protocol):
    """Commands by their names, and as they are sent."""

    commands: list[Command]
    packed: list[bytes]


class _Together:
    """Requests that share a round trip."""

    def __init__(self, batch: Sequence[_Request]) -> None:
        self.commands = [command for request in batch for command in request.commands]
        self.packed = [one for request in batch for one in request.packed]


_WHO: tuple[Command, ...] = (("INFO", "server"), ("INFO", "replication"))
_REPLICA = "it is a replica and takes no writes"


async def _answers(
    connection: Connection, commands: Sequence[Command], *, of: int | None = None
) -> list[Reply]:
    """Raises what the server answers with an error, to the first ``of`` of the commands."""
    replies: list[Reply] = []
    await connection.ask([pack(command) for command in commands], replies)
    for reply in replies[:of]:
        if isinstance(reply, RedisError):
            raise reply
    return replies


def _settle(batch: Sequence[_Request], replies: list[Reply], era: int) -> list[_Request]:
    """Give out the replies; the requests that did not get all of theirs are left."""
    place, left = 0, []
    for request in batch:
        end = place + len(request.commands)
        if end > len(replies):
            left.append(request)
        elif not request.future.done():
            request.era = era
            request.future.set_result(replies[place:end])
        place = end
    return left


def _fail(batch: Iterable[_Request], error: Exception) -> None:
    for request in batch:
        if not request.future.done():
            request.future.set_exception(error)


def _keepalive() -> dict[str, Any]:
    """A peer that vanished without a word is noticed within half a minute."""
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    options = {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
    return {"socket_keepalive": True, "socket_keepalive_options": options}
