"""Servers, a Redis server and an application, ended with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from processes import ALL, Redis, Server
from service_rig import Launch
from slow_app import SlowApp


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Launch]:
    """Makes servers, not started; those that still run at the end are killed, and tell what they logged."""
    made: list[Server] = []

    def make(
        name: str = "server",
        redis: Redis | None = None,
        services: Sequence[str] = ALL,
        config: Mapping[str, Any] | None = None,
    ) -> Server:
        made.append(Server(tmp_path / name, redis, services, config))
        return made[-1]

    yield make
    for each in made:
        await each.end()
        if each.log.exists():
            print(f"{each.folder.name}:\n{each.tail()}")


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    """A Redis server, not started."""
    if not Redis.available():
        pytest.skip("there is no redis-server on this machine")
    redis = Redis(tmp_path / "redis")
    yield redis
    await redis.end()


@pytest.fixture
async def app() -> AsyncIterator[SlowApp]:
    app = SlowApp()
    await app.start()
    yield app
    await app.stop()
