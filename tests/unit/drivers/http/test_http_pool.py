"""The limit of connections to one origin, its queue, and the end of a client."""

from __future__ import annotations

import asyncio

import pytest
from http_peer import Link, answering, closing_after, ok, until

from inngest.drivers.http import (
    AnswerLost,
    HttpClient,
    HttpClientClosed,
    HttpError,
    HttpTimeout,
    dial,
)
from inngest.drivers.http.client import _KNOWN_ORIGINS
from inngest.drivers.http.dial import Dialer
from inngest.drivers.http.pool import Pool


class Gate:
    """A handler that answers a request when let through, and counts those it holds."""

    def __init__(self) -> None:
        self.held = 0
        self.most = 0
        self._passes = asyncio.Semaphore(0)

    def open(self, count: int) -> None:
        for _ in range(count):
            self._passes.release()

    async def __call__(self, link: Link) -> None:
        while (request := await link.request()) is not None:
            self.held += 1
            self.most = max(self.most, self.held)
            await self._passes.acquire()
            self.held -= 1
            await link.send(ok(request.body))


def call(client: HttpClient, url: str, body: bytes = b"", timeout: float = 60) -> asyncio.Task[bytes]:
    async def run() -> bytes:
        return (await client.request("POST", url, {}, body, timeout=timeout)).body

    return asyncio.create_task(run())


async def test_there_are_no_more_connections_than_the_limit(serve, make_client) -> None:
    gate = Gate()
    peer = await serve(gate)
    client = make_client(max_connections_per_host=2)
    calls = [call(client, peer.url, b"%d" % i) for i in range(10)]
    await until(lambda: gate.held == 2)
    gate.open(10)
    assert await asyncio.gather(*calls) == [b"%d" % i for i in range(10)]
    assert [gate.most, peer.accepted] == [2, 2]


async def test_requests_beyond_the_limit_wait_in_order(serve, make_client) -> None:
    peer = await serve(answering(ok()))
    client = make_client(max_connections_per_host=1)
    await asyncio.gather(*(call(client, peer.url, b"%d" % i) for i in range(10)))
    assert [r.body for r in peer.requests] == [b"%d" % i for i in range(10)]


async def test_waiting_counts_against_the_timeout(serve, make_client) -> None:
    gate = Gate()
    peer = await serve(gate)
    client = make_client(max_connections_per_host=1)
    first = call(client, peer.url, b"first")
    await until(lambda: gate.held == 1)
    with pytest.raises(HttpTimeout, match=r"total timeout of 0.05 s passed while waiting for one of 1 busy"):
        await call(client, peer.url, timeout=0.05)
    (pool,) = client._pools.values()
    assert not pool._waiters
    third = call(client, peer.url, b"third")
    gate.open(2)
    assert await asyncio.gather(first, third) == [b"first", b"third"]


async def test_a_waiter_that_leaves_does_not_take_a_turn(serve, make_client) -> None:
    gate = Gate()
    peer = await serve(gate)
    client = make_client(max_connections_per_host=1)
    first = call(client, peer.url, b"first")
    await until(lambda: gate.held == 1)
    leaver, stayer = call(client, peer.url, b"leaver"), call(client, peer.url, b"stayer")
    await asyncio.sleep(0)
    leaver.cancel()
    gate.open(2)
    assert await asyncio.gather(first, stayer) == [b"first", b"stayer"]
    assert [r.body for r in peer.requests] == [b"first", b"stayer"]


async def test_a_waiter_that_leaves_when_served_passes_its_turn_on(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok()))
    dialer = Dialer(connect_timeout=10, ssl_context=None)
    pool = Pool(client.target(peer.url), dialer, limit=1, idle_seconds=60, max_body=100)
    never = asyncio.get_running_loop().time() + 7200
    connection = await pool.borrow(deadline=never, seconds=7200)
    connection.ready = True
    leaver, stayer = (asyncio.create_task(pool.borrow(deadline=never, seconds=7200)) for _ in range(2))
    await asyncio.sleep(0)
    pool.release(connection)
    leaver.cancel()
    assert await stayer is connection
    assert leaver.cancelled()
    await pool.close()


async def test_a_failed_call_frees_its_slot_for_the_next(serve, make_client) -> None:
    peer = await serve(closing_after(b""))
    client = make_client(max_connections_per_host=1)
    results = await asyncio.gather(*(call(client, peer.url) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [AnswerLost] * 5


async def test_a_failed_connect_frees_its_slot_for_the_next(make_client, unused_tcp_port: int) -> None:
    client = make_client(max_connections_per_host=1)
    url = f"http://127.0.0.1:{unused_tcp_port}"
    results = await asyncio.gather(*(call(client, url) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, HttpError) for result in results)
    assert all(pool.unused for pool in client._pools.values())


async def test_a_connection_that_cannot_be_kept_gives_its_slot_to_the_next(serve, make_client) -> None:
    peer = await serve(answering(ok(b"1", "connection: close")))
    client = make_client(max_connections_per_host=1)
    assert await asyncio.gather(*(call(client, peer.url) for _ in range(5))) == [b"1"] * 5
    assert peer.accepted == 5


async def test_closing_fails_calls_in_flight_and_in_the_queue(serve) -> None:
    gate = Gate()
    peer = await serve(gate)
    client = HttpClient(max_connections_per_host=1)
    calls = [call(client, peer.url) for _ in range(3)]
    await until(lambda: gate.held == 1)
    await client.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [HttpClientClosed] * 3
    gate.open(1)
    await until(lambda: peer.open == 0)
    for url in (peer.url, "http://127.0.0.1:9"):
        with pytest.raises(HttpClientClosed):
            await call(client, url)


async def test_a_connection_that_comes_about_after_closing_is_dropped(serve, monkeypatch) -> None:
    connect = dial._connect
    dialing, proceed = asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        dialing.set()
        await proceed.wait()
        return await connect(*arguments)

    monkeypatch.setattr(dial, "_connect", slow)
    peer = await serve(answering(ok()))
    client = HttpClient()
    late = call(client, peer.url)
    await dialing.wait()
    await client.close()
    proceed.set()
    with pytest.raises(HttpClientClosed):
        await late
    await until(lambda: peer.open == 0)
    assert peer.requests == []


async def test_closing_ends_idle_connections(serve) -> None:
    peer = await serve(answering(ok()))
    client = HttpClient()
    await call(client, peer.url)
    await client.close()
    await until(lambda: peer.open == 0)
    await client.close()


async def test_many_origins_are_forgotten_when_unused(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok(b"1", "connection: close")))
    for i in range(_KNOWN_ORIGINS + 20):
        # Each address of 127.0.0.0/8 is an origin of its own; nobody listens there.
        with pytest.raises(HttpError):
            await call(client, f"http://127.0.{1 + i // 200}.{1 + i % 200}:{peer.port}")
    assert len(client._pools) <= _KNOWN_ORIGINS


async def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_connections_per_host is 0"):
        HttpClient(max_connections_per_host=0)
