"""One server and one application of each SDK line, for the whole session.

SDK_LINES (by default py,ts4,ts3,go) chooses the lines, SDK_BACKENDS (by default memory,redis; or sqlite) the
place of the server's state. With Redis it is a production server, which signs what it sends, and takes keys.
Tests share everything, so each sends events with a key of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from environments import PROGRAMS, Program, UnavailableError
from harness import App, Line, Process, Server, Stub, eventually

LINES = os.environ.get("SDK_LINES", ",".join(PROGRAMS)).split(",")
BACKENDS = os.environ.get("SDK_BACKENDS", "memory,redis").split(",")


SIGNING_KEY = "signkey-test-" + "0123456789abcdef" * 4


@contextlib.contextmanager
def server_on(backend: str, directory: Path) -> Iterator[Server]:
    log, options = directory / "server.log", ["--retry-interval", "1"]
    with contextlib.ExitStack() as running:
        match backend:
            case "memory":
                server = Server(log, options=[*options, "--no-discovery"])
            case "sqlite":
                storage = ["--persist", "--sqlite-dir", str(directory)]
                server = Server(log, options=[*options, "--no-discovery", *storage])
            case "redis":
                url = running.enter_context(redis(directory))
                storage = ["--redis-uri", url, "--redis-allow-unsafe", "no-persistence"]
                storage += ["--data-dir", str(directory)]
                # What steps fetch from in these tests is on this machine.
                config = directory / "server.cue"
                config.write_text('execution: http: allow: ["127.0.0.0/8"]')
                storage += ["--config", str(config)]
                server = Server(log, options=[*options, *storage], signing_key=SIGNING_KEY)
            case _:
                raise ValueError(f"SDK_BACKENDS names {backend!r}; memory, redis and sqlite are known")
        yield running.enter_context(server)


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[str]:
    """A private Redis server; gives its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server on this machine")
    socket = directory / "redis.sock"
    command = (binary, "--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--save", "")
    with Process(Program(command, directory), directory / "redis.log"):
        eventually(socket.exists, "the Redis server")
        yield f"unix://{socket}"


@pytest.fixture(scope="session")
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running


@pytest.fixture(scope="session", params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_on(request.param, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def line_apps(
    server: Server, stub: Stub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], App]]:
    """Returns the running, registered application of an SDK line, started at its first use."""
    logs = tmp_path_factory.mktemp("apps")
    apps: dict[str, App] = {}
    with contextlib.ExitStack() as running:

        def start(name: str) -> App:
            if name not in apps:
                environment = {**server.environment_of(name), "STUB_URL": stub.url}
                app = App(name, PROGRAMS[name](), logs / f"{name}.log", environment)
                running.enter_context(app)
                eventually(app.answering, f"the {name} application")
                server.register(app)
                server.wait_registered([app])
                apps[name] = app
            return apps[name]

        yield start


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sdk(*names): only these SDK lines have the feature")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for `line` once per SDK line that has the feature."""
    if "line" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("sdk")
        lines = [name for name in LINES if marker is None or name in marker.args]
        metafunc.parametrize("line", lines, indirect=True)


@pytest.fixture
def line(request: pytest.FixtureRequest, server: Server, line_apps: Callable[[str], App]) -> Line:
    """The application of each SDK line in turn; `@pytest.mark.sdk(...)` narrows the choice."""
    try:
        app = line_apps(request.param)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    return Line(app, server, uuid.uuid4().hex)
