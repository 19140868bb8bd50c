"""Signing keys are exchanged, in any order, while applications on the official SDKs are at work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from environments import PROGRAMS, Program, UnavailableError
from harness import App, Server, Stub, eventually

FAILED = {"app.refuses", "step.retry", "step.failed", "run.failed"}
"""What the log would say of an attempt that failed."""
OLD = "signkey-test-" + "0123456789abcdef" * 4
NEW = "signkey-test-" + "fedcba9876543210" * 4


class Exchange:
    """A server and an application, each of which is restarted with other keys."""

    def __init__(self, name: str, stub: Stub, directory: Path) -> None:
        self.name = name
        options = ["--data-dir", str(directory), "--retry-interval", "1"]
        self.server = Server(directory / "server.log", options=options, signing_key=OLD)
        self._command = self.server.program.command
        environment = {"STUB_URL": stub.url, **self.server.environment_of(name)}
        self.app = App(name, PROGRAMS[name](), directory / f"{name}.log", environment)

    def server_has(self, *keys: str) -> None:
        self.server.stop()
        flags = [flag for key in keys for flag in ("--signing-key", key)]
        at = self._command.index("--signing-key")
        command = (*self._command[:at], *flags, *self._command[at + 2 :])
        self.server.program = Program(command, self.server.program.directory)
        self.server.headers = {"Authorization": f"Bearer {keys[0]}"}
        self.server.start()

    def app_has(self, key: str, fallback: str = "") -> None:
        self.app.stop()
        self.app.environment |= {"INNGEST_SIGNING_KEY": key, "INNGEST_SIGNING_KEY_FALLBACK": fallback}
        self.app.start()
        eventually(self.app.answering, "the application")

    def works(self) -> None:
        """A run of several calls, none of which has failed."""
        event = self.server.send({"name": f"{self.name}/sequential", "data": {"n": 1}})[0]
        run = self.server.wait_run(event)
        assert (run.status, run.output) == ("Completed", {"total": 6})
        told = [json.loads(line)["action"] for line in self.server.log.read_text().splitlines()]
        assert not FAILED & set(told)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["py", "ts4", "ts3", "go"])
def test_signing_keys_are_exchanged_without_a_failed_call(name: str, stub: Stub, tmp_path: Path) -> None:
    try:
        exchange = Exchange(name, stub, tmp_path)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    with exchange.server, exchange.app:
        eventually(exchange.app.answering, "the application")
        exchange.server.register(exchange.app)
        exchange.server.wait_registered([exchange.app])
        exchange.works()
        # The server first, which then goes by what the application has registered with.
        exchange.server_has(NEW, OLD)
        exchange.works()
        exchange.app_has(NEW)
        exchange.works()
        exchange.server_has(NEW)
        exchange.works()
        # The application first, which then needs both.
        exchange.app_has(OLD, fallback=NEW)
        exchange.works()
        exchange.server_has(OLD, NEW)
        exchange.works()
        exchange.app_has(OLD)
        exchange.server_has(OLD)
        exchange.works()
