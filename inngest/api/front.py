"""What stands before all routes of a listener, and what the listener must leave to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from inngest.api.budget import BUDGET, Budget
from inngest.api.errors import json_errors
from inngest.api.pages import Pages
from inngest.core.policy import BODIES_BYTES, MAX_BODY

SERVER_OPTIONS: Mapping[str, Any] = {
    "auto_decompress": False,  # `bodies` inflates, within bounds, and only what is read
    "lingering_time": 0.0,  # `close_unread` does what is needed of it
}
"""For whoever serves an `application`: without them what comes compressed is inflated twice."""

HEADERS: Mapping[str, str] = {
    "Server": "inngest",  # and no version
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Of every answer."""

LINGER_SECONDS = 1.0
LINGER_BYTES = 256 * 1024
"""What is let go of a refused body, so that its sender gets to see why: one whose connection is closed on
what it has sent may lose the answer with it.
"""


def application(
    routes: Iterable[web.AbstractRouteDef],
    *,
    pages: Pages,
    outer: Sequence[Middleware] = (),
    inner: Sequence[Middleware] = (),
    max_body: int = MAX_BODY,
    budget: Budget | None = None,
) -> web.Application:
    """The routes of a listener, behind everything that each of them needs.

    Args:
        routes: what there is.
        pages: what web pages may do here.
        outer: middlewares that come first.
        inner: middlewares that come last, before the handlers.
        max_body: bytes of a request.
        budget: of the process, if it has several listeners.
    """
    app = web.Application(
        client_max_size=max_body, middlewares=[*outer, close_unread, pages.middleware, json_errors, *inner]
    )
    app[BUDGET] = budget or Budget(BODIES_BYTES)
    app.add_routes(
        [
            web.route(each.method, each.path, each.handler, expect_handler=_expected, **each.kwargs)
            if isinstance(each, web.RouteDef)
            else each
            for each in routes
        ]
    )
    return app


async def _expected(request: web.Request) -> None:
    """Nothing: who reads a body asks for it (see `bodies`)."""


@web.middleware
async def close_unread(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Closes the connection of a request whose body nobody wanted. Goes before what answers."""
    try:
        response = await handler(request)
    finally:
        request.app[BUDGET].release(request)
    content = request.content
    if content.is_eof():
        return response
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    if request.headers.get("Expect", "").lower() == "100-continue":
        return response  # it has asked first, and sends nothing
    left = LINGER_BYTES
    with suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0 and (chunk := await content.readany()):
                left -= len(chunk)
    return response
