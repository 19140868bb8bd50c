"""From settings to services: which backends, which listeners, in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import web

from inngest import __version__
from inngest.api.context import ApiContext, Limits
from inngest.api.events import EventApi
from inngest.api.register import RegisterApi
from inngest.api.routes import core_routes
from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.stream import SqliteEventStream
from inngest.core.building import Policy
from inngest.drivers.application import HttpDriver
from inngest.drivers.gateway import HttpGateway
from inngest.drivers.http import HttpClient
from inngest.ports.data import DataStore
from inngest.ports.engine import EngineStore
from inngest.ports.stream import EventStream
from inngest.services.console import Console
from inngest.services.executor import Executor
from inngest.services.indexer import Indexer
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime
from inngest.services.settings import (
    DataBackend,
    EngineBackend,
    InMemory,
    Listen,
    RedisServer,
    Settings,
    Sqlite,
    StreamBackend,
)
from inngest.services.supervisor import Service, Supervisor
from inngest.services.sync import AppSync
from inngest.services.web import WebServer

CORE_API = Listen("0.0.0.0", 8300)  # noqa: S104 -- a server is there to be reached


class Task:
    """A service out of functions."""

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        stop: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self._run = run
        self._prepare = prepare
        self._stop = stop
        self._running: asyncio.Future[None] | None = None

    async def prepare(self) -> None:
        if self._prepare is not None:
            await self._prepare()

    async def run(self) -> None:
        self._running = asyncio.ensure_future(self._run())
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            self._running.cancel()
            raise

    async def stop(self, grace: float) -> None:
        if self._stop is not None:
            await self._stop(grace)
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})


def build(settings: Settings) -> Supervisor:
    """The services of one process, in the order of their start."""
    engine, stream, data = _backends(settings)
    runtime = Runtime(
        engine=engine,
        stream=stream,
        data=data,
        registry=RegistryCache(engine),
        dev=settings.dev,
        signing_keys=settings.signing_keys,
        event_keys=settings.event_keys,
        limits=Limits(Policy(retry_interval=settings.retry_interval_ms)),
    )
    console = Console(runtime.registry) if settings.console else None
    services: list[Service] = [_backend_service(runtime)]
    sync = AppSync(runtime, HttpClient())
    services += _listeners(settings, runtime, console, sync)
    if "core-api" in settings.services:
        services.append(Task("indexer", Indexer(runtime).run))
    if "runner" in settings.services:
        services.append(Task("runner", Runner(runtime, observe=console.committed if console else None).run))
    if "executor" in settings.services:
        services.append(_executor(settings, runtime, console))
    if "core-api" in settings.services:
        services.append(_sync(settings, sync))
    return Supervisor(services)


def _backends(settings: Settings) -> tuple[EngineStore, EventStream, DataStore]:
    journals: dict[Path, Journal] = {}

    def journal(directory: Path) -> Journal:
        # One file for engine and stream: what is made of an event is never on disk before it.
        return journals.setdefault(directory, Journal(directory / "engine.db"))

    return (
        _engine(settings.engine, journal),
        _stream(settings.stream, journal),
        _data(settings.data),
    )


def _engine(backend: EngineBackend, journal: Callable[[Path], Journal]) -> EngineStore:
    match backend:
        case InMemory():
            return MemoryEngineStore()
        case Sqlite(directory):
            return SqliteEngineStore(journal(directory))
        case RedisServer(url, prefix):
            from inngest.backends.redis.engine import RedisEngineStore

            return RedisEngineStore(url, prefix=prefix)


def _stream(backend: StreamBackend, journal: Callable[[Path], Journal]) -> EventStream:
    match backend:
        case InMemory():
            return MemoryEventStream()
        case Sqlite(directory):
            return SqliteEventStream(journal(directory))
        case RedisServer(url, prefix):
            from inngest.backends.redis.stream import RedisEventStream

            return RedisEventStream(url, prefix=prefix)


def _data(backend: DataBackend) -> DataStore:
    match backend:
        case InMemory():
            return MemoryDataStore()
        case Sqlite(directory):
            return SqliteDataStore(directory / "history.db")


def _backend_service(runtime: Runtime) -> Service:
    async def prepare() -> None:
        await runtime.engine.open()
        await runtime.stream.open()
        await runtime.data.open()
        await runtime.registry.refresh()

    async def stop(grace: float) -> None:
        await runtime.stream.close()
        await runtime.engine.close()
        await runtime.data.close()

    return Task("backends", runtime.registry.watch, prepare=prepare, stop=stop)


def _listeners(settings: Settings, runtime: Runtime, console: Console | None, sync: AppSync) -> list[Service]:
    events: Sequence[web.AbstractRouteDef] = ()
    core: Sequence[web.AbstractRouteDef] = ()
    if "event-api" in settings.services:
        api = EventApi(
            runtime.stream,
            clock=runtime.clock,
            new_id=runtime.new_id,
            keys=settings.event_keys,
            dev=settings.dev,
            accepted=console.accepted if console else None,
        )
        events = api.routes()
    if "core-api" in settings.services:
        context = _api_context(runtime, sync)
        core = [*RegisterApi(runtime).routes(), *core_routes(context)]
    at, core_at = settings.event_api, settings.core_api or (settings.event_api if events else CORE_API)
    if events and core and at == core_at:
        return [WebServer("api", at.host, at.port, [*events, *core], kind=runtime.kind)]
    servers: list[Service] = []
    if events:
        servers.append(WebServer("event-api", at.host, at.port, events, kind=runtime.kind))
    if core:
        servers.append(WebServer("core-api", core_at.host, core_at.port, core, kind=runtime.kind))
    return servers


def _api_context(runtime: Runtime, sync: AppSync) -> ApiContext:
    return ApiContext(
        engine=runtime.engine,
        data=runtime.data,
        stream=runtime.stream,
        clock=runtime.clock,
        new_id=runtime.new_id,
        signing_keys=runtime.signing_keys,
        event_keys=runtime.event_keys,
        dev=runtime.dev,
        version=__version__,
        registry=runtime.registry,
        limits=runtime.limits,
        sync_app=sync.ping,
    )


def _executor(settings: Settings, runtime: Runtime, console: Console | None) -> Service:
    client = HttpClient()
    driver = HttpDriver(
        client,
        clock=runtime.clock,
        new_id=runtime.new_id,
        signing_keys=settings.signing_keys,
        kind=runtime.kind,
    )
    executor = Executor(
        runtime,
        driver,
        HttpGateway(client),
        capacity=settings.workers,
        observe=console.committed if console else None,
    )

    async def stop(grace: float) -> None:
        await executor.drain(grace)
        await driver.close()

    return Task("executor", executor.run, stop=stop)


def _sync(settings: Settings, sync: AppSync) -> Service:
    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            if settings.sdk_urls:
                group.create_task(sync.watch(settings.sdk_urls))
            if settings.discovery:
                group.create_task(sync.discover())
            if settings.poll_seconds:
                group.create_task(sync.poll(every=settings.poll_seconds))

    return Task("sync", run)
