"""How an executor counts the attempts of a call that reports progress (wire protocol section 5.7)."""

from __future__ import annotations

from builders import function
from executor_world import World
from msgspec.structs import replace

from inngest.api.context import Limits
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.decisions.checkpoints import checkpoint
from inngest.core.model.runs import Item, Queue, Run
from inngest.core.policy import LEASE, Policy
from inngest.core.sdk.responses import Answer, failure, read_steps
from inngest.ports.engine import Work


class DistantStore(MemoryEngineStore):
    """As a store in another process: what was leased does not follow what changes there."""

    async def lease(
        self, queue: Queue, limit: int, ms: int, worker: str, *, request: int = 0, again: bool = False
    ) -> Work:
        work = await super().lease(queue, limit, ms, worker, request=request, again=again)
        for leased in work.items:
            leased.item = replace(leased.item)
        return work


async def test_a_step_that_was_reported_gives_the_call_its_attempts_back() -> None:
    """Each call fails; in the second one, a step is done before that."""

    async def answer(run: Run, item: Item) -> Answer:
        if len(world.application.calls) == 2:
            steps = read_steps(b'[{"id":"a","op":"StepRun","data":1}]')
            await world.engine.commit([checkpoint(run, item, steps, world.runtime.moment(), LEASE)])
        return failure("no luck")

    world = World(DistantStore(), answer, limits=Limits(Policy(retry_interval=1)))
    run = await world.start(function(retries=1))
    async with world.running():
        await world.ended(run)
    assert [attempt for attempt, _ in world.application.calls] == [0, 1, 1]
