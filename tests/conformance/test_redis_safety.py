"""Servers that would lose what they have acknowledged are told of, and refused unless allowed by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_bench import Bench, function
from redis_servers import redis_server
from structlog.testing import capture_logs

from inngest.backends.redis import server as servers
from inngest.backends.redis.bus import RedisBus
from inngest.backends.redis.engine import RedisEngineStore
from inngest.backends.redis.link import Link
from inngest.backends.redis.stream import RedisEventStream
from inngest.core.errors import StoreUnusable

UNSAFE = [
    ({"appendonly": "no", "save": "60 1000"}, "no-aof", "set appendonly to yes"),
    ({"appendonly": "no"}, "no-persistence", "set appendonly to yes"),
    ({"maxmemory_policy": "allkeys-lru"}, "eviction", "set it to noeviction"),
    ({"maxmemory_policy": "volatile-ttl"}, "eviction", "set it to noeviction"),
]


@pytest.mark.parametrize(("options", "name", "advice"), UNSAFE)
async def test_a_server_that_is_not_safe(
    options: dict[str, str], name: str, advice: str, tmp_path: Path
) -> None:
    async with redis_server(tmp_path / "redis", **options) as server:
        link = Link(server.url, allow_unsafe=())
        with pytest.raises(StoreUnusable, match=name) as caught:
            await link.open()
        assert advice in str(caught.value)
        assert caught.value.facts["unsafe"] == [name]
        for allowed in ({name, "another"}, None):
            link = Link(server.url, allow_unsafe=allowed)
            with capture_logs() as logs:
                await link.open()
            assert [(line["action"], line["unsafe"]) for line in logs] == [("redis.unsafe", name)]
            assert [advice in warning for warning in link.warnings] == [True]
            assert server.folder.name not in link.warnings[0], "where it is stays in the log"
            await link.close()


async def test_a_server_that_is_safe(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server:
        with capture_logs() as logs:
            link = Link(server.url, allow_unsafe=())
            await link.open()
        assert (logs, link.warnings) == ([], [])
        await link.close()


async def test_who_bears_to_lose_all_bears_to_lose_the_last_seconds(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis", appendonly="no", save="60 1000") as server:
        link = Link(server.url, allow_unsafe=["no-persistence"])
        await link.open()
        await link.close()


async def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis", appendonly="no", maxmemory_policy="allkeys-lru") as server:
        link = Link(server.url, allow_unsafe=["no-aof"])
        with pytest.raises(StoreUnusable, match=r'allowUnsafe: \["no-persistence", "eviction"\]'):
            await link.open()


async def test_a_server_that_does_not_tell_how_it_is_set_up(tmp_path: Path) -> None:
    """Managed ones have no CONFIG: without an append-only file there may be snapshots."""
    async with redis_server(tmp_path / "redis", appendonly="no") as server:
        server.client.execute_command("ACL", "SETUSER", "default", "-config")
        link = Link(server.url, allow_unsafe=())
        with pytest.raises(StoreUnusable, match="no-aof"):
            await link.open()


async def test_a_server_that_is_set_up_worse_while_it_is_used(tmp_path: Path) -> None:
    """It is said, when a connection is made; what runs goes on."""
    async with redis_server(tmp_path / "redis") as server:
        link = Link(server.url, allow_unsafe=())
        await link.open()
        server.set(maxmemory_policy="allkeys-lru")
        with capture_logs() as logs:
            for _ in range(2):
                await link.hang_up(await link.dial())
        assert [line["unsafe"] for line in logs] == ["eviction"]
        assert len(link.warnings) == 1
        server.set(maxmemory_policy="noeviction")
        await link.hang_up(await link.dial())
        assert link.warnings == []
        await link.close()


RIGHTS = "~inngest:* &inngest:* &?inngest:* &!inngest:* +@read +@write +@scripting +@pubsub +@connection"


async def test_a_user_with_the_rights_that_the_documentation_names(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server:
        server.client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", *RIGHTS.split(), "+info", "+time")
        url = server.url.replace("unix://", "unix://bob:pw@")
        bench = Bench(_Place(url))
        await bench.start()
        await bench.register(function(limits=[1]))
        await bench.create()
        leased = await bench.one()
        await bench.complete(leased)
        await bench.store.ping()
        stream = RedisEventStream(url)
        await stream.open()
        await stream.publish([bench.event().encode()])
        delivery = await stream.fetch("runner", 1, 10)
        assert delivery is not None
        await stream.ack("runner", delivery.token)
        await stream.ping()
        await stream.close()
        bus = RedisBus(bench.store._link, prefix="inngest:")
        await bus.open()
        await bus.answer("a", _echo)
        assert await bus.request("a", b"x", 10) == b"x"
        await bus.close()
        await bench.store.close()


async def _echo(body: bytes) -> bytes:
    return body


class _Place:
    def __init__(self, url: str) -> None:
        self._url = url

    def store(self, clock: Callable[[], int]) -> RedisEngineStore:
        return RedisEngineStore(self._url, allow_unsafe=(), clock=clock)


async def test_stores_and_streams_pass_it_on(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis", appendonly="no") as server:
        for make in (RedisEngineStore, RedisEventStream):
            with pytest.raises(StoreUnusable, match="no-persistence"):
                await make(server.url, allow_unsafe=()).open()
            store = make(server.url, allow_unsafe=servers.UNSAFE)
            await store.open()
            assert len(store.warnings) == 1
            await store.close()
