"""Redis servers of a test's own: to be stopped, killed, made replicas, or set up badly."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

STARTING = 60
SAFE = {"appendonly": "yes", "appendfsync": "no"}


class RedisServer:
    """A server on a socket in a folder of its own, and a client of the test's, which is none of those under
    test.
    """

    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(folder),
            "save": "",
            **SAFE,
            **options,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))

    async def start(self) -> None:
        words = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as out:
            self._process = subprocess.Popen(["redis-server", *words], stdout=out, stderr=out)
        async with asyncio.timeout(STARTING):
            while not self._answers():
                assert self._process.poll() is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Its clients find their connections closed."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self.socket.unlink(missing_ok=True)
        self.client.connection_pool.disconnect()

    def set(self, **settings: Any) -> None:
        for name, value in settings.items():
            self.client.config_set(name.replace("_", "-"), value)

    def scripts_run(self) -> int:
        """How many, since the statistics were reset."""
        stats = self.client.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


@asynccontextmanager
async def redis_server(folder: Path, **options: str) -> AsyncIterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on this machine")
    folder.mkdir(exist_ok=True)
    server = RedisServer(folder, {name.replace("_", "-"): value for name, value in options.items()})
    await server.start()
    try:
        yield server
    finally:
        server.kill()


async def until(condition: Any, seconds: float = 30) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
