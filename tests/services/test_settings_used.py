"""What settings say of limits and logs reaches the parts that it is for."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from msgspec import msgpack
from service_rig import until
from slow_app import EVENT, SlowApp

from inngest.backends.sqlite.data import SqliteDataStore
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.transition import Committed, Record, Transition
from inngest.services.assembly import build
from inngest.services.outputs import MAX_CHARACTERS, log_outputs
from inngest.services.settings import SERVICES, InMemory, Listen, Settings, Sqlite
from inngest.services.web import WebServer

SETTINGS = Settings(
    services=SERVICES,
    dev=True,
    engine=InMemory(),
    stream=InMemory(),
    data=InMemory(),
    event_api=Listen("127.0.0.1", 0),
)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[list[str]]:
    """The URLs of the listeners of a server in this process."""
    supervisor = build(settings)
    running = asyncio.create_task(supervisor.run())
    listeners = [service for service in supervisor.services if isinstance(service, WebServer)]
    await until(lambda: all(each.listening for each in listeners), "the server listens")
    urls = [f"http://127.0.0.1:{each.port}" for each in listeners]

    async def ready() -> bool:
        async with ClientSession() as session, session.get(f"{urls[0]}/health/ready") as response:
            return response.status == 200

    await until(ready, "the server is ready")
    yield urls
    supervisor.stop()
    assert await running == 0


async def _post(url: str, body: bytes) -> tuple[int, Any]:
    async with ClientSession() as session, session.post(url, data=body) as response:
        return response.status, json.loads(await response.text())


async def _chunked(url: str, body: bytes) -> int:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    async with ClientSession() as session, session.post(url, data=chunks()) as response:
        return response.status


def _event(size: int) -> bytes:
    return b'{"name":"x","data":{"a":"%b"}}' % (b"a" * size)


async def test_the_event_api_has_limits_of_its_own_beside_the_core_api() -> None:
    settings = replace(SETTINGS, max_event_bytes=300, max_events_body_bytes=500, max_body_bytes=1000)
    async with serving(settings) as (url,):
        assert (await _post(f"{url}/e/key", _event(200)))[0] == 200
        status, answer = await _post(f"{url}/e/key", _event(400))
        assert status == 400, "an event that is too large"
        assert "300" in answer["error"]
        status, answer = await _post(f"{url}/e/key", _event(600))
        assert status == 413, "a request that is too large"
        assert "500 bytes" in answer["error"]
        assert await _chunked(f"{url}/e/key", _event(600)) == 413
        assert (await _post(f"{url}/fn/register", b" " * 700))[0] == 400, "it is read, and no registration"
        assert (await _post(f"{url}/fn/register", b" " * 1100))[0] == 413


async def test_a_larger_limit_of_the_event_api_holds_too() -> None:
    settings = replace(SETTINGS, max_events_body_bytes=1000, max_body_bytes=500)
    async with serving(settings) as (url,):
        assert (await _post(f"{url}/e/key", _event(700)))[0] == 200
        assert (await _post(f"{url}/fn/register", b" " * 700))[0] == 413


async def test_runner_and_executor_listen_where_they_are_told_to() -> None:
    settings = replace(SETTINGS, runner=Listen("127.0.0.2", 0), executor=Listen("127.0.0.3", 0))
    supervisor = build(settings)
    names = [service.name for service in supervisor.services if isinstance(service, WebServer)]
    assert names == ["core-api", "runner", "executor"]


async def test_a_call_that_takes_too_long_is_a_failed_attempt(app: SlowApp) -> None:
    async with serving(replace(SETTINGS, call_timeout_seconds=0.05, retry_interval_ms=1)) as (url,):
        await app.register(url)
        assert (await _post(f"{url}/e/key", b'{"name":"%b"}' % EVENT.encode()))[0] == 200
        await until(lambda: sum(app.calls.values()) > 1, "the step is called again")
        app.go.set()


async def test_the_end_closes_the_connections_of_syncs() -> None:
    kept: list[asyncio.BaseTransport] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        kept.append(request.transport)
        return web.json_response({}, status=500, headers={"X-Inngest-SDK": "stub:v1"})

    app = web.Application()
    app.router.add_put("/api/inngest", answer)
    async with TestServer(app) as stub:
        async with serving(replace(SETTINGS, sdk_urls=(str(stub.make_url("/api/inngest")),))):
            await until(lambda: kept, "the application is pinged")
        await until(lambda: all(each.is_closing() for each in kept), "the connection is closed")


async def test_what_release_1_kept_in_the_data_file_is_listed(tmp_path: Path) -> None:
    store = SqliteDataStore(tmp_path / "history.db")
    await store.open()
    await store.close()
    order = {"id": "1", "fn": "f", "slug": "s", "app_id": "a", "created": 1, "started_before": 1}
    with closing(sqlite3.connect(tmp_path / "history.db")) as db:
        db.execute("INSERT INTO cancellations VALUES ('1', ?)", (msgpack.encode(order),))
        db.commit()

    async def listed() -> bool:
        async with ClientSession() as session, session.get(f"{url}/v1/cancellations") as response:
            return [each["id"] for each in (await response.json())["data"]] == ["1"]

    async with serving(replace(SETTINGS, data=Sqlite(tmp_path))) as (url,):
        await until(listed, "it is listed")


@pytest.mark.parametrize("wanted", [True, False])
async def test_outputs_of_steps_are_logged_if_that_is_wanted(app: SlowApp, wanted: bool) -> None:
    app.go.set()
    with structlog.testing.capture_logs() as lines:
        async with serving(replace(SETTINGS, log_output=wanted)) as (url,):
            await app.register(url)
            assert (await _post(f"{url}/e/key", b'{"name":"%b"}' % EVENT.encode()))[0] == 200
            await until(lambda: app.ended, "the run ends")
    found = [line for line in lines if line["action"] == "step.output"]
    if not wanted:
        assert not found
        return
    (run,) = app.ended
    step, whole = found
    assert {"run": run, "step": "long", "output": "1", "bytes": 1}.items() <= step.items()
    assert {"run": run, "step": "", "output": "1"}.items() <= whole.items()


def test_a_long_output_is_cut() -> None:
    value = b'"' + b"a" * (2 * MAX_CHARACTERS) + b'"'
    entry = History(id="1", what=What.ATTEMPT, run="r", fn="f", at=1, outcome=Outcome.OK, value=value)
    transition = Transition(fn="f", run="r", effects=[Record(entry=entry), Record(entry=entry)])
    with structlog.testing.capture_logs() as lines:
        log_outputs(transition, Committed(won=[True, False]))
    assert [(len(line["output"]), line["bytes"]) for line in lines] == [(MAX_CHARACTERS, len(value))]
