"""An outage is one line in the log when it begins and one when it ends, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis_servers import RedisServer, redis_server, until
from structlog.testing import capture_logs

from inngest.backends.redis import link as links
from inngest.backends.redis.bus import RedisBus
from inngest.backends.redis.engine import RedisEngineStore
from inngest.backends.redis.link import Link
from inngest.backends.redis.stream import RedisEventStream
from inngest.core.errors import StoreUnavailable
from inngest.core.model.runs import Queue

PATIENCE = 60


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[Link]:
    link = Link(server.url, watch=50)
    await link.open()
    yield link
    await link.close()


async def _failing(link: Link, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StoreUnavailable):
            await link.ping("ping")


async def _well(link: Link) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await link.ping("ping")
                return
            except StoreUnavailable:
                await asyncio.sleep(0.005)


def _told(logs: list[Any]) -> list[tuple[str, str]]:
    print(*logs, sep="\n")
    assert all(line["system"].startswith("redis ") for line in logs)
    return [(line["action"], "ended" if "failed" in line else "began") for line in logs]


async def test_a_server_that_is_away(link: Link, server: RedisServer) -> None:
    """All that this process has to do with the server has one outage."""
    other = Link(server.url, watch=50)
    await other.open()
    bus = RedisBus(other)
    await bus.open()
    with capture_logs() as logs:
        server.kill()
        await _failing(link, 20)
        await _failing(other, 20)
        await until(lambda: bus._connection is None)
        await asyncio.sleep(0.2)  # the bus and the watches go on trying
        assert _told(logs) == [("redis.outage", "began")]
        await server.start()
        await _well(link)
        await _well(other)
        await until(lambda: bus._connection is not None)
    assert _told(logs) == [("redis.outage", "began"), ("redis.outage", "ended")]
    began, ended = logs
    assert "onnect" in began["reason"]
    assert ended["failed"] >= 40
    assert ended["seconds"] >= 0.2
    await bus.close()
    await other.close()


async def test_a_server_that_takes_no_writes(link: Link, server: RedisServer) -> None:
    """Reads are answered all the while, and do not end it."""
    with capture_logs() as logs:
        server.set(min_replicas_to_write=1)
        for _ in range(5):
            await _failing(link, 2)
            assert await link.run([("GET", "a")]) == [None]
        server.set(min_replicas_to_write=0)
        await link.ping("ping")
    assert _told(logs) == [("redis.outage", "began"), ("redis.outage", "ended")]
    assert "too few replicas" in logs[0]["reason"]
    assert logs[1]["failed"] == 10


async def test_a_server_that_does_not_keep_up(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(server.url)
    await link.open()
    monkeypatch.setattr(links, "STORE_REQUESTS", 4)
    monkeypatch.setattr(links, "STORE_BATCH", 1)
    with capture_logs() as logs:
        results = await asyncio.gather(*[link.ping("ping") for _ in range(100)], return_exceptions=True)
        refused = sum(isinstance(result, StoreUnavailable) for result in results)
        assert 90 <= refused < 100
        await _well(link)
        await link.run([("PING",)])
    assert _told(logs) == [("redis.outage", "began"), ("redis.outage", "ended")]
    assert logs[1]["failed"] == refused
    await link.close()


async def test_what_is_asked_wrong_is_no_outage(link: Link, server: RedisServer) -> None:
    server.client.set("text", "x")
    with capture_logs() as logs:
        for command in (("HVALS", "text"), ("NOSUCH",), ("SET", "a", None)):
            await asyncio.gather(link.run([command]), return_exceptions=True)
    assert logs == []


async def test_stores_and_streams_of_a_process_tell_of_it_together(server: RedisServer) -> None:
    store, stream = RedisEngineStore(server.url), RedisEventStream(server.url)
    await store.open()
    await stream.open()
    with capture_logs() as logs:
        server.kill()
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await store.lease(Queue.EXECUTOR, 1, 0, 1)
            with pytest.raises(StoreUnavailable):
                await stream.backlog("runner")
        await server.start()
        await _well(store._link)
        await _well(stream._link)
    assert _told(logs) == [("redis.outage", "began"), ("redis.outage", "ended")]
    await stream.close()
    await store.close()
