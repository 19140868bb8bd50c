"""Bodies of requests: what is read of them, when, and at what price."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import brotli
import pytest
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient
from api_world import World
from served import FrontServer, client_of
from test_event_api import Entrance

from inngest.api import bodies, forms, front
from inngest.api.answers import ApiError, answer
from inngest.api.bodies import read_body
from inngest.api.budget import Budget
from inngest.api.pages import Pages
from inngest.core.content import DecodingError

KEY = "event-key-0123456789"
MOST = 100_000


class Inflated:
    """Stands before the decoders, and counts what they make."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make
        self.bytes = 0
        self.made = 0

    def __call__(self, coding: str) -> Any:
        decoder = self._make(coding)
        if decoder is not None:
            self.made += 1
            feed = decoder.feed

            def counted(data: bytes, limit: int) -> bytes:
                out: bytes = feed(data, limit)
                self.bytes += len(out)
                return out

            decoder.feed = counted
        return decoder


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> Inflated:
    counting = Inflated(bodies.decoder_for)
    monkeypatch.setattr(bodies, "decoder_for", counting)
    return counting


async def _echo(request: web.Request) -> web.Response:
    return answer({"bytes": len(await read_body(request, MOST))})


async def _closed(request: web.Request) -> web.Response:
    raise ApiError(401, "Authentication failed")


@pytest.fixture
async def client() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with client_of([web.post("/echo", _echo), web.post("/closed", _closed)]) as made:
        yield made


def _deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": _deflate,
    "br": brotli.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_coded_body_is_read_as_what_it_is(
    client: TestClient[web.Request, web.Application], coding: str
) -> None:
    for plain in (b"", b"x", b"x" * MOST):
        body = CODINGS[coding](plain)
        async with client.post("/echo", data=io.BytesIO(body), headers={"Content-Encoding": coding}) as got:
            assert (got.status, await got.json()) == (200, {"bytes": len(plain)})


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_a_bomb_costs_the_limit_and_no_more(
    client: TestClient[web.Request, web.Application], inflated: Inflated, coding: str
) -> None:
    bomb = CODINGS[coding](b"\0" * (64 << 20))
    assert len(bomb) < MOST, "what is sent is within the limit"
    async with client.post("/echo", data=io.BytesIO(bomb), headers={"Content-Encoding": coding}) as got:
        assert got.status == 413
    assert inflated.made == 1
    assert inflated.bytes <= MOST + 1


@pytest.mark.parametrize("coding", ["zstd", "gzip, br", "rot13"])
async def test_a_coding_that_is_not_known_is_refused(
    client: TestClient[web.Request, web.Application], coding: str
) -> None:
    async with client.post("/echo", data=io.BytesIO(b"x"), headers={"Content-Encoding": coding}) as got:
        assert got.status == 415
        assert coding in (await got.json())["error"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_a_body_that_is_not_what_it_says_is_refused(
    client: TestClient[web.Request, web.Application], coding: str
) -> None:
    whole = CODINGS[coding](bytes(range(256)) * 9)
    for body in (whole[:-9], b"no such coding, and long enough to tell"):
        async with client.post("/echo", data=io.BytesIO(body), headers={"Content-Encoding": coding}) as got:
            assert got.status == 400
            assert coding.lower() in (await got.json())["error"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v0/gql", {}, 401),
        ("POST", "/v1/signals", {"Authorization": "Bearer wrong"}, 401),
        ("POST", "/invoke/x", {}, 401),
        ("POST", "/nowhere", {}, 404),
        ("PUT", "/v1/signals", {}, 405),
    ],
)
async def test_nothing_is_inflated_for_strangers(
    inflated: Inflated, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    world = World(dev=False, signing_keys=("signkey-test-" + "ab" * 16,))
    await world.open()
    try:
        bomb = brotli.compress(b"\0" * (1 << 20))
        coded = {**headers, "Content-Encoding": "br"}
        assert (await world.ask(method, path, bomb, **coded))[0] == status
    finally:
        await world.close()
    assert (inflated.made, inflated.bytes) == (0, 0)


async def test_nothing_is_inflated_for_a_wrong_event_key(inflated: Inflated) -> None:
    entrance = Entrance(keys=[KEY], dev=False)
    await entrance.client.start_server()
    try:
        body = gzip.compress(b'{"name":"a"}')
        assert (await entrance.post(body, "/e/wrong", **{"Content-Encoding": "gzip"}))[0] == 401
        assert inflated.made == 0
        assert (await entrance.post(body, f"/e/{KEY}", **{"Content-Encoding": "gzip"}))[0] == 200
        assert inflated.made == 1
        status, got = await entrance.post(body, f"/e/{KEY}", **{"Content-Encoding": "lzma"})
        assert (status, got["ids"]) == (415, [])
        assert entrance.api.intake.refused["invalid"] == 1
    finally:
        await entrance.client.close()


async def test_a_form_may_be_coded_too(inflated: Inflated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MAX_FIELDS", 100)
    entrance = Entrance()
    await entrance.client.start_server()
    try:
        form = FormData(default_to_multipart=True)
        for number in range(101):
            form.add_field(f"f{number}", "x")
        made = form()
        raw = gzip.compress(await made.as_bytes())
        headers = {"Content-Encoding": "gzip", "Content-Type": made.headers["Content-Type"]}
        status, got = await entrance.post(raw, **headers)
        assert (status, got["error"]) == (400, "Multipart form cannot be read: it has more than 100 fields")
        assert inflated.made == 1
    finally:
        await entrance.client.close()


async def _raw(client: TestClient[web.Request, web.Application], sent: bytes) -> bytes:
    """All that the server says until it closes the connection."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(sent)
        return await reader.read()
    finally:
        writer.close()


def _head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


async def test_a_refused_body_is_not_waited_for(client: TestClient[web.Request, web.Application]) -> None:
    for framing in ("Content-Length: 60000000", "Transfer-Encoding: chunked"):
        said = await _raw(client, _head("/closed", framing) + b"5\r\nabcde\r\n")
        assert said.startswith(b"HTTP/1.1 401 ")
        assert b"Connection: close" in said
        assert said.count(b"HTTP/1.1") == 1, "what follows on the connection is no request"


async def test_what_is_let_go_of_a_refused_body_is_bounded(
    client: TestClient[web.Request, web.Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "LINGER_SECONDS", 60.0)
    size = front.LINGER_BYTES + (64 << 20)
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(_head("/closed", f"Content-Length: {size}"))
    taken = 0
    try:
        while taken < size:
            writer.write(b"x" * 65_536)
            await writer.drain()
            taken += 65_536
    except ConnectionError:
        pass
    finally:
        writer.close()
    # What the buffers of both ends hold comes on top.
    assert taken < size


async def test_a_body_that_says_it_is_too_large_is_not_begun(
    client: TestClient[web.Request, web.Application],
) -> None:
    said = await _raw(client, _head("/echo", f"Content-Length: {MOST + 1}", "Expect: 100-continue"))
    assert said.startswith(b"HTTP/1.1 413 "), "nobody is asked to send it"


async def test_who_asks_first_is_told_to_go_on_once_let_in(
    client: TestClient[web.Request, web.Application],
) -> None:
    asks = ("Content-Length: 5", "Expect: 100-continue")
    assert (await _raw(client, _head("/closed", *asks))).startswith(b"HTTP/1.1 401 ")
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(_head("/echo", *asks, "Connection: close"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abcde")
    assert (await reader.read()).endswith(b'{"bytes":5}')
    writer.close()


async def test_a_body_that_does_not_come_is_given_up(
    client: TestClient[web.Request, web.Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.0)
    said = await _raw(client, _head("/echo", "Content-Length: 50") + b"abcde")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"5 bytes" in said


async def test_a_body_that_is_framed_wrongly_is_refused(
    client: TestClient[web.Request, web.Application],
) -> None:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(_head("/echo", "Transfer-Encoding: chunked") + b"5\r\nabcde\r\n")
    await asyncio.sleep(0)
    writer.write(b"ZZ\r\n")
    assert (await reader.read()).split(b" ")[1] == b"400"
    writer.close()


def test_decoders_are_counted_where_they_fail(inflated: Inflated) -> None:
    with pytest.raises(DecodingError):
        inflated("gzip").feed(b"no gzip", 10)
    assert inflated.made == 1


async def _hold(request: web.Request) -> web.Response:
    await read_body(request, 1 << 20)
    return answer({})


async def test_the_bytes_of_all_bodies_are_bounded() -> None:
    budget = Budget(300_000)
    app = front.application(
        [web.post("/hold", _hold)], pages=Pages(dev=True), max_body=1 << 20, budget=budget
    )
    async with TestClient(FrontServer(app)) as client:
        halves = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(client.host, client.port)
            writer.write(_head("/hold", "Content-Length: 120000") + b"x" * 100_000)
            halves.append((reader, writer))
        while budget.taken < 240_000:
            await asyncio.sleep(0.005)
        async with client.post("/hold", data=io.BytesIO(b"x" * 70_000)) as got:
            assert (got.status, got.headers["Retry-After"]) == (503, "1")
        async with client.post("/hold", data=io.BytesIO(b"x" * 1_000)) as got:
            assert got.status == 200, "small ones go on"
        reader, writer = halves.pop()
        writer.write(b"x" * 20_000)
        assert b" 200 " in await reader.readline()
        writer.close()
        async with client.post("/hold", data=io.BytesIO(b"x" * 70_000)) as got:
            assert got.status == 200
        halves.pop()[1].close()
        while budget.taken:
            await asyncio.sleep(0.005)


async def test_what_unpacks_counts_as_what_it_is() -> None:
    budget = Budget(300_000)
    app = front.application(
        [web.post("/hold", _hold)], pages=Pages(dev=True), max_body=1 << 20, budget=budget
    )
    async with TestClient(FrontServer(app)) as client:
        for size, status in ((200_000, 200), (400_000, 503)):
            packed = io.BytesIO(gzip.compress(b"x" * size))
            async with client.post("/hold", data=packed, headers={"Content-Encoding": "gzip"}) as got:
                assert got.status == status
    assert budget.taken == 0
