"""What cannot be decided for one function keeps no other from its part of an event, and is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from builders import function
from runner_world import World

from inngest.core.decisions import events
from inngest.core.decisions.advance import advance
from inngest.core.decisions.draft import Call
from inngest.core.decisions.schedule import schedule
from inngest.core.errors import StoreDefect, StoreRefused, StoreUnavailable
from inngest.core.model.events import Event, decode_event
from inngest.core.model.functions import Cancel, Debounce, Function
from inngest.core.model.history import What
from inngest.core.model.transition import CreateRun
from inngest.core.policy import MAX_ITEM_FAILURES
from inngest.core.sdk.responses import Op, Reported, Step
from inngest.core.timing.times import HOUR


def _deep() -> Any:
    value: Any = 1
    for _ in range(300):
        value = {"k": value}
    return value


@pytest.mark.parametrize(
    "value",
    [10**20, "x" * 1_100_000, _deep(), -(10**400), "\x00\ud7ff", 1e308],
    ids=lambda v: type(v).__name__,
)
async def test_a_value_that_a_cancellation_cannot_bind_keeps_nobody_from_the_event(value: Any) -> None:
    world = World()
    bound = function("bound", cancel=[Cancel(event="app/stop", condition="event.data.id == async.data.id")])
    plain = function("plain")
    await world.register(plain, bound)
    await world.process(world.event(data={"id": value}))
    assert len(await world.runs("plain")) == 1
    told = [entry for entry in await world.history() if entry.fn == "bound"]
    assert [entry.what for entry in told] in ([What.SCHEDULED], [What.SKIPPED])
    assert len(await world.runs("bound")) == (told[0].what is What.SCHEDULED)


async def _with_defect(monkeypatch: pytest.MonkeyPatch) -> World:
    """A function on which this program fails."""

    def fails(fn: Function, event: Event, at: Any) -> Any:
        if fn.id == "bad":
            raise RuntimeError("a defect")
        return schedule(fn, event, at)

    monkeypatch.setattr(events, "schedule", fails)
    world = World()
    await world.register(function("first"), function("bad"), function("last"))
    return world


async def test_what_cannot_be_decided_is_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await _with_defect(monkeypatch)
    event = world.event()
    for _ in range(2):
        await world.process(event)
    assert [len(await world.runs(fn)) for fn in ("first", "bad", "last")] == [1, 0, 1]
    (entry,) = [entry for entry in await world.history() if entry.fn == "bad"]
    assert entry.what is What.SKIPPED
    assert entry.info is not None
    assert entry.info["events"] == [event.id]
    assert "a defect" in entry.info["reason"]
    assert world.runner.counts.undecided == 2


async def _two_waits(world: World, *, damaged: bool = False) -> None:
    """Two runs that wait for an event, one of them with a condition that cannot be read if ``damaged``."""
    fn = function()
    await world.register(fn)
    await world.process(world.event(), world.event())
    for number, leased in enumerate(await world.calls()):
        assert leased.run is not None
        opts = {"event": "app/approve", "timeout": "1h"}
        wait = Step(id="w", op=Op.WAIT, label="w", name="w", opts=opts, data=b"", error=b"")
        transition = advance(
            leased.run, fn, leased.item, Reported(steps=[wait], request_version=2), world.runtime.moment(),
            call=Call(world.now, world.now),
        )  # fmt: skip
        if damaged and not number:
            for effect in transition.effects:
                if (pause := getattr(effect, "pause", None)) is not None:
                    pause.condition = "async.data. =="  # as a damaged record, or one of another release
        await world.engine.commit([transition])


async def test_a_wait_that_cannot_be_decided_keeps_no_other_from_its_end() -> None:
    world = World()
    await _two_waits(world, damaged=True)
    await world.process(world.event("app/approve"))
    assert sorted(len(run.steps) for run in await world.runs()) == [0, 1]
    assert world.runner.counts.undecided == 1


def _short_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Memory is short in the first call."""
    real = getattr(events, name)

    def fails(*args: Any) -> Any:
        monkeypatch.setattr(events, name, real)
        raise MemoryError

    monkeypatch.setattr(events, name, fails)


async def test_a_start_for_which_memory_is_short_is_decided_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.register(function("first"), function("last"))
    event = world.event()
    _short_once(monkeypatch, "schedule")
    with pytest.raises(MemoryError):
        await world.process(event)
    await world.process(event)
    assert [len(await world.runs(fn)) for fn in ("first", "last")] == [1, 1]
    assert world.runner.counts.undecided == 0


async def test_a_wait_for_which_memory_is_short_is_not_slept_through(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await _two_waits(world)
    event = world.event("app/approve")
    _short_once(monkeypatch, "may_meet")
    with pytest.raises(MemoryError):
        await world.process(event)
    await world.process(event)
    assert [len(run.steps) for run in await world.runs()] == [1, 1]
    assert world.runner.counts.undecided == 0


@pytest.mark.parametrize("kind", [StoreRefused, StoreDefect])
async def test_what_the_store_refuses_of_an_event_keeps_nothing_else_from_it(kind: Any) -> None:
    world = World()
    await world.register(function("first"), function("bad"), function("last"))
    real = world.engine.commit

    async def commit(transitions: Any, *, take: Any = None) -> Any:
        if any(transition.fn == "bad" for transition in transitions):
            raise kind("no")
        return await real(transitions, take=take)

    world.engine.commit = commit  # type: ignore[method-assign]
    event = world.event()
    await world.process(event)
    assert [len(await world.runs(fn)) for fn in ("first", "bad", "last")] == [1, 0, 1]
    assert world.runner.counts.refused == 1
    (letter,) = await world.runtime.stream.letters(limit=10)
    assert (letter.group, decode_event(letter.body).id) == ("runner", event.id)
    # Delivered again from there, only what was refused is done.
    world.engine.commit = real  # type: ignore[method-assign]
    await world.process(event)
    assert [len(await world.runs(fn)) for fn in ("first", "bad", "last")] == [1, 1, 1]


async def test_an_item_that_this_program_fails_on_is_tried_again_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from inngest.services import runner

    def fails(*_: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(runner, "collected", fails)
    world = World()
    await world.register(function("bad", debounce=Debounce(period=1000)), function("good"))
    await world.process(world.event())
    for attempt in range(MAX_ITEM_FAILURES):
        assert [item.attempt for item in world.queued()] == [attempt]
        world.now += 24 * HOUR
        await world.fire()
    assert world.queued() == []
    assert world.runner.counts.letters == 1


@pytest.mark.parametrize("kind", [StoreRefused, StoreDefect])
async def test_an_item_whose_result_the_store_refuses_is_tried_again_and_then_given_up(kind: Any) -> None:
    world = World()
    await world.register(function("bad", debounce=Debounce(period=1000)))
    await world.process(world.event())
    real = world.engine.commit

    async def commit(transitions: Any, *, take: Any = None) -> Any:
        if any(isinstance(effect, CreateRun) for each in transitions for effect in each.effects):
            raise kind("no")
        return await real(transitions, take=take)

    world.engine.commit = commit  # type: ignore[method-assign]
    for attempt in range(MAX_ITEM_FAILURES):
        assert [item.attempt for item in world.queued()] == [attempt]
        world.now += 24 * HOUR
        await world.fire()
    assert world.queued() == []
    (letter,) = await world.runtime.stream.letters(limit=10)
    assert (letter.kind, letter.reason) == ("item", f"{kind.__name__}: no")


async def test_items_that_a_runner_could_not_do_for_want_of_a_store_are_done_when_it_is_back() -> None:
    """Without waiting for their leases to run out."""
    world = World()
    await world.register(function(debounce=Debounce(period=1000)))
    await world.process(world.event())
    world.now += 1000
    real = world.engine.commit

    async def away(transitions: Any, *, take: Any = None) -> Any:
        raise StoreUnavailable("away")

    world.engine.commit = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await world.fire()
    world.engine.commit = real  # type: ignore[method-assign]
    await world.fire()
    assert len(await world.runs()) == 1
