"""The order of starts and stops, and what ends a process."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from service_rig import until

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
