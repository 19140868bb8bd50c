"""The load generator: posts events over kept connections, as fast as they are accepted, or at a pace.

At a pace an event counts from when it was to be sent, not from when a connection was free for it, so that a
server that stalls does not hide its delay by delaying the next.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, cast

import httptools
import uvloop

from harness.remote import listen


@dataclass(frozen=True)
class Load:
    """What to send.

    ``array`` events in a request, over ``connections``; ``pace`` in events a second, 0 for as fast as
    possible. ``ids``: number the events, as ``data.id``. ``ts`` is the events' own, 0 for none.
    """

    port: int
    key: str
    name: str
    count: int
    array: int = 1
    connections: int = 32
    pace: float = 0
    ids: bool = False
    ts: int = 0


@dataclass(frozen=True)
class Sent:
    """How it went: first request to last answer, on the common clock (ns)."""

    started: int
    ended: int

    @property
    def seconds(self) -> float:
        return (self.ended - self.started) / 1e9


class _Posting:
    """One `Load` under way."""

    def __init__(self, load: Load, done: asyncio.Future[Sent]) -> None:
        self._load = load
        self._done = done
        self._head = (
            f"POST /e/{load.key} HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\n"
            "content-type: application/json\r\ncontent-length: %d\r\n\r\n"
        ).encode()
        self._next = 0
        self._answered = 0
        self._idle: deque[_Client] = deque()  # in turn: a server lets go of those that say nothing
        self._late: deque[int] = deque()
        self._clients: list[_Client] = []
        self._started = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(self._load.connections, -(-self._load.count // self._load.array))):
            _, client = await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._load.port)
            self._clients.append(client)
        self._started = time.monotonic_ns()
        if self._load.pace:
            self._idle.extend(self._clients)
            self._pacing = asyncio.create_task(self._pace())
        else:
            for client in self._clients:
                client.send(self._request(time.monotonic_ns()))

    async def _pace(self) -> None:
        gap = 1e9 * self._load.array / self._load.pace
        for number in range(-(-self._load.count // self._load.array)):
            due = self._started + int(number * gap)
            ahead = (due - time.monotonic_ns()) / 1e9
            if ahead > 0:
                await asyncio.sleep(ahead)
            if self._idle:
                self._idle.popleft().send(self._request(due))
            else:
                self._late.append(due)

    def _request(self, at: int) -> bytes:
        count = min(self._load.array, self._load.count - self._next)
        events = b",".join([self._event(self._next + place, at) for place in range(count)])
        self._next += count
        body = events if self._load.array == 1 else b"[%b]" % events
        return self._head % len(body) + body

    def _event(self, number: int, at: int) -> bytes:
        name = self._load.name.encode()
        own = b'"id":"n%d",' % number if self._load.ids else b""
        ts = b',"ts":%d' % self._load.ts if self._load.ts else b""
        return b'{"name":"%b","data":{%b"by":"someone","t":%d}%b}' % (name, own, at, ts)

    def answered(self, client: _Client, status: int, body: bytes) -> None:
        load = self._load
        if status != 200:
            self.failed(RuntimeError(f"events were refused with {status}: {body.decode(errors='replace')}"))
            return
        self._answered += 1
        if self._answered == -(-load.count // load.array):
            if not self._done.done():
                self._done.set_result(Sent(self._started, time.monotonic_ns()))
            self.close()
        elif self._late:
            client.send(self._request(self._late.popleft()))
        elif load.pace:
            self._idle.append(client)
        elif self._next < load.count:
            client.send(self._request(time.monotonic_ns()))

    def failed(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
            self.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()


class _Client(asyncio.Protocol):
    """One kept connection, with one request at a time."""

    def __init__(self, posting: _Posting) -> None:
        self._posting = posting
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.send = self._transport.write

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._posting.failed(ConnectionError(f"the server closed a connection of the load: {exc}"))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._posting.answered(self, self._parser.get_status_code(), body)


def generate(pipe: Connection) -> None:
    """The process: answers each `Load` with how it went, or with what went wrong."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked: asyncio.Queue[Any] = asyncio.Queue()
        listen(pipe, asked.put_nowait)
        pipe.send("ready")
        while True:
            done: asyncio.Future[Sent] = loop.create_future()
            try:
                await _Posting(await asked.get(), done).start()
                pipe.send(await done)
            except (OSError, RuntimeError) as error:
                pipe.send(error)

    uvloop.run(main())
