"""Peers that break off, babble or flood."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import brotli
import pytest
from http_peer import Link, answering, closing_after, ok, until

from inngest.core.content import decoder_for
from inngest.core.errors import InngestError
from inngest.drivers.http import HttpClient, HttpError, HttpProtocolError, HttpTooLarge
from inngest.drivers.http.connection import Connection

ANSWER = b"HTTP/1.1 200 OK\r\n"
CHUNKED = ANSWER + b"transfer-encoding: chunked\r\n\r\n"
LIMIT = 100_000


async def call(client: HttpClient, url: str, body: bytes = b"x") -> bytes:
    return (await client.request("POST", url, {}, body, timeout=30)).body


@pytest.mark.parametrize(
    ("response", "message"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", "not HTTP", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc Hm\r\n\r\n", "not HTTP", id="no status"),
        pytest.param(ANSWER + b"no colon\r\n\r\n", "not HTTP", id="bad header"),
        pytest.param(CHUNKED + b"zz\r\n", "not HTTP", id="bad chunk size"),
        pytest.param(
            ANSWER + b"content-length: 1\r\ncontent-length: 2\r\n\r\na", "not HTTP", id="two lengths"
        ),
        pytest.param(
            ANSWER + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\na",
            "not HTTP",
            id="two framings",
        ),
        pytest.param(ANSWER + b"content-length: -1\r\n\r\n", "not HTTP", id="negative length"),
        pytest.param(
            ANSWER + b"transfer-encoding: gzip, chunked\r\n\r\n", "transfer encoding", id="coded transfer"
        ),
        pytest.param(ok(b"a", "content-encoding: zstd"), "'zstd' was not asked for", id="unknown coding"),
        pytest.param(ok(b"abc", "content-encoding: gzip"), "gzip body is corrupt", id="not gzip"),
        pytest.param(ok(b"\xff\xff\xff", "content-encoding: br"), "br body is corrupt", id="not brotli"),
        pytest.param(
            ok(b"\xff\xff\xff", "content-encoding: deflate"), "deflate body is corrupt", id="not deflate"
        ),
        pytest.param(
            ok(gzip.compress(b"a") + b"junk", "content-encoding: gzip"), "corrupt", id="junk after gzip"
        ),
        pytest.param(
            ok(zlib.compress(b"a") + b"a", "content-encoding: deflate"), "follow the end", id="after zlib"
        ),
        pytest.param(ok(gzip.compress(b"a") * 65, "content-encoding: gzip"), "64 members", id="many members"),
        pytest.param(
            ok(gzip.compress(b"abc")[:-4], "content-encoding: gzip"), "gzip body is cut", id="cut gzip"
        ),
        pytest.param(
            ok(brotli.compress(b"abc" * 99)[:-4], "content-encoding: br"), "br body is cut", id="cut br"
        ),
        pytest.param(
            ok(zlib.compress(b"abc")[:-4], "content-encoding: deflate"), "deflate body is cut", id="cut zlib"
        ),
        pytest.param(b"", "closed before an answer came", id="nothing"),
        pytest.param(b"HTTP/1.1 20", "in the middle", id="cut status"),
        pytest.param(ANSWER + b"content-length: 9\r\n\r\n1234", "in the middle", id="cut length"),
        pytest.param(CHUNKED + b"9\r\n1234", "in the middle", id="cut chunk"),
        pytest.param(CHUNKED + b"4\r\n1234\r\n", "in the middle", id="no last chunk"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", "in the middle", id="interim only"),
        pytest.param(
            ANSWER + b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"a")[:-1], "cut", id="cut by close"
        ),
    ],
)
async def test_a_broken_response_is_a_protocol_error(
    serve, client: HttpClient, response: bytes, message: str
) -> None:
    peer = await serve(closing_after(response))
    with pytest.raises(HttpProtocolError, match=message) as caught:
        await call(client, peer.url)
    assert f"127.0.0.1:{peer.port}" in str(caught.value)
    assert peer.accepted == 1  # a fresh connection: nothing to retry


async def test_the_client_goes_on_after_a_broken_response(serve, client: HttpClient) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(b"nonsense\r\n" if link.number == 1 else ok())

    peer = await serve(handle)
    with pytest.raises(HttpProtocolError):
        await call(client, peer.url)
    assert await call(client, peer.url) == b"done"


async def test_a_reset_in_a_body_that_ends_with_the_connection_is_not_its_end(
    serve, client: HttpClient
) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(ANSWER + b"\r\nhalf of")
        await proceed.wait()
        link.reset()

    proceed = asyncio.Event()
    peer = await serve(handle)
    task = asyncio.create_task(call(client, peer.url))
    await until(lambda: len(peer.requests) == 1)
    # The reset must not overtake the bytes before it.
    await asyncio.sleep(0.05)
    proceed.set()
    with pytest.raises(HttpProtocolError, match="in the middle"):
        await task


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", ok(b"unasked")])
async def test_a_peer_that_speaks_first_or_hangs_up_is_not_http(
    serve, client: HttpClient, monkeypatch, greeting: bytes
) -> None:
    async def handle(link: Link) -> None:
        await link.send(greeting)

    create = Connection.connection_made

    def late(connection: Connection, transport: asyncio.BaseTransport) -> None:
        """Let the peer's bytes and its end come before the request."""
        create(connection, transport)
        if greeting:
            connection.data_received(greeting)
        else:
            connection.eof_received()
            transport.close()

    monkeypatch.setattr(Connection, "connection_made", late)
    peer = await serve(handle)
    with pytest.raises(HttpProtocolError, match="before the request was sent"):
        await call(client, peer.url)
    assert peer.requests == []


# Bytes that nobody asked for


@pytest.mark.parametrize("excess", [b"junk", ok(b"another"), b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_bytes_after_a_response_spoil_the_connection_only(
    serve, client: HttpClient, excess: bytes
) -> None:
    peer = await serve(answering(ok(b"1") + excess))
    for _ in range(2):
        assert await call(client, peer.url) == b"1"
    assert peer.accepted == 2


async def test_bytes_on_an_idle_connection_end_it(serve, client: HttpClient) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(ok(b"1"))
        if link.number == 1:
            await proceed.wait()
            await link.send(ok(b"stray"))
        await link.closed_by_client()

    proceed = asyncio.Event()
    peer = await serve(handle)
    assert await call(client, peer.url) == b"1"
    proceed.set()
    await until(lambda: peer.open == 0)
    assert await call(client, peer.url) == b"1"
    assert peer.accepted == 2


async def test_an_answer_before_the_end_of_the_request_is_delivered(serve, client: HttpClient) -> None:
    async def handle(link: Link) -> None:
        await link.reader.readuntil(b"\r\n\r\n")
        await link.send(ok(b"too much", status=413))
        await link.closed_by_client()

    peer = await serve(handle)
    # More than the buffers of both sockets hold.
    response = await client.request("POST", peer.url, {}, b"x" * (64 << 20), timeout=60)
    assert (response.status, response.body) == (413, b"too much")
    (pool,) = client._pools.values()
    assert pool.idle_count == 0


async def test_a_peer_that_does_not_read_does_not_hold_the_client(serve) -> None:
    async def handle(link: Link) -> None:
        await link.reader.readuntil(b"\r\n\r\n")
        link.writer.transport.pause_reading()
        await link.send(ok(b"too much", status=413))
        await over.wait()

    over = asyncio.Event()
    peer = await serve(handle)
    client = HttpClient()
    assert await call(client, peer.url, b"x" * (64 << 20)) == b"too much"
    await client.close()
    over.set()


# Floods


async def flood(link: Link, opening: bytes, piece: bytes) -> None:
    await link.request()
    await link.send(opening)
    while not link.writer.is_closing():
        await link.send(piece)


@pytest.mark.parametrize(
    ("opening", "piece"),
    [
        pytest.param(ANSWER + b"x-a: ", b"a" * 4096, id="header value"),
        pytest.param(ANSWER, b"x-a: b\r\n" * 512, id="headers"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, id="interim responses"),
        pytest.param(CHUNKED + b"0\r\nx-a: ", b"a" * 4096, id="trailer"),
        pytest.param(CHUNKED + b"5;x=", b"a" * 4096, id="chunk extension"),
    ],
)
async def test_an_endless_head_is_stopped(serve, client: HttpClient, opening: bytes, piece: bytes) -> None:
    peer = await serve(lambda link: flood(link, opening, piece))
    with pytest.raises(HttpTooLarge, match="response head is larger than 65536 bytes") as caught:
        await call(client, peer.url)
    assert caught.value.part == "head"


async def test_a_large_head_that_comes_at_once_is_refused(serve, client: HttpClient) -> None:
    lines = [f"x-{i}: {'a' * 1000}" for i in range(100)]
    peer = await serve(answering(ok(b"1", *lines)))
    with pytest.raises(HttpTooLarge, match="head"):
        await call(client, peer.url)


async def test_a_head_below_the_limit_with_a_large_body_is_fine(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok(b"a" * 300_000, "x-a: " + "a" * 60_000)))
    assert await call(client, peer.url) == b"a" * 300_000


def coded(coding: str, data: bytes) -> bytes:
    return ok(
        {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}[coding](data),
        f"content-encoding: {coding}",
    )


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(ok(b"a" * (LIMIT + 1)), id="length"),
        pytest.param(ANSWER + b"content-length: 99999999999999\r\n\r\n", id="announced"),
        pytest.param(CHUNKED + b"fffffff\r\n" + b"a" * (LIMIT + 1), id="chunk"),
        pytest.param(ANSWER + b"\r\n" + b"a" * (LIMIT + 1), id="until close"),
        pytest.param(coded("gzip", bytes(LIMIT + 1)), id="gzip"),
        pytest.param(coded("br", bytes(LIMIT + 1)), id="br"),
        pytest.param(coded("deflate", bytes(LIMIT + 1)), id="deflate"),
    ],
)
async def test_a_body_over_the_limit_is_refused(serve, make_client, response: bytes) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(response)
        await link.closed_by_client()

    peer = await serve(handle)
    with pytest.raises(HttpTooLarge, match=f"response body is larger than {LIMIT} bytes") as caught:
        await call(make_client(max_body=LIMIT), peer.url)
    assert caught.value.part == "body"


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
async def test_a_body_of_exactly_the_limit_is_fine(serve, make_client, coding: str) -> None:
    peer = await serve(answering(ok(b"a" * LIMIT), coded(coding, b"b" * LIMIT)))
    client = make_client(max_body=LIMIT)
    assert await call(client, peer.url) == b"a" * LIMIT
    assert await call(client, peer.url) == b"b" * LIMIT


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_a_bomb_is_stopped_while_it_inflates(coding: str) -> None:
    bomb = {"gzip": gzip.compress, "br": lambda d: brotli.compress(d, quality=5), "deflate": zlib.compress}
    decoder = decoder_for(coding)
    assert decoder is not None
    out = decoder.feed(bomb[coding](bytes(64 << 20)), 1000)
    # One block of the decoder at most beyond the limit.
    assert 1000 < len(out) < 1 << 18


def test_the_members_of_a_gzip_body_share_the_limit() -> None:
    decoder = decoder_for("gzip")
    assert decoder is not None
    assert len(decoder.feed(gzip.compress(bytes(600)) + gzip.compress(bytes(64 << 20)), 1000)) == 1001


async def test_every_error_is_an_http_error_of_the_project() -> None:
    assert issubclass(HttpError, InngestError)
    assert issubclass(HttpProtocolError, HttpError)
