"""Well-formed exchanges: what is sent, how responses are framed, when a connection is kept."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import brotli
import pytest
from http_peer import Link, answering, closing_after, ok, until

from inngest.drivers.http import HttpClient, HttpProtocolError

ANSWER = b"HTTP/1.1 200 OK\r\n"


async def test_a_post_carries_its_body_and_headers(serve, client: HttpClient) -> None:
    peer = await serve(
        answering(ok(b'{"a":1}', "X-Inngest-SDK: inngest-js:v4", "x-twice: 1", "X-Twice: 2", status=206))
    )
    response = await client.request(
        "POST",
        f"{peer.url}/api?fnId=a&stepId=step#part",
        {"Content-Type": "application/json"},
        b"[1]",
        timeout=10,
    )
    assert response.status == 206
    assert response.body == b'{"a":1}'
    assert response.headers["x-inngest-sdk"] == "inngest-js:v4"
    assert response.headers["x-twice"] == "2"
    assert response.url == f"{peer.url}/api?fnId=a&stepId=step"
    (request,) = peer.requests
    assert (request.method, request.path, request.body) == ("POST", "/api?fnId=a&stepId=step", b"[1]")
    assert request.headers == {
        "host": f"127.0.0.1:{peer.port}",
        "accept-encoding": "gzip, br",
        "content-type": "application/json",
        "content-length": "3",
    }


async def test_a_target_and_header_pairs_do_as_well(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok()))
    target = client.target(f"{peer.url}/x")
    for _ in range(2):
        await client.request("PUT", target, [("x-a", "1"), ("x-b", "2")], b"", timeout=10)
    assert [r.headers["x-b"] for r in peer.requests] == ["2", "2"]
    assert peer.requests[0].headers["content-length"] == "0"


async def test_a_get_without_body_has_no_length(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok()))
    await client.request("GET", peer.url, {}, b"", timeout=10)
    assert "content-length" not in peer.requests[0].headers
    assert peer.requests[0].path == "/"


async def test_a_large_body_arrives_whole(serve, client: HttpClient) -> None:
    async def handle(link: Link) -> None:
        request = await link.request()
        assert request is not None
        await link.send(ok(request.body))

    peer = await serve(handle)
    body = bytes(range(256)) * (4 * 1024 * 1024 // 256)
    response = await client.request("POST", peer.url, {}, body, timeout=60)
    assert response.body == body


async def test_a_connection_is_kept(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok(b"1"), ok(b"2"), ok(b"3")))
    bodies = [(await client.request("POST", peer.url, {}, b"x", timeout=10)).body for _ in range(3)]
    assert bodies == [b"1", b"2", b"3"]
    assert peer.accepted == 1


async def test_the_connection_used_last_is_reused_first(serve, client: HttpClient) -> None:
    served: list[int] = []
    gates: dict[str, asyncio.Event] = {name: asyncio.Event() for name in ("/a", "/b", "/c")}

    async def handle(link: Link) -> None:
        while (request := await link.request()) is not None:
            await gates[request.path].wait()
            served.append(link.number)
            await link.send(ok())

    peer = await serve(handle)

    def call(path: str) -> asyncio.Task[object]:
        return asyncio.create_task(client.request("POST", peer.url + path, {}, b"", timeout=30))

    first = call("/a")
    await until(lambda: len(peer.requests) == 1)
    second = call("/b")
    await until(lambda: len(peer.requests) == 2)
    gates["/b"].set()
    await second
    gates["/a"].set()
    await first
    gates["/c"].set()
    await call("/c")
    assert served == [2, 1, 1]


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(ok(b"done", "connection: close"), id="connection: close"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\ndone", id="HTTP/1.0"),
    ],
)
async def test_a_connection_the_peer_will_close_is_not_kept(
    serve, client: HttpClient, response: bytes
) -> None:
    peer = await serve(answering(response))
    for _ in range(2):
        assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == b"done"
    assert peer.accepted == 2


async def test_http_1_0_with_keep_alive_is_kept(serve, client: HttpClient) -> None:
    peer = await serve(
        answering(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\ndone")
    )
    for _ in range(2):
        assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == b"done"
    assert peer.accepted == 1


async def test_chunks_extensions_and_trailers(serve, client: HttpClient) -> None:
    chunked = ANSWER + (
        b"transfer-encoding: chunked\r\ntrailer: x-sum\r\nx-sum: head\r\n\r\n"
        b'3;note="a"\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-sum: trailer\r\nx-more: 1\r\n\r\n'
    )
    peer = await serve(answering(chunked))
    for _ in range(2):
        response = await client.request("POST", peer.url, {}, b"", timeout=10)
        assert response.body == b"abc0123456789"
        assert response.headers["x-sum"] == "head"
        assert "x-more" not in response.headers
    assert peer.accepted == 1


async def test_a_body_that_ends_with_the_connection(serve, client: HttpClient) -> None:
    peer = await serve(closing_after(ANSWER + b"\r\n", b"as long ", b"as it lasts"))
    response = await client.request("POST", peer.url, {}, b"", timeout=10)
    assert response.body == b"as long as it lasts"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_body(serve, client: HttpClient, status: int) -> None:
    peer = await serve(
        answering(f"HTTP/1.1 {status} X\r\ncontent-length: 99999999\r\n\r\n".encode(), ok(b"next"))
    )
    assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == b""
    assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == b"next"
    assert peer.accepted == 1


@pytest.mark.parametrize("framing", ["content-length: 99999999", "transfer-encoding: chunked", "x-none: 1"])
async def test_head_has_no_body_whatever_its_headers_say(serve, client: HttpClient, framing: str) -> None:
    peer = await serve(answering(ANSWER + framing.encode() + b"\r\n\r\n"))
    for _ in range(2):
        response = await client.request("HEAD", peer.url, {}, b"", timeout=10)
        assert (response.status, response.body) == (200, b"")


async def test_interim_responses_are_skipped(serve, client: HttpClient) -> None:
    interim = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\n\r\n"
    )
    peer = await serve(answering(interim + ok(b"final")))
    for _ in range(2):
        response = await client.request("POST", peer.url, {}, b"", timeout=10)
        assert (response.status, response.body) == (200, b"final")
        assert "link" not in response.headers
    assert peer.accepted == 1


async def test_a_switch_of_protocols_is_refused(serve, client: HttpClient) -> None:
    peer = await serve(
        answering(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n\0\0")
    )
    with pytest.raises(HttpProtocolError, match="switched protocols"):
        await client.request("POST", peer.url, {}, b"", timeout=10)


async def test_an_offer_to_upgrade_is_ignored(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok(b"1", "connection: upgrade", "upgrade: h2c")))
    assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == b"1"


BODY = b'{"data":"' + b"abcdefgh" * 4096 + b'"}'


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
        ("x-gzip", gzip.compress(BODY)),
        ("br", brotli.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", bare_deflate(BODY)),
        ("identity", BODY),
    ],
)
async def test_content_codings(serve, client: HttpClient, coding: str, coded: bytes) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (coded[:7], coded[7:])) + b"0\r\n\r\n"
    head = ANSWER + f"content-encoding: {coding}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    peer = await serve(answering(ok(coded, f"content-encoding: {coding}"), head + chunks))
    for _ in range(2):
        assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == BODY
    assert peer.accepted == 1


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
async def test_an_empty_body_needs_no_coded_stream(serve, client: HttpClient, coding: str) -> None:
    peer = await serve(answering(ok(b"", f"content-encoding: {coding}")))
    assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == b""
