"""All routes of a process, and what each demands of whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum

import aiohttp
import pytest
from aiohttp import web

from inngest.services.assembly import build
from inngest.services.settings import SERVICES, InMemory, Listen, Settings
from inngest.services.web import WebServer

SIGNING = "signkey-test-0123456789abcdef0123456789abcdef"
EVENT = "an-event-key-0123456789"
TOKEN = "a-token-of-collectors"


class Asks(StrEnum):
    """What a route demands where there are keys. A development server without keys lets everybody in."""

    NOTHING = "nothing"
    EVENT_KEY = "an event key, in the path"
    SIGNING_KEY = "a signing key"
    TOKEN = "the token of the numbers, if there is one"
    DEV = "a signing key; it is there in development only"
    DEV_NOTHING = "nothing; it is there in development only"


NOTHING = {Asks.NOTHING, Asks.DEV_NOTHING}
DEV = {Asks.DEV, Asks.DEV_NOTHING}

TABLE: dict[str, Asks] = {
    "GET /health": Asks.NOTHING,
    "GET /health/live": Asks.NOTHING,
    "GET /health/ready": Asks.NOTHING,
    "GET /metrics": Asks.TOKEN,
    "GET /": Asks.DEV_NOTHING,
    "GET /dev": Asks.NOTHING,
    "POST /dev/traces": Asks.SIGNING_KEY,
    "POST /v0/telemetry": Asks.SIGNING_KEY,
    "POST /e/{key}": Asks.EVENT_KEY,
    "POST /e/": Asks.EVENT_KEY,
    "POST /e": Asks.EVENT_KEY,
    "POST /fn/register": Asks.SIGNING_KEY,
    "DELETE /fn/remove": Asks.SIGNING_KEY,
    "POST /fn/step-limit": Asks.DEV,
    "DELETE /fn/step-limit": Asks.DEV,
    "POST /fn/state-size-limit": Asks.DEV,
    "DELETE /fn/state-size-limit": Asks.DEV,
    "POST /invoke/{slug}": Asks.SIGNING_KEY,
    "POST /v0/gql": Asks.SIGNING_KEY,
    "GET /v0/runs/{id}/actions": Asks.SIGNING_KEY,
    "GET /v0/runs/{id}/batch": Asks.SIGNING_KEY,
    "DELETE /v0/runs/{id}": Asks.SIGNING_KEY,
    "GET /v1/events": Asks.SIGNING_KEY,
    "GET /v1/events/{id}": Asks.SIGNING_KEY,
    "GET /v1/events/{id}/runs": Asks.SIGNING_KEY,
    "GET /v1/runs": Asks.SIGNING_KEY,
    "GET /v1/runs/{id}": Asks.SIGNING_KEY,
    "DELETE /v1/runs/{id}": Asks.SIGNING_KEY,
    "GET /v1/runs/{id}/jobs": Asks.SIGNING_KEY,
    "POST /v1/runs/{id}/metadata": Asks.SIGNING_KEY,
    "GET /v1/apps/{app}/functions": Asks.SIGNING_KEY,
    "POST /v1/cancellations": Asks.SIGNING_KEY,
    "GET /v1/cancellations": Asks.SIGNING_KEY,
    "DELETE /v1/cancellations/{id}": Asks.SIGNING_KEY,
    "POST /v1/signals": Asks.SIGNING_KEY,
    "POST /v1/traces/userland": Asks.SIGNING_KEY,
    "POST /v1/checkpoint/{id}/async": Asks.SIGNING_KEY,
    "GET /v1/dead-letters": Asks.SIGNING_KEY,
    "GET /v1/dead-letters/{id}": Asks.SIGNING_KEY,
    "POST /v1/dead-letters/requeue": Asks.SIGNING_KEY,
    "DELETE /v1/dead-letters": Asks.SIGNING_KEY,
}

SERVE = Settings(
    services=SERVICES,
    dev=False,
    engine=InMemory(),
    stream=InMemory(),
    data=InMemory(),
    event_api=Listen("127.0.0.1", 0),
    signing_keys=(SIGNING,),
    event_keys=(EVENT,),
    metrics_token=TOKEN,
)
MODES = {
    "serve": SERVE,
    "dev": replace(SERVE, dev=True, signing_keys=(), event_keys=(), metrics_token=""),
    "dev with keys": replace(SERVE, dev=True),
}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[list[WebServer]]:
    """The listeners of a process, once it is ready."""
    supervisor = build(settings)
    running = asyncio.create_task(supervisor.run())
    listeners = [service for service in supervisor.services if isinstance(service, WebServer)]
    while not all(each.listening for each in listeners) or not await _ready(listeners[0]):
        await asyncio.sleep(0.01)
    yield listeners
    supervisor.stop()
    assert await running == 0


async def _ready(listener: WebServer) -> bool:
    url = f"http://127.0.0.1:{listener.port}/health/ready"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status == 200


def routes_of(listener: WebServer) -> list[str]:
    return [f"{each.method} {each.path}" for each in listener.routes if isinstance(each, web.RouteDef)]


def session_with(listener: WebServer) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}")


class Asker:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def refused(self, route: str, key: str = "", bearer: str = "") -> bool:
        """Whether a request gets no further than to the demand for a key."""
        method, path = route.split()
        path = path.replace("{key}", key or "none").replace("{id}", "01HZZZZZZZZZZZZZZZZZZZZZZZ")
        path = path.replace("{slug}", "x").replace("{app}", "x")
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        body = b"{}" if method == "POST" else None
        async with self._session.request(method, path, headers=headers, data=body) as response:
            assert response.status < 500, route
            assert response.headers["Server"] == "inngest"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"
            return response.status == 401


@pytest.mark.parametrize("mode", MODES)
async def test_what_each_route_demands(mode: str) -> None:
    settings = MODES[mode]
    async with serving(settings) as listeners:
        (listener,) = listeners
        routes = routes_of(listener)
        assert len(routes) == len(set(routes))
        assert set(routes) == {route for route, asks in TABLE.items() if settings.dev or asks not in DEV}
        async with session_with(listener) as session:
            ask = Asker(session)
            for route in routes:
                asks = TABLE[route]
                if mode == "dev":
                    assert await ask.refused(route) == (route in {"POST /e/", "POST /e"}), route
                    continue
                closed = asks not in NOTHING
                for wrong in ("", "wrong", EVENT, EVENT + "x", SIGNING[:-1]):
                    assert await ask.refused(route, bearer=wrong) == closed, (route, wrong)
                signing = await ask.refused(route, bearer=SIGNING)
                assert signing == (asks in {Asks.EVENT_KEY, Asks.TOKEN}), route
                token = await ask.refused(route, bearer=TOKEN)
                assert token == (asks not in {*NOTHING, Asks.TOKEN}), route
                if "{key}" in route:
                    assert not await ask.refused(route, key=EVENT)
                    assert await ask.refused(route, key=SIGNING)


async def test_without_keys_nothing_answers_outside_development() -> None:
    without = replace(SERVE, signing_keys=(), event_keys=(), metrics_token="")
    async with serving(without) as (listener,), session_with(listener) as session:
        ask = Asker(session)
        for route in routes_of(listener):
            if TABLE[route] is Asks.SIGNING_KEY:
                assert await ask.refused(route, bearer=SIGNING), route
        async with session.post(f"/e/{EVENT}", data=b"{}") as response:
            assert response.status == 503


async def test_numbers_can_have_an_address_of_their_own() -> None:
    async with serving(replace(SERVE, metrics=Listen("127.0.0.1", 0))) as (api, metrics):
        assert "GET /metrics" not in routes_of(api)
        assert routes_of(metrics) == ["GET /metrics"]
        async with session_with(metrics) as session:
            ask = Asker(session)
            assert await ask.refused("GET /metrics")
            assert not await ask.refused("GET /metrics", bearer=TOKEN)
