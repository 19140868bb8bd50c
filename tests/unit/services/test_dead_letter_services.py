"""What the indexer and the runner do with records that a store does not take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw
from streams import events_of, publish

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.errors import StoreRefused
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.history import History, What
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.model.transition import Emit, Record, Transition
from inngest.ports.stream import Letter
from inngest.services.indexer import Indexer
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime

FN = Function(
    id=function_uuid("app", "app-fn"),
    slug="app-fn",
    name="fn",
    app="app",
    app_id=app_uuid("app"),
    url="http://127.0.0.1:3000/api/inngest",
    triggers=[Trigger(event="app/go")],
)


class Picky(MemoryDataStore):
    """Takes nothing that is bad."""

    async def put_events(self, events: Sequence[Event]) -> None:
        if any(event.name == "bad" for event in events):
            raise StoreRefused("a bad event")
        await super().put_events(events)

    async def put_history(self, entries: Sequence[History]) -> None:
        if any(entry.name == "bad" for entry in entries):
            raise StoreRefused("a bad entry")
        await super().put_history(entries)


class World:
    def __init__(self) -> None:
        engine = MemoryEngineStore()
        self.stream, self.data, self.engine = MemoryEventStream(), Picky(), engine
        self.runtime = Runtime(
            engine=engine, stream=self.stream, data=self.data, registry=RegistryCache(engine)
        )

    def event(self, name: str, **fields: Any) -> Event:
        now = self.runtime.clock()
        return Event(id=self.runtime.new_id(), name=name, ts=now, received=now, data=Raw(b"{}"), **fields)

    async def letters(self) -> list[Letter]:
        return await self.stream.letters(limit=100)


@pytest.fixture
def world() -> World:
    return World()


async def _drained(service: Indexer | Runner, done: Any) -> None:
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(30):
        while not await done():
            await asyncio.sleep(0.005)
        await service.drain(10)
        await running


async def test_the_indexer_keeps_all_events_but_the_one_that_is_refused(world: World) -> None:
    events = [world.event("bad" if n == 7 else "app/x") for n in range(50)]
    await publish(world.stream, *events)
    indexer = Indexer(world.runtime)

    async def done() -> bool:
        return await world.stream.backlog("indexer") == 0

    await _drained(indexer, done)
    found = await world.data.events_by_id([event.id for event in events])
    assert [event.id for event in found] == [event.id for event in events if event.name != "bad"]
    (letter,) = await world.letters()
    assert (letter.kind, letter.group, letter.body) == ("event", "indexer", events[7].encode())
    assert "a bad event" in letter.reason
    assert indexer.counts.reader.refused == 1


async def test_history_goes_on_past_an_entry_that_is_refused(world: World) -> None:
    entries = [
        History(
            id=f"h{n}", what=What.SCHEDULED, run=f"r{n}", fn=FN.id, at=n + 1, name="bad" if n == 3 else ""
        )
        for n in range(10)
    ]
    transition = Transition(fn=FN.id, run="", effects=[Record(entry=entry) for entry in entries])
    await world.engine.commit([transition])
    indexer = Indexer(world.runtime)

    async def done() -> bool:
        return (await world.engine.stats()).outbox == 0

    await _drained(indexer, done)
    assert [n for n in range(10) if await world.data.run(f"r{n}") is not None] == [
        n for n in range(10) if n != 3
    ]
    (letter,) = await world.letters()
    assert (letter.kind, letter.group, letter.reason) == ("history", "indexer", "StoreRefused: a bad entry")
    assert b"run='r3'" in letter.body
    assert indexer.counts.refused_history == 1
    assert await world.stream.revive([letter.id]) == [], "there is no way back for it"


async def test_internal_events_go_on_past_one_that_is_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [world.event("app/x", external_id="i" * (2000 if n == 2 else 1)).encode() for n in range(5)]
    monkeypatch.setattr(world.stream, "largest", 1000)
    await world.engine.commit([Transition(fn=FN.id, run="", effects=[Emit(event=body) for body in bodies])])
    runner = Runner(world.runtime)

    async def done() -> bool:
        return (await world.engine.stats()).outbox == 0

    await _drained(runner, done)
    delivery = await world.stream.fetch("indexer", 10, 0)
    assert [event.encode() for event in events_of(delivery)] == [*bodies[:2], *bodies[3:]], "as they were"
    (letter,) = await world.letters()
    assert letter.body == bodies[2]
    assert "takes 1000" in letter.reason
    assert runner.counts.reader.refused == 1


async def test_the_runner_goes_on_past_an_event_that_cannot_be_committed(world: World) -> None:
    class Choosy(MemoryEngineStore):
        async def commit(self, transitions: Sequence[Transition], *, take: Any = None) -> Any:
            if any(b'"bad"' in repr(transition).encode() for transition in transitions):
                raise StoreRefused("a bad transition")
            return await super().commit(transitions, take=take)

    engine = Choosy()
    world.runtime.engine, world.runtime.registry = engine, RegistryCache(engine)
    await engine.put_app(App(id=FN.app_id, name="app", url=FN.url), [FN])
    await world.runtime.registry.refresh()
    events = [world.event("app/go", external_id="bad" if n == 4 else f"{n}") for n in range(10)]
    await publish(world.stream, *events)
    runner = Runner(world.runtime)

    async def done() -> bool:
        return await world.stream.backlog("runner") == 0

    await _drained(runner, done)
    runs = (await engine.runs(FN.id, 0, 1 << 60, "", 100)).found
    assert sorted(run.event_ids[0] for run in runs) == [
        event.id for event in events if event.external_id != "bad"
    ]
    (letter,) = await world.letters()
    assert (letter.group, letter.body) == ("runner", events[4].encode())
