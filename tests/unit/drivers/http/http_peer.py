"""A server on a raw socket that behaves, or misbehaves, exactly as a test says."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """The server's side of all its connections; ``requests`` in the order in which they came in full."""

    url: str = ""
    port: int = 0
    accepted: int = 0
    open: int = 0
    requests: list[Request] = field(default_factory=list)


class Link:
    """The server's side of one connection; ``number`` counts from 1."""

    def __init__(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self._peer = peer
        self.reader = reader
        self.writer = writer
        self.number = number

    async def request(self) -> Request | None:
        """The next request, or None when the client has closed the connection."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        request = Request(method, path, headers, body)
        self._peer.requests.append(request)
        return request

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        linger = b"\1\0\0\0\0\0\0\0"
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def closed_by_client(self) -> None:
        while await self.reader.read(65536):
            pass


Handler = Callable[[Link], Awaitable[None]]


class Server:
    def __init__(self, handler: Handler, peer: Peer) -> None:
        self._handler = handler
        self.peer = peer
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self, host: str, context: ssl.SSLContext | None) -> None:
        self._server = await asyncio.start_server(self._accept, host, 0, ssl=context, limit=1 << 23)
        self.peer.port = self._server.sockets[0].getsockname()[1]
        literal = f"[{host}]" if ":" in host else host
        self.peer.url = f"{'https' if context else 'http'}://{literal}:{self.peer.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.peer.accepted += 1
        self.peer.open += 1
        try:
            await self._handler(Link(self.peer, reader, writer, self.peer.accepted))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.peer.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def ok(body: bytes = b"done", *headers: str, status: int = 200) -> bytes:
    """A response framed by its length."""
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(*responses: bytes) -> Handler:
    """On each connection: the responses in turn, the last one again and again."""

    async def handle(link: Link) -> None:
        count = 0
        while await link.request() is not None:
            await link.send(responses[min(count, len(responses) - 1)])
            count += 1

    return handle


def closing_after(*pieces: bytes) -> Handler:
    """On each connection: read a request, send the pieces, close."""

    async def handle(link: Link) -> None:
        await link.request()
        await link.send(*pieces)

    return handle


async def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; the test's own time limit is the only clock."""
    while not condition():
        await asyncio.sleep(0.001)
