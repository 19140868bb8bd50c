"""The order of starts and stops, and what ends a process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from service_rig import until
from structlog.testing import capture_logs

from inngest.core.errors import StoreUnusable
from inngest.services import supervisor as supervisors
from inngest.services.supervisor import Service, Supervisor
from inngest.services.task import Task


class Diary:
    """What services did, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.end: dict[str, asyncio.Event] = {}
        self.hold: dict[str, asyncio.Event] = {}

    def service(self, name: str, *, start_seconds: float | None = 30) -> Service:
        async def prepare() -> None:
            self.lines.append(f"prepare {name}")
            if f"prepare {name}" in self.hold:
                await self.hold[f"prepare {name}"].wait()
            if f"prepare {name}" in self.fail:
                raise self.fail[f"prepare {name}"]

        async def run() -> None:
            self.lines.append(f"run {name}")
            await self.end.setdefault(name, asyncio.Event()).wait()
            if name in self.fail:
                raise self.fail[name]

        async def stop(grace: float) -> None:
            self.lines.append(f"stop {name}")
            if f"stop {name}" in self.hold:
                await self.hold[f"stop {name}"].wait()
            if f"stop {name}" in self.fail:
                raise self.fail[f"stop {name}"]

        return Task(name, run, prepare=prepare, stop=stop, start_seconds=start_seconds)


@pytest.fixture
def diary() -> Diary:
    return Diary()


async def _serve(diary: Diary, *names: str, grace: float = 30) -> tuple[Supervisor, asyncio.Task[int]]:
    serving = asyncio.Event()
    supervisor = Supervisor([diary.service(name) for name in names], grace=grace, serving=serving.set)
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(serving.wait(), 30)
    await until(lambda: sum(line.startswith("run") for line in diary.lines) == len(names), "all run")
    return supervisor, running


async def test_services_start_in_order_and_stop_in_the_reverse_one(diary: Diary) -> None:
    supervisor, running = await _serve(diary, "a", "b", "c")
    supervisor.stop()
    assert await running == 0
    assert [line for line in diary.lines if not line.startswith("run")] == [
        "prepare a", "prepare b", "prepare c", "stop c", "stop b", "stop a",
    ]  # fmt: skip


async def test_a_service_is_prepared_when_the_one_before_it_is_ready(diary: Diary) -> None:
    diary.hold["prepare a"] = asyncio.Event()
    supervisor = Supervisor([diary.service("a"), diary.service("b")])
    running = asyncio.create_task(supervisor.run())
    await until(lambda: "prepare a" in diary.lines, "the first is prepared")
    assert "prepare b" not in diary.lines
    diary.hold["prepare a"].set()
    await until(lambda: "run b" in diary.lines, "the second runs")
    supervisor.stop()
    assert await running == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_0(diary: Diary, number: signal.Signals) -> None:
    _, running = await _serve(diary, "a", "b")
    os.kill(os.getpid(), number)
    assert await asyncio.wait_for(running, 30) == 0


@pytest.mark.parametrize("error", [None, ValueError("no more")])
@pytest.mark.parametrize("name", ["a", "b", "c"])
async def test_the_end_of_a_service_ends_all_with_1(diary: Diary, name: str, error: Exception | None) -> None:
    _, running = await _serve(diary, "a", "b", "c")
    if error is not None:
        diary.fail[name] = error
    diary.end[name].set()
    assert await asyncio.wait_for(running, 30) == 1
    assert diary.lines[-3:] == ["stop c", "stop b", "stop a"]


async def test_a_service_that_does_not_start_stops_those_that_have(diary: Diary) -> None:
    diary.fail["prepare b"] = OSError("port in use")
    supervisor = Supervisor([diary.service(name) for name in "abc"])
    assert await supervisor.run() == 1
    assert "prepare c" not in diary.lines
    assert diary.lines[-1] == "stop a"


async def test_a_service_that_takes_too_long_to_start_ends_it(diary: Diary) -> None:
    diary.hold["prepare b"] = asyncio.Event()
    supervisor = Supervisor([diary.service("a"), diary.service("b", start_seconds=0.05)])
    assert await asyncio.wait_for(supervisor.run(), 30) == 1
    assert diary.lines[-1] == "stop a"


async def test_a_signal_ends_a_start_that_waits_with_0(diary: Diary) -> None:
    diary.hold["prepare b"] = asyncio.Event()
    supervisor = Supervisor([diary.service("a"), diary.service("b", start_seconds=None)])
    running = asyncio.create_task(supervisor.run())
    await until(lambda: "prepare b" in diary.lines, "the second is prepared")
    supervisor.stop()
    assert await asyncio.wait_for(running, 30) == 0
    assert "run b" not in diary.lines


async def test_the_end_of_a_service_ends_a_start_that_waits_for_another(diary: Diary) -> None:
    diary.hold["prepare b"] = asyncio.Event()
    supervisor = Supervisor([diary.service("a"), diary.service("b", start_seconds=None)])
    running = asyncio.create_task(supervisor.run())
    await until(lambda: "prepare b" in diary.lines and "run a" in diary.lines, "the second is prepared")
    diary.end["a"].set()
    assert await asyncio.wait_for(running, 30) == 1


async def test_a_service_that_fails_to_stop_does_not_keep_the_others(diary: Diary) -> None:
    diary.fail["stop b"] = ValueError("cannot")
    supervisor, running = await _serve(diary, "a", "b")
    supervisor.stop()
    assert await running == 1
    assert diary.lines[-1] == "stop a"


async def test_a_second_signal_cuts_a_stop_short_and_still_stops_all(diary: Diary) -> None:
    diary.hold["stop b"] = asyncio.Event()
    _, running = await _serve(diary, "a", "b", grace=3600)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: "stop b" in diary.lines, "the stop has begun")
    assert not running.done()
    diary.hold.clear()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 30) == 1
    assert diary.lines[-3:] == ["stop b", "stop b", "stop a"]


# -- ends that are easily overlooked


def _ends(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {line["service"]: line["error"] for line in lines if line["action"] == "supervisor.end"}


async def test_a_service_that_fails_while_it_stops_makes_it_1(diary: Diary) -> None:
    async def run() -> None:
        await stopping.wait()
        raise StoreUnusable("engine.db cannot be written")

    async def stop(grace: float) -> None:
        stopping.set()
        await asyncio.sleep(0)

    stopping = asyncio.Event()
    serving = asyncio.Event()
    services = [diary.service("a"), Task("b", run, stop=stop), diary.service("c")]
    supervisor = Supervisor(services, serving=serving.set)
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(serving.wait(), 30)
    with capture_logs() as lines:
        supervisor.stop()
        assert await running == 1
    assert _ends(lines) == {"b": "engine.db cannot be written"}


async def test_what_fails_when_it_is_cancelled_is_heard_of(diary: Diary) -> None:
    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("cannot close")

    serving = asyncio.Event()
    supervisor = Supervisor([diary.service("a"), Task("b", run)], serving=serving.set)
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(serving.wait(), 30)
    await asyncio.sleep(0)
    with capture_logs() as lines:
        supervisor.stop()
        assert await running == 1
    assert _ends(lines) == {"b": "ValueError: cannot close"}


async def _cancelled() -> None:
    """What somebody waits for whose own task is cancelled by nobody."""
    raise asyncio.CancelledError


async def test_a_service_that_is_cancelled_by_nobody_has_ended(diary: Diary) -> None:
    with capture_logs() as lines:
        supervisor = Supervisor([diary.service("a"), Task("b", _cancelled)])
        assert await asyncio.wait_for(supervisor.run(), 30) == 1
    assert _ends(lines) == {"b": "what it waited for was cancelled"}
    assert diary.lines[-1] == "stop a"


async def test_a_start_that_is_cancelled_by_nobody_has_failed(diary: Diary) -> None:
    task = Task("b", asyncio.Event().wait, prepare=_cancelled)  # type: ignore[arg-type]
    assert await Supervisor([diary.service("a"), task]).run() == 1
    assert diary.lines[-1] == "stop a"


async def test_a_stop_that_is_cancelled_by_nobody_does_not_keep_the_others(diary: Diary) -> None:
    async def stop(grace: float) -> None:
        raise asyncio.CancelledError

    async def run() -> None:
        await asyncio.Event().wait()

    serving = asyncio.Event()
    supervisor = Supervisor([diary.service("a"), Task("b", run, stop=stop)], serving=serving.set)
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(serving.wait(), 30)
    supervisor.stop()
    assert await running == 1
    assert diary.lines[-1] == "stop a"


async def test_a_service_that_does_not_let_itself_be_cancelled_makes_it_1(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn:
        name = "stubborn"
        start_seconds = None

        async def prepare(self) -> None: ...

        async def run(self) -> None:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    cancelled.set()

        async def stop(self, grace: float) -> None: ...

    monkeypatch.setattr(supervisors, "HURRY_SECONDS", 0.01)
    over, cancelled, serving = asyncio.Event(), asyncio.Event(), asyncio.Event()
    supervisor = Supervisor([diary.service("a"), Stubborn()], serving=serving.set)
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(serving.wait(), 30)
    await asyncio.sleep(0)
    with capture_logs() as lines:
        supervisor.stop()
        assert await running == 1
    assert cancelled.is_set()
    assert set(_ends(lines)) == {"stubborn"}
    over.set()


async def test_the_reason_of_a_group_of_tasks_is_told(diary: Diary) -> None:
    """Not that there is one."""

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            group.create_task(fail())

    async def fail() -> None:
        raise StoreUnusable("it does not let us in")

    with capture_logs() as lines:
        assert await asyncio.wait_for(Supervisor([diary.service("a"), Task("b", run)]).run(), 30) == 1
    assert _ends(lines) == {"b": "it does not let us in"}


async def test_a_service_that_is_ready_too_late_is_stopped_all_the_same(diary: Diary) -> None:
    async def prepare() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            diary.lines.append("ready b")

    async def stop(grace: float) -> None:
        diary.lines.append("stop b")

    task = Task("b", prepare, prepare=prepare, stop=stop, start_seconds=0.01)
    assert await Supervisor([diary.service("a"), task]).run() == 1
    assert diary.lines[-3:] == ["ready b", "stop b", "stop a"]


async def test_a_service_that_fails_with_a_defect_is_told_of_with_its_traceback(diary: Diary) -> None:
    async def run() -> None:
        raise KeyError("key")

    with capture_logs() as lines:
        assert await Supervisor([Task("a", run)]).run() == 1
    (line,) = [line for line in lines if line["action"] == "supervisor.end"]
    assert line["error"] == "KeyError: 'key'"
    assert isinstance(line["exc_info"], KeyError)
