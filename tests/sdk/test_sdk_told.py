"""What people are told of a day in the life of failing functions: by the console of `dev`, by `serve`'s log.

Times and ids are masked. Lines of different runs may come in any order, those of one run may not.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from environments import PROGRAMS, UnavailableError
from harness import App, Run, Server, Stub, eventually

NOBODY = r"event      py/nobody\\x9b31m  \w+  starts and ends nothing"
SIGNING_KEY = "signkey-test-" + "5f3a" * 16
RETRIES = ["--retry-interval", "1"]


@contextmanager
def _served(server: Server, stub: Stub, folder: Path) -> Iterator[App]:
    """The server and an application on the Python SDK, registered with it."""
    try:
        program = PROGRAMS["py"]()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    with server:
        environment = {**server.environment_of("py"), "STUB_URL": stub.url}
        with App("py", program, folder / "app.log", environment) as app:
            eventually(app.answering, "the application")
            server.register(app)
            server.wait_registered([app])
            yield app


def _day(server: Server) -> dict[str, Run]:
    """A step out of retries, a failure that is caught, a wait in vain, and a run that is cancelled."""
    ended = {}
    for name, data in {"step-retry": {"failures": 10}, "step-caught": {}, "wait-timeout": {}}.items():
        (event,) = server.send({"name": f"py/{name}", "data": {"k": "told", **data}})
        ended[name] = server.wait_run(event)
    (event,) = server.send({"name": "py/long-sleep", "data": {"k": "told"}})
    run = server.wait_started(event)
    eventually(lambda: server.waits(run.id), "the sleep")
    server.api("DELETE", f"/v1/runs/{run.id}")
    ended["long-sleep"] = server.wait_ended(run.id)
    return ended


def test_the_console_of_a_day(stub: Stub, tmp_path: Path) -> None:
    server = Server(tmp_path / "server.log", options=[*RETRIES, "--no-discovery", "--no-poll"])
    with _served(server, stub, tmp_path) as app:
        runs = _day(server)
        server.send({"name": "py/nobody\x9b31m", "data": {}})
        eventually(lambda: "starts and ends nothing" in server.log.read_text(), "the event that nobody has")
        assert server.child is not None
        server.child.send_signal(signal.SIGINT)
        assert server.child.wait(60) == 0
    text = server.log.read_text()
    assert "\x1b" not in text
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]
    assert lines[0] == (
        f"Inngest dev server on http://localhost:{server.port}, "
        "kept in memory (--persist keeps it over restarts). Ctrl-C stops it."
    )
    assert "Stopping." in lines
    assert any(
        re.fullmatch(r"event      py/nobody\\x9b31m  \w+  starts and ends nothing", line) for line in lines
    )
    assert [line for line in lines if line.startswith("app ") and app.urls[0] in line]

    def told(name: str) -> list[str]:
        run = runs[name].id
        short = run[-6:]
        own = [line for line in lines if f" {short}  " in line]
        own = [line.replace(run, "RUN").replace(short, "SHORT") for line in own]
        return [re.sub(r"\b\d+ ms", "N ms", re.sub(r"in [\d.]+ s\b", "in N s", line)) for line in own]

    flaky = "SHORT  py-step-retry · flaky  attempt"
    assert told("step-retry")[:4] == [
        "run        SHORT  py-step-retry  RUN",
        f"retry      {flaky} 1 of 4, next in N s: ValueError: failure 1",
        f"retry      {flaky} 2 of 4, next in N s: ValueError: failure 2",
        f"retry      {flaky} 3 of 4, next in N s: ValueError: failure 3",
    ]
    assert "failure 4" in told("step-retry")[4]
    assert told("step-retry")[-1].startswith("failed     SHORT  py-step-retry  attempt ")
    assert "the run is over" in told("step-retry")[-1]
    assert told("step-caught") == [
        "run        SHORT  py-step-caught  RUN",
        "retry      SHORT  py-step-caught · fails  attempt 1 of 2, next in N s: ValueError: boom",
        "failed     SHORT  py-step-caught · fails  attempt 2 of 2, the last one: ValueError: boom",
        "step       SHORT  py-step-caught · compensate  N ms",
        "completed  SHORT  py-step-caught",
    ]
    assert any(line.startswith("timed out  SHORT  py-wait-timeout · ") for line in told("wait-timeout"))
    assert told("wait-timeout")[-1] == "completed  SHORT  py-wait-timeout"
    assert told("long-sleep")[-1] == "cancelled  SHORT  py-long-sleep"


def test_the_log_of_a_day(stub: Stub, tmp_path: Path) -> None:
    options = [*RETRIES, "--data-dir", str(tmp_path / "data")]
    server = Server(tmp_path / "server.log", options=options, signing_key=SIGNING_KEY)
    with _served(server, stub, tmp_path):
        runs = _day(server)
    entries = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    starting = entries[_place(entries, "server.start")]
    assert (starting["mode"], starting["engine"]) == ("serve", f"sqlite {tmp_path / 'data'}")
    registered = entries[_place(entries, "app.registered")]
    assert registered["functions"] >= 1

    def told(name: str, *facts: str) -> list[tuple[Any, ...]]:
        own = [entry for entry in entries if entry.get("run") == runs[name].id]
        assert all(entry["fn"] == f"py-{name}" and entry["app"] == "py" for entry in own)
        assert all(("next" in entry) == (entry["action"] == "step.retry") for entry in own)
        return [(entry["action"], entry["level"], *(entry.get(fact) for fact in facts)) for entry in own]

    facts = ("step", "attempt", "attempts", "error")
    retry, failed = ("step.retry", "warning"), ("step.failed", "warning")
    found = told("step-retry", *facts)
    assert found[:3] == [
        (*retry, "flaky", number, 4, f"ValueError: failure {number}") for number in (1, 2, 3)
    ]
    assert found[-1][:2] == ("run.failed", "error")
    assert "failure 4" in found[-1][-1]
    assert told("step-caught", *facts) == [
        (*retry, "fails", 1, 2, "ValueError: boom"),
        (*failed, "fails", 2, 2, "ValueError: boom"),
    ]
    assert told("wait-timeout") == []
    assert told("long-sleep") == [("run.cancelled", "warning")]


def _place(entries: list[dict[str, Any]], action: str) -> int:
    return next(place for place, entry in enumerate(entries) if entry["action"] == action)
