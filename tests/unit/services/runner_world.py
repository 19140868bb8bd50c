"""A runner on memory, driven by hand: a test moves the clock, and says what is processed when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders
from builders import FN, NOW, work_off

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.events import Event
from inngest.core.model.functions import Function
from inngest.core.model.history import History, What
from inngest.core.model.ids import UlidFactory
from inngest.core.model.runs import Item, Leased, Queue, Run
from inngest.core.policy import LEASE
from inngest.ports.engine import EngineStore
from inngest.services.runner import Runner

Make = Callable[[Callable[[], int]], EngineStore]


class World:
    """``make`` gives the engine store, on the clock of this world."""

    def __init__(self, make: Make = MemoryEngineStore, *, now: int = NOW) -> None:
        self.now = now
        self._drawn = 0
        self.engine = make(self.clock)
        new_id = UlidFactory(clock=self.clock, random_bytes=self._entropy).new
        self.runtime = builders.memory_runtime(self.engine, new_id=new_id)
        self.runner = Runner(self.runtime)

    def clock(self) -> int:
        return self.now

    def _entropy(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(count)

    async def register(self, *functions: Function) -> None:
        await builders.register(self.runtime, *functions)

    def event(self, name: str = "app/go", data: Any = None, **fields: Any) -> Event:
        """An event that is accepted now; a millisecond passes."""
        given = builders.event(name, data, self.runtime.new_id(), at=self.now, **fields)
        self.now += 1
        return given

    async def process(self, *events: Event) -> None:
        """In one delivery."""
        await self.runner.process(events)

    async def fire(self, runner: Runner | None = None) -> None:
        """What is due of the functions is worked off."""
        await work_off(runner or self.runner)

    async def lease(self, worker: str = "another") -> list[Leased]:
        """What a runner takes that then stops."""
        return (await self.engine.lease(Queue.RUNNER, 100, LEASE, worker)).items

    async def calls(self) -> list[Leased]:
        """What executors find."""
        return (await self.engine.lease(Queue.EXECUTOR, 100, LEASE, "executor")).items

    # -- what came of it --

    async def runs(self, fn: str = FN) -> list[Run]:
        return (await self.engine.runs(fn, 0, 1 << 60, "", 10_000)).found

    async def alive(self, fn: str = FN) -> list[str]:
        """The runs that have not ended, by the names of their first events' ids."""
        return [run.event_ids[0] for run in await self.runs(fn)]

    async def history(self) -> list[History]:
        """What has happened since this was last asked."""
        box = await self.engine.history.take(100_000)
        await self.engine.history.ack(box.token)
        return box.entries

    async def ends(self) -> list[tuple[str, str]]:
        """The runs that have ended since this was last asked, and how."""
        return [(entry.run, entry.outcome) for entry in await self.history() if entry.what is What.ENDED]

    def queued(self) -> list[Item]:
        """Items of functions, not of runs: collectors, schedules, sweeps."""
        assert isinstance(self.engine, MemoryEngineStore)
        items = [entry.item for entry in self.engine._state.entries.values() if not entry.item.run]
        return sorted(items, key=lambda item: item.due)
