"""A process of the system, put together from the real services as `inngest.services.assembly` does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from inngest.api.checkpoint import CheckpointApi
from inngest.api.context import ApiContext, Limits
from inngest.api.events import EventApi
from inngest.api.operations import rerun_run
from inngest.api.register import RegisterApi
from inngest.api.rest_v1 import RestV1
from inngest.core.model.ids import UlidFactory
from inngest.core.policy import Policy
from inngest.drivers.application import HttpDriver
from inngest.drivers.gateway import HttpGateway
from inngest.services.executor import Executor
from inngest.services.indexer import Indexer
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime
from sim.faults import Timed, client
from sim.http import AppClient, Request, Routes
from sim.process import Process

if TYPE_CHECKING:
    from sim.world import World

CALL_SECONDS = 90.0
"""How long a call of an application may take here."""
POLICY = Policy(retry_interval=3_000)


class Node:
    """A process under a name, in whatever incarnation: it is killed, stopped, and started again.

    Args:
        world: where it lives.
        name: of the process.
        services: what it does.
        skew: how far (ms) the clock of its machine is ahead of the store's.

    """

    def __init__(self, world: World, name: str, services: tuple[str, ...], skew: int) -> None:
        self.world = world
        self.name = name
        self.services = services
        self.skew = skew
        self.process: Process | None = None
        self.routes: Routes | None = None
        self.context: ApiContext | None = None
        self._drains: list[Callable[[float], Awaitable[None]]] = []
        self._store: Any = None
        self.starts = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and not self.process.dead

    @property
    def serving(self) -> bool:
        return self.alive and self.routes is not None

    def start(self) -> None:
        assert not self.alive
        self.starts += 1
        self.routes = None
        self._drains = []
        self.process = Process(self.world.loop, f"{self.name}.{self.starts}", self.skew)
        process = self.process
        self._run("main", lambda: self._main(process), process, ends=True)

    def _run(
        self, what: str, work: Callable[[], Awaitable[None]], process: Process, *, ends: bool = False
    ) -> None:
        """Let a part of the process run. None of them may end by itself."""

        async def watched() -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the process would end with it
                self.world.violate(0, "process-ended", f"{process.name} {what}: {error!r}")
                self.world.crashed(self, error)
            else:
                if not ends and not self.world.over and process not in self.world.draining:
                    self.world.violate(0, "service-ended", f"{process.name} {what} has ended by itself")

        process.spawn(watched())

    async def _main(self, process: Process) -> None:
        world = self.world
        stores = world.stores
        store = await stores.connect()
        self._store = store
        chance = world.chance(f"time {process.name}")
        watch: Any = world.watch(store)
        if stores.timed:
            slack = 0 if stores.embedded else world.plan.slack
            watch = Timed(watch, world.clock, int(chance.random() * (slack + 1)), slack)
        engine = client(watch, process, "engine", world.faults)
        stream = client(
            world.broker.of(process, stores.stream),
            process,
            "stream",
            world.faults,
            lost=lambda result: world.broker.lost(result, stores.stream),
            # What is delivered inside of a process arrives, or the process dies.
            never_lost=frozenset({"fetch"}) if stores.embedded else frozenset(),
        )
        data = client(stores.data, process, "data", world.faults)
        random = world.chance(f"ids {process.name}")
        ids = UlidFactory(clock=process.clock, random_bytes=random.randbytes)
        runtime = Runtime(
            engine=engine,
            stream=stream,
            data=data,
            registry=RegistryCache(engine),
            limits=Limits(POLICY),
            jitter=random.random,
            new_id=ids.new,
        )
        if self.services != ("event-api",):
            await runtime.registry.load()
            self._run("registry", runtime.registry.watch, process)
        self._apis(runtime, process)
        if "core-api" in self.services:
            indexer = Indexer(runtime)
            self._drains.append(indexer.drain)
            self._run("indexer", indexer.run, process)
        if "runner" in self.services:
            runner = Runner(runtime)
            self._drains.append(runner.drain)
            self._run("runner", runner.run, process)
        if "executor" in self.services:
            self._executor(runtime, process)

    def _apis(self, runtime: Runtime, process: Process) -> None:
        routes: list[Any] = []
        if "event-api" in self.services:
            # Where there is nothing but an event API, there is no engine store to ask for the time.
            alone = self.services == ("event-api",)
            clock = process.clock if alone else runtime.clock
            routes += EventApi(runtime.stream, clock=clock, new_id=runtime.new_id).routes()
        if "core-api" in self.services:
            self.context = ApiContext(
                engine=runtime.engine,
                data=runtime.data,
                stream=runtime.stream,
                registry=runtime.registry,
                clock=runtime.clock,
                new_id=runtime.new_id,
                sync_app=_nothing,  # type: ignore[arg-type]
                limits=runtime.limits,
            )
            routes += RegisterApi(runtime).routes()
            routes += RestV1(self.context).routes()
            routes += CheckpointApi(self.context).routes()
        if routes:
            self.routes = Routes(routes)

    def _executor(self, runtime: Runtime, process: Process) -> None:
        http: Any = AppClient(self.world)
        driver = HttpDriver(http, clock=runtime.clock, new_id=runtime.new_id, timeout=CALL_SECONDS)
        gateway = HttpGateway(http, timeout=CALL_SECONDS)
        executor = Executor(runtime, driver, gateway, capacity=self.world.plan.capacity)
        self._drains.append(executor.drain)
        self._run("executor", executor.run, process)

    # -- what happens to it --

    async def handle(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """A request to one of its APIs. Raises ConnectionError if it dies, or is not there."""
        if not self.serving:
            raise ConnectionRefusedError(self.name)
        assert self.process is not None
        assert self.routes is not None
        routes, request = self.routes, Request(method, url, headers, body)
        answer: tuple[int, bytes] = await self.process.ask(lambda: routes.handle(request))
        return answer

    async def rerun(self, run_id: str) -> str:
        """What the dashboard asks for. Raises what `rerun_run` raises, and ConnectionError."""
        if not self.serving or self.context is None:
            raise ConnectionRefusedError(self.name)
        assert self.process is not None
        context = self.context
        return str(await self.process.ask(lambda: rerun_run(context, run_id)))

    def kill(self) -> None:
        process = self.process
        if process is None or process.dead:
            return
        process.kill()
        world = self.world
        world.graveyard.append(process)
        world.broker.gone(process, None if world.stores.embedded else world.stores.stream)
        if world.stores.embedded:
            world.stores.abandon()
            world.shadow.forget()

    def stop(self) -> None:
        """SIGSTOP, for a while."""
        process = self.process
        if process is None or process.dead:
            return
        process.stop()
        if not self.world.stores.embedded:
            stream = self.world.stores.stream
            self.world.loop.call_later(10.0, self._silent, process, stream)

    def _silent(self, process: Process, stream: Any) -> None:
        if process.frozen and not process.dead:
            self.world.broker.gone(process, stream)

    def wake(self) -> None:
        if self.process is not None:
            self.process.wake()

    async def leave(self, grace: float) -> None:
        """SIGTERM: it ends in order."""
        process = self.process
        if process is None or process.dead or process.frozen:
            return
        self.world.draining[process] = True
        self.routes = None

        async def drain() -> None:
            for each in reversed(self._drains):
                await each(grace)
            await self.world.stores.leave(self._store)

        done = process.spawn(drain())
        await asyncio.wait({done}, timeout=grace + 30)
        if done.done() and not done.cancelled() and (error := done.exception()) is not None:
            self.world.violate(0, "drain-failed", f"{process.name}: {error!r}")
        elif not done.done() and not process.frozen and not process.dead:
            self.world.violate(0, "drain-hangs", f"{process.name} did not end within {grace + 30} s")
        if self.process is process:
            self.kill()


async def _nothing(url: str) -> Any:
    return None
