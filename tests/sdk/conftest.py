"""One server and one application of each SDK line, for the whole session.

SDK_LINES (by default py,ts4,ts3,go) chooses the lines, SDK_BACKENDS (by default memory; or memory,sqlite)
where the server keeps its state. Tests share everything, so each sends events with a key of its own.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from environments import PROGRAMS, UnavailableError
from harness import App, Line, Server, Stub, eventually

LINES = os.environ.get("SDK_LINES", ",".join(PROGRAMS)).split(",")
BACKENDS = os.environ.get("SDK_BACKENDS", "memory").split(",")


def backend_options(backend: str, directory: Path) -> list[str]:
    match backend:
        case "memory":
            return []
        case "sqlite":
            return ["--persist", "--sqlite-dir", str(directory)]
    raise ValueError(f"SDK_BACKENDS names {backend!r}; memory and sqlite are known")


@pytest.fixture(scope="session")
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running


@pytest.fixture(scope="session", params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    options = ["--no-discovery", "--retry-interval", "1", *backend_options(request.param, directory)]
    with Server(directory / "server.log", options=options) as running:
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
                environment = {"INNGEST_DEV": server.url, "STUB_URL": stub.url}
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
