"""One connection of a client: aiohttp's protocol, under the eyes of `admission`."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from inngest.api.answers import RETRY_AFTER, error_answer
from inngest.api.front import HEADERS
from inngest.services.admission import Admission, origin_of
from inngest.services.health import HEALTH, LIVE, READY
from inngest.services.malformed import reason

SPARED = frozenset({HEALTH, LIVE, READY})
"""What is answered on a spare place."""


class Connection(web.RequestHandler):
    """See `admission.Guest`."""

    __slots__ = ("_admission", "address", "answering", "begun", "pending", "since", "spare")

    def __init__(self, server: web.Server, admission: Admission, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._admission = admission
        self.address = ""
        self.answering = False
        self.begun = True
        self.spare = False
        self.since = 0.0
        self.pending = 0

    @property
    def unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = origin_of(transport.get_extra_info("peername"))
        super().connection_made(transport)
        if not self._admission.enter(self):
            self.drop()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.begun and not self.answering:
            self.begun, self.since = True, self._admission.now()
        super().data_received(data)

    def drop(self) -> None:
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request."""
        self._admission.answer(self)
        try:
            if not self.spare:
                return await handler(request)
            if request.path in SPARED:
                response = await handler(request)
            else:
                response = error_answer(503, "The server has too many connections; try again")
                response.headers["Retry-After"] = RETRY_AFTER
            response.force_close()
            return response
        finally:
            self._admission.answered(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request: like any other error, without what was sent."""
        super().handle_error(request, status, exc, message)
        if isinstance(exc, HttpProcessingError):
            response = error_answer(status, f"Malformed request: {reason(exc)}")
        else:
            response = error_answer(status, "Internal server error")
        response.headers.update(HEADERS)
        response.force_close()
        return response


@web.middleware
async def admitted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells `Admission` of each request. Goes before all other middleware."""
    connection = request.protocol
    if isinstance(connection, Connection):
        return await connection.serve(request, handler)
    return await handler(request)
