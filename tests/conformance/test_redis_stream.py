"""What only a stream on a server has: consumers that die, replies that are lost, servers that refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from redis import Redis
from redis_places import DEAD_AFTER, kill, redis_stream, server

from inngest.backends.redis.scripts import STREAM_TRIM
from inngest.backends.redis.stream import RedisEventStream
from inngest.core.errors import StoreUnavailable
from inngest.core.model.events import Event
from inngest.ports.stream import Delivery

KEY = "inngest:{stream}"
Open = Callable[[], Awaitable[RedisEventStream]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens streams on one server."""
    streams: list[RedisEventStream] = []

    async with redis_stream(tmp_path) as place:

        async def open_() -> RedisEventStream:
            streams.append(place.store())
            await streams[-1].open()
            return streams[-1]

        yield open_
        for stream in streams:
            await stream.close()


@pytest.fixture
async def stream(opened: Open) -> RedisEventStream:
    return await opened()


@pytest.fixture
def client() -> Iterator[Any]:
    with Redis.from_url(server(), decode_responses=True) as client:
        yield client


def _events(*names: str) -> list[Event]:
    return [Event(id=name, name=name, ts=5, received=7, data=Raw(b"{}")) for name in names]


async def _fetch(stream: RedisEventStream, group: str = "runner", limit: int = 100) -> Delivery:
    delivery = await stream.fetch(group, limit, 20)
    assert delivery is not None
    return delivery


def _names(delivery: Delivery) -> list[str]:
    return [event.name for event in delivery.events]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


# -- consumers --


async def test_who_dies_is_succeeded(opened: Open) -> None:
    dying, survivor = await opened(), await opened()
    await dying.publish(_events(*"abc"))
    await _fetch(dying, limit=2)
    waiting = asyncio.create_task(_fetch(survivor, limit=1))
    assert _names(await waiting) == ["c"]
    waiting = asyncio.create_task(_fetch(survivor))
    await kill(dying)
    assert _names(await asyncio.wait_for(waiting, 20)) == ["a", "b"]


async def test_more_than_a_delivery_is_taken_over(opened: Open) -> None:
    dying, survivor = await opened(), await opened()
    await dying.publish(_events(*"abcde"))
    await _fetch(dying)
    await kill(dying)
    names: list[str] = []
    while len(names) < 5:
        names += _names(await _fetch(survivor, limit=2))
    assert names == list("abcde")


async def test_who_is_slow_keeps_its_deliveries(opened: Open) -> None:
    slow, other = await opened(), await opened()
    await slow.publish(_events("a"))
    delivery = await _fetch(slow)
    assert await other.fetch("runner", 10, 4 * DEAD_AFTER) is None
    await slow.ack("runner", delivery.token)
    assert await slow.backlog("runner") == 0


async def test_a_dead_consumer_is_forgotten(opened: Open, client: Any) -> None:
    dying, survivor = await opened(), await opened()
    await dying.publish(_events(*"ab"))
    await _fetch(dying, limit=1)
    await kill(dying)
    taken = [await _fetch(survivor, limit=1), await _fetch(survivor, limit=1)]
    assert sorted(name for delivery in taken for name in _names(delivery)) == ["a", "b"]
    assert [consumer["name"] for consumer in client.xinfo_consumers(KEY, "runner")] == [survivor._name]


async def test_a_group_that_comes_later_gets_what_is_left(stream: RedisEventStream) -> None:
    await stream.publish(_events(*"ab"))
    later = RedisEventStream(server(), groups=("audit",))
    await later.open()
    try:
        assert _names(await _fetch(later, "audit")) == ["a", "b"]
    finally:
        await later.close()


# -- what a broken connection does --


async def test_a_reply_that_was_lost_is_asked_for_again(
    stream: RedisEventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stream.publish(_events(*"abc"))
    held = await _fetch(stream, limit=1)
    block = stream._link.block

    async def lose(command: Any, seconds: float) -> Any:
        await block(command, seconds)
        raise StoreUnavailable("the connection broke")

    monkeypatch.setattr(stream._link, "block", lose)
    with pytest.raises(StoreUnavailable):
        await stream.fetch("runner", 1, 1)
    monkeypatch.undo()
    assert _names(await _fetch(stream, limit=1)) == ["b"]
    assert _names(await _fetch(stream, limit=1)) == ["c"]
    await stream.ack("runner", held.token)
    assert await stream.backlog("runner") == 2


async def test_who_is_cancelled_while_waiting_loses_nothing(stream: RedisEventStream) -> None:
    for name in "abcdefghij":
        waiting = asyncio.create_task(stream.fetch("runner", 10, 20))
        await asyncio.sleep(0.002)
        publishing = asyncio.create_task(stream.publish(_events(name)))
        await asyncio.sleep(0)
        waiting.cancel()
        (result,) = await asyncio.gather(waiting, return_exceptions=True)
        await publishing
        # Either it came in time, or it comes now.
        delivery = result if isinstance(result, Delivery) else await _fetch(stream)
        assert _names(delivery) == [name]
        await stream.ack("runner", delivery.token)
    assert await stream.backlog("runner") == 0


async def test_broken_connections_are_made_anew(stream: RedisEventStream, client: Any) -> None:
    waiting = asyncio.create_task(stream.fetch("runner", 10, 20))
    await _until(lambda: any(each["cmd"] == "xreadgroup" for each in client.client_list()))
    client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable):
        await waiting
    await stream.publish(_events("a"))
    assert _names(await _fetch(stream)) == ["a"]


async def test_a_server_that_has_lost_its_data_begins_anew(stream: RedisEventStream, client: Any) -> None:
    await stream.publish(_events("a"))
    delivery = await _fetch(stream)
    client.flushall()
    with pytest.raises(StoreUnavailable, match="it has lost its data"):
        await stream.fetch("runner", 10, 1)
    await stream.ack("runner", delivery.token)
    await stream.publish(_events("b"))
    assert _names(await _fetch(stream)) == ["b"]
    await stream.fetch("indexer", 1, 1)
    assert await stream.backlog("indexer") == 1


# -- what the server refuses, and what it holds --


async def test_a_full_server_takes_nothing(stream: RedisEventStream, client: Any) -> None:
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="its memory is full"):
            await stream.publish(_events("a"))
    finally:
        client.config_set("maxmemory", 0)
    await stream.publish(_events("b"))
    assert _names(await _fetch(stream)) == ["b"]


async def test_publishes_at_the_same_time_share_round_trips(stream: RedisEventStream) -> None:
    before = stream._link.round_trips
    await asyncio.gather(*[stream.publish(_events(str(n))) for n in range(50)])
    assert stream._link.round_trips - before < 10


async def test_what_all_have_acknowledged_is_dropped(stream: RedisEventStream, client: Any) -> None:
    await stream.publish(_events(*"abcd"))
    first, second = await _fetch(stream, limit=2), await _fetch(stream)
    await stream.ack("runner", second.token)
    await stream.ack("indexer", (await _fetch(stream, "indexer", limit=3)).token)
    # The runner has yet to acknowledge the first two, the indexer to be given the last.
    await stream._link.script(STREAM_TRIM, KEY)
    assert client.xlen(KEY) == 4
    await stream.ack("runner", first.token)
    await _until(lambda: client.xlen(KEY) == 1)
    assert await stream.backlog("indexer") == 1
    await stream.ack("indexer", (await _fetch(stream, "indexer")).token)
    await _until(lambda: client.xlen(KEY) == 0)
    assert [await stream.backlog(group) for group in ("runner", "indexer")] == [0, 0]
    await stream.publish(_events("e"))
    assert _names(await _fetch(stream)) == ["e"]


async def test_the_backlog_is_counted_where_the_server_cannot_tell(
    stream: RedisEventStream, client: Any
) -> None:
    await stream.publish(_events(*"abcd"))
    await _fetch(stream, limit=1)
    client.xdel(KEY, client.xrange(KEY)[2][0])
    assert client.xinfo_groups(KEY)[1]["lag"] is None
    assert await stream.backlog("runner") == 3


async def test_what_is_no_event_stops_nobody(stream: RedisEventStream, client: Any) -> None:
    client.xadd(KEY, {"event": "{"})
    await stream.publish(_events("a"))
    delivery = await _fetch(stream)
    assert _names(delivery) == ["a"]
    await stream.ack("runner", delivery.token)
    assert await stream.fetch("runner", 10, 0.01) is None
    assert await stream.backlog("runner") == 1
