"""Answers of HTTP/1.0, which knows no transfer codings, whatever a proxy has copied into its head."""

from __future__ import annotations

import pytest
from http_peer import Link

from inngest.drivers.http import HttpClient, HttpTooLarge

HEADS = [
    b"HTTP/1.0 206 Partial\r\nX-Inngest-Sdk: js\r\nTransfer-Encoding: chunked\r\nX-B: 1\r\n\r\n",
    b"HTTP/1.0 206 Partial\r\ntransfer-encoding : chunked\r\nX-Inngest-Sdk: js\r\nX-B: 1\r\n\r\n",
    b"HTTP/1.0 206 Partial\r\nX-Inngest-Sdk: js\r\nX-B: 1\r\nTRANSFER-ENCODING:\r\n chunked\r\n\r\n",
    b"HTTP/1.0 206 Partial\r\nX-Inngest-Sdk: js\r\nX-B: 1\r\n\r\n",
]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_the_body_goes_to_the_end_of_the_connection(
    serve, client: HttpClient, head: bytes, size: int
) -> None:
    body = b'[{"id":"a","op":"StepRun","data":1}]'

    async def answer(link: Link) -> None:
        await link.request()
        whole = head + body
        for first in range(0, len(whole), size):
            await link.send(whole[first : first + size])

    peer = await serve(answer)
    response = await client.request("POST", peer.url, {}, b"", timeout=10)
    assert (response.status, response.body) == (206, body)
    assert (response.headers["x-inngest-sdk"], response.headers["x-b"]) == ("js", "1")
    assert "transfer-encoding" not in response.headers


async def test_a_length_is_kept_to(serve, client: HttpClient) -> None:
    async def answer(link: Link) -> None:
        await link.request()
        await link.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n17")

    peer = await serve(answer)
    assert (await client.request("POST", peer.url, {}, b"", timeout=10)).body == b"17"


async def test_a_head_without_end_is_refused(serve, client: HttpClient) -> None:
    async def answer(link: Link) -> None:
        await link.request()
        await link.send(b"HTTP/1.0 200 OK\r\nX-A: " + b"a" * 1_000_000)

    peer = await serve(answer)
    with pytest.raises(HttpTooLarge):
        await client.request("POST", peer.url, {}, b"", timeout=10)
