"""An application with one function of one step, which takes as long as the test wants."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha1
from typing import Any

from aiohttp import ClientSession, web

from inngest.core.sdk.signing import hashed_key

STEP = sha1(b"long").hexdigest()
EVENT = "test/long"


class SlowApp:
    """``calls`` counts the executions of the step by run, ``ended`` the runs that came to their end."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.called = asyncio.Event()
        self.calls: dict[str, int] = {}
        self.ended: set[str] = set()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/api/inngest", self._handle)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api/inngest"

    async def stop(self) -> None:
        self.go.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def register(self, server: str, key: str = "") -> None:
        runtime = {"type": "http", "url": f"{self.url}?fnId=slow-long&stepId=step"}
        function = {
            "id": "slow-long",
            "name": "long",
            "triggers": [{"event": EVENT}],
            "steps": {"step": {"id": "step", "name": "step", "runtime": runtime}},
        }
        body = {"url": self.url, "deployType": "ping", "appName": "slow", "functions": [function], "v": "0.1"}
        headers = {"X-Inngest-SDK": "stub:v1"}
        if key:
            headers["Authorization"] = f"Bearer {hashed_key(key)}"
        url = f"{server}/fn/register"
        async with ClientSession() as session, session.post(url, json=body, headers=headers) as response:
            assert response.status == 200, await response.text()

    async def _handle(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = json.loads(await request.read())
        run = str(body["ctx"]["run_id"])
        headers = {"X-Inngest-SDK": "stub:v1", "x-inngest-req-version": "2"}
        if STEP in body["steps"]:
            self.ended.add(run)
            return web.json_response(body["steps"][STEP]["data"], headers=headers)
        self.calls[run] = self.calls.get(run, 0) + 1
        number = self.calls[run]
        self.called.set()
        await self.go.wait()
        op = {"id": STEP, "op": "StepRun", "name": "long", "displayName": "long", "data": number}
        return web.json_response([op], status=206, headers=headers)
