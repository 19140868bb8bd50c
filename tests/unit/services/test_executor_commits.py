"""What becomes of a result that cannot be stored, and of a reply of the store that is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from builders import NOW, function
from executor_world import World

from inngest.api.context import Limits
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.errors import StoreDefect, StoreRefused, StoreUnavailable
from inngest.core.model.history import What
from inngest.core.model.runs import Item, Queue, Run, RunStatus
from inngest.core.model.transition import Committed, Effect, Emit, Record, SaveStep, Transition
from inngest.core.policy import Policy
from inngest.core.sdk.responses import Answer, Op, Reported, Returned, Step
from inngest.ports.engine import Take, Work


def _ran(step: str) -> Reported:
    done = Step(id=step, op=Op.RUN, label=step, name=step, opts={}, data=b"1", error=b"")
    return Reported(steps=[done], request_version=2)


class Refusing(MemoryEngineStore):
    """Refuses each change that ``refused`` says so of."""

    def __init__(self, error: type[Exception], refused: Any) -> None:
        super().__init__()
        self._error = error
        self._refused = refused

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        for transition in transitions:
            if transition.lease is not None and self._refused(transition):
                raise self._error("it cannot be kept")
        return await super().commit(transitions, take=take)


ERRORS = [StoreRefused, StoreDefect, RuntimeError]


@pytest.mark.parametrize("error", ERRORS)
async def test_a_result_that_the_store_refuses_is_a_failed_attempt(error: type[Exception]) -> None:
    def saves(transition: Transition) -> bool:
        return any(isinstance(effect, SaveStep) for effect in transition.effects)

    async def answer(run: Run, item: Item) -> Answer:
        return _ran("a")

    world = World(Refusing(error, saves), answer, limits=Limits(Policy(retry_interval=1)))
    run = await world.start(function(retries=2))
    async with world.running():
        await world.ended(run)
    assert [attempt for attempt, _ in world.application.calls] == [0, 1, 2]
    last = (await world.history())[-1]
    assert (last.what, last.outcome) == (What.ENDED, RunStatus.FAILED)
    assert b"it cannot be kept" in (last.value or b"")


@pytest.mark.parametrize("error", ERRORS)
async def test_a_run_whose_failure_cannot_be_stored_either_ends_all_the_same(error: type[Exception]) -> None:
    def says_anything(transition: Transition) -> bool:
        return any(isinstance(effect, Record) for effect in transition.effects)

    async def answer(run: Run, item: Item) -> Answer:
        return _ran("a")

    world = World(Refusing(error, says_anything), answer)
    run = await world.start()
    async with world.running():
        await world.ended(run)
    assert len(world.application.calls) == 1
    assert (await world.engine.stats()).leased == 0


@pytest.mark.parametrize("error", ERRORS)
async def test_a_run_whose_end_may_be_told_by_no_event_is_seen_to_end(error: type[Exception]) -> None:
    def says_much(transition: Transition) -> bool:
        return any(isinstance(effect, Emit) or _is_attempt(effect) for effect in transition.effects)

    async def answer(run: Run, item: Item) -> Answer:
        return _ran("a")

    world = World(Refusing(error, says_much), answer)
    run = await world.start()
    async with world.running():
        await world.ended(run)
    last = (await world.history())[-1]
    assert (last.what, last.run, last.outcome) == (What.ENDED, run, RunStatus.FAILED)
    assert b"its log says why" in (last.value or b"")


def _is_attempt(effect: Effect) -> bool:
    return isinstance(effect, Record) and effect.entry.what is What.ATTEMPT


class Forgetful(MemoryEngineStore):
    """Does the first of each kind of request, and loses its reply. Its clock stands still: no lease runs
    out.
    """

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.lost: list[str] = []

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        committed = await super().commit(transitions, take=take)
        if take is not None and committed[0].next is not None and "commit" not in self.lost:
            self.lost.append("commit")
            raise StoreUnavailable("the reply is lost")
        return committed

    async def lease(
        self, queue: Queue, limit: int, ms: int, worker: str, *, request: int = 0, again: bool = False
    ) -> Work:
        work = await super().lease(queue, limit, ms, worker, request=request, again=again)
        if work.items and "lease" not in self.lost:
            self.lost.append("lease")
            raise StoreUnavailable("the reply is lost")
        return work


async def test_lost_replies_cost_no_lease_and_no_call() -> None:
    engine = Forgetful()

    async def answer(run: Run, item: Item) -> Answer:
        return Returned(output=b"1") if run.steps else _ran("a")

    world = World(engine, answer)
    run = await world.start()
    async with world.running():
        await world.ended(run)
    assert engine.lost == ["lease", "commit"]
    assert world.application.calls == [(0, 1), (0, 1)]
