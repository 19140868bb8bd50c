"""The HTTP listener of a process: the routes of all services that share an address."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from inngest.api.budget import Budget
from inngest.api.front import HEADERS, SERVER_OPTIONS, application
from inngest.api.pages import Pages
from inngest.core.policy import MAX_BODY
from inngest.services.admission import Admission, bounds_for, raise_file_limit
from inngest.services.connection import Connection, admitted
from inngest.services.malformed import RequestLog
from inngest.services.supervisor import START_SECONDS

log = structlog.get_logger("inngest.web")

_REQUESTS = RequestLog()
_CLOSE_SECONDS = 2.0
"""For requests that are still being answered at the end: those of the APIs have left by then (see `gate`)."""


class WebServer:
    """A service (see `supervisor.Service`) that listens on one address.

    Args:
        name: for the log.
        host: address, "" for all.
        port: 0 for any that is free.
        routes: of all that is served here.
        kind: what applications are told in ``X-Inngest-Server-Kind``.
        middlewares: called after those that every answer needs.
        max_body: bytes of a request.
        pages: what web pages may do; as of a server with keys, unless given.
        admission: of the process, if it has several listeners.
        budget: likewise.

    """

    start_seconds: float | None = START_SECONDS

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        routes: Sequence[web.AbstractRouteDef],
        *,
        kind: str,
        middlewares: Sequence[Middleware] = (),
        max_body: int = MAX_BODY,
        pages: Pages | None = None,
        admission: Admission | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.name = name
        self._host = host
        self._port = port
        self._kind = kind
        self._routes = routes
        self._middlewares = middlewares
        self._max_body = max_body
        self._budget = budget
        self._pages = pages or Pages(dev=False)
        self._admission = admission or Admission(bounds_for(raise_file_limit()))
        self._runner: web.AppRunner | None = None
        self._sockets: asyncio.Server | None = None

    @property
    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """What is served here."""
        return self._routes

    @property
    def listening(self) -> bool:
        return self._sockets is not None and self._sockets.is_serving()

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        assert self._sockets is not None
        return int(self._sockets.sockets[0].getsockname()[1])

    async def prepare(self) -> None:
        """Raises OSError if the address cannot be had."""
        app = application(
            self._routes,
            pages=self._pages,
            outer=[admitted],
            inner=self._middlewares,
            max_body=self._max_body,
            budget=self._budget,
        )
        app.on_response_prepare.append(self._name_kind)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_CLOSE_SECONDS,
            # A client that goes away must not leave half of what it asked for undone.
            handler_cancellation=False,
        )
        await self._runner.setup()
        try:
            self._sockets = await asyncio.get_running_loop().create_server(
                self._connect, self._host, self._port, backlog=1024, reuse_address=True
            )
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(f"cannot listen on {self._host}:{self._port}: {error.strerror or error}") from None
        log.info("listening", action="web.listen", host=self._host, port=self.port)

    def _connect(self) -> Connection:
        assert self._runner is not None
        assert self._runner.server is not None
        return Connection(
            self._runner.server,
            self._admission,
            access_log=None,
            logger=_REQUESTS,
            **SERVER_OPTIONS,
        )

    async def _name_kind(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        response.headers["X-Inngest-Server-Kind"] = self._kind

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self, grace: float) -> None:
        if self._sockets is not None:
            self._sockets.close()
        if self._runner is not None:
            await self._runner.cleanup()
