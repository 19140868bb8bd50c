"""The loops of services: what ends them, and what does not."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.loops import trouble
from inngest.loops.trouble import ERRORS
from inngest.services.loop import Loop, Stopped


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def backoff(failures: int, most: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(trouble, "backoff", backoff)
    ERRORS.clear()


class Rounds:
    """A loop whose rounds raise these errors, and then rest."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.resting = asyncio.Event()
        self.loop = Loop("rounds", self._round)

    async def _round(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.resting.set()
        await self.loop.rest(asyncio.Event().wait())


@pytest.mark.parametrize(
    "error",
    [RuntimeError("anything"), KeyError(1), asyncio.CancelledError(), TimeoutError(), Stopped()],
    ids=repr,
)
async def test_an_unexpected_error_is_counted_and_the_loop_goes_on(error: BaseException) -> None:
    rounds = Rounds(error, error)
    with capture_logs() as lines:
        running = asyncio.create_task(rounds.loop.run())
        await rounds.resting.wait()
    assert not running.done()
    assert ERRORS == {"rounds": 2}
    assert [(line["action"], line["exc_info"]) for line in lines] == [("rounds", error)] * 2
    rounds.loop.stop()
    await asyncio.wait_for(running, 30)


async def test_an_outage_is_two_lines() -> None:
    rounds = Rounds(*[StoreUnavailable("away", system="redis")] * 50)
    with capture_logs() as lines:
        running = asyncio.create_task(rounds.loop.run())
        await rounds.resting.wait()
        rounds.loop.stop()
        await running
    assert [line["log_level"] for line in lines] == ["warning"]


async def test_a_round_that_succeeds_tells_that_an_outage_is_over() -> None:
    errors: list[StoreUnavailable | None] = [StoreUnavailable("away", system="redis"), None]

    async def work() -> None:
        if (error := errors.pop(0)) is not None:
            raise error
        loop.stop()

    loop = Loop("rounds", work)
    with capture_logs() as lines:
        await loop.run()
    assert [line["log_level"] for line in lines] == ["warning", "info"]


async def test_a_store_that_cannot_be_used_ends_it() -> None:
    with pytest.raises(StoreUnusable):
        await Rounds(StoreUnusable("no")).loop.run()


async def test_a_stop_cuts_the_pause_after_an_error_short(monkeypatch: pytest.MonkeyPatch) -> None:
    pausing = asyncio.Event()

    async def backoff(failures: int, most: float) -> None:
        pausing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(trouble, "backoff", backoff)
    rounds = Rounds(RuntimeError())
    running = asyncio.create_task(rounds.loop.run())
    await pausing.wait()
    rounds.loop.stop()
    await asyncio.wait_for(running, 30)


async def test_its_own_cancellation_ends_it() -> None:
    rounds = Rounds()
    running = asyncio.create_task(rounds.loop.run())
    await rounds.resting.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert ERRORS == {}


async def test_a_group_of_loops_loses_none() -> None:
    """A task of a group that ends as if cancelled would be missed by nobody."""
    rounds = [Rounds(asyncio.CancelledError()) for _ in range(3)]

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for each in rounds:
                group.create_task(each.loop.run())

    running = asyncio.create_task(together())
    for each in rounds:
        await each.resting.wait()
    assert ERRORS == {"rounds": 3}
    for each in rounds:
        each.loop.stop()
    await asyncio.wait_for(running, 30)


async def test_a_stop_cuts_short_the_rest_of_each_task_and_no_work() -> None:
    """What is under way in one task goes on, while another that works for the same loop rests."""
    go, began, aside = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        await go.wait()

    loop = Loop("rounds", work)

    async def rest() -> None:
        aside.set()
        await loop.rest(asyncio.Event().wait())

    running, resting = asyncio.create_task(loop.run()), asyncio.create_task(rest())
    await asyncio.wait_for(asyncio.gather(began.wait(), aside.wait()), 30)
    loop.stop()
    with pytest.raises(Stopped):
        await asyncio.wait_for(resting, 30)
    assert not running.done()
    go.set()
    await asyncio.wait_for(running, 30)


async def test_the_end_of_one_tasks_rest_lets_another_still_be_stopped() -> None:
    rounds = Rounds()
    running = asyncio.create_task(rounds.loop.run())
    await rounds.resting.wait()
    await asyncio.create_task(rounds.loop.rest(asyncio.sleep(0)))
    rounds.loop.stop()
    await asyncio.wait_for(running, 30)
