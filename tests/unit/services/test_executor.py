"""The heartbeat of an executor: which leases it takes for lost, and that it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from executor_world import World

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.errors import StoreUnavailable
from inngest.core.model.runs import Item, Run
from inngest.core.model.transition import Lease
from inngest.core.sdk.responses import Answer, Returned
from inngest.services import executor


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of 600 ms, prolonged three times as often."""
    monkeypatch.setattr(executor, "LEASE", 600)
    monkeypatch.setattr(executor, "_BEAT_SECONDS", 0.2)
    monkeypatch.setattr(executor, "_BEATS_A_LEASE", 1)


class SlowStore(MemoryEngineStore):
    """Prolongs leases only when the heartbeat's question is out of date: before, the run has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.lost: asyncio.Future[list[Lease]] = asyncio.get_running_loop().create_future()

    async def extend(self, leases: Sequence[Lease], ms: int) -> list[Lease]:
        self.asked.set()
        while (await self.stats()).runs:
            await asyncio.sleep(0.001)
        lost = await super().extend(leases, ms)
        if not self.lost.done():
            self.lost.set_result(lost)
        return lost


class SlowDisk(SlowStore):
    """What ends the run is not durable until the heartbeat has been answered."""

    async def _settle(self) -> None:
        if self.asked.is_set():
            await self.lost


@pytest.mark.parametrize("slow", [SlowStore, SlowDisk])
async def test_a_lease_whose_work_was_done_meanwhile_is_not_lost(slow: type[SlowStore]) -> None:
    engine = slow()

    async def answer(run: Run, item: Item) -> Answer:
        await engine.asked.wait()
        return Returned(output=b"null")

    world = World(engine, answer)
    await world.start()
    async with world.running():
        lost = await engine.lost
    assert len(lost) == 1, "the store does not know the lease any more"
    assert world.executor.counts.lost == 0


class FailingStore(MemoryEngineStore):
    """Fails in the first heartbeats, in any way."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = [RuntimeError("anything"), StoreUnavailable("away"), KeyError("x")]
        self.signs = 0
        self.prolonged = 0

    async def alive(self, worker: str, ms: int) -> None:
        self.signs += 1
        if self.signs == 2:
            raise RuntimeError("anything")
        await super().alive(worker, ms)

    async def extend(self, leases: Sequence[Lease], ms: int) -> list[Lease]:
        if self.failures:
            raise self.failures.pop()
        self.prolonged += 1
        return await super().extend(leases, ms)


async def test_a_heartbeat_goes_on_whatever_fails() -> None:
    engine = FailingStore()

    async def answer(run: Run, item: Item) -> Answer:
        while engine.prolonged < 3:
            await asyncio.sleep(0.001)
        return Returned(output=b"null")

    world = World(engine, answer)
    run = await world.start()
    async with world.running():
        await world.ended(run)
    assert engine.signs >= 6


async def test_an_executor_that_leaves_says_so() -> None:
    signs: list[int] = []

    class Store(MemoryEngineStore):
        async def alive(self, worker: str, ms: int) -> None:
            signs.append(ms)
            await super().alive(worker, ms)

    async def answer(run: Run, item: Item) -> Answer:
        return Returned(output=b"null")

    world = World(Store(), answer)
    run = await world.start()
    async with world.running():
        await world.ended(run)
    assert signs[0] > 0
    assert signs[-1] == 0
