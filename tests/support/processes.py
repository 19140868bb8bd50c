"""The processes that are killed: the server, and a Redis server that keeps everything it acknowledges."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

START_SECONDS = 60
END_SECONDS = 60


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

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    @abstractmethod
    async def ready(self) -> bool:
        """Whether it answers."""

    @property
    def log(self) -> Path:
        return self.folder / f"{type(self).__name__.lower()}.log"

    async def launch(self) -> None:
        """Start, and wait for nothing."""
        self.folder.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def start(self) -> None:
        """Start, and wait until it answers."""
        await self.launch()
        assert self._process is not None
        async with asyncio.timeout(START_SECONDS):
            while not await self.ready():
                assert self._process.returncode is None, f"did not start:\n{self.tail()}"
                await asyncio.sleep(0.02)

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for its end by itself, or by what was sent before; the exit code."""
        process, self._process = self._process, None
        assert process is not None
        async with asyncio.timeout(END_SECONDS):
            return await process.wait()

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


ALL = ("event-api", "core-api", "runner", "executor")


class Server(Killable):
    """``inngest serve`` with some services or all of them.

    ``config`` is a configuration, over which go the addresses, the keys and the place of the data. A process
    without an API listens for the health of its first service on ``port``, and of its second on ``second``.
    """

    signing_key = "5f" * 32
    event_key = "durable-0123456789"

    def __init__(
        self,
        folder: Path,
        redis: Redis | None,
        services: Sequence[str] = ALL,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(folder)
        self.services = tuple(services)
        self.second = free_port()
        self._redis = redis
        self._config = dict(config or {})
        if not {"event-api", "core-api"} & set(services):
            for name, port in zip(services, (self.port, self.second), strict=False):
                self._config[name] = {**self._config.get(name, {}), "port": port}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "INNGEST_CONFIG": json.dumps(self._config)}

    def command(self) -> list[str]:
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--data-dir": str(self.data),
            "--signing-key": self.signing_key,
            "--event-key": self.event_key,
            "--retry-interval": "1",
        }
        if "event-api" not in self.services and "core-api" in self.services:
            options["--core-port"] = str(self.port)
        if self._redis is not None:
            options["--redis-uri"] = self._redis.url
        command = [sys.executable, "-m", "inngest.cli", "serve", *self.services]
        return command + [word for option in options.items() for word in option]

    async def ready(self) -> bool:
        return await self.status("/health/ready") == 200

    async def status(self, path: str, *, port: int | None = None) -> int:
        """Of a GET; 0 if nothing answers."""
        try:
            url = f"http://127.0.0.1:{port or self.port}{path}"
            async with ClientSession() as session, session.get(url) as response:
                return response.status
        except (ClientError, OSError):
            return 0

    async def get(self, path: str) -> str:
        async with ClientSession() as session, session.get(f"{self.url}{path}") as response:
            return await response.text()

    async def send(self, name: str, **data: Any) -> int:
        """The status with which an event is answered; 0 if nothing answers."""
        event = {"name": name, "data": data}
        try:
            url = f"{self.url}/e/{self.event_key}"
            async with ClientSession() as session, session.post(url, json=event) as response:
                return response.status
        except (ClientError, OSError):
            return 0

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Redis(Killable):
    """A Redis server that answers a write when it is on disk; ``options`` count over that."""

    def __init__(self, folder: Path, **options: str) -> None:
        super().__init__(folder)
        self._options = options

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
            **{f"--{name}": value for name, value in self._options.items()},
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
