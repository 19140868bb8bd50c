"""Real processes for the SDK tests: the server, applications on the official SDKs, a stub of other APIs."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from environments import ROOT, Program

T = TypeVar("T")

ENDED = frozenset({"Completed", "Failed", "Cancelled", "Skipped"})
PATIENCE = 90.0
"""Seconds after which a condition that did not come true fails the test; never a measure of speed."""


class HttpError(Exception):
    """An answer with a status that was not expected."""

    def __init__(self, method: str, url: str, status: int, body: str) -> None:
        super().__init__(f"{method} {url} answered {status}: {body[:500]}")
        self.status = status
        self.body = body


def request(method: str, url: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
    """Send JSON, return the decoded answer (`None` if empty). Raises HttpError on a status above 299."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    try:
        content = None if body is None else json.dumps(body).encode()
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status > 299:
        raise HttpError(method, url, answer.status, text)
    return json.loads(text) if text.strip() else None


def eventually(condition: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Poll until `condition` returns something true, and return it."""
    deadline = time.monotonic() + patience
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A child process in a group of its own, whose output goes to a file."""

    def __init__(self, program: Program, log: Path, environment: dict[str, str] | None = None) -> None:
        self.program = program
        self.log = log
        self.environment = environment or {}
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INNGEST_")}
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.program.command,
                cwd=self.program.directory,
                env={**inherited, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> None:
        """Raise if the process has ended by itself."""
        if self.child is not None and (code := self.child.poll()) is not None:
            tail = self.log.read_text(errors="replace")[-4000:]
            raise RuntimeError(f"{' '.join(self.program.command)} ended with {code}:\n{tail}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the whole group and wait; kill what does not end."""
        if self.child is None:
            return
        for attempt in (number, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, attempt)
            except ProcessLookupError:
                break
            try:
                self.child.wait(10)
                break
            except subprocess.TimeoutExpired:
                continue
        self.child.wait(10)
        self.child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class App(Process):
    """An application on an SDK, served at `url`, with the log of what it executed."""

    def __init__(self, name: str, program: Program, log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.urls = [f"{self.base}/api/inngest", f"{self.base}/api/stream"]
        super().__init__(program, log, {**environment, "PORT": str(self.port), "APP_ID": name})

    def entries(self, run: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = request("GET", f"{self.base}/log" + (f"?run={run}" if run else ""))
        return found

    def executions(self, run: str) -> Counter[str]:
        """How often each step of the run was executed."""
        return Counter(entry["step"] for entry in self.entries(run) if entry["kind"] == "step")

    def requests(self, run: str) -> int:
        """How many calls the server made for this run."""
        return sum(entry["kind"] == "request" for entry in self.entries(run))

    def times(self, run: str, step: str) -> list[float]:
        """When the run executed the step, in Unix seconds."""
        return [entry["at"] for entry in self.entries(run) if entry.get("step") == step]

    def answering(self) -> bool:
        self.alive()
        try:
            self.entries()
        except OSError:
            return False
        return True


@dataclass
class Run:
    """A run as REST v1 shows it."""

    id: str
    status: str
    output: Any
    raw: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Run:
        output = raw.get("output")
        if isinstance(output, str):
            with contextlib.suppress(ValueError):
                output = json.loads(output)
        return cls(raw["run_id"], raw["status"], output, raw)


class Server(Process):
    """The server under test, ``dev`` or with a key ``serve``, and what a user's test suite asks of it."""

    def __init__(
        self,
        log: Path,
        *,
        options: Sequence[str] = (),
        event_key: str = "test-0123456789abc",
        signing_key: str = "",
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.event_key = event_key
        self.signing_key = signing_key
        self.kind = "cloud" if signing_key else "dev"
        self.headers = {"Authorization": f"Bearer {signing_key}"} if signing_key else {}
        command = "dev"
        if signing_key:
            command = "serve"
            keys = ("--signing-key", signing_key, "--event-key", event_key)
            options = (*keys, *options, "event-api", "core-api", "runner", "executor")
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        super().__init__(
            Program((sys.executable, "-m", "inngest.cli", command, *address, *options), ROOT), log
        )

    def environment_of(self, name: str) -> dict[str, str]:
        """What an application of this SDK line needs to know to work with this server."""
        if not self.signing_key:
            return {"INNGEST_DEV": self.url}
        found = {
            "INNGEST_BASE_URL": self.url,
            "INNGEST_SIGNING_KEY": self.signing_key,
            "INNGEST_EVENT_KEY": self.event_key,
        }
        # To the Go SDK any value means development.
        return found if name == "go" else {**found, "INNGEST_DEV": "0"}

    def start(self) -> None:
        super().start()
        eventually(self.healthy, "the server's health")

    def healthy(self) -> bool:
        self.alive()
        try:
            request("GET", f"{self.url}/health")
        except (OSError, HttpError, http.client.HTTPException):
            return False
        return True

    def api(self, method: str, path: str, body: object = None) -> Any:
        return request(method, self.url + path, body, self.headers)

    def query(self, query: str, **variables: object) -> Any:
        """Run a GraphQL query and return its data."""
        answer = self.api("POST", "/v0/gql", {"query": query, "variables": variables})
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def functions(self) -> set[str]:
        return {function["slug"] for function in self.query("{ functions { slug } }")["functions"]}

    def register(self, app: App) -> None:
        """Have the server ask the application for its functions."""
        headers = {"X-Inngest-Server-Kind": self.kind}
        for url in app.urls:
            request("PUT", url, {"url": url}, headers)

    def wait_registered(self, apps: Iterable[App]) -> None:
        wanted = {slug for app in apps for slug in (f"{app.name}-sequential", f"{app.name}-stream-streamed")}
        eventually(lambda: wanted <= self.functions(), f"the functions {', '.join(sorted(wanted))}")

    def send(self, *events: dict[str, Any]) -> list[str]:
        """Send events and return their internal ids."""
        answer = request("POST", f"{self.url}/e/{self.event_key}", list(events))
        assert answer["status"] == 200, answer
        ids: list[str] = answer["ids"]
        assert len(ids) == len(events)
        return ids

    def runs(self, event: str) -> list[Run]:
        return [Run.of(raw) for raw in self.api("GET", f"/v1/events/{event}/runs")["data"] or ()]

    def run(self, run: str) -> Run:
        return Run.of(self.api("GET", f"/v1/runs/{run}")["data"])

    def wait_started(self, event: str) -> Run:
        """The only run of an event, as soon as there is one."""
        found = eventually(lambda: self.runs(event), f"a run of event {event}")
        assert len(found) == 1, found
        return found[0]

    def wait_ended(self, run: str, patience: float = PATIENCE) -> Run:
        def ended() -> Run | None:
            self.alive()
            found = self.run(run)
            return found if found.status in ENDED else None

        return eventually(ended, f"the end of run {run}", patience)

    def wait_run(self, event: str, patience: float = PATIENCE) -> Run:
        """The only run of an event, when it has ended."""
        return self.wait_ended(self.wait_started(event).id, patience)

    def trace(self, run: str) -> dict[str, Any]:
        query = """
        query Run($id: String!) {
          run(runID: $id) {
            status
            output
            function { name slug }
            trace(preview: true) {
              name status outputID stepOp
              childrenSpans { name status stepOp outputID attempts childrenSpans { name status } }
            }
          }
        }
        """
        found: dict[str, Any] = self.query(query, id=run)["run"]
        return found

    def waits(self, run: str) -> bool:
        """Whether the run has come to a sleep or a wait, and is known to have."""
        trace = self.trace(run)["trace"] or {}
        ops = {span["stepOp"] for span in trace.get("childrenSpans") or ()}
        return bool(ops & {"SLEEP", "WAIT_FOR_EVENT", "WAIT_FOR_SIGNAL"})


@dataclass
class Line:
    """An SDK line's application on the shared server, with a key that belongs to one test."""

    app: App
    server: Server
    key: str

    @property
    def name(self) -> str:
        return self.app.name

    def event(self, name: str, **data: Any) -> dict[str, Any]:
        return {"name": f"{self.app.name}/{name}", "data": {"k": self.key, **data}}

    def send(self, name: str, **data: Any) -> str:
        """Send the event of a scenario and return its internal id."""
        return self.server.send(self.event(name, **data))[0]

    def run(self, name: str, **data: Any) -> Run:
        """Trigger a scenario and wait for the end of its run."""
        return self.server.wait_run(self.send(name, **data))

    def completed(self, name: str, **data: Any) -> Run:
        """Trigger a scenario, wait until its run has completed, and see that it can be looked at."""
        run = self.run(name, **data)
        assert run.status == "Completed", run
        assert self.server.trace(run.id)["status"] == "COMPLETED"
        return run

    def executed(self, run: Run, *steps: str) -> None:
        """Assert that the run executed exactly these steps, each once."""
        assert self.app.executions(run.id) == dict.fromkeys(steps, 1)

    def wait_executed(self, run: str, step: str) -> None:
        """Wait until the run has executed the step."""
        eventually(lambda: self.app.executions(run)[step], f"step {step} of run {run}")

    def barrier(self) -> None:
        """Wait until a run triggered now has ended: events sent before have been decided upon."""
        self.completed("sequential")


class Stub:
    """A stand-in for other people's APIs: an echo, chosen statuses, and an OpenAI-like chat completion."""

    def __init__(self) -> None:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _StubHandler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _StubHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path, _, rest = self.path.partition("/status/")
        if rest:
            self.answer(int(rest), {"status": int(rest)})
        elif path == "/v1/chat/completions":
            content = json.loads(body)["messages"][-1]["content"]
            message = {"role": "assistant", "content": f"echo {content}"}
            authorization = self.headers.get("Authorization")
            self.answer(200, {"choices": [{"message": message}], "authorization": authorization})
        else:
            trial = self.headers.get("x-trial")
            self.answer(200, {"method": self.command, "path": path, "body": body, "trial": trial})

    do_GET = do_POST = do_PUT = respond  # noqa: N815, the names that http.server calls

    def answer(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""
