"""Work in the background goes on through every error."""

from __future__ import annotations

import asyncio

import pytest
from loop_errors import UNEXPECTED, Work, away
from structlog.testing import capture_logs

from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.loops.background import Watched, forever, persist
from inngest.loops.trouble import ERRORS

Pauses = list[tuple[int, float]]


async def _cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
async def test_it_goes_on_forever(error: BaseException, pauses: Pauses) -> None:
    work = Work(error, error, error, rounds=3)
    with capture_logs() as lines:
        task = asyncio.create_task(forever("work", work))
        await work.done.wait()
        while work.tries < 7:
            await asyncio.sleep(0)
    assert not task.done()
    assert ERRORS == {"work": 3}
    assert [line["exc_info"] for line in lines] == [error] * 3
    assert [failures for failures, _ in pauses] == [1, 2, 3], "slower and slower"
    await _cancelled(task)


async def test_a_success_makes_it_quick_again(pauses: Pauses) -> None:
    work = Work(RuntimeError(), RuntimeError(), None, RuntimeError())
    task = asyncio.create_task(forever("work", work))
    await work.done.wait()
    assert [failures for failures, _ in pauses] == [1, 2, 1]
    await _cancelled(task)


async def test_a_heartbeat_is_never_slower_than_its_period(pauses: Pauses) -> None:
    work = Work(*[RuntimeError()] * 20)
    task = asyncio.create_task(forever("heartbeat", work, every=0.01))
    await work.done.wait()
    assert {most for _, most in pauses} == {0.01}
    await _cancelled(task)


async def test_an_outage_is_waited_for(pauses: Pauses) -> None:
    work = Work(away(), away(), away(), rounds=0)
    with capture_logs() as lines:
        task = asyncio.create_task(forever("work", work))
        await work.done.wait()
    assert [line["log_level"] for line in lines] == ["warning"]
    assert ERRORS == {}
    await _cancelled(task)


async def test_a_store_that_cannot_be_used_ends_it(pauses: Pauses) -> None:
    work = Work(away(), StoreUnusable("somebody has to mend it", system="redis"))
    with pytest.raises(StoreUnusable, match="mend it"):
        await forever("work", work)


async def test_its_own_cancellation_ends_it_while_it_waits() -> None:
    work = Work(*[RuntimeError()] * 1000)
    task = asyncio.create_task(forever("work", work))
    while not work.tries:
        await asyncio.sleep(0)
    await _cancelled(task)


async def test_a_time_limit_ends_it() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await forever("work", Work(rounds=0))


# -- until it succeeds


async def test_it_is_tried_until_it_succeeds(pauses: Pauses) -> None:
    work = Work(away(), away())
    assert await persist("work", work) == "result"
    assert [failures for failures, _ in pauses] == [1, 2]


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
async def test_other_errors_are_the_callers(error: BaseException, pauses: Pauses) -> None:
    with pytest.raises(type(error)):
        await persist("work", Work(error))
    assert await persist("work", Work(error), stubborn=True) == "result"
    assert ERRORS == {"work": 1}


@pytest.mark.parametrize("stubborn", [True, False])
async def test_it_is_not_tried_again_where_that_does_not_help(stubborn: bool, pauses: Pauses) -> None:
    with pytest.raises(StoreUnusable):
        await persist("work", Work(StoreUnusable("no")), stubborn=stubborn)


# -- in a task of its own


async def test_a_watched_task_outlives_everything(pauses: Pauses) -> None:
    work = Work(*UNEXPECTED, away(), StoreUnusable("no", system="redis"), rounds=0)
    watched = Watched("heartbeat", work)
    assert not watched.running
    watched.start()
    watched.start()
    await work.done.wait()
    assert watched.running
    assert work.tries == len(UNEXPECTED) + 3, "it was started once"
    assert {"heartbeat": len(UNEXPECTED)} == ERRORS
    await watched.stop()
    assert not watched.running
    await watched.stop()


async def test_a_watched_task_can_be_started_again() -> None:
    watched = Watched("heartbeat", Work(rounds=0))
    watched.start()
    await watched.stop()
    watched.start()
    assert watched.running
    await watched.stop()


async def test_who_waits_for_a_watched_task_to_stop_can_be_cancelled() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go.wait()

    go = asyncio.Event()
    watched = Watched("heartbeat", stubborn)
    watched.start()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(watched.stop())
    await asyncio.sleep(0)
    await _cancelled(stopping)
    go.set()


def test_unusable_is_a_kind_of_unavailable() -> None:
    """What catches the one must think of the other."""
    assert issubclass(StoreUnusable, StoreUnavailable)
