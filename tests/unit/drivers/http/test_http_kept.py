"""Kept connections that end: what is certain not to have run is sent again, all else is the caller's."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest
from http_peer import Link, closing_after, ok, until

from inngest.drivers.http import AnswerLost, HttpClient, HttpProtocolError
from inngest.drivers.http.connection import Connection

RESET = b"\1\0\0\0\0\0\0\0"
"""For SO_LINGER: a close that resets."""


async def call(client: HttpClient, url: str, body: bytes = b"x") -> bytes:
    return (await client.request("POST", url, {}, body, timeout=30)).body


# -- a peer by hand, which does things while the client's loop stands still


class Hand:
    """A listening socket, and its connections in the order in which they came."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.links: list[socket.socket] = []
        self.bodies: list[bytes] = []

    async def accept(self) -> socket.socket:
        link, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        self.links.append(link)
        return link

    async def read(self, link: socket.socket) -> None:
        """One request, with a body that ends in a full stop."""
        data = b""
        while not data.endswith(b"."):
            more = await asyncio.get_running_loop().sock_recv(link, 1 << 20)
            assert more, "the client has closed it"
            data += more
        self.bodies.append(data.partition(b"\r\n\r\n")[2])

    async def serve(self) -> socket.socket:
        """Accept a connection, and answer one request on it."""
        link = await self.accept()
        await self.read(link)
        await asyncio.get_running_loop().sock_sendall(link, ok(self.bodies[-1]))
        return link

    def close(self, *, reset: bool = False) -> None:
        """End the newest connection."""
        link = self.links[-1]
        if reset:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        link.close()


@pytest.fixture
def hand():
    hand = Hand()
    yield hand
    for each in (hand.listener, *hand.links):
        each.close()


async def kept(hand: Hand, client: HttpClient) -> Connection:
    """The client's connection, after one exchange."""
    serving = asyncio.create_task(hand.serve())
    assert await call(client, hand.url, b"first.") == b"first."
    await serving
    (pool,) = client._pools.values()
    (connection,) = pool._idle
    return connection


def arrives(connection: Connection) -> None:
    """Block until the kernel has what the peer did last. The loop knows nothing of it."""
    poll = select.poll()
    poll.register(connection._transport.get_extra_info("socket").fileno(), select.POLLIN)
    assert poll.poll(10_000)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_connection_that_was_closed_while_idle_is_replaced(
    hand: Hand, client: HttpClient, reset: bool
) -> None:
    connection = await kept(hand, client)
    serving = asyncio.create_task(hand.serve())
    await asyncio.sleep(0)
    hand.close(reset=reset)
    arrives(connection)
    # Written before the loop looks again.
    assert await call(client, hand.url, b"second.") == b"second."
    await serving
    assert hand.bodies == [b"first.", b"second."]


async def test_stray_bytes_that_the_loop_has_not_seen_end_it_too(hand: Hand, client: HttpClient) -> None:
    """They would pass for the answer."""
    connection = await kept(hand, client)
    serving = asyncio.create_task(hand.serve())
    await asyncio.sleep(0)
    hand.links[0].send(ok(b"stray"))
    arrives(connection)
    assert await call(client, hand.url, b"second.") == b"second."
    await serving


async def test_a_request_that_crosses_the_close_of_its_connection_is_sent_again(
    hand: Hand, client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer closed it first, but that was not to be seen yet: its system takes nothing of the request."""
    connection = await kept(hand, client)
    serving = asyncio.create_task(hand.serve())
    await asyncio.sleep(0)
    hand.close()
    arrives(connection)
    monkeypatch.setattr(Connection, "_has_ended", lambda self: False)
    assert await call(client, hand.url, b"second.") == b"second."
    await serving
    assert hand.bodies == [b"first.", b"second."]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_request_that_was_accepted_but_not_answered_is_not_sent_again(
    hand: Hand, client: HttpClient, reset: bool
) -> None:
    await kept(hand, client)
    calling = asyncio.create_task(call(client, hand.url, b"second."))
    await hand.read(hand.links[0])
    hand.close(reset=reset)
    with pytest.raises(AnswerLost, match="the connection was closed before an answer came"):
        await calling
    assert hand.bodies == [b"first.", b"second."]
    with pytest.raises(BlockingIOError):
        hand.listener.accept()


async def test_a_request_that_the_peers_system_has_taken_may_have_run(hand: Hand, client: HttpClient) -> None:
    """Nobody read it, as it happens, which the client cannot know."""
    await kept(hand, client)
    calling = asyncio.create_task(call(client, hand.url, b"second."))
    while not select.select([hand.links[0]], [], [], 0)[0]:
        await asyncio.sleep(0)
    hand.close()
    with pytest.raises(AnswerLost):
        await calling


async def test_a_part_of_a_request_may_have_run(hand: Hand, client: HttpClient) -> None:
    """More than the buffers of both sockets hold."""
    await kept(hand, client)
    calling = asyncio.create_task(call(client, hand.url, b"x" * (64 << 20)))
    while not select.select([hand.links[0]], [], [], 0)[0]:
        await asyncio.sleep(0)
    hand.close()
    with pytest.raises(AnswerLost):
        await calling
    with pytest.raises(BlockingIOError):
        hand.listener.accept()


# -- peers that end connections by themselves


def ending(handle_second):
    """The first connection answers once and then does as told with the second request; later ones answer."""

    async def handle(link: Link) -> None:
        await link.request()
        await link.send(ok(b"1"))
        if link.number == 1:
            await link.request()
            await handle_second(link)
        else:
            await link.closed_by_client()

    return handle


async def close(link: Link) -> None:
    return


async def reset(link: Link) -> None:
    link.reset()


@pytest.mark.parametrize("end", [close, reset])
async def test_a_peer_that_ends_after_reading_is_not_asked_again(serve, client: HttpClient, end) -> None:
    peer = await serve(ending(end))
    assert await call(client, peer.url, b"first") == b"1"
    with pytest.raises(AnswerLost, match="before an answer came"):
        await call(client, peer.url, b"second")
    assert [r.body for r in peer.requests] == [b"first", b"second"]
    assert await call(client, peer.url, b"third") == b"1"
    assert peer.accepted == 2


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("part", [b"H", ok(b"1234")[:-2]], ids=["of the head", "of the body"])
async def test_a_peer_that_ends_in_the_middle_of_its_answer_is_not_asked_again(
    serve, client: HttpClient, end, part: bytes
) -> None:
    async def babble(link: Link) -> None:
        await link.send(part)
        await proceed.wait()
        await end(link)

    proceed = asyncio.Event()
    peer = await serve(ending(babble))
    await call(client, peer.url)
    calling = asyncio.create_task(call(client, peer.url))
    (pool,) = client._pools.values()
    (connection,) = pool._connections
    # A reset would overtake the bytes before it.
    await until(lambda: len(peer.requests) == 2 and connection._answered)
    proceed.set()
    with pytest.raises(AnswerLost, match="in the middle"):
        await calling
    assert (peer.accepted, len(peer.requests)) == (1, 2)


@pytest.mark.parametrize("end", [close, reset])
async def test_a_new_connection_that_ends_without_an_answer_is_not_replaced(
    serve, client: HttpClient, end
) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await end(link)

    peer = await serve(handle)
    with pytest.raises(AnswerLost, match="before an answer came"):
        await call(client, peer.url)
    assert (peer.accepted, len(peer.requests)) == (1, 1)


async def test_the_replacement_is_new_though_others_are_kept(hand: Hand, client: HttpClient) -> None:
    """They may have been closed by the same hand."""
    calls = [asyncio.create_task(call(client, hand.url, b"%d." % i)) for i in range(3)]
    for _ in calls:
        await hand.accept()
    for link in hand.links:
        await hand.read(link)
        link.send(ok())
    assert await asyncio.gather(*calls) == [b"done"] * 3
    (pool,) = client._pools.values()
    assert pool.idle_count == 3
    serving = asyncio.create_task(hand.serve())
    await asyncio.sleep(0)
    connections = list(pool._idle)
    for link in hand.links:
        link.close()
    for connection in connections:
        arrives(connection)
    assert await call(client, hand.url, b"4.") == b"4."
    await serving
    assert len(hand.links) == 4


async def test_a_connection_closed_while_idle_is_not_used(serve, client: HttpClient) -> None:
    peer = await serve(closing_after(ok()))
    await call(client, peer.url)
    (pool,) = client._pools.values()
    await until(lambda: pool.unused)
    await call(client, peer.url)
    assert [peer.accepted, len(peer.requests)] == [2, 2]


def test_a_lost_answer_is_an_error_of_the_protocol() -> None:
    assert issubclass(AnswerLost, HttpProtocolError)
