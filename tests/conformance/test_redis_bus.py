"""What is of the bus on Redis alone: when a channel is heard, and who is told when it is away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis_servers import RedisServer, redis_server, until

from inngest.backends.redis import bus as buses
from inngest.backends.redis.bus import RedisBus
from inngest.backends.redis.link import Link
from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.ports.bus import Gap, Message

PATIENCE = 60


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def bus(server: RedisServer) -> AsyncIterator[RedisBus]:
    bus = RedisBus(Link(server.url), owns=True, watch=20)
    await bus.open()
    yield bus
    await bus.close()


async def _turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_subscribes_waits_until_the_server_says_so(bus: RedisBus, server: RedisServer) -> None:
    server.tell(signal.SIGSTOP)
    first, second = (asyncio.ensure_future(bus.subscribe("a")) for _ in range(2))
    await _turns()
    assert not first.done()
    assert not second.done(), "another asked for it, and it is not heard yet"
    server.tell(signal.SIGCONT)
    for each in (first, second):
        await each
    third = asyncio.ensure_future(bus.subscribe("a"))
    await _turns()
    assert third.done(), "it is heard already"
    server.client.publish("a", "x")
    for each in (first, second, third):
        assert await anext(each.result()) == Message("a", b"x")


async def test_a_confirmation_of_what_was_left_since_confirms_nothing(
    bus: RedisBus, server: RedisServer
) -> None:
    server.tell(signal.SIGSTOP)
    left = asyncio.ensure_future(bus.subscribe("a"))
    await _turns()
    left.cancel()
    await _turns()
    again = asyncio.ensure_future(bus.subscribe("a"))
    await _turns()
    confirmed = [b"subscribe", b"a", 1]
    bus._take(confirmed)  # what the server says first
    await _turns()
    assert not again.done()
    bus._take(confirmed)
    await again
    server.tell(signal.SIGCONT)


async def test_who_waits_for_a_reply_is_told_when_it_cannot_come_any_more(
    bus: RedisBus, server: RedisServer
) -> None:
    asked = asyncio.Event()

    async def never(body: bytes) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return body

    await bus.answer("a", never)
    asking = asyncio.ensure_future(bus.request("a", b"", 600))
    async with asyncio.timeout(PATIENCE):
        await asked.wait()
        server.client.client_kill_filter(_type="pubsub")
        with pytest.raises(StoreUnavailable):
            await asking


async def test_a_bus_that_is_away_says_so_and_comes_back(bus: RedisBus, server: RedisServer) -> None:
    heard = await bus.subscribe("a")
    server.kill()
    await until(lambda: bus._connection is None)
    with pytest.raises(StoreUnavailable):
        await bus.subscribe("b")
    with pytest.raises(StoreUnavailable):
        await bus.publish("a", b"")
    with pytest.raises(StoreUnavailable):
        await bus.request("a", b"", 600)
    await server.start()
    async with asyncio.timeout(PATIENCE):
        assert await anext(heard) == Gap(0)
    server.client.publish("a", "x")
    assert await anext(heard) == Message("a", b"x")
    assert server.client.pubsub_channels() == [b"a"]


async def test_a_connection_on_which_nothing_is_heard_is_made_anew(
    bus: RedisBus, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the answer to a PING: it is lost, without a word."""
    monkeypatch.setattr(buses, "STORE_CONNECT", 100)
    heard = await bus.subscribe("a")
    connection = bus._connection
    server.tell(signal.SIGSTOP)
    await until(lambda: bus._connection is not connection)
    server.tell(signal.SIGCONT)
    async with asyncio.timeout(PATIENCE):
        assert await anext(heard) == Gap(0)


async def test_a_quiet_connection_is_kept(bus: RedisBus, server: RedisServer) -> None:
    connection = bus._connection
    before = bus._heard
    await until(lambda: bus._heard >= before + 3)  # answers to PINGs
    assert bus._connection is connection


async def test_channels_that_one_is_not_let_on(server: RedisServer) -> None:
    server.client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&mine:*", "+@all")
    bus = RedisBus(Link(server.url.replace("unix://", "unix://bob:pw@")), prefix="mine:", owns=True)
    await bus.open()
    await bus.subscribe("a")
    with pytest.raises(StoreUnusable, match="does not let us in"):
        await bus.request("a", b"", PATIENCE)  # replies have a channel of another name
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await bus.subscribe("b")
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)
    await bus.close()


async def test_what_nobody_hears_is_not_subscribed_to(bus: RedisBus, server: RedisServer) -> None:
    first, second = await bus.subscribe("a", "b"), await bus.subscribe("b")
    assert sorted(server.client.pubsub_channels()) == [b"a", b"b"]
    await first.close()
    await until(lambda: server.client.pubsub_channels() == [b"b"])
    await second.close()
    await until(lambda: server.client.pubsub_channels() == [])
