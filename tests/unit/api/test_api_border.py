"""Authentication, errors and CORS: what every route has in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from api_world import World

from inngest.api.routes import core_routes
from inngest.core.errors import StoreRefused, StoreUnavailable
from inngest.core.sdk.signing import hashed_key

KEY = "signkey-test-" + "ab" * 32
UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
PUBLIC = {("GET", "/dev"), ("GET", "/")}

Make = Callable[..., Awaitable[World]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    worlds: list[World] = []

    async def build(**context: Any) -> World:
        world = World(**context)
        await world.open()
        worlds.append(world)
        return world

    yield build
    for world in worlds:
        await world.close()


async def test_every_route_but_the_public_ones_takes_a_key(make: Make) -> None:
    world = await make(signing_keys=(KEY,))
    for route in core_routes(world.ctx):
        path = route.path.replace("{", "").replace("}", "")
        status, body = await world.ask(route.method, path, b"")
        assert (status == 401) == ((route.method, route.path) not in PUBLIC), (route, status)
        if status == 401:
            assert (body["status"], body["error"]) == (401, "Authentication failed")


@pytest.mark.parametrize("token", [KEY, hashed_key(KEY), "ab" * 32])
async def test_a_signing_key_opens_in_every_form(make: Make, token: str) -> None:
    world = await make(signing_keys=("cd" * 32, KEY))
    status, _ = await world.ask("GET", "/v1/events", Authorization=f"Bearer {token}")
    assert status == 200
    status, _ = await world.ask("GET", "/v1/events", Authorization=f"Bearer {token}0")
    assert status == 401


async def test_outside_development_nobody_gets_in_without_a_key(make: Make) -> None:
    world = await make(dev=False)
    status, body = await world.ask("GET", "/v1/events", Authorization="Bearer x")
    assert (status, body["code"]) == (401, "missing_server_signing_key")
    assert (await world.ask("POST", "/v0/gql", {"query": "{ apps { id } }"}))[0] == 401


async def test_a_login_opens_without_a_key(make: Make) -> None:
    world = await make(signing_keys=(KEY,), session=lambda request: request.cookies.get("login") == "yes")
    assert (await world.ask("GET", "/v1/events"))[0] == 401
    assert (await world.ask("GET", "/v1/events", Cookie="login=yes"))[0] == 200


async def test_nothing_there_is_json_too(world: World) -> None:
    status, body = await world.ask("GET", "/nothing/here")
    assert (status, body) == (
        404,
        {"error": "There is nothing at /nothing/here", "data": None, "status": 404},
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v0/connect/start"),
        ("POST", "/v0/connect/flush"),
        ("GET", "/v0/connect/envs/dev/conns"),
        ("POST", "/v1/checkpoint"),
        ("POST", f"/v1/checkpoint/{UNKNOWN}/steps"),
        ("POST", f"/v1/checkpoint/{UNKNOWN}/response"),
        ("GET", f"/v1/http/runs/{UNKNOWN}/output"),
        ("POST", "/v1/realtime/token"),
        ("POST", "/v1/realtime/publish?channel=c&topic=t"),
        ("GET", "/v1/realtime/sse"),
        ("GET", "/v1/prom/dev"),
        ("GET", "/v2/runs"),
        ("POST", "/api/v2/apps"),
    ],
)
async def test_what_this_server_does_not_do_is_not_there(world: World, method: str, path: str) -> None:
    status, body = await world.ask(method, path, b"\x00")
    where = path.partition("?")[0]
    assert (status, body) == (404, {"error": f"There is nothing at {where}", "data": None, "status": 404})


async def test_a_wrong_method_names_the_right_ones(world: World) -> None:
    async with world.client.put("/v1/signals") as answer:
        body = await answer.json()
        assert answer.status == body["status"] == 405
        assert answer.headers["Allow"] == "POST"
        assert "only POST" in body["error"]


async def test_a_body_that_is_no_json_is_refused(world: World) -> None:
    for path in ("/v1/signals", "/v1/cancellations", "/v0/gql"):
        status, body = await world.ask("POST", path, b"{no")
        assert (status, body["status"]) == (400, 400)
        assert "Invalid request body" in body["error"]


async def test_what_goes_wrong_inside_stays_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(world.data, "events", broken)
    status, body = await world.ask("GET", "/v1/events")
    assert (status, body) == (500, {"error": "Internal server error", "data": None, "status": 500})


async def test_a_store_that_is_down_is_a_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("redis://secret@host refused")

    monkeypatch.setattr(world.data, "events", down)
    status, body = await world.ask("GET", "/v1/events")
    assert (status, body["status"]) == (503, 503)
    assert "secret" not in body["error"]
    async with world.client.get("/v1/events") as answer:
        assert answer.headers["Retry-After"] == "1"


async def test_what_a_store_refuses_is_a_400(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: object, **__: object) -> None:
        raise StoreRefused("redis://secret@host refused")

    monkeypatch.setattr(world.data, "events", down)
    status, body = await world.ask("GET", "/v1/events")
    assert (status, body["status"]) == (400, 400)
    assert "secret" not in body["error"]


async def test_limits_of_test_suites_are_for_development(make: Make) -> None:
    """Anywhere else the executor is another process, which they would not reach."""
    for dev in (True, False):
        world = await make(dev=dev, signing_keys=(KEY,))
        path = "/fn/step-limit?functionId=shop-order&limit=7"
        status, _ = await world.ask("POST", path, b"", Authorization=f"Bearer {KEY}")
        assert status == (200 if dev else 404)
