"""What is told of failures, and how often."""

from __future__ import annotations

import asyncio

import pytest
from loop_errors import UNEXPECTED, away
from structlog.testing import capture_logs

from inngest.core.errors import StoreDefect, StoreUnavailable
from inngest.loops.trouble import ERRORS, Trouble, described, guarded, unexpected


async def test_an_outage_is_told_of_when_it_begins_and_when_it_is_over() -> None:
    with capture_logs() as lines, Trouble("work") as trouble:
        for _ in range(100):
            trouble.met(away())
        assert len(lines) == 1
        trouble.over()
        trouble.over()
    begin, end = lines
    assert (begin["log_level"], begin["action"], begin["system"]) == ("warning", "work", "redis")
    assert begin["error"] == "redis refused"
    assert (end["log_level"], end["action"], end["system"]) == ("info", "work", "redis")
    assert ERRORS == {}


async def test_an_outage_is_told_of_once_however_many_wait_for_it() -> None:
    with capture_logs() as lines:
        troubles = [Trouble(f"work {n}") for n in range(1000)]
        for trouble in troubles:
            trouble.met(away())
        assert len(lines) == 1
        for trouble in troubles:
            assert len(lines) == 1, "the last one to go on tells that it is over"
            trouble.over()
    assert [line["log_level"] for line in lines] == ["warning", "info"]


async def test_each_system_has_its_own_outage() -> None:
    with capture_logs() as lines, Trouble("a") as a, Trouble("b") as b:
        a.met(away("redis"))
        b.met(away("disk"))
        a.met(away("disk"))  # so redis answers again
        b.over()
        a.over()
    assert [(line["log_level"], line["system"]) for line in lines] == [
        ("warning", "redis"),
        ("warning", "disk"),
        ("info", "redis"),
        ("info", "disk"),
    ]


async def test_without_a_name_each_work_tells_of_its_own() -> None:
    with capture_logs() as lines, Trouble("a") as a, Trouble("b") as b:
        for trouble in (a, b, a, b):
            trouble.met(StoreUnavailable("refused" if trouble is a else "timed out"))
        a.over()
        b.over()
    assert [line["log_level"] for line in lines] == ["warning", "warning", "info", "info"]
    assert not any("system" in line or "facts" in line for line in lines)


async def test_who_gives_up_waits_no_longer() -> None:
    with capture_logs() as lines:
        with Trouble("a") as patient:
            with Trouble("b") as trouble:
                trouble.met(away())
                patient.met(away())
            assert [line["log_level"] for line in lines] == ["warning"]
            patient.over()
        assert [line["log_level"] for line in lines] == ["warning", "info"]


async def test_the_next_outage_is_told_of_again() -> None:
    with capture_logs() as lines, Trouble("a") as trouble:
        for _ in range(2):
            trouble.met(away())
            trouble.over()
    assert [line["log_level"] for line in lines] == ["warning", "info"] * 2


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
async def test_an_unexpected_error_is_told_of_with_its_facts_and_counted(error: BaseException) -> None:
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001
        with capture_logs() as lines, Trouble("work") as trouble:
            trouble.met(raised)
            trouble.met(raised)
    assert [line["action"] for line in lines] == ["work", "work"]
    assert [line["log_level"] for line in lines] == ["error", "error"]
    assert all(line["exc_info"] is error for line in lines)
    assert all(line["error"] for line in lines)
    assert ERRORS == {"work": 2}


async def test_the_facts_of_a_store_are_told() -> None:
    error = StoreDefect("its script failed", system="redis a:1", event="e", action="a", run="r")
    with capture_logs() as lines:
        unexpected("work", error)
    (line,) = lines
    assert (line["system"], line["facts"]) == ("redis a:1", {"event": "e", "action": "a", "run": "r"})


async def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("structlog.testing.LogCapture.__call__", full)
    with capture_logs(), Trouble("work") as trouble:
        trouble.met(RuntimeError("anything"))
        trouble.met(away())
        trouble.over()
    assert ERRORS == {"work": 1}


def test_who_tells_goes_on() -> None:
    told: list[object] = []

    def tell(text: str) -> None:
        told.append(text)
        raise BrokenPipeError(32, "Broken pipe")

    safe = guarded("console", tell)
    with capture_logs() as lines:
        for n in range(100):
            safe(f"{n}")
    assert len(told) == 100
    assert ERRORS == {"console": 100}
    assert [line["failures"] for line in lines] == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("a"), "KeyError: 'a'"),
        (AssertionError(), "AssertionError"),
        (StoreUnavailable("it is away"), "it is away"),
        (OSError("cannot listen"), "cannot listen"),
        (
            ExceptionGroup("g", [StoreUnavailable("a"), ExceptionGroup("g", [KeyError("b")])]),
            "a; KeyError: 'b'",
        ),
        (asyncio.CancelledError(), "what it waited for was cancelled"),
    ],
)
def test_errors_in_one_line(error: BaseException, text: str) -> None:
    assert described(error) == text
