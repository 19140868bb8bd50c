"""Which run a singleton function keeps, and what is told of the other (wire protocol section 4.9)."""

from __future__ import annotations

from itertools import permutations
from typing import Any, Literal

import pytest
from builders import FN, function
from runner_world import World

from inngest.core.model.functions import Debounce, Singleton, Trigger
from inngest.core.model.history import What
from inngest.core.model.runs import RunStatus
from inngest.core.policy import LEASE
from inngest.core.timing.times import MINUTE
from inngest.services.runner import Runner


async def _world(mode: Literal["skip", "cancel"], **fields: Any) -> World:
    world = World()
    await world.register(function(singleton=Singleton(mode=mode), **fields))
    return world


async def test_a_skipped_run_names_the_one_that_goes_on() -> None:
    world = await _world("skip")
    for _ in range(2):
        await world.process(world.event())
    [first] = await world.runs()
    (_, second) = await world.history()
    assert second.info is not None
    assert (second.what, second.info["reason"]) == (What.SKIPPED, "Singleton")
    assert second.info["existing"] == first.id


async def test_a_new_event_cancels_the_run_before() -> None:
    world = await _world("cancel")
    await world.process(world.event())
    [first] = await world.runs()
    event = world.event()
    await world.process(event)
    await world.fire()
    assert await world.alive() == [event.id]
    assert await world.ends() == [(first.id, RunStatus.CANCELLED)]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_run_of_the_newest_event_is_kept_however_they_are_delivered(
    order: tuple[int, ...], batched: bool
) -> None:
    """In one delivery or in three, in order or not: by several runners, say."""
    world = await _world("cancel")
    events = [world.event(data={"n": n}) for n in range(3)]
    deliveries = [[events[n] for n in order]] if batched else [[events[n]] for n in order]
    for delivery in deliveries:
        await world.process(*delivery)
    await world.fire()
    assert await world.alive() == [events[2].id]
    entries = await world.history()
    scheduled = {entry.run for entry in entries if entry.what is What.SCHEDULED}
    ended = [entry.run for entry in entries if entry.what is What.ENDED]
    skipped = [entry for entry in entries if entry.what is What.SKIPPED]
    assert len(ended) == len(scheduled) - 1
    assert len(scheduled) + len(skipped) == 3


async def test_a_run_that_gives_way_makes_no_further_call() -> None:
    world = await _world("cancel")
    await world.process(world.event())
    await world.process(world.event())
    assert len(await world.calls()) == 1, "also before its end is told"


async def test_an_event_that_is_delivered_again_cancels_no_newer_run() -> None:
    world = await _world("cancel")
    events = [world.event(), world.event()]
    for event in events:
        await world.process(event)
    await world.fire()
    kept = await world.alive()
    for event in events:
        await world.process(event)
    await world.fire()
    assert await world.alive() == kept == [events[1].id]


async def test_a_debounced_event_cancels_when_it_runs() -> None:
    world = await _world("cancel", debounce=Debounce(period=1_000))
    await world.process(first := world.event())
    world.now += 1_000
    await world.fire()
    await world.process(second := world.event())
    await world.fire()
    assert await world.alive() == [first.id]
    world.now += 1_000
    await world.fire()
    assert await world.alive() == [second.id]


async def _cron_world() -> World:
    world = await _world("cancel", triggers=[Trigger(cron="* * * * *")])
    await world.runner._derive()
    return world


async def test_a_tick_cancels_the_run_of_the_one_before() -> None:
    world = await _cron_world()
    kept = []
    for _ in range(2):
        world.now += MINUTE
        await world.fire()
        (run,) = await world.runs()
        kept.append(run.id)
    assert kept[0] != kept[1]
    assert await world.ends() == [(kept[0], RunStatus.CANCELLED)]


async def test_a_runner_that_wakes_with_a_tick_that_others_have_fired_cancels_nothing() -> None:
    world = await _cron_world()
    world.now += MINUTE
    (held,) = await world.lease()  # and the runner is stopped
    other = Runner(world.runtime)
    for _ in range(2):
        world.now += MINUTE + LEASE
        await world.fire(other)
    newest = [run.id for run in await world.runs()]
    assert len(newest) == 1
    await world.runner._commit(await world.runner._fire(held))
    await world.fire()
    assert [run.id for run in await world.runs(FN)] == newest
