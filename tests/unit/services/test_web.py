"""A listener: what every answer of it has (wire protocol section 1.2), and how it stands up to strangers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http import HttpProcessingError
from structlog.testing import capture_logs

from inngest.api.answers import answer
from inngest.services.admission import Admission, Bounds
from inngest.services.malformed import LINES, RequestLog, reason
from inngest.services.web import WebServer


async def _fine(_: web.Request) -> web.Response:
    return answer({})


async def _broken(_: web.Request) -> web.Response:
    raise ZeroDivisionError


@asynccontextmanager
async def listening(
    *routes: web.RouteDef, kind: str = "dev", admission: Admission | None = None
) -> AsyncIterator[WebServer]:
    server = WebServer("core-api", "127.0.0.1", 0, routes, kind=kind, admission=admission)
    await server.prepare()
    try:
        yield server
    finally:
        await server.stop(1.0)


@pytest.mark.parametrize("kind", ["dev", "cloud"])
async def test_the_kind_of_the_server_is_on_every_answer(kind: str) -> None:
    routes = [web.get("/fine", _fine), web.get("/broken", _broken)]
    async with (
        listening(*routes, kind=kind) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
    ):
        for path, status in (("/fine", 200), ("/broken", 500), ("/nowhere", 404)):
            async with session.get(path) as response:
                assert (response.status, response.headers["X-Inngest-Server-Kind"]) == (status, kind)
                await response.json()


class Wire:
    """A client that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, server: WebServer, said: bytes = b"") -> Wire:
        wire = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        wire.writer.write(said)
        return wire

    async def ask(self, path: str) -> bytes:
        """The status line and headers of the answer."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await self.reader.readexactly(int(length.split(b":")[1]))
        return head

    async def rest(self) -> bytes:
        """All until the server closes the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            self.writer.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def test_half_heads_leave_room_for_others() -> None:
    admission = Admission(Bounds(total=8, each=4, spare=2))
    async with listening(web.get("/fine", _fine), admission=admission) as server:
        halves = [await Wire.to(server, b"GET / HTTP/1.1\r\n") for _ in range(40)]
        wire = await Wire.to(server)
        assert b" 200 " in await wire.ask("/fine")
        assert b" 200 " in await wire.ask("/fine"), "the connection is kept"
        await until(lambda: admission.refused >= 36)
        assert admission.count <= 4
        assert await halves[0].rest() == b""
        for each in [wire, *halves]:
            each.writer.close()
        await until(lambda: admission.count == 0)


async def test_probes_are_answered_while_all_places_are_taken() -> None:
    inside, leave = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        inside.release()
        await leave.wait()
        return answer({})

    admission = Admission(Bounds(total=4, each=2, spare=2))
    routes = [web.get("/slow", slow), web.get("/fine", _fine), web.get("/health/live", _fine)]
    async with listening(*routes, admission=admission) as server:
        busy = [await Wire.to(server, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)]
        for _ in busy:
            await inside.acquire()
        for _ in range(5):
            probe = await Wire.to(server)
            head = await probe.ask("/health/live")
            assert b" 200 " in head
            assert await probe.rest() == b"", "one request each"
            other = await Wire.to(server)
            head = await other.ask("/fine")
            assert b" 503 " in head
            assert b"Retry-After" in head
            await other.rest()
        leave.set()
        for each in busy:
            assert b" 200 " in await each.reader.readline()
            each.writer.close()


async def test_silent_connections_are_closed() -> None:
    admission = Admission(Bounds(total=8, each=8, spare=2, head_seconds=0.0, idle_seconds=0.0))
    async with listening(web.get("/fine", _fine), admission=admission) as server:
        silent, half = await Wire.to(server), await Wire.to(server, b"GET /fi")
        assert await silent.rest() == b""
        assert await half.rest() == b""


async def test_what_is_no_request_is_told_so_in_json_without_what_was_sent() -> None:
    async with listening(web.get("/fine", _fine)) as server:
        with capture_logs() as lines:
            wire = await Wire.to(server, b"GET / HTTP/1.1\r\nA secret: c\r\n\r\n")
            said = await wire.rest()
        assert said.split(b" ")[1] == b"400"
        assert b'"error":"Malformed request' in said
        assert b"secret" not in said
    (line,) = lines
    assert (line["action"], line["address"]) == ("web.malformed", "127.0.0.1")
    assert "secret" not in str(line)
    assert "exc_info" not in line


def test_nonsense_is_some_lines_a_second() -> None:
    now = [10.0]
    requests = RequestLog(clock=lambda: now[0])
    error = HttpProcessingError(code=400, message="Invalid header token:\n\n  b'A B'\n    ^")
    with capture_logs() as lines:
        for _ in range(1000):
            requests.exception("Error handling request from %s", "1.2.3.4", exc_info=error)
        assert len(lines) == LINES
        now[0] += 1.0
        for _ in range(1000):
            requests.exception("Error handling request from %s", "1.2.3.4", exc_info=error)
    assert len(lines) == 2 * LINES
    assert lines[LINES]["not_shown"] == 1000 - LINES
    assert len(str(lines[0])) < 300


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Invalid header token:\n\n  b'A B: c'\n     ^", "Invalid header token"),
        ("Got more than 8190 bytes when reading: b'aaaa'", "Got more than 8190 bytes when reading"),
        ("\n  bell \x07 in it\n", "bell · in it"),
        ("", "HttpProcessingError"),
    ],
)
def test_the_reason_is_one_line(message: str, told: str) -> None:
    assert reason(HttpProcessingError(code=400, message=message)) == told


def test_an_error_of_our_own_keeps_its_traceback() -> None:
    with capture_logs() as lines:
        RequestLog().exception("Unhandled exception", exc_info=ZeroDivisionError("x"))
    assert isinstance(lines[0]["exc_info"], ZeroDivisionError)
