"""Where a client may connect: by the address, after resolving."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from http_peer import answering, ok

from inngest.drivers.http import Destinations, HttpClient, HttpForbidden, InvalidRule, Redirects, Rules

STRICT = Destinations(private=False)
NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "224.0.0.1",
    "ff02::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.7",
    "100.64.0.1",
    "::1",
    "::",
    "fd12::1",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_called(address: str) -> None:
    everything = Rules.parse(["0.0.0.0/0", "::/0", "metadata.internal"])
    for policy in (Destinations(), STRICT, Destinations(allow=everything), Destinations(False, everything)):
        assert policy.refusal("metadata.internal", address) != ""


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_called_where_that_is_allowed(address: str) -> None:
    assert Destinations().refusal("app", address) == ""
    assert "execution.http.allow" in STRICT.refusal("app", address)
    assert Destinations(False, Rules.parse(["app"])).refusal("APP.", address) == ""


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called_unless_denied(address: str) -> None:
    assert STRICT.refusal("api.example.com", address) == ""
    for rule in ("api.example.com", ".example.com", "0.0.0.0/0"):
        denying = Destinations(deny=Rules.parse([rule, "::/0"]), allow=Rules.parse([rule, "::/0"]))
        assert "execution.http.deny" in denying.refusal("api.example.com", address)


def test_rules() -> None:
    rules = Rules.parse(["10.1.0.0/16", "192.168.1.7", "fd00::/8", "App.Internal", ".svc"])
    policy = Destinations(False, rules)
    for host, address in [
        ("x", "10.1.9.9"),
        ("x", "192.168.1.7"),
        ("x", "fd99::1"),
        ("app.internal", "10.9.9.9"),
        ("a.b.svc", "10.9.9.9"),
    ]:
        assert policy.refusal(host, address) == "", (host, address)
    for host, address in [
        ("x", "10.2.0.0"),
        ("x", "192.168.1.8"),
        ("x.app.internal", "10.9.9.9"),
        ("svc", "10.9.9.9"),
        ("xsvc", "10.9.9.9"),
    ]:
        assert policy.refusal(host, address) != "", (host, address)


@pytest.mark.parametrize("text", ["", " ", "http://a", "a:80", "a/b", "*.a", "[::1]", "10.0.0.0/33", "u@h"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidRule):
        Rules.parse([text])


async def test_nothing_is_dialled_that_may_not_be(serve: Any, make_client: Any) -> None:
    peer = await serve(answering(ok(b"secret")))
    client: HttpClient = make_client(destinations=STRICT)
    with pytest.raises(HttpForbidden) as caught:
        await client.request("POST", peer.url, {}, b"", timeout=10)
    assert str(caught.value) == (
        f"127.0.0.1:{peer.port} may not be called at 127.0.0.1: it is a private address, "
        "and execution.http.allow does not name it"
    )
    assert peer.accepted == 0
    allowing: HttpClient = make_client(destinations=Destinations(False, Rules.parse(["127.0.0.0/8"])))
    assert (await allowing.request("POST", peer.url, {}, b"", timeout=10)).body == b"secret"


async def test_the_address_counts_and_not_the_name(
    serve: Any, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = await serve(answering(ok(b"here")))
    found = ["127.0.0.1"]

    async def resolve(host: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve, raising=False)
    url = f"http://public.example:{peer.port}"
    with pytest.raises(HttpForbidden):
        await make_client(destinations=STRICT).request("GET", url, {}, b"", timeout=10)
    assert peer.accepted == 0
    # Of several addresses those are tried that may be.
    found[:] = ["169.254.169.254", "127.0.0.1"]
    assert (await make_client().request("GET", url, {}, b"", timeout=10)).body == b"here"


async def test_a_redirect_leads_nowhere_else(serve: Any, make_client: Any) -> None:
    peer = await serve(answering(ok(b"", "location: http://169.254.169.254/latest/meta-data", status=307)))
    with pytest.raises(HttpForbidden, match="metadata"):
        await make_client().request("GET", peer.url, {}, b"", timeout=10, redirects=Redirects.ANY)
