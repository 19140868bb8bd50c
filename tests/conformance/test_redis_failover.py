"""Servers that are replaced behind one address: nothing of the old one is used, or believed, for long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis_servers import RedisServer, redis_server, until

from inngest.backends.redis.bus import RedisBus
from inngest.backends.redis.engine import RedisEngineStore
from inngest.backends.redis.link import Link, call
from inngest.backends.redis.scripts import STREAM_OPEN
from inngest.core.errors import StoreUnavailable
from inngest.core.model.functions import App
from inngest.core.model.runs import Queue
from inngest.ports.bus import Gap, Message

PATIENCE = 60
SOON = 20  # ms between two looks at the server
NOWHERE = ("127.0.0.1", 1)


class Address:
    """A name that leads to one server, and then to another, as DNS or a virtual address does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"unix://{path}"

    def lead_to(self, server: RedisServer) -> None:
        beside = self._path.with_suffix(".new")
        os.symlink(server.socket, beside)
        os.replace(beside, self._path)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    async with (
        redis_server(tmp_path / "one", enable_debug_command="local") as one,
        redis_server(tmp_path / "two") as two,
    ):
        yield one, two


@pytest.fixture
async def one(pair: tuple[RedisServer, RedisServer]) -> RedisServer:
    return pair[0]


@pytest.fixture
async def two(pair: tuple[RedisServer, RedisServer]) -> RedisServer:
    return pair[1]


@pytest.fixture
async def address(tmp_path: Path, one: RedisServer) -> Address:
    address = Address(tmp_path / "address")
    address.lead_to(one)
    return address


Opened = Callable[..., Awaitable[Any]]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Opens what is closed at the end."""
    made: list[Any] = []

    async def one(thing: Any) -> Any:
        await thing.open()
        made.append(thing)
        return thing

    yield one
    for each in reversed(made):
        await each.close()


class Breaks:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def test_an_engine_store_follows_its_address(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    """Fault a15: one call fails, and the next one reaches the new primary."""
    store = await opened(RedisEngineStore(address.url))
    app = App(id="app", name="app", url="x")
    await store.put_app(app, [])
    one.client.replicaof(*NOWHERE)
    address.lead_to(two)
    with pytest.raises(StoreUnavailable, match="it is a replica"):
        await store.put_app(app, [])
    await store.put_app(app, [])
    assert [app.id for app in (await store.registry()).apps.values()] == ["app"]
    assert two.client.hkeys("inngest:apps") == [b"app"]


async def test_what_waits_follows_the_address_though_nobody_asks(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    """The old server answers all the while, and nothing is sent to it."""
    breaks = Breaks()
    link = await opened(Link(address.url, watch=SOON, on_break=breaks))
    bus = await opened(RedisBus(link))
    heard = await bus.subscribe("a")
    blocking = asyncio.ensure_future(link.block(("BLPOP", "list", 0), 600))
    await until(lambda: one.client.info("clients")["blocked_clients"] == 1)
    address.lead_to(two)
    one.client.replicaof(*NOWHERE)
    with pytest.raises(StoreUnavailable):
        await blocking
    async with asyncio.timeout(PATIENCE):
        assert await anext(heard) == Gap(0)
    assert breaks.count
    two.client.publish("a", b"there")
    async with asyncio.timeout(PATIENCE):
        assert await anext(heard) == Message("a", b"there")
    blocking = asyncio.ensure_future(link.block(("BLPOP", "list", 0), 600))
    await until(lambda: two.client.info("clients")["blocked_clients"] == 1)
    two.client.lpush("list", "x")
    assert await blocking == [b"list", b"x"]
    names = [client["cmd"] for client in one.client.client_list() if client["cmd"] != "client|list"]
    assert names == [], "no connection to the old server is left"


async def test_a_replica_is_refused_from_the_start(
    opened: Opened, address: Address, one: RedisServer
) -> None:
    one.client.replicaof(*NOWHERE)
    with pytest.raises(StoreUnavailable, match="it is a replica"):
        await opened(Link(address.url))
    one.client.replicaof("NO", "ONE")
    await opened(Link(address.url))


async def test_a_replica_without_its_primary_is_left(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    """MASTERDOWN: the answer to reads."""
    link = await opened(Link(address.url, lanes=1))
    one.set(replica_serve_stale_data="no")
    one.client.replicaof(*NOWHERE)
    address.lead_to(two)
    with pytest.raises(StoreUnavailable, match="lost its primary"):
        await link.run([("GET", "a")])
    two.client.set("a", "1")
    assert await link.run([("GET", "a")]) == [b"1"]


async def test_a_read_beside_a_refused_write_is_not_believed(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    link = await opened(Link(address.url, lanes=1))
    one.client.set("a", "old")
    one.client.replicaof(*NOWHERE)
    address.lead_to(two)
    reading = asyncio.ensure_future(link.run([("GET", "a")]))
    writing = asyncio.ensure_future(link.run([("SET", "b", "1")]))
    results = await asyncio.gather(reading, writing, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    assert await link.run([("GET", "a")]) == [None]


async def test_a_reply_that_was_on_its_way_when_the_server_changed_is_not_believed(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    """One connection has found the new server, while another still waits for the old one, or has just got its
    reply: the caller, who may keep what it says, hears nothing of it.
    """
    breaks = Breaks()
    link = await opened(Link(address.url, lanes=2, on_break=breaks))
    await asyncio.gather(*[link.run([("GET", "a")]) for _ in range(10)])  # both lanes are connected
    one.client.client_pause(60_000, all=True)
    held = asyncio.ensure_future(link.run([("GET", "a")]))
    await until(lambda: not link._queue)
    address.lead_to(two)
    other = await link.dial()
    async with asyncio.timeout(30):  # the old server answers nobody for longer
        with pytest.raises(StoreUnavailable, match="not believed"):
            await held
    assert breaks.count
    await link.hang_up(other)

    # It has its reply, and is not resumed yet.
    two.client.set("a", "two")

    async def late() -> Any:
        return await link.run([("GET", "a")])

    held = asyncio.ensure_future(late())
    while not any(request.done() for request in _futures(held)):
        await asyncio.sleep(0)
    await link._leave("the server has changed")
    with pytest.raises(StoreUnavailable, match="the server has changed"):
        await held


def _futures(task: asyncio.Future[Any]) -> list[asyncio.Future[Any]]:
    waiter = getattr(task, "_fut_waiter", None)
    return [waiter] if waiter is not None else []


async def test_another_life_of_the_server_is_another_server(
    opened: Opened, address: Address, one: RedisServer
) -> None:
    breaks = Breaks()
    link = await opened(Link(address.url, on_break=breaks))
    await link.run([("GET", "a")])
    era = link._era
    one.kill()
    await one.start()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await link.run([("GET", "a")])
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)
    assert link._era > era
    assert breaks.count


async def test_a_server_that_was_a_replica_for_a_while_is_another(opened: Opened, one: RedisServer) -> None:
    """It has the same process, and perhaps other data; whoever asked nothing meanwhile has seen nothing."""
    breaks = Breaks()
    link = await opened(Link(one.url, watch=SOON, on_break=breaks))
    before = one.client.info("replication")["master_replid"]
    with one.client.pipeline() as both:
        both.execute_command("REPLICAOF", *NOWHERE)
        both.execute_command("REPLICAOF", "NO", "ONE")
        both.execute()
    assert one.client.info("replication")["master_replid"] != before
    await until(lambda: breaks.count)
    assert await link.run([("GET", "a")]) == [None]


async def test_a_new_server_gets_the_scripts_before_it_is_asked_for_anything(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    """So that what is sent together is done in its order."""
    link = await opened(Link(address.url, lanes=1))
    address.lead_to(two)
    one.kill()
    two.client.config_resetstat()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await link.run([call(STREAM_OPEN, "s", "g"), ("XLEN", "s")])
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)
    stats = two.client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1, "it was not unknown"
    assert stats["cmdstat_evalsha"]["failed_calls"] == 0


async def test_a_server_that_loads_its_data_is_not_asked(opened: Opened, one: RedisServer) -> None:
    link = await opened(Link(one.url))
    for number in range(50):
        one.client.set(f"key {number}", os.urandom(4096))
    one.client.config_set("key-load-delay", 100_000)
    one.client.config_set("loading-process-events-interval-bytes", 1024)
    one.client.save()
    loading = asyncio.create_task(asyncio.to_thread(_reload, one))
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await link.run([("GET", "a")])
            except StoreUnavailable as error:
                if "it is loading its data" in str(error):
                    break
            await asyncio.sleep(0.001)
    one.client.config_set("key-load-delay", 0)
    await loading
    assert await link.run([("STRLEN", "key 1")]) == [4096]


def _reload(server: RedisServer) -> None:
    server.client.execute_command("DEBUG", "RELOAD", "NOSAVE")


async def test_an_isolated_primary_is_left_for_the_one_that_the_address_leads_to(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    """It has lost its replicas, of which one is the primary now."""
    link = await opened(Link(address.url))
    one.set(min_replicas_to_write=1)
    with pytest.raises(StoreUnavailable, match="too few replicas"):
        await link.ping("ping")
    address.lead_to(two)
    with pytest.raises(StoreUnavailable, match=r"too few replicas|not believed"):
        await link.ping("ping")
    await link.ping("ping")


async def test_bells_ring_after_a_fail_over(
    opened: Opened, address: Address, one: RedisServer, two: RedisServer
) -> None:
    """What the old server's channel did not say may have happened at the new one."""
    store = RedisEngineStore(address.url)
    store._link._watch_seconds = SOON / 1000
    await opened(store)
    for queue in Queue:
        await store.lease(queue, 1, 0, 1)
    waiting = asyncio.ensure_future(store.wait(Queue.EXECUTOR, 600))
    address.lead_to(two)
    one.client.replicaof(*NOWHERE)
    async with asyncio.timeout(PATIENCE):
        await waiting
