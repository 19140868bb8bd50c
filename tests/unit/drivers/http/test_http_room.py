"""Answers that are large share a room, and are read when there is some."""

from __future__ import annotations

import asyncio

import pytest
from conftest import MakeClient, Serve
from http_peer import Link

from inngest.drivers.http import HttpClient, HttpError
from inngest.loops.room import Room

SIZE = 24_000_000  # more than the system buffers
BODY = b"x" * SIZE
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SMALL = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def get(client: HttpClient, url: str, seconds: float = 30) -> bytes:
    return (await client.request("GET", url, {}, b"", timeout=seconds)).body


class Sender:
    """Sends its answer, and counts those that it could send to the end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.sent = 0
        self.asked = 0

    async def __call__(self, link: Link) -> None:
        while await link.request() is not None:
            self.asked += 1
            await link.send(*self._pieces)
            self.sent += 1


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "pieces",
    [(LENGTH, BODY), (CHUNKED, b"%x\r\n" % SIZE, BODY, b"\r\n0\r\n\r\n")],
    ids=["of known length", "chunked"],
)
async def test_large_answers_are_read_when_there_is_room(
    serve: Serve, make_client: MakeClient, pieces: tuple[bytes, ...]
) -> None:
    room = Room(50_000_000)
    client = make_client(room=room, max_body=2 * SIZE)
    large, small = Sender(*pieces), Sender(SMALL)
    there, elsewhere = await serve(large), await serve(small)
    room.take(40_000_000)
    calls = [asyncio.create_task(get(client, there.url)) for _ in range(3)]
    await until(lambda: large.asked == 3)
    assert await get(client, elsewhere.url) == b"ok"  # which needs none
    await asyncio.sleep(0.2)
    assert not any(call.done() for call in calls)
    assert large.sent == 0  # what is not read is not sent
    room.give(40_000_000)
    assert await asyncio.gather(*calls) == [BODY] * 3
    assert room.taken == 0
    assert await get(client, there.url) == BODY  # on a connection that was paused
    assert there.accepted == 3


async def test_who_waits_for_room_may_be_cancelled_or_late(serve: Serve, make_client: MakeClient) -> None:
    room = Room(1_000_000)
    client = make_client(room=room, max_body=2 * SIZE)
    sender = Sender(LENGTH, BODY)
    peer = await serve(sender)
    room.take(1_000_000)
    cancelled = asyncio.create_task(get(client, peer.url))
    late = asyncio.create_task(get(client, peer.url, 0.3))
    await until(lambda: sender.asked == 2)
    cancelled.cancel()
    with pytest.raises(HttpError):
        await late
    room.give(1_000_000)
    assert room.taken == 0
    assert await get(client, peer.url) == BODY
    assert room.taken == 0


async def test_an_answer_that_breaks_off_gives_its_room_back(serve: Serve, make_client: MakeClient) -> None:
    room = Room(1_000_000)
    client = make_client(room=room, max_body=2 * SIZE)

    async def breaks_off(link: Link) -> None:
        await link.request()
        await link.send(LENGTH, BODY[: SIZE // 2])

    peer = await serve(breaks_off)
    for _ in range(3):
        with pytest.raises(HttpError):
            await get(client, peer.url)
    assert room.taken == 0
