"""The server as a process: finding applications, keys and signatures, surviving its own death."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from environments import PROGRAMS, UnavailableError
from harness import App, HttpError, Server, Stub, eventually, request

SIGNING_KEY = "0123456789abcdef0123456789abcdef"
EVENT_KEY = "an-event-key-0123456789"


@contextmanager
def app_on(
    server: Server, stub: Stub, directory: Path, name: str, environment: dict[str, str]
) -> Iterator[App]:
    try:
        program = PROGRAMS[name]()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    app = App(name, program, directory / f"{name}.log", {"STUB_URL": stub.url, **environment})
    with app:
        eventually(app.answering, f"the {name} application")
        yield app


def test_the_server_asks_the_urls_it_is_given(stub: Stub, tmp_path: Path) -> None:
    """With -u the application needs no help to register, even if it starts after the server."""
    server = Server(tmp_path / "server.log")
    app = App("py", PROGRAMS["py"](), tmp_path / "py.log", {"INNGEST_DEV": server.url, "STUB_URL": stub.url})
    urls = [option for url in app.urls for option in ("-u", url)]
    command = (*server.program.command, "--no-discovery", "--poll-interval", "1", *urls)
    server.program = type(server.program)(command, server.program.directory)
    with server, app:
        server.wait_registered([app])
        event = server.send({"name": "py/sequential", "data": {"n": 1}})[0]
        assert server.wait_run(event).output == {"total": 6}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["py", "ts4", "ts3", "go"])
def test_in_cloud_mode_calls_are_signed_and_keys_required(name: str, stub: Stub, tmp_path: Path) -> None:
    options = ["--data-dir", str(tmp_path)]
    server = Server(tmp_path / "server.log", options=options, event_key=EVENT_KEY, signing_key=SIGNING_KEY)
    environment = server.environment_of(name)
    with server, app_on(server, stub, tmp_path, name, environment) as app:
        request("PUT", app.urls[0], {"url": app.urls[0]}, {"X-Inngest-Server-Kind": "cloud"})
        eventually(lambda: f"{name}-sequential" in server.functions(), "the functions")
        data = {"k": "Grüße 🌍", "n": 1, "float": 1.5, "whole": 2.0, "big": 1e21}
        event = server.send({"name": f"{name}/echo", "data": data})[0]
        run = server.wait_run(event)
        assert (run.status, run.output["event"]) == ("Completed", data)
        # Sending an event from a step uses the application's own keys.
        event = server.send({"name": f"{name}/send-event", "data": {"k": "k"}})[0]
        assert server.wait_run(event).status == "Completed"
        # And what carries no key, or another, is refused.
        with pytest.raises(HttpError) as refused:
            request("POST", f"{server.url}/e/another-key", [{"name": "a", "data": {}}])
        assert refused.value.status == 401
        for headers in ({}, {"Authorization": "Bearer deadbeef"}):
            with pytest.raises(HttpError) as refused:
                request("GET", f"{server.url}/v1/runs/{run.id}", None, headers)
            assert refused.value.status == 401


@pytest.mark.slow
@pytest.mark.parametrize("name", ["py", "ts4"])
def test_a_killed_server_resumes_its_runs(name: str, stub: Stub, tmp_path: Path) -> None:
    """kill -9 while one run sleeps and one waits: both go on afterwards, and no finished step runs again."""
    options = ["--no-discovery", "--retry-interval", "1", "--persist", "--sqlite-dir", str(tmp_path)]
    server = Server(tmp_path / "server.log", options=options)
    with server, app_on(server, stub, tmp_path, name, {"INNGEST_DEV": server.url}) as app:
        server.register(app)
        server.wait_registered([app])
        started = [
            server.wait_started(server.send({"name": f"{name}/{scenario}", "data": {"k": "key"}})[0])
            for scenario in ("sleep", "wait-match")
        ]

        def all_wait() -> bool:
            # A step is executed before the server has its result: only what is shown is kept.
            return all(server.waits(run.id) for run in started)

        eventually(all_wait, "both runs to wait")
        server.stop(signal.SIGKILL)
        server.start()
        sleeper, waiter = started
        slept = server.wait_ended(sleeper.id)
        assert (slept.status, slept.output) == ("Completed", "woke")

        def answered() -> bool:
            server.send({"name": f"{name}/answer", "data": {"k": "key", "answer": 1}})
            return server.run(waiter.id).status == "Completed"

        eventually(answered, "the waiting run to go on")
        assert app.executions(sleeper.id) == {"before": 1, "after": 1}
        assert app.executions(waiter.id) == {"before": 1, "after": 1}


def test_the_server_stops_cleanly(tmp_path: Path) -> None:
    with Server(tmp_path / "server.log", options=["--no-discovery"]) as server:
        assert isinstance(server.child, subprocess.Popen)
        server.child.send_signal(signal.SIGTERM)
        assert server.child.wait(30) == 0
        server.child = None
