"""The HTTP listener of a process: the routes of all services that share an address."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiohttp import web

from inngest.api.cors import cors
from inngest.api.errors import json_errors
from inngest.api.events import MAX_BODY

log = structlog.get_logger("inngest.web")

_KEEPALIVE_SECONDS = 75.0


class WebServer:
    """A service (see `supervisor.Service`) that listens on one address."""

    def __init__(
        self, name: str, host: str, port: int, routes: Sequence[web.AbstractRouteDef], *, kind: str
    ) -> None:
        self.name = name
        self._host = host
        self._port = port
        self._kind = kind
        self._routes = routes
        self._runner: web.AppRunner | None = None
        self._ended = asyncio.Event()

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def prepare(self) -> None:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[cors, json_errors])
        app.add_routes(self._routes)
        app.on_response_prepare.append(self._name_kind)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            # A client that goes away must not leave half of what it asked for undone.
            handler_cancellation=False,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=1024, reuse_address=True).start()
        except OSError as error:
            raise OSError(f"cannot listen on {self._host}:{self._port}: {error.strerror or error}") from None
        log.info("listening", action="web.listen", service=self.name, host=self._host, port=self.port)

    async def _name_kind(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Inngest-Server-Kind"] = self._kind

    async def run(self) -> None:
        await self._ended.wait()

    async def stop(self, grace: float) -> None:
        if self._runner is not None:
            self._runner._shutdown_timeout = min(grace, 5.0)
            await self._runner.cleanup()
