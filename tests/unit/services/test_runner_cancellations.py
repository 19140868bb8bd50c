"""Runs that an event cancels, whoever is quicker, and however many there are (wire protocol section 4.10)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from builders import FN, function
from runner_world import World
from streams import publish

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.errors import StoreDefect, StoreUnavailable
from inngest.core.model.events import INVOKED, Event, decode_event
from inngest.core.model.functions import Cancel
from inngest.core.model.runs import Pause, RunStatus
from inngest.core.policy import MAX_ITEM_FAILURES, PAGE, REMEMBERED
from inngest.core.timing.times import HOUR
from inngest.loops.trouble import ERRORS
from inngest.ports.engine import Page
from inngest.ports.stream import Entry
from inngest.services.runner import Runner

PATIENCE = 60


async def _world(*, condition: str = "") -> World:
    world = World()
    await world.register(function(cancel=[Cancel(event="app/stop", condition=condition)]))
    return world


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("invoked", [True, False])
async def test_an_event_cancels_what_an_earlier_one_starts_in_the_same_delivery_too(
    batched: bool, invoked: bool
) -> None:
    world = await _world()
    meta = {"_inngest": {"fn_id": f"app-{FN}"}}
    go = world.event(INVOKED, meta) if invoked else world.event()
    stop = world.event("app/stop")
    for delivery in [[go, stop]] if batched else [[go], [stop]]:
        await world.process(*delivery)
    await world.fire()
    assert await world.runs() == []
    assert [outcome for _, outcome in await world.ends()] == [RunStatus.CANCELLED]


async def test_an_event_cancels_what_an_earlier_one_starts_although_its_runner_was_quicker() -> None:
    world = await _world()
    quick, slow = world.runner, Runner(world.runtime)
    go, stop = world.event(), world.event("app/stop")
    await quick.process([stop])
    world.now += REMEMBERED - 10
    await slow.process([go])
    await world.fire()
    assert await world.runs() == []


async def test_a_quick_event_cancels_only_what_its_condition_holds_for() -> None:
    world = await _world(condition="event.data.user == async.data.user")
    mine, other, stop = (
        world.event(data={"user": 1}), world.event(data={"user": 2}), world.event("app/stop", {"user": 1})
    )  # fmt: skip
    await world.process(stop)
    await world.process(mine, other)
    await world.fire()
    assert await world.alive() == [other.id]


@pytest.mark.parametrize("batched", [True, False])
async def test_an_event_cancels_nothing_that_a_later_one_starts(batched: bool) -> None:
    world = await _world()
    stop = world.event("app/stop")
    world.now += 10
    go = world.event()
    for delivery in [[stop, go]] if batched else [[stop], [go]]:
        await world.process(*delivery)
    await world.fire()
    assert await world.alive() == [go.id]


async def test_a_cancelled_run_makes_no_further_call_before_its_end_is_told() -> None:
    world = await _world()
    await world.process(world.event(), world.event("app/other"))
    await world.process(world.event("app/stop"))
    assert await world.calls() == []
    await world.fire()
    assert await world.runs() == []


class PagedStore(MemoryEngineStore):
    """Counts the pages that are asked for; a gate may stand before all but the first ones."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.pages = 0
        self.largest = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def first_pauses(self, events: Sequence[Event], limit: int) -> list[Page[Pause]]:
        pages = await super().first_pauses(events, limit)
        self.largest = max([self.largest, *(len(page.found) for page in pages)])
        return pages

    async def pauses(self, event: Event, cursor: str, limit: int) -> Page[Pause]:
        await self.gate.wait()
        self.pages += 1
        page = await super().pauses(event, cursor, limit)
        self.largest = max(self.largest, len(page.found))
        return page


async def _many(count: int) -> tuple[World, PagedStore]:
    world = World(PagedStore)
    engine = world.engine
    assert isinstance(engine, PagedStore)
    await world.register(function(cancel=[Cancel(event="app/stop")]), function("other"))
    for start in range(0, count, PAGE):
        await world.process(*[world.event() for _ in range(min(PAGE, count - start))])
    return world, engine


async def test_one_event_cancels_any_number_of_runs_page_by_page() -> None:
    count = 4 * PAGE + 7
    world, engine = await _many(count)
    stop = world.event("app/stop")
    await world.process(stop)
    assert engine.largest <= PAGE
    assert engine.pages >= 4
    assert [leased for leased in await world.calls() if leased.item.fn == FN] == []
    await world.fire()
    assert await world.runs() == []
    assert len(await world.ends()) == count
    await world.process(stop)
    await world.fire()
    assert await world.ends() == []


async def test_other_events_go_on_while_one_cancels_very_many_runs() -> None:
    world, engine = await _many(2 * PAGE)
    engine.gate.clear()
    stream, runner = world.runtime.stream, world.runner
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await publish(stream, world.event("app/stop"))
            while not runner._wide:
                await asyncio.sleep(0.001)
            go = world.event()
            await publish(stream, go)
            while go.id not in await world.alive("other"):
                await asyncio.sleep(0.001)
            assert engine.pages == 0
            engine.gate.set()
            while len(await world.runs()) > 1:
                await asyncio.sleep(0.001)
            while await stream.backlog("runner"):
                await asyncio.sleep(0.001)
    finally:
        engine.gate.set()
        await runner.drain(PATIENCE)
        await running
    assert await world.alive() == [go.id]


async def test_what_one_event_cancels_goes_on_when_the_store_is_back() -> None:
    world, engine = await _many(2 * PAGE)
    failures = [StoreUnavailable("away"), StoreUnavailable("away")]
    real = engine.pauses

    async def pauses(event: Event, cursor: str, limit: int) -> Page[Pause]:
        if failures:
            raise failures.pop()
        return await real(event, cursor, limit)

    engine.pauses = pauses  # type: ignore[method-assign]
    stream, runner = world.runtime.stream, world.runner
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await publish(stream, world.event("app/stop"))
            while await world.runs() or await stream.backlog("runner"):
                await asyncio.sleep(0.001)
    finally:
        await runner.drain(PATIENCE)
        await running
    assert not failures


async def test_a_defect_in_what_one_event_cancels_is_told_of_and_ends_nothing() -> None:
    world, engine = await _many(2 * PAGE)

    async def pauses(event: Event, cursor: str, limit: int) -> Page[Pause]:
        raise RuntimeError("a defect")

    engine.pauses = pauses  # type: ignore[method-assign]
    stream, runner = world.runtime.stream, world.runner
    stop = world.event("app/stop")
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await publish(stream, stop)
            while await stream.backlog("runner"):
                await asyncio.sleep(0.001)
            go = world.event()
            await publish(stream, go)
            while go.id not in await world.alive("other"):
                await asyncio.sleep(0.001)
    finally:
        await runner.drain(PATIENCE)
        await running
    (letter,) = await stream.letters(limit=10)
    assert (letter.group, letter.reason) == ("runner", "RuntimeError: a defect")
    assert decode_event(letter.body).id == stop.id
    assert runner.counts.undecided == 1


async def test_a_defect_of_the_stream_beside_the_others_ends_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The acknowledgement of an event that very many wait for fails in a way that nobody foresaw."""
    ERRORS.clear()
    world, _ = await _many(2 * PAGE)
    stream, runner = world.runtime.stream, world.runner
    real, tried = stream.ack, asyncio.Event()

    async def ack(group: str, entries: Sequence[Entry]) -> None:
        if runner._wide and not tried.is_set():
            tried.set()
            raise StoreDefect("a defect")
        await real(group, entries)

    monkeypatch.setattr(stream, "ack", ack)
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await publish(stream, world.event("app/stop"))
            await tried.wait()
            go = world.event()
            await publish(stream, go)
            while go.id not in await world.alive("other"):
                await asyncio.sleep(0.001)
    finally:
        await runner.drain(PATIENCE)
        await running
    assert ERRORS["runner.events"] == 1


async def test_an_evicted_run_whose_end_cannot_be_told_ends_all_the_same() -> None:
    world = await _world()
    await world.process(world.event())
    [run] = await world.runs()
    assert isinstance(world.engine, MemoryEngineStore)
    world.engine._state.runs[run.id].run.events[0] = b"{"  # a defect, wherever it was
    await world.process(world.event("app/stop"))
    for _ in range(MAX_ITEM_FAILURES):
        await world.fire()
        world.now += HOUR
    assert await world.ends() == [(run.id, RunStatus.CANCELLED)]
    assert await world.engine.run(FN, run.id) is None
    assert (await world.engine.stats()).runs == 0
    (letter,) = await world.runtime.stream.letters(limit=9)
    assert (letter.kind, b"evict" in letter.body) == ("item", True)
