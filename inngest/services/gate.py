"""The gate before the APIs of a process: open from its readiness to its end.

Ports are open from the first moment, since probes ask there; but what needs the backing systems is answered
503 until all services have started, and again once they stop. SDKs and webhooks try again on 503, as they
would on a refused connection, and whoever looks learns why.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web
from aiohttp.typedefs import Handler

from inngest.api.answers import RETRY_AFTER, error_answer
from inngest.services.health import PATHS


class Gate:
    """A service (see `supervisor.Service`), and the middleware of every listener with an API."""

    name = "gate"
    start_seconds: float | None = None

    def __init__(self) -> None:
        self._closed = "The server is starting; try again"
        self._inside = 0
        self._left = asyncio.Event()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._closed and request.path not in PATHS:
            response = error_answer(503, self._closed)
            response.headers["Retry-After"] = RETRY_AFTER
            return response
        self._inside += 1
        try:
            return await handler(request)
        finally:
            self._inside -= 1
            if not self._inside:
                self._left.set()

    async def prepare(self) -> None:
        self._closed = ""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self, grace: float) -> None:
        """Let nobody in any more; those who are inside have ``grace`` seconds."""
        self._closed = "The server is stopping; try again"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._inside:
                    self._left.clear()
                    await self._left.wait()
