"""The connections to one origin: last used, first reused; bounded in number, with a fair queue beyond."""

from __future__ import annotations

import asyncio
from collections import deque

from inngest.drivers.http.connection import Connection
from inngest.drivers.http.dial import Dialer
from inngest.drivers.http.errors import HttpClientClosed, HttpTimeout
from inngest.drivers.http.target import Target
from inngest.loops.room import Room


class Pool:
    """Keeps and lends the connections to one origin.

    A borrowed connection holds one of ``limit`` slots until :meth:`release`. Reuse is last in, first out, so
    that what a quiet period does not need grows old and closes. When all slots are taken callers wait in
    order of arrival.
    """

    def __init__(
        self,
        target: Target,
        dialer: Dialer,
        *,
        limit: int,
        idle_seconds: float,
        max_body: int,
        room: Room | None = None,
    ) -> None:
        self._target = target
        self._dialer = dialer
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._max_body = max_body
        self._room = room
        self._idle: list[Connection] = []
        self._slots = 0
        # A waiter is given an idle connection, or None: leave to open one in a slot already counted.
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._connections: set[Connection] = set()
        self._empty: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def unused(self) -> bool:
        """Whether nothing is lost by forgetting this pool."""
        return not self._slots and not self._connections

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    def borrow_idle(self) -> Connection | None:
        """The connection returned last, if any; it may turn out to be stale."""
        return self._idle.pop() if self._idle else None

    async def borrow(self, *, deadline: float, seconds: float) -> Connection:
        """A connection, new unless one is returned first while waiting for a slot.

        Raises HttpUnreachable, HttpTimeout and HttpClientClosed.
        """
        if self._closed:
            raise HttpClientClosed
        if self._slots < self._limit:
            self._slots += 1
        elif (returned := await self._wait(deadline, seconds)) is not None:
            return returned
        try:
            return await self.dial(deadline=deadline, seconds=seconds)
        except BaseException:
            self._free_slot()
            raise

    async def dial(self, *, deadline: float, seconds: float) -> Connection:
        """A new connection, in a slot that the caller already holds."""
        loop = asyncio.get_running_loop()
        connection = await self._dialer.dial(
            self._target,
            lambda: Connection(
                loop,
                self,
                self._target.where,
                max_body=self._max_body,
                idle_seconds=self._idle_seconds,
                room=self._room,
            ),
            deadline=deadline,
            seconds=seconds,
        )
        if self._closed:
            connection.abort()
            raise HttpClientClosed
        return connection

    def release(self, connection: Connection) -> None:
        """Take a borrowed connection back; one that is not at rest between two messages is dropped."""
        if not connection.ready:
            connection.abort()
            self._free_slot()
        elif self._waiters:
            self._hand_over(connection)
        else:
            connection.park()
            self._idle.append(connection)

    async def close(self) -> None:
        """Drop every connection and refuse every waiter, then wait until the transports are gone."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(HttpClientClosed())
        self._waiters.clear()
        for connection in tuple(self._connections):
            connection.abort()
        if self._connections:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty

    # Told by the connections

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            self._free_slot()
        if self._empty is not None and not self._connections and not self._empty.done():
            self._empty.set_result(None)

    # Slots

    async def _wait(self, deadline: float, seconds: float) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                # Served in the very moment it gave up: the next one is to have it.
                self._hand_over(waiter.result())
            if isinstance(error, TimeoutError):
                raise HttpTimeout(
                    self._target.where,
                    phase="total",
                    seconds=seconds,
                    doing=f"waiting for one of {self._limit} busy connections to",
                ) from error
            raise

    def _free_slot(self) -> None:
        self._hand_over(None)

    def _hand_over(self, connection: Connection | None) -> None:
        """Give a connection, or its bare slot, to the first who still waits, or else take it back."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._slots -= 1
        else:
            self.release(connection)
