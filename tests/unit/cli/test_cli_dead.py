"""`inngest dead`, against a server in another thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from inngest.api.answers import error_answer
from inngest.api.dead_letters import DeadLettersApi
from inngest.api.front import SERVER_OPTIONS, application
from inngest.api.pages import Pages
from inngest.backends.memory.stream import MemoryEventStream
from inngest.cli.commands import cli
from inngest.core.sdk.signing import bearer_matches
from inngest.ports.stream import Entry

KEY = "signkey-prod-" + "00ff" * 16


class Server:
    """The API, behind the key, on a port of its own."""

    def __init__(self) -> None:
        self.stream = MemoryEventStream()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        self.url = self.do(self._start())

    async def _start(self) -> str:
        ctx: Any = SimpleNamespace(stream=self.stream, clock=lambda: 0)  # what this API takes of a server
        app = application(DeadLettersApi(ctx).routes(), pages=Pages(dev=False), inner=[_keyed])
        self._runner = web.AppRunner(app, **SERVER_OPTIONS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def stop(self) -> None:
        self.do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def bury(self, *bodies: bytes, reason: str = "it is bad") -> list[str]:
        for body in bodies:
            self.do(self.stream.bury("runner", [Entry(body, 0)], reason))
        letters = self.do(self.stream.letters(limit=1000))
        return [letter.id for letter in letters[-len(bodies) :]]


@web.middleware
async def _keyed(request: web.Request, handler: Any) -> web.StreamResponse:
    if not bearer_matches(request.headers.get("Authorization"), [KEY]):
        return error_answer(401, "Authentication failed")
    answer: web.StreamResponse = await handler(request)
    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.stop()


def inngest(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["dead", *arguments], env={"INNGEST_SIGNING_KEY": "", **environment})


def test_letters_are_shown_as_a_table(server: Server) -> None:
    result = inngest("list", "--url", server.url, "--signing-key", KEY)
    assert (result.exit_code, result.stdout) == (0, "There are no dead letters.\n")
    ids = server.bury(b"a", b"bb")
    server.bury(b"ccc", reason="\x1b[2J\n" + "x" * 200)
    result = inngest("list", "--url", server.url + "/", "--signing-key", KEY)
    assert result.exit_code == 0
    head, first, second, third = result.stdout.splitlines()
    assert head.split() == ["ID", "KIND", "GROUP", "SINCE", "BYTES", "REASON"]
    assert first.split()[:3] == [ids[0], "event", "runner"]
    assert first.endswith("1      it is bad")
    assert second.split()[0] == ids[1]
    assert "·[2J·xxx" in third
    assert "\x1b" not in result.stdout
    assert third.endswith("x…")
    result = inngest("list", "--url", server.url, "--after", ids[1], "--limit", "1", INNGEST_SIGNING_KEY=KEY)
    assert len(result.stdout.splitlines()) == 2


def test_letters_are_shown_as_json(server: Server) -> None:
    ids = server.bury(b"a", b"b")
    result = inngest("list", "--json", "--url", server.url, INNGEST_SIGNING_KEY=f"{KEY} another")
    assert [letter["id"] for letter in json.loads(result.stdout)] == ids


def test_letters_are_requeued_and_discarded(server: Server) -> None:
    ids = server.bury(b"a", b"b", b"c")
    result = inngest("requeue", ids[0], "4711", "--url", server.url, "--signing-key", KEY)
    assert (result.exit_code, result.stdout, result.stderr) == (1, f"{ids[0]}: requeued\n", "4711: left\n")
    assert server.do(server.stream.backlog("runner")) == 1
    result = inngest("discard", ids[1], "--url", server.url, "--signing-key", KEY)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{ids[1]}: discarded\n", "")
    result = inngest("discard", "--json", *ids[1:], "--url", server.url, "--signing-key", KEY)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"discarded": [ids[2]], "unknown": [ids[1]]}


@pytest.mark.parametrize("verb", [["list"], ["requeue", "1"], ["discard", "1"]])
def test_what_goes_wrong_is_said(server: Server, verb: list[str]) -> None:
    result = inngest(*verb, "--url", server.url)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {server.url} answers 401: Authentication failed\n"
    result = inngest(*verb, "--url", f"{server.url}/nowhere", "--signing-key", KEY)
    assert "answers 404: There is nothing at /nowhere" in result.stderr
    result = inngest(*verb, "--url", "file:///etc/passwd")
    assert (result.exit_code, "is not an http or https URL" in result.stderr) == (2, True)


def test_a_server_that_is_not_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = inngest("list", "--url", f"http://127.0.0.1:{port}")
    assert result.exit_code == 3
    assert f"http://127.0.0.1:{port} does not answer:" in result.stderr


def test_nothing_to_do_is_wrong_use() -> None:
    assert inngest("requeue").exit_code == 2
    assert inngest("discard").exit_code == 2
