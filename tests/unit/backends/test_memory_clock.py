"""The wall clock is set while the engine works."""

from __future__ import annotations

import time
from typing import Any

import pytest
from builders import APP, HOUR, function, item, run

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.functions import Throttle
from inngest.core.model.runs import Kind, Leased, Partition, Queue
from inngest.core.model.transition import Complete, CreateRun, Enqueue, Transition, lease_of
from inngest.ports.engine import Work

LEASE = 30_000


class WallClock:
    """The machine's, which this sets."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._real = time.time_ns
        self.ahead = 0
        patch.setattr(time, "time_ns", lambda: self._real() + self.ahead * 1_000_000)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


async def start(store: MemoryEngineStore, **fields: Any) -> str:
    made = run(at=store.now(), **fields)
    first = item(made, Kind.START, at=store.now())
    await store.commit(
        [Transition(fn=made.fn, run=made.id, effects=[CreateRun(run=made), Enqueue(item=first)])]
    )
    return made.id


async def take(store: MemoryEngineStore, worker: str = "one") -> Work:
    return await store.lease(Queue.EXECUTOR, 10, LEASE, worker)


async def complete(store: MemoryEngineStore, leased: Leased) -> bool:
    (done,) = await store.commit(
        [
            Transition(
                fn=leased.item.fn, run=leased.item.run, lease=lease_of(leased.item), effects=[Complete()]
            )
        ]
    )
    return not done.stale


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_who_sets_the_clock_takes_no_lease(wall: WallClock, ahead: int) -> None:
    store = MemoryEngineStore()
    await start(store)
    await store.alive("one", LEASE)
    (leased,) = (await take(store)).items
    wall.ahead = ahead
    assert (await take(store, "two")).items == []
    await store.alive("two", LEASE)
    assert (await take(store, "two")).items == []
    assert await store.extend([lease_of(leased.item)], LEASE) == []
    assert await complete(store, leased)


async def test_a_lease_that_began_before_the_clock_went_back_ends(wall: WallClock) -> None:
    store = MemoryEngineStore()
    made = await start(store)
    await store.lease(Queue.EXECUTOR, 10, 0, "one")
    wall.ahead = -HOUR
    work = await take(store, "two")
    while not work.items:  # it is looked for from time to time
        assert work.next_in is not None
        time.sleep(work.next_in)
        work = await take(store, "two")
    assert [leased.item.run for leased in work.items] == [made]


async def test_a_throttle_holds_nobody_by_the_clock_as_it_was(wall: WallClock) -> None:
    store = MemoryEngineStore()
    fn = function(throttle=Throttle(limit=1, period=60_000))
    await store.put_app(APP, [fn])
    throttled = Partition(id="fn/s", fn=fn.id, throttle="throttle/")
    first, second = [await start(store, start=throttled) for _ in range(2)]
    (leased,) = (await take(store)).items
    assert leased.item.run == first
    assert (await take(store)).items == []
    wall.ahead = -HOUR
    work = await take(store)
    assert work.items == []
    assert work.next_in is not None
    assert work.next_in <= 60
    wall.ahead += 60_001
    assert [each.item.run for each in (await take(store)).items] == [second]
