"""From settings to services: which backends, which listeners, in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from aiohttp import web

from inngest import __version__
from inngest.api.budget import Budget
from inngest.api.context import ApiContext, Limits
from inngest.api.events import EventApi
from inngest.api.pages import Pages
from inngest.api.register import RegisterApi
from inngest.api.routes import core_routes
from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.stream import SqliteEventStream
from inngest.core.model.transition import Committed, Transition
from inngest.core.policy import ANSWER_BYTES, BODIES_BYTES, MAX_BODY, Policy
from inngest.core.sdk.keyring import Keyring
from inngest.drivers.application import HttpDriver
from inngest.drivers.gateway import HttpGateway
from inngest.drivers.http import HttpClient
from inngest.drivers.schemes import SchemeDriver
from inngest.loops.background import persist
from inngest.loops.room import Room
from inngest.loops.trouble import guarded
from inngest.ports.data import DataStore, Predecessor
from inngest.ports.engine import EngineStore
from inngest.ports.stream import EventStream
from inngest.services import indexer, runner
from inngest.services.admission import Admission, bounds_for, raise_file_limit
from inngest.services.connect import Backend, Connections
from inngest.services.console import Console
from inngest.services.executor import Executor
from inngest.services.failures import FailureLog
from inngest.services.gate import Gate
from inngest.services.health import Health, HealthRoutes, MetricsRoute, Phase
from inngest.services.indexer import Indexer
from inngest.services.janitor import Janitor
from inngest.services.logs import hide_secrets
from inngest.services.masking import secrets_of
from inngest.services.metrics import Metrics
from inngest.services.needs import System, required, used
from inngest.services.outputs import log_outputs
from inngest.services.predecessor import take_over_cancellations
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Observer, Runtime
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
from inngest.services.starting import place, reachable
from inngest.services.supervisor import LEAST_SECONDS, Service, Supervisor
from inngest.services.sync import AppSync
from inngest.services.task import Task
from inngest.services.web import WebServer

# ruff: noqa: S104 -- a server is there to be reached
CORE_API = Listen("0.0.0.0", 8300)
RUNNER = Listen("0.0.0.0", 8301)
EXECUTOR = Listen("0.0.0.0", 8302)
"""Where a service listens that is given no address, and finds none to share."""

BRIEF_SECONDS = 0.5
"""What a service has to stop when everything is in memory, and ends with the process anyway."""


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
        limits=Limits(
            Policy(
                retry_interval=settings.retry_interval_ms,
                max_steps=settings.max_steps,
                max_state=settings.max_state_bytes,
                max_event=settings.max_event_bytes,
            )
        ),
    )
    return _Process(settings, runtime).supervisor()


class _Process:
    """The parts of one process, put together."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._health = Health()
        self._metrics = Metrics()
        self._metrics.functions = lambda: runtime.registry.functions
        if not settings.dev:  # where the console tells of them
            log_failures = FailureLog(runtime.registry).committed
            self._metrics.commits.trouble = guarded("failures.log", log_failures)
        self._gate = Gate()
        self._admission = self._metrics.admission = Admission(bounds_for(raise_file_limit()))
        self._bodies = Budget(BODIES_BYTES)
        self._listening: list[WebServer] = []
        self._console = Console(runtime.registry) if settings.console else None
        self._sync = AppSync(runtime, HttpClient(destinations=settings.calls))
        backends: dict[System, Backend] = {
            System.ENGINE: runtime.engine,
            System.STREAM: runtime.stream,
            System.DATA: runtime.data,
        }
        self._used = used(settings.services)
        self._connections = Connections(
            {system: backend for system, backend in backends.items() if system in self._used},
            required(settings.services),
            self._health,
        )

    def supervisor(self) -> Supervisor:
        """Listeners come first, to tell how the rest gets on, and the gate opens when it is there; on the way
        back, what applications ask while their steps end is answered until the executor has stopped.
        """
        hide_secrets(secrets_of(self._settings))
        connections = self._connections
        services: list[Service] = [self._sync_client()] if "core-api" in self._settings.services else []
        services += [
            *self._listeners(),
            Task(
                "backends",
                connections.run,
                prepare=connections.prepare,
                stop=connections.stop,
                start_seconds=None,
            ),
        ]
        if System.ENGINE in self._used:
            registry = self._runtime.registry
            services.append(Task("registry", registry.watch, prepare=registry.load, start_seconds=None))
        if "core-api" in self._settings.services:
            services += self._observing()
        if "runner" in self._settings.services:
            services.append(self._runner())
        services.append(self._gate)
        if "executor" in self._settings.services:
            services.append(self._executor())
        if "core-api" in self._settings.services:
            services.append(self._syncing())
        self._measure()
        brief = self._settings.dev and isinstance(self._settings.engine, InMemory)
        return Supervisor(
            services,
            grace=0 if brief else self._settings.grace_seconds,
            least=BRIEF_SECONDS if brief else LEAST_SECONDS,
            serving=self._serving,
            stopping=partial(self._stopping, brief=brief),
        )

    def _serving(self) -> None:
        self._health.enter(Phase.SERVING)
        if self._console is not None and self._listening:
            engine = self._settings.engine
            kept = "in memory (--persist keeps it over restarts)"
            kept = kept if isinstance(engine, InMemory) else f"in {place(engine).partition(' ')[2]}"
            url = reachable(self._settings.event_api.host, self._listening[0].port)
            guarded("console.serving", self._console.serving)(url, kept)

    def _stopping(self, *, brief: bool) -> None:
        if self._console is not None:
            working = self._metrics.working() if self._metrics.working is not None and not brief else 0
            guarded("console.stopping", self._console.stopping)(working)
        self._health.enter(Phase.STOPPING)

    def _observer(self) -> Observer:
        """What is told of each commit: the metrics, and who else wants to know. None of them can fail what
        has been committed.
        """
        observers: list[Observer] = [guarded("metrics.observe", self._metrics.commits.observe)]
        if self._console is not None:
            observers.append(guarded("console.committed", self._console.committed))
        if self._settings.log_output:
            observers.append(guarded("outputs.log", log_outputs))
        if len(observers) == 1:
            return observers[0]

        def observe(transition: Transition, committed: Committed) -> None:
            for each in observers:
                each(transition, committed)

        return observe

    def _measure(self) -> None:
        engine, stream, data = self._runtime.engine, self._runtime.stream, self._runtime.data
        if System.DATA in self._used:
            self._metrics.damaged = lambda: data.damaged
        if System.ENGINE in self._used:
            self._metrics.stats = engine.stats
        if System.STREAM in self._used:
            groups = (runner.GROUP, indexer.GROUP)
            self._metrics.backlogs = {group: partial(stream.backlog, group) for group in groups}
            self._metrics.dropped = {group: partial(stream.dropped, group) for group in groups}
            self._metrics.dead = stream.dead

    # -- listeners --

    def _listeners(self) -> list[Service]:
        """One for each address. Runner and executor, which have no API, share that of one if they can."""
        settings = self._settings
        services = settings.services
        events_at = settings.event_api if "event-api" in services else None
        core_at = settings.core_api or events_at or CORE_API
        shared = events_at or (core_at if "core-api" in services else None)
        addresses = {
            "event-api": settings.event_api,
            "core-api": core_at,
            "runner": settings.runner or shared or RUNNER,
            "executor": settings.executor or shared or EXECUTOR,
        }
        places: dict[Listen, list[str]] = {}
        for name in services:
            places.setdefault(addresses[name], []).append(name)
        listeners: list[Service] = [self._listener(at, names) for at, names in places.items()]
        if settings.metrics is not None:
            listeners.append(self._web("metrics", settings.metrics, self._numbers().routes()))
        return listeners

    def _numbers(self) -> MetricsRoute:
        return MetricsRoute(self._metrics, self._settings.metrics_token)

    def _listener(self, at: Listen, names: Sequence[str]) -> WebServer:
        routes: list[web.AbstractRouteDef] = [*HealthRoutes(self._health, names).routes()]
        if self._settings.metrics is None:
            routes += self._numbers().routes()
        max_body = self._settings.max_events_body_bytes
        if "event-api" in names:
            routes += self._event_api().routes()
        if "core-api" in names:
            max_body = self._settings.max_body_bytes
            routes += [*self._register_api().routes(), *core_routes(self._api_context())]
        name = "core-api" if "core-api" in names else names[0]
        self._listening.append(self._web(name, at, routes, max_body=max_body))
        return self._listening[-1]

    def _web(
        self, name: str, at: Listen, routes: Sequence[web.AbstractRouteDef], *, max_body: int = MAX_BODY
    ) -> WebServer:
        return WebServer(
            name,
            at.host,
            at.port,
            routes,
            kind=self._runtime.kind,
            middlewares=[self._gate.middleware],
            max_body=max_body,
            pages=Pages(dev=self._settings.dev, hosts=self._settings.allowed_hosts),
            admission=self._admission,
            budget=self._bodies,
        )

    def _register_api(self) -> RegisterApi:
        console = self._console
        tell = guarded("console.registered", console.registered) if console is not None else None
        return RegisterApi(self._runtime, tell, alive=self._sync.registered)

    def _event_api(self) -> EventApi:
        settings, runtime = self._settings, self._runtime
        api = EventApi(
            runtime.stream,
            clock=runtime.clock,
            new_id=runtime.new_id,
            keys=settings.event_keys,
            dev=settings.dev,
            max_event=settings.max_event_bytes,
            max_body=settings.max_events_body_bytes,
            accepted=guarded("console.accepted", self._console.accepted) if self._console else None,
        )
        self._metrics.intake = api.intake
        return api

    def _api_context(self) -> ApiContext:
        runtime = self._runtime
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
            start_options={
                "urls": self._settings.sdk_urls,
                "autodiscover": self._settings.discovery,
                "poll": self._settings.poll_seconds > 0,
                "poll_interval": self._settings.poll_seconds,
            },
            sync_app=self._sync.ping,
            app_error=self._sync.error_of,
            observe=self._observer(),
        )

    # -- loops --

    def _observing(self) -> list[Service]:
        """The indexer, and the janitor if there is something to forget. They wait for the data store."""
        indexing = Indexer(self._runtime)
        self._metrics.indexer = indexing.counts
        services: list[Service] = [
            Task("indexer", self._once_open(indexing.run, System.STREAM, System.DATA), stop=indexing.drain)
        ]
        if isinstance(self._runtime.data, Predecessor):
            services.append(self._taking_over(self._runtime.data))
        if self._settings.retention_seconds:
            janitor = Janitor(self._runtime, self._settings.retention_seconds)
            services.append(Task("janitor", self._once_open(janitor.run, System.DATA), stop=janitor.drain))
        return services

    def _taking_over(self, store: Predecessor) -> Service:
        async def run() -> None:
            await persist("predecessor.cancellation", partial(take_over_cancellations, store, self._runtime))
            await _for_ever()

        return Task("predecessor", self._once_open(run, System.ENGINE, System.DATA))

    def _once_open(
        self, run: Callable[[], Awaitable[None]], *systems: System
    ) -> Callable[[], Awaitable[None]]:
        async def wait_and_run() -> None:
            for system in systems:
                await self._connections.opened(system)
            await run()

        return wait_and_run

    def _runner(self) -> Service:
        console = self._console
        unused = guarded("console.unused", console.unused) if console is not None else None
        running = Runner(self._runtime, observe=self._observer(), unused=unused)
        self._metrics.runner = running.counts
        return Task("runner", running.run, stop=running.drain)

    def _executor(self) -> Service:
        settings, runtime = self._settings, self._runtime
        answers = Room(ANSWER_BYTES)
        client = HttpClient(room=answers, destinations=settings.calls)
        # Of its own: a kept connection is as good as leave to connect.
        fetching = HttpClient(room=answers, destinations=settings.fetches)
        driver = HttpDriver(
            client,
            clock=runtime.clock,
            new_id=runtime.new_id,
            keys=Keyring(settings.signing_keys),
            registered=runtime.registry.signed_by,
            kind=runtime.kind,
            timeout=settings.call_timeout_seconds,
        )
        drivers = SchemeDriver({"http": driver, "https": driver})
        executor = Executor(
            runtime,
            drivers,
            HttpGateway(fetching, timeout=settings.call_timeout_seconds),
            capacity=settings.workers,
            observe=self._observer(),
            answers=answers,
        )
        self._metrics.executor = executor.counts
        self._metrics.working = lambda: executor.in_flight

        async def stop(grace: float) -> None:
            await executor.drain(grace)
            await drivers.close()
            await fetching.close()

        return Task("executor", executor.run, stop=stop)

    def _syncing(self) -> Service:
        settings = self._settings
        run = partial(
            self._sync.run,
            urls=settings.sdk_urls,
            discover=settings.discovery,
            poll_every=settings.poll_seconds or None,
        )
        return Task("sync", run)

    def _sync_client(self) -> Service:
        """Started before the listeners, stopped after them: until then, people may ask for syncs."""

        async def stop(_: float) -> None:
            await self._sync.close()

        return Task("sync-client", _for_ever, stop=stop)


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _backends(settings: Settings) -> tuple[EngineStore, EventStream, DataStore]:
    journals: dict[Path, Journal] = {}

    def journal(directory: Path) -> Journal:
        # One file for engine and stream: what is made of an event is never on disk before it.
        return journals.setdefault(directory, Journal(directory / "engine.db"))

    return (
        _engine(settings.engine, journal, dev=settings.dev),
        _stream(settings.stream, journal, dev=settings.dev),
        _data(settings.data),
    )


def _engine(backend: EngineBackend, journal: Callable[[Path], Journal], *, dev: bool) -> EngineStore:
    match backend:
        case InMemory():
            return MemoryEngineStore()
        case Sqlite(directory):
            return SqliteEngineStore(journal(directory))
        case RedisServer(url, prefix, allowed):
            from inngest.backends.redis.engine import RedisEngineStore

            return RedisEngineStore(url, prefix=prefix, allow_unsafe=None if dev else allowed)


def _stream(backend: StreamBackend, journal: Callable[[Path], Journal], *, dev: bool) -> EventStream:
    match backend:
        case InMemory():
            return MemoryEventStream()
        case Sqlite(directory):
            return SqliteEventStream(journal(directory))
        case RedisServer(url, prefix, allowed):
            from inngest.backends.redis.stream import RedisEventStream

            return RedisEventStream(url, prefix=prefix, allow_unsafe=None if dev else allowed)


def _data(backend: DataBackend) -> DataStore:
    match backend:
        case InMemory():
            return MemoryDataStore()
        case Sqlite(directory):
            return SqliteDataStore(directory / "history.db")
