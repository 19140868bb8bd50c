"""The server under test: a real `inngest` process in a temporary directory, and what it uses up."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 10.0
SIGNING_KEY = "5f" * 32
EVENT_KEY = "bench-0123456789"
_TICKS = os.sysconf("SC_CLK_TCK")

SETUPS = {
    "memory": "inngest dev: everything in memory",
    "sqlite": "inngest dev --persist: the same on SQLite, synchronous=FULL",
    "serve": "inngest serve, all services: SQLite, keys, signed calls",
    "redis": "inngest serve --redis-uri: a private Redis server, appendfsync always",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A child process, and its account in ``/proc``."""

    def __init__(self, command: Sequence[str], folder: Path, name: str) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def check(self) -> None:
        """Raises RuntimeError with the end of its log if the process has ended."""
        if self._child.poll() is not None:
            raise RuntimeError(f"ended with {self._child.returncode}:\n{self.log.read_text()[-4000:]}")

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far, user and system, of all its threads."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def rss(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self._child.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


class Server:
    """A server of one of `SETUPS`. Leave the context, and all of it is gone.

    Args:
        setup: which.
        profile: a file for what cProfile sees of it; a server that is watched is about half as fast.
        temporary: where to put the directory, for a choice of disk.

    """

    def __init__(self, setup: str, *, profile: Path | None = None, temporary: Path | None = None) -> None:
        self.setup = setup
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="inngest-load-", dir=temporary))
        self._redis: Process | None = None
        try:
            redis = self._start_redis() if setup == "redis" else 0
            watch = ["-m", "cProfile", "-o", str(profile.resolve())] if profile is not None else []
            command = [sys.executable, *watch, "-m", "inngest.cli", *self._arguments(redis)]
            self._process = Process(command, self.folder, "server")
        except BaseException:
            self._clear()
            raise
        try:
            self._await_health()
        except BaseException:
            self.close()
            raise

    @property
    def signed(self) -> bool:
        return self.setup in {"serve", "redis"}

    @property
    def cpu(self) -> float:
        return self._process.cpu

    @property
    def store_cpu(self) -> float:
        """The same of the Redis server, if there is one."""
        return self._redis.cpu if self._redis is not None else 0.0

    @property
    def rss(self) -> float:
        return self._process.rss

    def settle(self, quiet: float = 0.3, seconds: float = 300.0) -> None:
        """Return when the server has used no CPU for ``quiet`` seconds. Raises TimeoutError."""
        end = time.monotonic() + seconds
        last, since = self.cpu, time.monotonic()
        while time.monotonic() - since < quiet:
            time.sleep(0.05)
            if (now := self.cpu) > last:
                last, since = now, time.monotonic()
            if time.monotonic() > end:
                raise TimeoutError(f"the server has not come to rest within {seconds:g} s")

    def close(self) -> None:
        # Calls that are never answered are waited for as long as the server likes: not here.
        self._process.stop(3.0)
        self._clear()

    def _clear(self) -> None:
        if self._redis is not None:
            self._redis.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _arguments(self, redis: int) -> list[str]:
        local = ["--host", "127.0.0.1", "--port", str(self.port)]
        if not self.signed:
            kept = ["--persist", "--sqlite-dir", str(self.folder / "data")] if self.setup == "sqlite" else []
            return ["dev", "--no-discovery", "--no-poll", "--quiet", *local, *kept]
        uri = ["--redis-uri", f"redis://127.0.0.1:{redis}/0"] if self.setup == "redis" else []
        keys = ["--signing-key", SIGNING_KEY, "--event-key", EVENT_KEY, "--log-level", "warn"]
        services = ["event-api", "core-api", "runner", "executor"]
        return ["serve", *services, *local, *keys, "--data-dir", str(self.folder / "data"), *uri]

    def _start_redis(self) -> int:
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        self._redis = Process(["redis-server", *options, *durable], self.folder, "redis")
        end = time.monotonic() + START_SECONDS
        while True:
            self._redis.check()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                if probe.recv(16).startswith(b"+PONG"):
                    return port
            if time.monotonic() > end:
                raise TimeoutError("the Redis server does not answer")
            time.sleep(0.02)

    def _await_health(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self._process.check()
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
            with suppress(OSError, HTTPException):
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            connection.close()
            time.sleep(0.02)
        raise TimeoutError(f"the server is not healthy after {START_SECONDS:g} s")
