"""The heartbeat of an executor: which leases it takes for lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.model.runs import Item, Run
from inngest.core.model.transition import Lease
from inngest.core.sdk.responses import Answer, Returned
from inngest.ports.driver import GatewayReply
from inngest.services import executor
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime

FUNCTION = Function(
    id=function_uuid("app", "app-fn"),
    slug="app-fn",
    name="fn",
    app="app",
    app_id=app_uuid("app"),
    url="http://127.0.0.1:3000/api/inngest",
    triggers=[Trigger(event="app/go")],
)


class Application:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        await self.answers.wait()
        return Returned(output=b"null")

    async def fetch(self, item: Item) -> GatewayReply:
        raise AssertionError("no step asks for it")


class SlowStore(MemoryEngineStore):
    """Prolongs leases only when the heartbeat's question is out of date: before, the run has ended."""

    def __init__(self, application: Application) -> None:
        super().__init__()
        self._application = application
        self.lost: asyncio.Future[list[Lease]] = asyncio.get_running_loop().create_future()

    async def extend(self, leases: Sequence[Lease], until: int) -> list[Lease]:
        self._application.answers.set()
        while (await self.stats()).runs:
            await asyncio.sleep(0.001)
        lost = await super().extend(leases, until)
        if not self.lost.done():
            self.lost.set_result(lost)
        return lost


async def test_a_lease_whose_work_was_done_meanwhile_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "LEASE", 600)
    application = Application()
    engine = SlowStore(application)
    runtime = Runtime(
        engine=engine, stream=MemoryEventStream(), data=MemoryDataStore(), registry=RegistryCache(engine)
    )
    await engine.put_app(App(id=app_uuid("app"), name="app", url=FUNCTION.url), [FUNCTION])
    await runtime.registry.refresh()
    working = executor.Executor(runtime, application, application)
    running = asyncio.create_task(working.run())
    now = runtime.clock()
    event = Event(id=runtime.new_id(), name="app/go", ts=now, received=now, data=Raw(b"{}"))
    await Runner(runtime).process([event])
    async with asyncio.timeout(30):
        lost = await engine.lost
        await working.drain(10)
        await running
    assert len(lost) == 1, "the store does not know the lease any more"
    assert working.counts.lost == 0
