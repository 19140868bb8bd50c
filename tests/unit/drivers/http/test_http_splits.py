"""A response means the same however the network cuts it."""

from __future__ import annotations

import asyncio
import gzip
import math
import zlib
from collections.abc import Iterator

import brotli
import pytest
from http_wire import TARGET, Nobody, Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from inngest.drivers.http import HttpProtocolError, HttpResponse
from inngest.drivers.http.connection import Connection
from inngest.drivers.http.errors import StaleConnection

ENCODE = {"identity": bytes, "gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def cut(draw: st.DrawFn, data: bytes, most: int = 12) -> list[bytes]:
    marks = sorted(draw(st.lists(st.integers(0, len(data)), max_size=most)))
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True) if a < b]


@st.composite
def responses(draw: st.DrawFn) -> tuple[list[bytes], bytes, str]:
    """(the pieces as they arrive, the body they mean, how its end is told)."""
    body = draw(st.binary(max_size=400))
    coding = draw(st.sampled_from(sorted(ENCODE)))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    coded = ENCODE[coding](body)
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\nlink: a\r\n\r\n" * 2])
    )
    head = interim + b"HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-encoding: " + coding.encode()
    if framing == "length":
        stream = head + b"\r\ncontent-length: %d\r\n\r\n" % len(coded) + coded
    elif framing == "chunked":
        chunks = b"".join(b"%X;n=v\r\n%s\r\n" % (len(part), part) for part in cut(draw, coded))
        trailers = draw(st.sampled_from([b"", b"x-a: 2\r\n", b"x-b: 1\r\nx-c: 2\r\n"]))
        stream = head + b"\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailers + b"\r\n"
    else:
        stream = head + b"\r\n\r\n" + coded
    return cut(draw, stream), body, framing


def start(loop: asyncio.AbstractEventLoop) -> tuple[Connection, Wire, asyncio.Future[HttpResponse]]:
    connection = Connection(loop, Nobody(), "app:80", max_body=1 << 20, idle_seconds=60)
    wire = Wire()
    connection.connection_made(wire)
    return connection, wire, send(connection)


def send(connection: Connection) -> asyncio.Future[HttpResponse]:
    return connection.send(b"", b"", TARGET, head_only=False, deadline=math.inf, seconds=math.inf)


@settings(deadline=None)
@given(first=responses(), second=responses())
def test_split_anywhere(loop: asyncio.AbstractEventLoop, first, second) -> None:
    connection, wire, future = start(loop)
    for pieces, body, framing in (first, second):
        for piece in pieces:
            assert not future.done()
            connection.data_received(piece)
        if framing == "close":
            assert not future.done()
            connection.eof_received()
        response = future.result()
        assert (response.status, response.body, response.headers["x-a"]) == (200, body, "1")
        assert connection.ready is (framing != "close")
        assert wire.closed is (framing == "close")
        if framing == "close":
            break
        future = send(connection)


@settings(deadline=None)
@given(response=responses(), data=st.data())
def test_cut_short_anywhere(loop: asyncio.AbstractEventLoop, response, data) -> None:
    """A stream without its end is an error, never a shorter body."""
    pieces, body, framing = response
    connection, _, future = start(loop)
    whole = b"".join(pieces)
    kept = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if kept:
        connection.data_received(kept)
    connection.eof_received()
    if not future.done():
        connection.connection_lost(None)
    # Identity coding to the end of the connection is the one framing that cannot tell.
    error = future.exception()
    if error is None:
        assert framing == "close"
        assert body.startswith(future.result().body)
        assert (
            b"content-encoding: identity" in kept
            or not kept.partition(b"200 OK")[2].partition(b"\r\n\r\n")[2]
        )
    else:
        assert isinstance(error, HttpProtocolError)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60)))
def test_noise_never_raises_out_of_the_protocol(loop: asyncio.AbstractEventLoop, pieces: list[bytes]) -> None:
    connection, wire, future = start(loop)
    for piece in pieces:
        connection.data_received(piece)
        if wire.closed:
            break
    connection.connection_lost(None)
    assert future.done()
    assert future.exception() is None or isinstance(future.exception(), HttpProtocolError)


def test_a_request_on_a_lost_connection_is_refused_at_once(loop: asyncio.AbstractEventLoop) -> None:
    connection, _, _ = start(loop)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert connection.ready
    connection.connection_lost(None)
    assert not connection.ready
    assert isinstance(send(connection).exception(), StaleConnection)
