"""Applications that register as their SDKs do, and what a server asks them by."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.errors import StoreUnavailable
from inngest.core.model.ids import UlidFactory
from inngest.core.sdk.signing import hashed_key, verify
from inngest.ports.engine import Registered

BODIES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "core" / "registration_bodies.json").read_text(encoding="utf-8")
)
LINES = ["py", "go", "ts3", "ts4"]
NOW = 1_700_000_000_000
KEY = "signkey-test-0123456789abcdef"
OLD = "signkey-test-fedcba9876543210"
PATIENCE = 60.0


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


class Engine(MemoryEngineStore):
    reads = 0
    down = False

    async def registry(self) -> Registered:
        self.reads += 1
        if self.down:
            raise StoreUnavailable("connection refused")
        return await super().registry()

    async def apps(self) -> dict[str, str]:
        return {app.name: app.url for app in (await super().registry()).apps.values()}


@dataclass
class Context:
    engine: Engine = field(default_factory=Engine)
    signing_keys: Sequence[str] = ()
    dev: bool = True

    def clock(self) -> int:
        return NOW

    def __post_init__(self) -> None:
        self.new_id = UlidFactory(clock=self.clock, random_bytes=lambda n: b"r" * n).new


class Logs:
    """What is logged meanwhile about syncs, from the level of information on."""

    def __init__(self, entries: list[MutableMapping[str, Any]]) -> None:
        self._entries = entries

    @property
    def entries(self) -> list[MutableMapping[str, Any]]:
        return [
            entry
            for entry in self._entries
            if entry["log_level"] != "debug" and entry["action"].startswith("sync.")
        ]

    def of(self, action: str) -> list[MutableMapping[str, Any]]:
        return [entry for entry in self._entries if entry["action"] == action]


class SdkApp:
    """An application that registers as its SDK does when it gets a ``PUT``, and answers as that one does."""

    def __init__(self, line: str, api: str, session: aiohttp.ClientSession) -> None:
        self.line, self.api, self.session = line, api, session
        self.key = ""
        self.verifies = False
        self.silent = False
        self.change: dict[str, Any] = {}
        self.pings: list[tuple[web.Request, bytes]] = []
        self.port = 0
        self.served: TestServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/inngest"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_put("/api/inngest", self.handle)
        self.served = TestServer(app, port=self.port or None)
        await self.served.start_server()
        self.port = self.served.port or 0

    async def stop(self) -> None:
        if self.served is not None:
            await self.served.close()
            self.served = None

    async def handle(self, request: web.Request) -> web.Response:
        sent = await request.read()
        self.pings.append((request, sent))
        while self.silent:
            await asyncio.sleep(0.01)
        signature = request.headers.get("X-Inngest-Signature")
        if self.verifies and not verify(sent, signature, [self.key], NOW // 1000):
            return web.json_response({"message": "Unauthorized"}, status=401)
        body = {**BODIES[self.line], "url": self.url, **self.change}
        headers = {"X-Inngest-Expected-Server-Kind": request.headers["X-Inngest-Server-Kind"]}
        if self.key:
            headers["Authorization"] = f"Bearer {hashed_key(self.key)}"
        async with self.session.post(f"{self.api}/fn/register", json=body, headers=headers) as response:
            reply = await response.json()
            status = response.status
        answer = {"X-Inngest-SDK": f"{body['sdk']}", "x-inngest-sync-kind": "out_of_band"}
        if self.line == "py":
            return web.json_response(reply, headers=answer)
        if self.line == "go":
            if status < 300:
                return web.Response(headers=answer)
            message = f"error registering functions: {reply['error']}"
            return web.json_response({"code": "unknown", "message": message}, status=500, headers=answer)
        shown = {
            "message": reply.get("error", "Successfully registered"),
            "modified": reply.get("modified", False),
        }
        return web.json_response(shown, status=reply.get("status", 200), headers=answer)


@contextlib.asynccontextmanager
async def answering(status: int, body: bytes = b"", **headers: str) -> AsyncIterator[str]:
    """A server that answers every request alike; yields the URL of a path on it."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/api/inngest"))


@contextlib.asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
