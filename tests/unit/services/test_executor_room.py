"""Runs and answers that are large are worked on a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from executor_world import World

from inngest.backends.memory import engine as memory
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.runs import Item, Run
from inngest.core.model.transition import Committed, Transition
from inngest.core.sdk.responses import Answer, Op, Reported, Returned, Step
from inngest.loops.room import Room
from inngest.ports.engine import Take
from inngest.services import executor as executors

LARGE = b'"' + b"x" * 1_000_000 + b'"'
RUNS = 20


class Watched(MemoryEngineStore):
    """Sees what room is taken while an answer is stored."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self._room = room
        self.seen: list[int] = []

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        if transitions[0].lease is not None:
            self.seen.append(self._room.taken)
        return await super().commit(transitions, take=take)


async def test_large_runs_are_worked_on_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are leased, and those that have grown in the hands of their executor."""
    monkeypatch.setattr(executors, "WORK_BYTES", 3 * len(LARGE))
    monkeypatch.setattr(memory, "LEASE_BYTES", len(LARGE))
    bytes_now, most = 0, 0

    async def answer(run: Run, item: Item) -> Answer:
        nonlocal bytes_now, most
        if not run.steps:
            step = Step(id="a", op=Op.RUN, label="a", name="a", opts={}, data=LARGE, error=b"")
            return Reported(steps=[step], request_version=2)
        bytes_now += run.weight()
        most = max(most, bytes_now)
        await asyncio.sleep(0.01)
        bytes_now -= run.weight()
        return Returned(b"1", 2)

    world = World(answer=answer)
    runs = [await world.start() for _ in range(RUNS)]
    async with world.running():
        for run in runs:
            await world.ended(run)
    assert len(world.application.calls) == 2 * RUNS
    assert most < 6 * len(LARGE)
    assert world.executor._weight == 0
    assert not world.executor._weights


async def test_an_answer_has_its_room_until_it_is_stored() -> None:
    room = Room(1)

    async def answer(run: Run, item: Item) -> Answer:
        return Returned(LARGE, 2)

    store = Watched(room)
    world = World(store, answer)
    world.executor = executors.Executor(world.runtime, world.application, world.application, answers=room)
    run = await world.start()
    async with world.running():
        await world.ended(run)
    assert [taken >= len(LARGE) for taken in store.seen] == [True]
    assert room.taken == 0
