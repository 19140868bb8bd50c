"""What an application is told in the head of a call, and what it can verify (wire protocol 1.2 and 1.3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from inngest.core.json.jcs import canonicalise
from inngest.core.model.functions import Function, Trigger
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.model.runs import Item, Kind, Partition, Run
from inngest.core.sdk.keyring import Keyring, fingerprint
from inngest.core.sdk.responses import Failure, Returned
from inngest.core.sdk.signing import verify
from inngest.drivers.application import HttpDriver
from inngest.drivers.http import HttpClient

NOW = 1_700_000_000_123
RUN, REQUEST = "01JQ0000000000000000000000", "01JQ0000000000000000000001"
OLD, KEY = "signkey-test-beef", "signkey-prod-0123456789abcdef"
EVENT = '{"data":{"ü":1.0,"big":1e21},"id":"e","name":"app/x","ts":1700000000000,"user":{}}'.encode()


class Peer:
    def __init__(self) -> None:
        self.seen: list[tuple[web.Request, bytes]] = []
        self.url = ""
        self.status = 200
        self.headers = {"X-Inngest-SDK": "inngest-js:v4.24.0"}
        self.keys: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append((request, body))
        signature = request.headers.get("X-Inngest-Signature")
        if self.keys and not verify(body, signature, self.keys, NOW // 1000):
            return web.Response(status=401, body=b'{"message":"Unauthorized"}')
        return web.Response(status=self.status, body=b"1", headers=self.headers)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    app = web.Application()
    app.router.add_post("/api/inngest", made.handle)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/api/inngest?fnId=app-fn"))
        yield made


class Named(Protocol):
    url: str


async def _call(
    peer: Named,
    *keys: str,
    kind: str = "dev",
    target: str = "",
    client: HttpClient | None = None,
    ring: Keyring | None = None,
    registered: str = "",
) -> object:
    fn = Function(
        id=function_uuid("app", "app-fn"),
        slug="app-fn",
        name="Fn",
        app="app",
        app_id=app_uuid("app"),
        url=peer.url,
        triggers=[Trigger(event="app/x")],
    )
    queue = Partition(id="p", fn=fn.id)
    run = Run(
        id=RUN,
        fn=fn.id,
        slug=fn.slug,
        app="app",
        events=[EVENT],
        event_ids=["e"],
        key="k",
        created=NOW,
        start=queue,
        work=queue,
    )
    item = Item(
        job="job:1",
        kind=Kind.PLAN if target else Kind.START,
        fn=fn.id,
        run=RUN,
        due=NOW,
        score=NOW,
        partition="p",
        target=target,
        epoch=3,
    )
    used = client or HttpClient()
    driver = HttpDriver(
        used,
        clock=lambda: NOW,
        new_id=lambda: REQUEST,
        keys=ring or Keyring(keys),
        registered=lambda app: registered if app == app_uuid("app") else "",
        kind=kind,
    )
    try:
        return await driver.call(run, fn, item)
    finally:
        if client is None:
            await driver.close()


@pytest.mark.parametrize("target", ["", "a0f1490a20d0211c997b44bc357e1972deab8ae3"])
async def test_the_head_of_a_call(peer: Peer, target: str) -> None:
    assert await _call(peer, target=target) == Returned(output=b"1")
    [(request, body)] = peer.seen
    expected = {
        "Content-Type": "application/json",
        "X-Inngest-Server-Kind": "dev",
        "X-Run-ID": RUN,
        "x-request-id": REQUEST,
        "x-inngest-job-id": "job:1",
        "x-inngest-generation-id": "3",
        "x-inngest-req-version": "-1",
        "X-Inngest-Step-ID": target or "step",
    }
    assert {name: request.headers[name] for name in expected} == expected
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", request.headers["traceparent"])
    assert dict(request.query) == {"fnId": "app-fn", "stepId": target or "step"}
    assert "X-Inngest-Signature" not in request.headers
    ctx = msgspec.json.decode(body)["ctx"]
    assert (ctx["request_id"], ctx["generation_id"], ctx["job_id"]) == (REQUEST, 3, "job:1")


async def test_a_call_is_signed_over_its_canonical_bytes(peer: Peer) -> None:
    await _call(peer, KEY, OLD, kind="cloud")
    [(request, body)] = peer.seen
    assert request.headers["X-Inngest-Server-Kind"] == "cloud"
    signature = request.headers["X-Inngest-Signature"]
    assert signature.startswith("t=1700000000&s=")
    assert verify(body, signature, [KEY], NOW // 1000)
    assert canonicalise(body) == body
    assert '{"big":1e+21,"ü":1}'.encode() in body


async def test_a_refused_signature_is_a_failure_that_may_be_tried_again(peer: Peer) -> None:
    """The SDK is silent about itself then (section 8, 10)."""
    peer.status, peer.headers = 401, {}
    answer = await _call(peer, KEY, kind="cloud")
    assert isinstance(answer, Failure)
    assert (answer.status, answer.no_retry) == (401, False)
    assert "HTTP 401" in answer.error.decode()


async def test_the_log_tells_of_a_refused_signature_and_of_nobody_there(peer: Peer) -> None:
    peer.status, peer.headers = 401, {}
    with capture_logs() as lines:
        await _call(peer, KEY, kind="cloud")
    assert [line["action"] for line in lines] == ["app.refuses"]
    peer.url = "http://127.0.0.1:1/api/inngest?fnId=app-fn"
    with capture_logs() as lines:
        await _call(peer, KEY, kind="cloud")
    assert [line["action"] for line in lines] == ["app.away"]


async def test_a_call_is_signed_by_the_key_that_the_app_registered_with(peer: Peer) -> None:
    peer.keys = [OLD]
    assert await _call(peer, KEY, OLD, registered=fingerprint(OLD)) == Returned(output=b"1")
    assert len(peer.seen) == 1


async def test_an_app_that_has_another_key_by_now_is_called_by_that_one(peer: Peer) -> None:
    ring = Keyring([KEY, OLD])
    for keys, calls in [([OLD], 2), ([OLD], 1), ([KEY], 2), ([KEY], 1), ([OLD, KEY], 1)]:
        peer.keys = keys
        peer.seen.clear()
        assert await _call(peer, ring=ring, registered=fingerprint(KEY)) == Returned(output=b"1")
        assert len(peer.seen) == calls
    # What it registers with says more than what it took before that.
    peer.keys = [OLD]
    peer.seen.clear()
    assert await _call(peer, ring=ring, registered=fingerprint(OLD)) == Returned(output=b"1")
    assert len(peer.seen) == 1


async def test_an_app_that_takes_none_of_the_keys_has_failed_once(peer: Peer) -> None:
    peer.keys = ["signkey-test-0bad"]
    answer = await _call(peer, KEY, OLD, registered="of a key that is gone")
    assert isinstance(answer, Failure)
    assert (answer.status, len(peer.seen)) == (401, 2)


# -- connections that end


class Breaker:
    """Reads whole requests, answers those that it is told to, and then ends the connection."""

    def __init__(self, answers: int, part: bytes = b"") -> None:
        self.answers = answers
        self.part = part
        self.requests = 0
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                assert length is not None
                await reader.readexactly(int(length[1]))
                self.requests += 1
                if self.requests > self.answers:
                    writer.write(self.part)
                    await writer.drain()
                    return
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nx-inngest-sdk: inngest-js:v4.24.0\r\n\r\n1"
                )
        finally:
            writer.close()


@asynccontextmanager
async def breaking(answers: int, part: bytes = b"") -> AsyncIterator[Breaker]:
    breaker = Breaker(answers, part)
    server = await asyncio.start_server(breaker.handle, "127.0.0.1", 0)
    breaker.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/inngest"
    async with server:
        yield breaker


@pytest.mark.parametrize("answers", [0, 1], ids=["new", "kept"])
@pytest.mark.parametrize(
    ("part", "when"),
    [(b"", "before an answer came"), (b"HTTP/1.1 206 ", "in the middle of the response")],
)
async def test_a_call_whose_answer_was_lost_is_an_attempt(answers: int, part: bytes, when: str) -> None:
    async with breaking(answers, part) as breaker:
        client = HttpClient()
        for _ in range(answers):
            assert isinstance(await _call(breaker, client=client), Returned)
        answer = await _call(breaker, client=client)
        await client.close()
    assert isinstance(answer, Failure)
    assert msgspec.json.decode(answer.error)["message"].endswith(
        f": the connection was closed {when}; the step may have run"
    )
    assert not answer.no_retry
    assert breaker.requests == answers + 1, "it is sent once"


async def test_a_state_that_cannot_be_signed_is_a_failure_that_says_so(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As damaged data would be: nothing that passes the border comes to this."""
    monkeypatch.setattr("test_application.EVENT", b'{"data":{"v":1e400},"name":"app/x"}')
    answer = await _call(peer, KEY)
    assert isinstance(answer, Failure)
    assert answer.no_retry
    assert b"cannot be signed" in answer.error
    assert b"1e400" in answer.error
    assert peer.seen == []
