"""Bulk cancellations that whoever ordered them left half ordered."""

from __future__ import annotations

from builders import FN, function
from msgspec.structs import replace
from runner_world import World

from inngest.core.decisions.sweeps import order_sweep
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.runs import Kind, RunStatus


async def _ordered(world: World) -> Cancellation:
    """Listed, for a run that is there; and no more than that."""
    await world.register(function())
    await world.process(world.event())
    order = Cancellation(
        id=world.runtime.new_id(), fn=FN, slug=f"app-{FN}", app_id="app", created=world.now,
        started_before=world.now,
    )  # fmt: skip
    await world.engine.put_cancellation(order)
    return order


def _sweeps(world: World) -> list[str]:
    return [item.job for item in world.queued() if item.kind is Kind.SWEEP]


async def test_an_order_without_its_item_is_carried_out() -> None:
    world = World()
    order = await _ordered(world)
    await world.fire()
    assert len(await world.runs()) == 1, "nobody knows of it"
    await world.runner.reap()
    await world.runner.reap()
    assert len(_sweeps(world)) == 1
    await world.fire()
    assert [outcome for _, outcome in await world.ends()] == [RunStatus.CANCELLED]
    assert await world.engine.cancellations() == [replace(order, begun=True)]


async def test_an_order_that_is_on_its_way_or_done_is_left_alone() -> None:
    world = World()
    order = await _ordered(world)
    await world.engine.commit([order_sweep(order, world.runtime.moment())])
    await world.runner.reap()
    assert len(_sweeps(world)) == 1
    await world.fire()
    await world.runner.reap()
    assert _sweeps(world) == []


async def test_an_order_that_was_deleted_stays_so() -> None:
    world = World()
    order = await _ordered(world)
    await world.runner.reap()
    await world.engine.delete_cancellation(order.id)
    await world.fire()
    await world.runner.reap()
    assert (len(await world.runs()), _sweeps(world)) == (1, [])
    assert await world.engine.cancellations() == []
