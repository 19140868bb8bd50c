"""A private Redis server a test session, emptied for each test."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import pytest
from redis import Redis
from redis.exceptions import RedisError

from inngest.backends.memory.clock import wall_clock
from inngest.backends.redis.stream import RedisEventStream

if TYPE_CHECKING:
    from inngest.backends.redis.engine import RedisEngineStore


class _Closable(Protocol):
    async def close(self) -> None: ...


Clock = Callable[[], int]
S = TypeVar("S", bound=_Closable)

STARTING = 60
"""Seconds that a server may take to answer."""


@cache
def server() -> str:
    """The URL of the session's server."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server on this machine")
    folder = tempfile.mkdtemp(prefix="inngest-redis-")
    socket = f"{folder}/redis.sock"
    command = [
        binary,
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--dir",
        folder,
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    log = Path(folder, "log")
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def stop() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    end = time.monotonic() + STARTING
    while True:
        try:
            with Redis.from_url(f"unix://{socket}") as client:
                client.ping()
            return f"unix://{socket}"
        except RedisError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"redis-server does not answer: {log.read_text()}") from error
            time.sleep(0.02)


class RedisPlace(Generic[S]):
    """The server outlives its clients: a crash is that of the process that holds the store."""

    def __init__(self, make: Callable[[str, Clock], S]) -> None:
        self._make = make
        self._stores: list[S] = []

    def store(self, clock: Clock = wall_clock) -> S:
        store = self._make(server(), clock)
        self._stores.append(store)
        return store

    async def crash(self) -> None:
        while self._stores:
            await self._stores.pop().close()


class RedisStreamPlace(RedisPlace[RedisEventStream]):
    """A consumer that dies says no farewell."""

    async def crash(self) -> None:
        while self._stores:
            await kill(self._stores.pop())


async def kill(stream: RedisEventStream) -> None:
    """Let the stream object go without a word, as if its process had been killed."""
    heart, stream._heart = stream._heart, None
    if heart is not None:
        heart.cancel()
    await stream.close()


def engine_at(url: str, clock: Clock = wall_clock) -> RedisEngineStore:
    from inngest.backends.redis.engine import RedisEngineStore

    return RedisEngineStore(url, clock=clock)


def empty() -> None:
    with Redis.from_url(server()) as client:
        client.flushall()


@asynccontextmanager
async def redis_engine(_: Path) -> AsyncIterator[RedisPlace[RedisEngineStore]]:
    empty()
    yield RedisPlace(engine_at)


DEAD_AFTER = 0.5


@asynccontextmanager
async def redis_stream(_: Path) -> AsyncIterator[RedisStreamPlace]:
    empty()
    yield RedisStreamPlace(lambda url, _: RedisEventStream(url, dead_after=DEAD_AFTER))
