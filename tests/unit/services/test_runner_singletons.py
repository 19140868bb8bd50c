"""Which run a singleton function keeps, and what is told of the other (wire protocol section 4.9)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.decisions.crons import crons
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Debounce, Function, Singleton, Trigger
from inngest.core.model.history import What
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.model.runs import Queue
from inngest.core.model.transition import Lease, Transition
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime

LATER = 3_600_000


class World:
    def __init__(self, mode: Literal["skip", "cancel"], **fields: Any) -> None:
        self.engine = MemoryEngineStore()
        self.runtime = Runtime(
            engine=self.engine,
            stream=MemoryEventStream(),
            data=MemoryDataStore(),
            registry=RegistryCache(self.engine),
        )
        self.runner = Runner(self.runtime)
        self.fn = Function(
            id=function_uuid("app", "app-one"),
            slug="app-one",
            name="One",
            app="app",
            app_id=app_uuid("app"),
            url="http://127.0.0.1:3000/api/inngest",
            singleton=Singleton(mode=mode),
            **{"triggers": [Trigger(event="app/go")], **fields},
        )

    async def open(self) -> None:
        app = App(id=self.fn.app_id, name="app", url=self.fn.url)
        await self.engine.put_app(app, [self.fn])
        await self.runtime.registry.refresh()

    def event(self) -> Event:
        now = self.runtime.clock()
        return Event(id=self.runtime.new_id(), name="app/go", ts=now, received=now, data=Raw(b"{}"))

    async def runs(self) -> list[str]:
        return [run.id for run in await self.engine.runs(self.fn.id, 0, 1 << 60)]

    async def history(self) -> list[tuple[What, str, dict[str, Any]]]:
        box = await self.engine.outbox_history(100)
        await self.engine.ack_history(box.token)
        return [(entry.what, entry.run, entry.info or {}) for entry in box.entries]

    async def fire(self) -> None:
        """Work off the one timer of the function, whenever it is due."""
        now = self.runtime.clock() + LATER
        (leased,) = (await self.engine.lease(Queue.RUNNER, 10, now, now + LATER)).items
        transition: Transition = await self.runner._fire(leased.item)
        transition.lease = Lease(leased.item.job, leased.item.epoch)
        await self.engine.commit([transition])


async def test_a_skipped_run_names_the_one_that_goes_on() -> None:
    world = World("skip")
    await world.open()
    for _ in range(2):
        await world.runner.process([world.event()])
    [first] = await world.runs()
    (_, second) = await world.history()
    assert (second[0], second[2]["reason"], second[2]["existing"]) == (What.SKIPPED, "Singleton", first)


async def test_a_new_event_cancels_the_run_before() -> None:
    world = World("cancel")
    await world.open()
    await world.runner.process([world.event()])
    [first] = await world.runs()
    await world.runner.process([world.event()])
    [second] = await world.runs()
    assert second != first
    assert (What.ENDED, first) in [entry[:2] for entry in await world.history()]


async def test_an_event_that_is_delivered_again_cancels_no_newer_run() -> None:
    world = World("cancel")
    await world.open()
    events = [world.event(), world.event()]
    for event in events:
        await world.runner.process([event])
    kept = await world.runs()
    for event in events:
        await world.runner.process([event])
    assert await world.runs() == kept


async def test_a_debounced_event_cancels_when_it_runs() -> None:
    world = World("cancel", debounce=Debounce(period=1_000))
    await world.open()
    await world.runner.process([world.event()])
    await world.fire()
    first = await world.runs()
    await world.runner.process([world.event()])
    assert await world.runs() == first
    await world.fire()
    (second,) = await world.runs()
    assert second != first[0]


async def test_a_tick_cancels_the_run_of_the_one_before() -> None:
    world = World("cancel", triggers=[Trigger(cron="* * * * *")])
    await world.open()
    effect = crons(world.fn, world.runtime.moment())
    await world.engine.commit([Transition(fn=world.fn.id, run="", effects=[effect])])
    await world.fire()
    (first,) = await world.runs()
    (item,) = [entry.item for entry in world.engine._entries.values() if entry.item.kind == "cron"]
    item.payload = msgspec.json.encode({**msgspec.json.decode(item.payload), "at": item.due + 60_000})
    await world.fire()
    (second,) = await world.runs()
    assert second != first
