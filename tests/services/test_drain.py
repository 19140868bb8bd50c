"""What a stop lets end, and what it hands back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec import Raw
from streams import events_of, publish

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.errors import StoreUnavailable
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.runs import Item, Queue, Run
from inngest.core.model.transition import Committed, Emit, Transition
from inngest.core.sdk.responses import Answer, Reported, read_steps
from inngest.ports.driver import GatewayReply
from inngest.ports.engine import Take, Work
from inngest.services.executor import Executor
from inngest.services.loop import Loop, Stopped
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime

APP = App(id="app-1", name="app", url="http://app.test")
FN = Function(
    id="fn-1",
    slug="app-fn",
    name="fn",
    app="app",
    app_id=APP.id,
    url="http://app.test",
    triggers=[Trigger(event="go")],
)


class SlowStore(MemoryEngineStore):
    """The memory store, behind a network that a test can hold up."""

    def __init__(self) -> None:
        super().__init__()
        self.leasing = asyncio.Event()
        self.lease_answers = asyncio.Event()
        self.lease_answers.set()
        self.commit_answers = asyncio.Event()
        self.commit_answers.set()
        self.committing = asyncio.Event()
        self.down = False

    async def lease(
        self, queue: Queue, limit: int, ms: int, worker: str, *, request: int = 0, again: bool = False
    ) -> Work:
        work = await super().lease(queue, limit, ms, worker, request=request, again=again)
        if queue is Queue.EXECUTOR and work.items:
            self.leasing.set()
            await self.lease_answers.wait()
        return work

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        if self.down:
            raise StoreUnavailable("gone")
        results = await super().commit(transitions, take=take)
        self.committing.set()
        await self.commit_answers.wait()
        return results


class App1:
    """The driver: every call reports one more step, when it may."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.answers = asyncio.Event()

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        self.calls += 1
        self.called.set()
        await self.answers.wait()
        step = b'[{"id":"s%d","op":"StepRun","displayName":"s","data":1}]' % self.calls
        return Reported(steps=read_steps(step))

    async def close(self) -> None:
        pass

    async def fetch(self, item: Item) -> GatewayReply:
        raise AssertionError("there are no gateway items here")


class World:
    def __init__(self) -> None:
        self.store = SlowStore()
        self.stream = MemoryEventStream()
        self.app = App1()
        self.runtime = Runtime(
            engine=self.store,
            stream=self.stream,
            data=MemoryDataStore(),
            registry=RegistryCache(self.store),
        )
        self.runner = Runner(self.runtime)
        self.executor = Executor(self.runtime, self.app, self.app)

    def event(self, name: str = "go") -> Event:
        now = self.runtime.clock()
        return Event(id=self.runtime.new_id(), name=name, ts=now, received=now, data=Raw(b"{}"))

    async def start_run(self) -> None:
        await self.store.put_app(APP, [FN])
        await self.runtime.registry.refresh()
        await self.runner.process([self.event()])
        self.store.committing.clear()


@pytest.fixture
async def world() -> World:
    return World()


async def _soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 30)


async def test_what_is_leased_while_it_stops_is_handed_back_uncalled(world: World) -> None:
    await world.start_run()
    world.store.lease_answers.clear()
    running = asyncio.create_task(world.executor.run())
    await _soon(world.store.leasing)
    draining = asyncio.create_task(world.executor.drain(30))
    await asyncio.sleep(0)
    world.store.lease_answers.set()
    await asyncio.wait_for(draining, 30)
    await running
    assert world.app.calls == 0
    stats = await world.store.stats()
    assert (stats.queued, stats.leased) == (1, 0)


async def test_a_call_ends_and_its_continuation_is_handed_back(world: World) -> None:
    await world.start_run()
    running = asyncio.create_task(world.executor.run())
    await _soon(world.app.called)
    # The commit leases the continuation back to this executor before the end comes, and answers after it.
    world.store.commit_answers.clear()
    world.app.answers.set()
    await _soon(world.store.committing)
    assert (await world.store.stats()).leased == 1
    draining = asyncio.create_task(world.executor.drain(30))
    await asyncio.sleep(0)
    world.store.commit_answers.set()
    await asyncio.wait_for(draining, 30)
    await running
    assert world.app.calls == 1
    stats = await world.store.stats()
    assert (stats.runs, stats.queued, stats.leased) == (1, 1, 0)


async def test_a_call_that_does_not_end_is_handed_back(world: World) -> None:
    await world.start_run()
    running = asyncio.create_task(world.executor.run())
    await _soon(world.app.called)
    await asyncio.wait_for(world.executor.drain(0.01), 30)
    await running
    stats = await world.store.stats()
    assert (stats.queued, stats.leased) == (1, 0)
    assert world.executor.in_flight == 0


async def test_the_runner_commits_and_acknowledges_what_it_has_begun(world: World) -> None:
    await world.store.put_app(APP, [FN])
    world.store.commit_answers.clear()
    running = asyncio.create_task(world.runner.run())
    await publish(world.stream, world.event())
    await _soon(world.store.committing)
    draining = asyncio.create_task(world.runner.drain(30))
    await asyncio.sleep(0)
    world.store.commit_answers.set()
    await asyncio.wait_for(draining, 30)
    await running
    assert (await world.store.stats()).runs == 1
    assert await world.stream.backlog("runner") == 0


async def test_the_runner_brings_the_outbox_to_the_stream(world: World) -> None:
    running = asyncio.create_task(world.runner.run())
    await asyncio.sleep(0)
    internal = world.event("inngest/function.finished")
    world.runner._relaying.stop()  # as if it had been elsewhere when the last event came
    await world.store.commit([Transition(fn="fn-1", run="", effects=[Emit(event=internal.encode())])])
    await asyncio.wait_for(world.runner.drain(30), 30)
    await running
    delivery = await world.stream.fetch("indexer", 10, 0)
    assert [event.name for event in events_of(delivery)] == ["inngest/function.finished"]
    assert (await world.store.stats()).outbox == 0


async def test_a_runner_whose_store_is_gone_stops_and_acknowledges_nothing(world: World) -> None:
    await world.store.put_app(APP, [FN])
    world.store.down = True
    running = asyncio.create_task(world.runner.run())
    await publish(world.stream, world.event())
    async with asyncio.timeout(90):
        while not world.runner.counts.lag.total:
            await asyncio.sleep(0.005)
    await asyncio.wait_for(world.runner.drain(30), 30)
    await running
    assert await world.stream.backlog("runner") == 1


async def test_an_event_meets_what_was_registered_before_it(world: World) -> None:
    """News of a registration in another process may be slower than the event."""

    class Late(RegistryCache):
        async def watch(self) -> None:
            raise AssertionError("nobody tells it")

    world.runtime.registry = Late(world.store)
    await world.runtime.registry.refresh()
    await world.store.put_app(APP, [FN])
    await publish(world.stream, world.event())
    running = asyncio.create_task(world.runner.run())
    await _soon(world.store.committing)
    await world.runner.drain(30)
    await running
    assert (await world.store.stats()).runs == 1


async def test_a_function_that_cannot_be_looked_up_waits_for_the_store(world: World) -> None:
    """It is no failed attempt, and the item is not dropped."""
    await world.start_run()
    await world.runtime.registry.refresh()
    world.runtime.registry.functions = {}
    failures = 0

    class Shaky(RegistryCache):
        async def refresh(self) -> None:
            nonlocal failures
            failures += 1
            if failures == 1:
                raise StoreUnavailable("gone")
            await super().refresh()

    world.runtime.registry = Shaky(world.store)
    world.executor = Executor(world.runtime, world.app, world.app)
    running = asyncio.create_task(world.executor.run())
    await _soon(world.app.called)
    assert failures == 2
    await world.executor.drain(0)
    await running


async def test_a_loop_ends_its_piece_of_work_but_not_its_rest() -> None:
    begun, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go.wait()
        ended.set()
        await loop.rest(asyncio.Event().wait())

    loop = Loop("test", work)
    running = asyncio.create_task(loop.run())
    await _soon(begun)
    loop.stop()
    await asyncio.sleep(0)
    assert not running.done()
    go.set()
    await asyncio.wait_for(running, 30)
    assert ended.is_set()
    assert running.cancelling() == 0

    begun.clear(), ended.clear()
    loop = Loop("test", work)
    running = asyncio.create_task(loop.run())
    await _soon(ended)
    await asyncio.sleep(0)
    loop.stop()
    await asyncio.wait_for(running, 30)
    assert running.cancelling() == 0
    with pytest.raises(Stopped):
        await loop.rest(asyncio.sleep(3600))


async def test_a_loop_that_is_cancelled_is_cancelled() -> None:
    async def work() -> None:
        await loop.rest(asyncio.Event().wait())

    loop = Loop("test", work)
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
