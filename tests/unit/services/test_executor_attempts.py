"""How an executor counts the attempts of a call that reports progress (wire protocol section 5.7)."""

from __future__ import annotations

import asyncio

from msgspec import Raw
from msgspec.structs import replace

from inngest.api.context import Limits
from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.decisions.checkpoints import checkpoint
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.model.runs import Item, Queue, Run
from inngest.core.policy import Policy
from inngest.core.sdk.responses import Answer, failure, read_steps
from inngest.drivers.gateway import HttpGateway
from inngest.drivers.http import HttpClient
from inngest.ports.engine import Work
from inngest.services.executor import Executor
from inngest.services.registry import RegistryCache
from inngest.services.runtime import Runtime

PATIENCE = 20.0
FN = Function(
    id=function_uuid("app", "app-fn"),
    slug="app-fn",
    name="Fn",
    app="app",
    app_id=app_uuid("app"),
    url="http://127.0.0.1:3000/api/inngest",
    triggers=[Trigger(event="app/go")],
    retries=1,
)


class DistantStore(MemoryEngineStore):
    """As a store in another process: what was leased does not follow what changes there."""

    async def lease(self, queue: Queue, limit: int, now: int, until: int) -> Work:
        work = await super().lease(queue, limit, now, until)
        for leased in work.items:
            leased.item = replace(leased.item)
        return work


class Application:
    """Fails each call; in the second one, a step is done before that."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.attempts: list[int] = []

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        self.attempts.append(item.attempt)
        if len(self.attempts) == 2:
            at = self._runtime.moment()
            steps = read_steps(b'[{"id":"a","op":"StepRun","data":1}]')
            await self._runtime.engine.commit([checkpoint(run, item, steps, at, at.now + 30_000)])
        return failure("no luck")

    async def close(self) -> None: ...


async def test_a_step_that_was_reported_gives_the_call_its_attempts_back() -> None:
    engine = DistantStore()
    runtime = Runtime(
        engine=engine,
        stream=MemoryEventStream(),
        data=MemoryDataStore(),
        registry=RegistryCache(engine),
        limits=Limits(Policy(retry_interval=1)),
    )
    await engine.put_app(App(id=FN.app_id, name="app", url=FN.url), [FN])
    await runtime.registry.refresh()
    now = runtime.clock()
    event = Event(id=runtime.new_id(), name="app/go", ts=now, received=now, data=Raw(b"{}"))
    transition = schedule(FN, event, runtime.moment())
    await engine.commit([transition])
    application, client = Application(runtime), HttpClient()
    executor = Executor(runtime, application, HttpGateway(client))
    running = asyncio.create_task(executor.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while await engine.run(transition.run) is not None:
                await asyncio.sleep(0.01)
    finally:
        await executor.drain(PATIENCE)
        await running
        await client.close()
    assert application.attempts == [0, 1, 1]
