"""HTTP without sockets: requests that are made by hand for the real handlers, and the client of executors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict, MultiDict

from inngest.api.errors import json_errors
from inngest.core.policy import MAX_BODY
from inngest.drivers.http import HttpProtocolError, HttpResponse, HttpTimeout, HttpUnreachable
from sim.process import PROCESS

if TYPE_CHECKING:
    from sim.world import World

_PARAMETER = re.compile(r"\{(\w+)\}")


class Request:
    """As much of `aiohttp.web.Request` as handlers look at."""

    client_max_size = MAX_BODY

    def __init__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.path, _, query = url.partition("?")
        self.query = MultiDict(parse_qsl(query, keep_blank_values=True))
        self.headers = CIMultiDict(headers)
        self.content_type = self.headers.get("Content-Type", "application/json")
        self.match_info: dict[str, str] = {}
        self.content_length = len(body)
        self.content = _Content(body)


class _Content:
    """A body that is there."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def is_eof(self) -> bool:
        return True

    def read_nowait(self) -> bytes:
        return self._body


class Routes:
    """Finds handlers by method and path, and calls them as the listener does."""

    def __init__(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        self._exact: dict[tuple[str, str], Any] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Any]] = []
        for route in routes:
            assert isinstance(route, web.RouteDef)
            if "{" in route.path:
                pattern = re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", route.path))
                self._patterns.append((route.method, pattern, route.handler))
            else:
                self._exact[route.method, route.path] = route.handler

    async def handle(self, request: Request) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        response = await json_errors(request, self._find(request))  # type: ignore[arg-type]
        assert isinstance(response, web.Response)
        body = response.body
        return response.status, bytes(body) if isinstance(body, bytes | bytearray) else b""

    def _find(self, request: Request) -> Callable[[Any], Awaitable[web.StreamResponse]]:
        found = self._exact.get((request.method, request.path))
        if found is not None:
            return found  # type: ignore[no-any-return]
        for method, pattern, handler in self._patterns:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                request.match_info = match.groupdict()
                return handler  # type: ignore[no-any-return]
        raise AssertionError(f"nothing is simulated at {request.method} {request.path}")


class AppClient:
    """What `inngest.drivers.http.HttpClient` is to the drivers of one process: the way to applications."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def request(
        self, method: str, url: str, headers: Any, body: bytes, *, timeout: float, **_: Any
    ) -> HttpResponse:
        world = self._world
        host = url.split("/", 3)[2]
        fate = world.app_fates.draw(host)
        run = dict(headers).get("X-Run-ID", "")
        if run:
            world.truth.first_call.setdefault(run, world.now())
        if fate.wrong:
            world.truth.mistreated.add(run)
        if fate.unreachable:
            await asyncio.sleep(fate.there)
            raise HttpUnreachable(host, "simulated")
        reply = world.loop.create_future()

        async def carry() -> None:
            """Both ways of the request, and the application in between: they outlive this process."""
            await asyncio.sleep(fate.there)
            answers = [world.answer(method, url, dict(headers), body)]
            if fate.twice:
                answers.append(world.answer(method, url, dict(headers), body))
            for answer in answers:
                answer = await answer
            if fate.garbage is not None:
                answer = fate.garbage
            await asyncio.sleep(fate.back)
            if not reply.done() and not fate.never:
                reply.set_result(answer)

        world.spawn(carry())
        try:
            async with asyncio.timeout(timeout):
                status, answered, text = await reply
        except TimeoutError:
            world.truth.mistreated.add(run)
            raise HttpTimeout(host, phase="total", seconds=timeout, doing="calling") from None
        if fate.cut:
            raise HttpProtocolError(host, "simulated: the connection was cut")
        return HttpResponse(status, answered, text, url)

    async def close(self) -> None:
        pass


def outside(function: Callable[..., Any]) -> Any:
    """Call in the context of no process."""
    import contextvars

    context = contextvars.copy_context()
    context.run(PROCESS.set, None)
    return context.run(function)
