"""An application that costs next to nothing, and times the server that calls it.

It speaks the SDKs' protocol with hand-made JSON over bare sockets, and reads of a request only what tells the
run, the step, and when the event was sent: each event of this harness has that time as ``data.t``.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from hashlib import sha1
from http.client import HTTPConnection
from json import dumps
from multiprocessing.connection import Connection
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httptools
import uvloop

from harness.remote import listen

APP = "bench"
SLEEP_MS = 1000
BRANCHES = 10
_SENT = b'"t":'
_RUN = b'"run_id":"'
_MEMO = b'],"steps":{'


def step_id(name: str) -> str:
    return sha1(name.encode(), usedforsecurity=False).hexdigest()


def _response(status: bytes, body: bytes) -> bytes:
    head = (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nx-inngest-sdk: stub:v1\r\n"
        b"x-inngest-req-version: 2\r\ncontent-length: %d\r\n\r\n"
    )
    return head % (status, len(body)) + body


def _report(*ops: dict[str, Any]) -> bytes:
    return _response(b"206 Partial Content", dumps(ops).encode())


def _op(name: str, op: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id(name), "op": op, "name": name, "displayName": name, **fields}


_END = _response(b"200 OK", b'{"done":true}')
_SEQUENCE = [_report(_op(name, "StepRun", data={"step": name})) for name in ("a", "b", "c")]
_SEQUENCE_IDS = [step_id(name).encode() for name in ("a", "b", "c")]
_BRANCH = {step_id(f"p{n}"): _report(_op(f"p{n}", "StepRun", data={"n": n})) for n in range(BRANCHES)}
_PLAN = _report(*[_op(f"p{n}", "StepPlanned") for n in range(BRANCHES)])
_NAP = _report(_op("nap", "Sleep", opts={"duration": f"{SLEEP_MS}ms"}))
_WAIT = _report(
    _op(
        "go",
        "WaitForEvent",
        opts={"event": f"{APP}/go", "timeout": "1h", "if": "event.data.id == async.data.id"},
    )
)


class Call:
    """A request of the server: of which run, for which step, when it came."""

    __slots__ = ("at", "body", "connection", "run", "target")

    def __init__(self, connection: _Connection, target: str, body: bytes, at: int) -> None:
        self.connection = connection
        self.target = target
        self.body = body
        self.at = at
        start = body.index(_RUN) + len(_RUN)
        self.run = body[start : start + 26]

    @property
    def memo(self) -> bytes:
        """The results so far."""
        return self.body[self.body.rindex(_MEMO) :]

    def sent(self, *, last: bool = False) -> int:
        """When the event was sent that started the run; or the last one that came to it."""
        find = self.body.rindex if last else self.body.index
        start = find(_SENT) + len(_SENT)
        return int(self.body[start : start + 20].partition(b"}")[0])


class Stub:
    """The functions, and what they have seen."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._samples: dict[str, array[int]] = defaultdict(lambda: array("q"))
        """Nanoseconds: event to first call, answer to next call, lateness of a sleep, event to resumption."""
        self._counts: Counter[str] = Counter()
        self._last_end = 0
        self._answered: dict[bytes, int] = {}
        self._until: tuple[str, int] | None = None
        self.functions: dict[str, Callable[[Call], None]] = {
            "stepless": self._stepless,
            "steps": self._steps,
            "parallel": self._parallel,
            "sleep": self._sleep,
            "wait": self._wait,
            "held": self._held,
        }

    # -- the functions

    def _stepless(self, call: Call) -> None:
        self._first(call)
        self._end(call, "stepless")

    def _steps(self, call: Call) -> None:
        memo = call.memo
        done = sum(step in memo for step in _SEQUENCE_IDS)
        if done:
            self._samples["step"].append(call.at - self._answered[call.run])
        else:
            self._first(call)
        if done < len(_SEQUENCE):
            self._answer(call, _SEQUENCE[done])
        else:
            self._end(call, "steps")

    def _parallel(self, call: Call) -> None:
        if call.target != "step":
            call.connection.write(_BRANCH[call.target])
        elif call.memo.startswith(_MEMO + b"}"):
            self._first(call)
            self._answer(call, _PLAN)
        else:
            self._end(call, "parallel")

    def _sleep(self, call: Call) -> None:
        if call.run in self._answered:
            self._samples["late"].append(call.at - self._answered[call.run] - SLEEP_MS * 1_000_000)
            self._end(call, "sleep")
        else:
            self._first(call)
            self._answer(call, _NAP)

    def _wait(self, call: Call) -> None:
        if call.run in self._answered:
            self._samples["resume"].append(call.at - call.sent(last=True))
            self._end(call, "wait")
        else:
            self._first(call)
            self._answer(call, _WAIT)
            self._count("waiting")

    def _held(self, call: Call) -> None:
        """Never answered: it keeps its place until the server goes."""

    # -- the watch

    def _first(self, call: Call) -> None:
        self._samples["first"].append(call.at - call.sent())

    def _answer(self, call: Call, response: bytes) -> None:
        call.connection.write(response)
        self._answered[call.run] = time.monotonic_ns()

    def _end(self, call: Call, function: str) -> None:
        call.connection.write(_END)
        self._answered.pop(call.run, None)
        self._last_end = time.monotonic_ns()
        self._count(function)

    def _count(self, what: str) -> None:
        self._counts[what] += 1
        if self._until is not None and self._counts[what] == self._until[1] and self._until[0] == what:
            self._until = None
            self._pipe.send(self._last_end)

    def confused(self, error: Exception, body: bytes) -> None:
        """The server has called with something that makes no sense here: there is no use in going on."""
        self._pipe.send(
            RuntimeError(f"the application cannot make sense of a call: {error!r}: {body[:2000]!r}")
        )

    # -- what the harness asks

    def handle(self, question: str, *arguments: Any) -> None:
        match question:
            case "until":
                what, count = arguments
                if self._counts[what] >= count:
                    self._pipe.send(self._last_end)
                else:
                    self._until = (what, count)
            case "take":
                taken = {name: list(values) for name, values in self._samples.items()}
                self._samples.clear()
                self._counts.clear()
                self._pipe.send(taken)
            case _:
                raise ValueError(question)


class _Connection(asyncio.Protocol):
    """One kept connection of the server."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._parser = httptools.HttpRequestParser(self)
        self._targets: dict[bytes, tuple[Callable[[Call], None], str]] = {}
        self._url = b""
        self._body = b""
        self._at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast("asyncio.Transport", transport).write

    def data_received(self, data: bytes) -> None:
        if not self._at:
            self._at = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        at, self._at = self._at, 0
        found = self._targets.get(self._url)
        if found is None:
            query = parse_qs(urlsplit(self._url.decode()).query)
            name = query["fnId"][0].removeprefix(f"{APP}-")
            found = self._targets[self._url] = (self._stub.functions[name], query["stepId"][0])
        function, target = found
        try:
            function(Call(self, target, body, at))
        except (LookupError, ValueError) as error:
            self._stub.confused(error, body)


def serve(pipe: Connection) -> None:
    """The process: tells its port, then answers the server and the harness until it is terminated."""

    async def main() -> None:
        stub = Stub(pipe)
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(stub), "127.0.0.1", 0)
        listen(pipe, stub.handle)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


# -- registration

_OPTIONS: dict[str, dict[str, Any]] = {"held": {"concurrency": [{"limit": 1}]}}


def register(server_port: int, stub_port: int, bearer: str) -> None:
    """Tell the server of the functions. Raises RuntimeError if it refuses."""
    url = f"http://127.0.0.1:{stub_port}/api/inngest"
    functions = [
        {
            "id": f"{APP}-{name}",
            "name": name,
            "triggers": [{"event": f"{APP}/{name}"}],
            "steps": {
                "step": {
                    "id": "step",
                    "name": "step",
                    "runtime": {"type": "http", "url": f"{url}?fnId={APP}-{name}&stepId=step"},
                }
            },
            # Its own limit would be the thousand calls at once that the executor has anyway.
            **_OPTIONS.get(name, {"concurrency": [{"limit": 0}]}),
        }
        for name in ("stepless", "steps", "parallel", "sleep", "wait", "held")
    ]
    body = {"url": url, "deployType": "ping", "appName": APP, "functions": functions, "v": "0.1"}
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {bearer}",
        "x-inngest-sdk": "stub:v1",
    }
    connection = HTTPConnection("127.0.0.1", server_port, timeout=30)
    connection.request("POST", "/fn/register", dumps(body), headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"the server refused the application: {text}")
