"""What every answer of a listener has (wire protocol section 1.2)."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from inngest.api.answers import answer
from inngest.services.web import WebServer


async def _fine(_: web.Request) -> web.Response:
    return answer({})


async def _broken(_: web.Request) -> web.Response:
    raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["dev", "cloud"])
async def test_the_kind_of_the_server_is_on_every_answer(kind: str) -> None:
    routes = [web.get("/fine", _fine), web.get("/broken", _broken)]
    server = WebServer("core-api", "127.0.0.1", 0, routes, kind=kind)
    await server.prepare()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            for path, status in (("/fine", 200), ("/broken", 500), ("/nowhere", 404)):
                async with session.get(path) as response:
                    assert (response.status, response.headers["X-Inngest-Server-Kind"]) == (status, kind)
                    assert response.headers["Access-Control-Allow-Origin"] == "*"
                    await response.json()
    finally:
        await server.stop(1.0)
