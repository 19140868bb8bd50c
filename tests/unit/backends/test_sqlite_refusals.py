"""What the embedded engine store cannot write, it refuses; what it cannot read, it names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlite_bench import snapshot
from sqlite_world import FN, HOUR, World, function, opened, picture

from inngest.core.errors import StoreRefused
from inngest.core.model.functions import App, Throttle
from inngest.core.model.history import History, What
from inngest.core.model.runs import (
    CALLS,
    Kind,
)
from inngest.core.model.transition import (
    Complete,
    Enqueue,
    Record,
    Retry,
    SaveStep,
    Transition,
    lease_of,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path / "engine.db") as world:
        yield world


def deep() -> dict[str, Any]:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return {"input": [value]}


BAD = {
    "a number above 64 bits in a step's input": lambda run: Record(
        entry=History(id="h", what=What.ATTEMPT, run=run, fn=FN, at=1, info={"input": [2 * 10**19]})
    ),
    "a timing above 64 bits": lambda run: Record(
        entry=History(id="h", what=What.ATTEMPT, run=run, fn=FN, at=1, started=10**30)
    ),
    "half a surrogate pair": lambda run: SaveStep(step="\ud800", value=b"1"),
    "depth": lambda run: Record(entry=History(id="h", what=What.ATTEMPT, run=run, fn=FN, at=1, info=deep())),
    "a due time below 64 bits": lambda run: Retry(due=-(10**20), attempt=1),
    "a foreign type": lambda run: Record(
        entry=History(id="h", what=What.ATTEMPT, run=run, fn=FN, at=1, info={"input": object()})
    ),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_cannot_be_written_is_refused_before_anything_happens(world: World, what: str) -> None:
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    (leased,) = await world.lease()
    before = await picture(world.store, world.now)
    good = Transition(fn=FN, run=run.id, effects=[SaveStep(step="good", value=b"1")])
    bad = Transition(
        fn=FN,
        run=run.id,
        effects=[SaveStep(step="a", value=b"1"), BAD[what](run.id), Complete()],
        lease=lease_of(leased.item),
    )
    with pytest.raises(StoreRefused, match="cannot be written") as caught:
        await world.store.commit([good, bad])
    facts = caught.value.facts
    assert (facts["place"], facts["run"], facts["at"]) == (1, run.id, 1)
    assert await picture(world.store, world.now) == before
    # Nobody else is harmed, and the lease stands.
    assert await world.commit(run.id, SaveStep(step="b", value=b"2"), Complete(), lease=leased) == [
        True,
        True,
    ]
    again = await world.open(snapshot(world.path))
    assert await picture(again, world.now) == await picture(world.store, world.now)


async def test_a_registration_that_cannot_be_written_is_refused(world: World) -> None:
    before = await picture(world.store, world.now)
    fn = replace(function(), id="other", throttle=Throttle(limit=2**70, period=60_000))
    with pytest.raises(StoreRefused, match="cannot be written"):
        await world.store.put_app(App(id="app", name="app", url="http://app.test"), [function(), fn])
    assert await picture(world.store, world.now) == before
    await world.store.put_app(App(id="b", name="b", url="http://b.test"), [])
    again = await world.open(snapshot(world.path))
    assert await picture(again, world.now) == await picture(world.store, world.now)


async def test_names_that_are_no_text(world: World) -> None:
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    item = world.item(run.id, Kind.SLEEP, job="naïve \x00 \U0001f600", due=world.now + HOUR)
    assert item.kind not in CALLS
    await world.commit(run.id, Enqueue(item=item), SaveStep(step="\x00", value=b"\xff\x00"))
    again = await world.open(snapshot(world.path))
    assert await picture(again, world.now) == await picture(world.store, world.now)
