"""What the demonstration makes of a server that is still starting."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"
NOT_YET = (503, {"error": "starting"})
EMPTY: tuple[int, Any] = (200, {"data": {"functions": []}})
THERE = (200, {"data": {"functions": [{"slug": "another"}, {"slug": "wanted"}]}})


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def answering(*answers: tuple[int, Any]) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that gives these answers, one after the other; its URL, and what it was asked."""
    asked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        status, body = answers[len(asked) - 1]
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/v0/gql", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), asked


Wait = Callable[[str], Awaitable[None]]


@pytest.fixture
async def wait(demo: ModuleType) -> AsyncIterator[Wait]:
    async with aiohttp.ClientSession() as session:
        yield lambda url: demo.Server(url, session, []).wait_function("wanted")


async def test_it_waits_until_all_services_are_up_and_the_function_is_there(wait: Wait) -> None:
    async with answering(NOT_YET, NOT_YET, EMPTY, THERE) as (url, asked):
        await wait(url)
        assert len(asked) == 4


async def test_any_other_refusal_ends_it(wait: Wait) -> None:
    async with answering(NOT_YET, (500, {"error": "broken"}), THERE) as (url, asked):
        with pytest.raises(aiohttp.ClientResponseError):
            await wait(url)
        assert len(asked) == 2
