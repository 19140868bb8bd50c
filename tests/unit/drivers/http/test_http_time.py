"""Deadlines, cancellation, idle limits."""

from __future__ import annotations

import asyncio

import pytest
from http_peer import Link, answering, ok, until

from inngest.drivers.http import HttpClient, HttpTimeout, dial

SOON = 0.05
NEVER = 7200


async def silent(link: Link) -> None:
    await link.request()
    await link.closed_by_client()


async def test_a_silent_peer_times_out(serve, client: HttpClient) -> None:
    peer = await serve(silent)
    with pytest.raises(
        HttpTimeout, match=r"total timeout of 0.05 s passed while waiting for the response"
    ) as caught:
        await client.request("POST", peer.url, {}, b"", timeout=SOON)
    assert (caught.value.phase, caught.value.where) == ("total", f"127.0.0.1:{peer.port}")
    await until(lambda: peer.open == 0)


async def test_a_peer_that_stops_in_its_body_times_out(serve, client: HttpClient) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123")
        await link.closed_by_client()

    peer = await serve(handle)
    with pytest.raises(HttpTimeout):
        await client.request("POST", peer.url, {}, b"", timeout=SOON)
    await until(lambda: peer.open == 0)


async def test_trickled_bytes_do_not_extend_the_time(serve, client: HttpClient) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while not link.writer.is_closing():
            await link.send(b".")
            await asyncio.sleep(0.005)

    peer = await serve(handle)
    with pytest.raises(HttpTimeout):
        await client.request("POST", peer.url, {}, b"", timeout=SOON)


async def test_a_time_that_is_already_up(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok()))
    with pytest.raises(HttpTimeout):
        await client.request("POST", peer.url, {}, b"", timeout=0)


@pytest.mark.parametrize(
    ("connect", "total", "message"),
    [(SOON, NEVER, "connect timeout of 0.05 s"), (NEVER, SOON, "total timeout of 0.05 s")],
)
async def test_a_connection_that_does_not_come_about(
    make_client, monkeypatch, connect, total, message
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(dial, "_connect", hang)
    with pytest.raises(HttpTimeout, match=rf"{message} passed while connecting to 127.0.0.1:9") as caught:
        await make_client(connect_timeout=connect).request(
            "GET", "http://127.0.0.1:9", {}, b"", timeout=total
        )
    assert caught.value.phase == message.split()[0]


async def test_cancelling_the_caller_ends_the_connection(serve, client: HttpClient) -> None:
    peer = await serve(silent)
    task = asyncio.create_task(client.request("POST", peer.url, {}, b"", timeout=NEVER))
    await until(lambda: len(peer.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: peer.open == 0)
    (pool,) = client._pools.values()
    await until(lambda: pool.unused)


async def test_a_response_that_came_with_the_cancellation_keeps_the_connection_usable(
    serve, client: HttpClient
) -> None:
    """Whichever wins, the next caller never gets the response of a caller who left."""
    count = 0

    async def handle(link: Link) -> None:
        nonlocal count
        while (request := await link.request()) is not None:
            count += 1
            await link.send(ok(request.body))

    peer = await serve(handle)
    for i in range(50):
        task = asyncio.create_task(client.request("POST", peer.url, {}, b"left %d" % i, timeout=NEVER))
        for _ in range(i % 10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await client.request("POST", peer.url, {}, b"%d" % i, timeout=NEVER)).body == b"%d" % i


@pytest.mark.parametrize(
    ("idle_seconds", "headers"),
    [(SOON, ()), (NEVER, ("keep-alive: timeout=1",)), (NEVER, ("Keep-Alive: max=5, Timeout=1",))],
)
async def test_an_idle_connection_is_closed(
    serve, make_client, idle_seconds: float, headers: tuple[str, ...]
) -> None:
    client = make_client(idle_seconds=idle_seconds)
    peer = await serve(answering(ok(b"1", *headers)))
    await client.request("POST", peer.url, {}, b"", timeout=NEVER)
    await until(lambda: peer.open == 0)
    (pool,) = client._pools.values()
    await until(lambda: pool.unused)
    await client.request("POST", peer.url, {}, b"", timeout=NEVER)
    assert peer.accepted == 2


@pytest.mark.parametrize("hint", ["timeout=60", "timeout=abc", "max=100"])
async def test_a_generous_or_odd_keep_alive_hint_keeps_the_connection(
    serve, client: HttpClient, hint: str
) -> None:
    peer = await serve(answering(ok(b"1", f"keep-alive: {hint}")))
    for _ in range(2):
        await client.request("POST", peer.url, {}, b"", timeout=NEVER)
        await asyncio.sleep(0.01)
    assert peer.accepted == 1
