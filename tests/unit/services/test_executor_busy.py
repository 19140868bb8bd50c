"""A driver that finds nobody to call: the executor comes back to it, and counts no attempt."""

from __future__ import annotations

import asyncio

from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.history import What
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.model.runs import Item, Run
from inngest.core.policy import MIN_BUSY_RETRY
from inngest.core.sdk.responses import Answer, Busy, Returned
from inngest.drivers.schemes import SchemeDriver
from inngest.ports.driver import GatewayReply
from inngest.services.executor import Executor
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime

FUNCTION = Function(
    id=function_uuid("app", "app-fn"),
    slug="app-fn",
    name="fn",
    app="app",
    app_id=app_uuid("app"),
    url="busy://workers",
    triggers=[Trigger(event="app/go")],
    retries=0,
)


class Workers:
    """Nobody is free for the first calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.done = asyncio.Event()

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        self.calls.append((item.attempt, run.started))
        if len(self.calls) < 4:
            return Busy(retry_in=MIN_BUSY_RETRY)
        self.done.set()
        return Returned(output=b"null")

    async def fetch(self, item: Item) -> GatewayReply:
        raise AssertionError("no step asks for it")

    async def close(self) -> None: ...


async def test_nobody_free_is_no_attempt() -> None:
    engine, workers = MemoryEngineStore(), Workers()
    runtime = Runtime(
        engine=engine, stream=MemoryEventStream(), data=MemoryDataStore(), registry=RegistryCache(engine)
    )
    await engine.put_app(App(id=app_uuid("app"), name="app", url=FUNCTION.url), [FUNCTION])
    await runtime.registry.refresh()
    now = runtime.clock()
    event = Event(id=runtime.new_id(), name="app/go", ts=now, received=now, data=Raw(b"{}"))
    await Runner(runtime).process([event])
    executor = Executor(runtime, SchemeDriver({"busy": workers}), workers)
    running = asyncio.create_task(executor.run())
    async with asyncio.timeout(30):
        await workers.done.wait()
        await executor.drain(10)
        await running
    assert workers.calls == [(0, 0)] * 4
    entries = (await engine.history.take(100)).entries
    assert [entry.attempt for entry in entries if entry.what is What.ATTEMPT] == [0]
