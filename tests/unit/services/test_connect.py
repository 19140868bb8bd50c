"""Backing systems of a process: opened, waited for, watched and closed."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.loops.trouble import ERRORS, described
from inngest.services import connect
from inngest.services.connect import Connections
from inngest.services.health import Health
from inngest.services.needs import System


class Fake:
    """A backing system that can be opened after these errors, and closed unless it is told otherwise."""

    def __init__(self, *errors: BaseException, closing: BaseException | None = None) -> None:
        self.errors = list(errors)
        self.closing = closing
        self.opened = False
        self.closed = False

    async def open(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.opened = True

    async def close(self) -> None:
        self.closed = True
        if self.closing is not None:
            raise self.closing

    async def ping(self) -> None: ...


class Mortal(Fake):
    def __init__(self) -> None:
        super().__init__()
        self.dead = asyncio.Event()

    async def died(self) -> None:
        await self.dead.wait()
        raise StoreUnusable("engine.db cannot be written")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def backoff(failures: int) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(connect, "backoff", backoff)
    ERRORS.clear()


def connections(engine: Fake, data: Fake) -> Connections:
    backends = {System.ENGINE: engine, System.DATA: data}
    return Connections(backends, {System.ENGINE}, Health())


async def test_waiting_for_a_system_is_one_line() -> None:
    engine = Fake(*[StoreUnavailable("refused")] * 50)
    made = connections(engine, Fake())
    with capture_logs() as lines:
        await made.prepare()
    told = [(line["log_level"], line["action"]) for line in lines if line["backend"] == System.ENGINE]
    assert told == [("warning", "connect.wait"), ("info", "connect.open")]
    await made.stop(0)
    assert engine.closed


@pytest.mark.parametrize("error", [RuntimeError("anything"), asyncio.CancelledError()], ids=repr)
async def test_an_unexpected_error_of_a_system_that_is_only_wanted_ends_nothing(error: BaseException) -> None:
    data = Fake(error, error)
    made = connections(Fake(), data)
    await made.prepare()
    running = asyncio.create_task(made.run())
    await made.opened(System.DATA)
    assert data.opened
    assert not running.done()
    assert ERRORS == {"connect.open": 2}
    running.cancel()
    await made.stop(0)


async def test_an_unexpected_error_of_a_system_that_is_required_ends_the_start() -> None:
    data = Fake()
    with pytest.raises(RuntimeError, match="anything"):
        await connections(Fake(RuntimeError("anything")), data).prepare()
    assert data.closed


async def test_a_system_that_refuses_for_good_ends_the_process_later_too() -> None:
    data = Fake(*[StoreUnavailable("refused")] * 3, StoreUnusable("written by a newer release"))
    made = connections(Fake(), data)
    await made.prepare()
    with pytest.raises(ExceptionGroup) as caught:
        await made.run()
    assert described(caught.value) == "written by a newer release"
    await made.stop(0)


async def test_a_system_that_cannot_go_on_ends_the_process() -> None:
    engine = Mortal()
    made = connections(engine, Fake())
    await made.prepare()
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    assert not running.done()
    engine.dead.set()
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert described(caught.value) == "engine.db cannot be written"
    await made.stop(0)


async def test_a_system_that_came_to_its_end_before_anybody_watched_is_found() -> None:
    engine = Mortal()
    made = connections(engine, Fake())
    await made.prepare()
    engine.dead.set()
    with pytest.raises(ExceptionGroup):
        await made.run()
    await made.stop(0)


@pytest.mark.parametrize(
    "error", [StoreUnusable("the last changes are lost"), KeyError(1), asyncio.CancelledError()], ids=repr
)
async def test_one_that_does_not_close_keeps_no_other_from_it_and_is_told_of(error: BaseException) -> None:
    engine, data = Fake(closing=error), Fake(closing=error)
    made = connections(engine, data)
    await made.prepare()
    await made.opened(System.DATA)
    with capture_logs() as lines, pytest.raises((StoreUnusable, KeyError)):
        await made.stop(0)
    assert engine.closed
    assert data.closed
    assert {line["backend"] for line in lines} == {System.ENGINE, System.DATA}


async def test_a_stop_ends_the_waiting() -> None:
    engine = Fake(*[StoreUnavailable("refused")] * 100_000)
    made = connections(engine, Fake())
    preparing = asyncio.create_task(made.prepare())
    while len(engine.errors) > 99_000:
        await asyncio.sleep(0)
    preparing.cancel()
    await asyncio.wait({preparing})
    assert preparing.cancelled()
    assert not engine.opened
