"""The outbox of a server that several stores drain: one at a time, and whoever dies is succeeded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis_places import redis_engine, server

from inngest.backends.redis.engine import RedisEngineStore
from inngest.core.model.transition import Emit, Transition

Stores = tuple[RedisEngineStore, RedisEngineStore]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with redis_engine(tmp_path) as place:
        first, second = place.store(), place.store()
        await first.open()
        await second.open()
        effects = [Emit(event=b"%d" % n) for n in range(3)]
        await first.commit([Transition(fn="fn", run="", effects=list(effects))])
        yield first, second
        await first.close()
        await second.close()


@pytest.fixture
def client() -> Iterator[Any]:
    with Redis.from_url(server()) as client:
        yield client


async def test_one_drains_at_a_time(stores: Stores) -> None:
    first, second = stores
    box = await first.events.take(2)
    assert (box.entries, (await second.events.take(10)).entries) == ([b"0", b"1"], [])
    await first.events.ack(box.token)
    assert (await second.events.take(10)).entries == [b"2"]


async def test_who_leaves_is_succeeded_at_once(stores: Stores) -> None:
    first, second = stores
    await first.events.take(2)
    await first.close()
    assert (await second.events.take(10)).entries == [b"0", b"1", b"2"]


async def test_who_dies_is_succeeded_by_one_that_waits(stores: Stores, client: Any) -> None:
    first, second = stores
    await first.events.take(2)
    client.pexpire("inngest:outbox:events:claim", 300)
    assert (await second.events.take(10)).entries == []
    await asyncio.wait_for(second.events.wait(60), 20)
    assert (await second.events.take(10)).entries == [b"0", b"1", b"2"]
