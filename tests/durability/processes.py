"""The processes that are killed: the server, and a Redis server that keeps everything it acknowledges."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from pathlib import Path

from aiohttp import ClientError, ClientSession

START_SECONDS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Killable(ABC):
    """A process that is started and killed again and again, on the same data and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: Process | None = None

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    async def ready(self) -> bool:
        """Whether it answers."""

    @property
    def log(self) -> Path:
        return self.folder / f"{type(self).__name__.lower()}.log"

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command(), cwd=self.folder, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        async with asyncio.timeout(START_SECONDS):
            while not await self.ready():
                assert self._process.returncode is None, f"did not start:\n{self.tail()}"
                await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal, and wait for the end; the exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        return await process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


class Server(Killable):
    """``inngest serve`` with all services."""

    signing_key = "5f" * 32
    event_key = "durable"

    def __init__(self, folder: Path, redis: Redis | None) -> None:
        super().__init__(folder)
        self._redis = redis

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def command(self) -> list[str]:
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--data-dir": str(self.data),
            "--signing-key": self.signing_key,
            "--event-key": self.event_key,
            "--retry-interval": "1",
            "--log-level": "warn",
        }
        if self._redis is not None:
            options["--redis-uri"] = self._redis.url
        services = ["event-api", "core-api", "runner", "executor"]
        command = [sys.executable, "-m", "inngest.cli", "serve", *services]
        return command + [word for option in options.items() for word in option]

    async def ready(self) -> bool:
        try:
            async with ClientSession() as session, session.get(f"{self.url}/health") as response:
                return response.status == 200
        except (ClientError, OSError):
            return False


class Redis(Killable):
    """A Redis server that answers a write when it is on disk."""

    @staticmethod
    def available() -> bool:
        return shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "always",
        }
        return ["redis-server", *[word for option in options.items() for word in option]]

    async def ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")  # not so while it loads
        except OSError:
            return False
        finally:
            writer.close()
