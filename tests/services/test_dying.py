"""A service that ends, by an exception or by a kill: the others stop, or go on, and no step is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from processes import ALL, Redis
from service_rig import Launch, until
from slow_app import EVENT, SlowApp

from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.core.model.runs import Kind
from inngest.services.assembly import build
from inngest.services.settings import SERVICES, Listen, Settings, Sqlite
from inngest.services.supervisor import Service, Supervisor
from inngest.services.web import WebServer


def settings(folder: Path) -> Settings:
    return Settings(
        services=SERVICES,
        dev=True,
        engine=Sqlite(folder),
        stream=Sqlite(folder),
        data=Sqlite(folder),
        event_api=Listen("127.0.0.1", 0),
        retention_seconds=3600,
    )


PARTS = [
    "sync-client", "core-api", "backends", "registry", "indexer", "predecessor", "janitor", "runner", "gate",
    "executor", "sync",
]  # fmt: skip


class Mortal:
    """A service that works until it is told to die."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.name = service.name
        self.start_seconds = service.start_seconds
        self.prepare = service.prepare
        self.stopping = asyncio.Event()
        self.dies = asyncio.Event()

    async def stop(self, grace: float) -> None:
        self.stopping.set()
        await self.service.stop(grace)

    async def run(self) -> None:
        living = asyncio.ensure_future(self.service.run())
        dying = asyncio.ensure_future(self.dies.wait())
        try:
            await asyncio.wait({living, dying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            living.cancel()
            dying.cancel()
        await asyncio.wait({living})
        raise RuntimeError(f"{self.name} is dead")


class World:
    """A whole server in this process, one service of which can be let die."""

    def __init__(self, settings: Settings, mortal: str) -> None:
        services = build(settings).services
        (self._listener,) = [service for service in services if isinstance(service, WebServer)]
        mortals = {service.name: Mortal(service) for service in services}
        self.mortal, self.executor = mortals[mortal], mortals["executor"]
        self.serving = asyncio.Event()
        self.supervisor = Supervisor(list(mortals.values()), grace=30, serving=self.serving.set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.port}"

    async def send(self, name: str) -> None:
        event = {"name": name, "data": {}}
        async with ClientSession() as session, session.post(f"{self.url}/e/key", json=event) as response:
            assert response.status == 200


@asynccontextmanager
async def world(mortal: str, folder: Path) -> AsyncIterator[tuple[World, asyncio.Task[int]]]:
    made = World(settings(folder), mortal)
    running = asyncio.create_task(made.supervisor.run())
    try:
        await asyncio.wait_for(made.serving.wait(), 60)
        yield made, running
    finally:
        made.supervisor.stop()
        await running


def test_every_part_of_a_process_is_tried(tmp_path: Path) -> None:
    assert [service.name for service in build(settings(tmp_path)).services] == PARTS


@pytest.mark.parametrize("part", PARTS)
async def test_the_others_stop_when_one_fails_and_the_step_under_way_ends(
    part: str, app: SlowApp, tmp_path: Path
) -> None:
    async with world(part, tmp_path) as (made, running):
        await app.register(made.url)
        await made.send(EVENT)
        await until(app.called.is_set, "the step is called")
        made.mortal.dies.set()
        await asyncio.wait_for(made.executor.stopping.wait(), 60)
        app.go.set()
        assert await asyncio.wait_for(running, 60) == 1

    (run,) = app.calls
    store = SqliteEngineStore(Journal(tmp_path / "engine.db"))
    await store.open()
    fn = await store.locate(run)
    assert fn is not None
    state, items = await store.run(fn, run), await store.items(fn, run)
    await store.close()
    assert state is not None
    assert app.ended == set(), "a stopping server began another step"
    assert list(state.steps.values()) == [b'{"data":1}']
    assert [item.kind for item in items] == [Kind.DISCOVER]


@pytest.mark.slow
@pytest.mark.parametrize("killed", ALL)
async def test_services_in_processes_of_their_own_outlive_each_other(
    killed: str, server: Launch, redis: Redis, app: SlowApp
) -> None:
    await redis.start()
    servers = {name: server(name, redis, services=(name,)) for name in ALL}
    await asyncio.gather(*(each.start() for each in servers.values()))
    events, core = servers["event-api"], servers["core-api"]
    await app.register(core.url, core.signing_key)
    assert await events.send(EVENT) == 200
    await until(app.called.is_set, "the step is called")

    await servers[killed].end(signal.SIGKILL)
    for name, each in servers.items():
        assert await each.ready() == (name != killed), name
    app.go.set()
    if killed != "executor":
        await until(lambda: app.ended, "the run ends without the killed one")
    await servers[killed].start()
    await until(lambda: app.ended, "the run ends")
    assert list(app.calls.values()) == [2 if killed == "executor" else 1]

    assert await events.send(EVENT) == 200
    await until(lambda: len(app.ended) == 2, "another run ends")
    codes = await asyncio.gather(*(each.end(signal.SIGTERM) for each in servers.values()))
    assert codes == [0] * 4
