"""Requests of ``step.fetch`` and ``step.ai.infer`` as they reach the other side (wire protocol section
5.6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from inngest.core.model.runs import Item, Kind
from inngest.core.sdk.responses import Op
from inngest.drivers.gateway import HttpGateway
from inngest.drivers.http import HttpClient
from inngest.ports.driver import GatewayReply


class Peer:
    def __init__(self) -> None:
        self.seen: list[tuple[web.Request, bytes]] = []
        self.url = ""
        self.status = 200
        self.body = b'{"ok": 1.0}'

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append((request, await request.read()))
        return web.Response(status=self.status, body=self.body, headers={"X-Peer": "yes"})

    async def ask(self, op: Op, **opts: Any) -> GatewayReply:
        payload = msgspec.json.encode({"url": self.url, **opts, "op": op.value})
        client = HttpClient()
        try:
            return await HttpGateway(client).fetch(Item(job="j", kind=Kind.GATEWAY, fn="f", payload=payload))
        finally:
            await client.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    app = web.Application()
    app.router.add_route("*", "/p", made.handle)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/p?a=1"))
        yield made


def _error(reply: GatewayReply) -> Any:
    assert (reply.value, reply.error is not None) == (None, True)
    return msgspec.json.decode(reply.error or b"")


@pytest.mark.parametrize(
    ("opts", "method", "sent"),
    [
        ({}, "POST", b""),
        ({"method": "", "headers": None, "body": None}, "POST", b""),
        ({"method": "GET"}, "GET", b""),
        ({"method": "put", "headers": {"X-Own": "v"}, "body": "zz"}, "PUT", b"zz"),
    ],
)
async def test_a_fetch(peer: Peer, opts: dict[str, Any], method: str, sent: bytes) -> None:
    await peer.ask(Op.GATEWAY, **opts)
    [(request, body)] = peer.seen
    assert (request.method, body, dict(request.query)) == (method, sent, {"a": "1"})
    assert request.headers.get("X-Own") == (opts.get("headers") or {}).get("X-Own")


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_any_status_of_a_fetch_is_a_result(peer: Peer, status: int) -> None:
    peer.status = status
    reply = await peer.ask(Op.GATEWAY, method="GET")
    assert reply.error is None
    value = msgspec.json.decode(reply.value or b"")
    assert value.keys() == {"url", "status_code", "headers", "body"}
    assert (value["url"], value["status_code"], value["body"]) == (peer.url, status, '{"ok": 1.0}')
    assert {name.lower(): text for name, text in value["headers"].items()}["x-peer"] == "yes"


@pytest.mark.parametrize(
    ("op", "name", "message"),
    [
        (Op.GATEWAY, "GatewayError", "Error making gateway request: "),
        (Op.AI_GATEWAY, "AIGatewayError", "Error making AI request: "),
    ],
)
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "no url", ""])
async def test_what_cannot_be_sent_is_an_error(peer: Peer, op: Op, name: str, message: str, url: str) -> None:
    error = _error(await peer.ask(op, url=url))
    assert error["name"] == name
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    ("form", "header", "value", "query"),
    [
        ("openai-chat", "Authorization", "Bearer sk", {"a": "1"}),
        ("anthropic", "x-api-key", "sk", {"a": "1"}),
        ("gemini", "Authorization", None, {"a": "1", "key": "sk"}),
        ("bedrock", "Authorization", "sk", {"a": "1"}),
    ],
)
async def test_the_key_of_an_inference_goes_where_its_provider_looks(
    peer: Peer, form: str, header: str, value: str | None, query: dict[str, str]
) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    reply = await peer.ask(Op.AI_GATEWAY, format=form, auth_key="sk", headers=headers, body={"m": [1.0]})
    assert reply.value == b'{"ok": 1.0}'
    [(request, body)] = peer.seen
    assert (request.method, msgspec.json.decode(body)) == ("POST", {"m": [1]})
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.headers.get(header) == value
    assert dict(request.query) == query


@pytest.mark.parametrize("status", [400, 500])
async def test_a_refused_inference_is_an_error_with_what_the_provider_said(peer: Peer, status: int) -> None:
    peer.status, peer.body = status, b"too many"
    error = _error(await peer.ask(Op.AI_GATEWAY, format="openai-chat", auth_key="sk-x", body={}))
    message = f"Error making AI request: unsuccessful status code: {status}"
    assert (error["name"], error["message"]) == ("AIGatewayError", message)
    assert error["data"] == error["stack"] == "too many"
    assert "sk-x" not in str(error)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            b'{"choices":[{"logprob":-1e400}]}',
            "body.choices[0].logprob: the number -1e400 is beyond the range",
        ),
        (b'{"a":"\xff"}', "body.a: text that is not UTF-8"),
        (b"[" * 200 + b"]" * 200, "nested deeper than 128 levels"),
    ],
)
async def test_an_inference_that_cannot_be_taken_is_an_error_with_its_place(
    peer: Peer, body: bytes, said: str
) -> None:
    peer.body = body
    error = _error(await peer.ask(Op.AI_GATEWAY, format="openai-chat", body={}))
    assert error["name"] == "AIGatewayError"
    assert said in error["message"]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"<html>", '"<html>"'),
        (b"\xff{", '"\ufffd{"'),
        (b'{"n":20000000000000000000}', '{"n":20000000000000000000}'),
        (b'{"cut":"\\ud83d"}', '{"cut":"\\ufffd"}'),
    ],
)
async def test_an_inference_that_is_odd_is_kept(peer: Peer, body: bytes, value: str) -> None:
    peer.body = body
    assert (await peer.ask(Op.AI_GATEWAY, body={})).value == value.encode()


@pytest.mark.parametrize(
    "opts",
    [
        {"headers": {"a": "x\r\nb: y"}}, {"headers": {"a b": "x"}}, {"headers": {"a": "\u20ac"}},
        {"method": "GET /x"}, {"method": "\x00"}, {"headers": {"host": "x"}}, {"headers": {"a": "\x00"}},
        {"body": {"deep": [[[1e308, 2**70]]]}, "headers": {"a\n": "x"}},
    ],
)  # fmt: skip
async def test_odd_options_reach_nobody(peer: Peer, opts: dict[str, Any]) -> None:
    for op in (Op.GATEWAY, Op.AI_GATEWAY):
        reply = await peer.ask(op, **opts)
        assert (reply.error is not None) or op is Op.AI_GATEWAY
    assert all(request.method == "POST" for request, _ in peer.seen)


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://a:99999/", "http://\x00/", "http:///x", "//x", "http://\u2025/"]
)
async def test_odd_urls_are_an_error(peer: Peer, url: str) -> None:
    for op in (Op.GATEWAY, Op.AI_GATEWAY):
        assert _error(await peer.ask(op, url=url, format="gemini", auth_key="k"))["message"]


@pytest.mark.parametrize("op", [Op.GATEWAY, Op.AI_GATEWAY])
async def test_names_of_headers_are_canonical(peer: Peer, op: Op) -> None:
    await peer.ask(op, headers={"x-api-key": "k", "X-REQUEST-id": "1", "etag": "e"}, body={})
    ((request, _),) = peer.seen
    names = {name.decode() for name, _ in request.raw_headers}
    assert {"X-Api-Key", "X-Request-Id", "Etag"} <= names


async def test_the_url_of_a_fetch_is_the_one_that_was_asked_for(peer: Peer) -> None:
    asked = f"{peer.url}#part"
    reply = await peer.ask(Op.GATEWAY, url=asked)
    assert msgspec.json.decode(reply.value or b"")["url"] == asked
