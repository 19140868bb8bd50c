"""Names, addresses and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from http_peer import Link, answering, closing_after, ok, until

from inngest.drivers.http import AnswerLost, HttpClient, HttpUnreachable, dial

V4 = "127.0.0.1"
V6 = "::1"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback")


@pytest.fixture
def names(monkeypatch):
    """``names[host] = [ip, ...]`` is what a name resolves to; ``names.asked`` counts look-ups."""

    class Names(dict):
        asked = 0

    table = Names()

    async def look_up(_loop, host):
        table.asked += 1
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return table[host]

    monkeypatch.setattr(dial, "_look_up", look_up)
    return table


async def get(client: HttpClient, url: str) -> bytes:
    return (await client.request("GET", url, {}, b"", timeout=30)).body


async def test_nobody_listens(client: HttpClient, unused_tcp_port: int) -> None:
    with pytest.raises(HttpUnreachable, match=rf"cannot connect to 127.0.0.1:{unused_tcp_port}: .*refused"):
        await get(client, f"http://127.0.0.1:{unused_tcp_port}")


async def test_an_unknown_name(client: HttpClient) -> None:
    with pytest.raises(HttpUnreachable, match=r"cannot connect to app.invalid:80: the name does not resolve"):
        await get(client, "http://app.invalid")


async def test_a_name_too_long_for_dns(client: HttpClient) -> None:
    with pytest.raises(HttpUnreachable, match=r"does not resolve"):
        await get(client, f"http://{'a' * 64}.invalid")


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("order", [(V4, V6), (V6, V4)])
async def test_an_application_on_one_family_only_is_found(
    serve, client: HttpClient, names, host: str, order
) -> None:
    peer = await serve(answering(ok()), host)
    names["localhost"] = order
    assert await get(client, f"http://localhost:{peer.port}") == b"done"


async def test_an_address_that_does_not_answer_yields_to_the_next(
    serve, client: HttpClient, names, monkeypatch
) -> None:
    connect = dial._connect

    async def hang_on_first(target, address, *rest):
        if address == "127.0.0.2":
            await asyncio.Event().wait()
        return await connect(target, address, *rest)

    monkeypatch.setattr(dial, "_connect", hang_on_first)
    peer = await serve(answering(ok()))
    names["app.test"] = ["127.0.0.2", V4]
    assert await get(client, f"http://app.test:{peer.port}") == b"done"


async def test_a_slow_address_may_still_win(serve, client: HttpClient, names, monkeypatch) -> None:
    connect = dial._connect
    second_tried = asyncio.Event()

    async def slow_first(target, address, *rest):
        if address == "127.0.0.2":
            second_tried.set()
            await asyncio.Event().wait()
        await second_tried.wait()
        return await connect(target, address, *rest)

    monkeypatch.setattr(dial, "_connect", slow_first)
    peer = await serve(answering(ok()))
    names["app.test"] = [V4, "127.0.0.2"]
    assert await get(client, f"http://app.test:{peer.port}") == b"done"


async def test_when_no_address_answers_the_reasons_are_told_once(
    client: HttpClient, names, unused_tcp_port: int
) -> None:
    names["app.test"] = [V4, "127.0.0.2"]
    with pytest.raises(HttpUnreachable) as caught:
        await get(client, f"http://app.test:{unused_tcp_port}")
    assert caught.value.where == f"app.test:{unused_tcp_port}"
    assert caught.value.reason.lower().count("refused") == 1


async def test_addresses_that_connect_at_once_leave_one_connection(
    serve, client: HttpClient, names, monkeypatch
) -> None:
    connect = dial._connect
    all_connected = asyncio.Barrier(3)

    async def together(*arguments):
        connection = await connect(*arguments)
        await all_connected.wait()
        return connection

    monkeypatch.setattr(dial, "_connect", together)
    monkeypatch.setattr(dial, "ATTEMPT_DELAY_SECONDS", 0)
    peer = await serve(answering(ok()))
    names["app.test"] = [V4] * 3
    assert await get(client, f"http://app.test:{peer.port}") == b"done"
    await until(lambda: (peer.accepted, peer.open) == (3, 1))


async def test_a_connection_that_loses_the_race_at_the_last_moment_is_closed(
    serve, client: HttpClient, names, monkeypatch
) -> None:
    connect = dial._connect
    second_connected = asyncio.Event()

    async def second_deaf(target, address, *rest):
        if address == V4:
            await second_connected.wait()
            return await connect(target, address, *rest)
        connection = await connect(target, V4, *rest)
        second_connected.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return connection

    monkeypatch.setattr(dial, "_connect", second_deaf)
    monkeypatch.setattr(dial, "ATTEMPT_DELAY_SECONDS", 0)
    peer = await serve(answering(ok()))
    names["app.test"] = [V4, "127.0.0.2"]
    assert await get(client, f"http://app.test:{peer.port}") == b"done"
    await until(lambda: (peer.accepted, peer.open) == (2, 1))


async def test_a_caller_who_leaves_does_not_end_the_look_up_of_others(
    serve, client: HttpClient, monkeypatch
) -> None:
    asked, proceed = asyncio.Event(), asyncio.Event()

    async def slow(_loop, _host):
        asked.set()
        await proceed.wait()
        return [V4]

    monkeypatch.setattr(dial, "_look_up", slow)
    peer = await serve(answering(ok()))
    leaver = asyncio.create_task(get(client, f"http://app.test:{peer.port}"))
    await asked.wait()
    stayer = asyncio.create_task(get(client, f"http://app.test:{peer.port}"))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.sleep(0)
    proceed.set()
    assert await stayer == b"done"
    assert leaver.cancelled()


async def test_a_name_is_looked_up_once_in_a_while(serve, client: HttpClient, names) -> None:
    peer = await serve(answering(ok(b"1", "connection: close")))
    names["app.test"] = [V4]
    url = f"http://app.test:{peer.port}"
    await asyncio.gather(*(get(client, url) for _ in range(5)))
    await get(client, url)
    assert (peer.accepted, names.asked) == (6, 1)


async def test_a_name_is_looked_up_again_when_its_time_is_over(
    serve, client: HttpClient, names, monkeypatch
) -> None:
    monkeypatch.setattr(dial, "DNS_CACHE_SECONDS", 0)
    peer = await serve(answering(ok(b"1", "connection: close")))
    names["app.test"] = [V4]
    for _ in range(3):
        await get(client, f"http://app.test:{peer.port}")
    assert names.asked == 3


async def test_a_host_that_moved_is_found_at_the_next_attempt(serve, client: HttpClient, names) -> None:
    peer = await serve(answering(ok()))
    names["app.test"] = ["127.0.0.2"]
    with pytest.raises(HttpUnreachable):
        await get(client, f"http://app.test:{peer.port}")
    names["app.test"] = [V4]
    assert await get(client, f"http://app.test:{peer.port}") == b"done"


async def test_a_failed_look_up_is_not_kept(serve, client: HttpClient, names) -> None:
    peer = await serve(answering(ok()))
    with pytest.raises(HttpUnreachable):
        await get(client, f"http://app.test:{peer.port}")
    names["app.test"] = [V4]
    assert await get(client, f"http://app.test:{peer.port}") == b"done"


@needs_ipv6
async def test_an_ipv6_literal(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok()), "::1")
    assert await get(client, peer.url) == b"done"
    assert peer.requests[0].headers["host"] == f"[::1]:{peer.port}"


# TLS


async def test_tls_with_a_trusted_certificate(serve, make_client, authority) -> None:
    names: list[str] = []
    authority.server.sni_callback = lambda _sock, name, _context: names.append(name)
    try:
        peer = await serve(answering(ok(b"x" * 500_000)), context=authority.server)
        client = make_client(ssl_context=authority.trust)
        for _ in range(2):
            assert await get(client, f"https://localhost:{peer.port}/a") == b"x" * 500_000
        assert await get(client, peer.url) == b"x" * 500_000
    finally:
        authority.server.sni_callback = None
    assert peer.accepted == 2  # one for the name, one for the address
    assert names[0] == "localhost"


async def test_tls_body_that_ends_with_the_connection(serve, make_client, authority) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    peer = await serve(handle, context=authority.server)
    assert await get(make_client(ssl_context=authority.trust), peer.url) == b"all of it"


async def test_a_tls_connection_that_was_closed_while_kept_is_replaced(serve, make_client, authority) -> None:
    peer = await serve(closing_after(ok()), context=authority.server)
    client = make_client(ssl_context=authority.trust)
    for _ in range(3):
        assert await get(client, peer.url) == b"done"
        # The farewell may be heard of by the loop, or found by the next request.
        await until(lambda: peer.open == 0)
    assert (peer.accepted, len(peer.requests)) == (3, 3)


async def test_a_tls_connection_that_is_closed_after_a_request_is_not(serve, make_client, authority) -> None:
    async def handle(link: Link) -> None:
        await link.request()
        await link.send(ok())
        await link.request()

    peer = await serve(handle, context=authority.server)
    client = make_client(ssl_context=authority.trust)
    assert await get(client, peer.url) == b"done"
    with pytest.raises(AnswerLost, match="before an answer came"):
        await get(client, peer.url)
    assert (peer.accepted, len(peer.requests)) == (1, 2)


async def test_tls_with_an_unknown_authority(serve, make_client, authority) -> None:
    peer = await serve(answering(ok()), context=authority.server)
    with pytest.raises(HttpUnreachable, match=r"certificate is not trusted"):
        await get(make_client(), peer.url)
    assert peer.requests == []


async def test_tls_for_another_name(serve, make_client, authority, names) -> None:
    names["app.test"] = [V4]
    peer = await serve(answering(ok()), context=authority.server)
    with pytest.raises(HttpUnreachable, match=r"not trusted: .*app.test"):
        await get(make_client(ssl_context=authority.trust), f"https://app.test:{peer.port}")


async def test_tls_to_a_plain_port(serve, make_client, authority) -> None:
    async def handle(link: Link) -> None:
        await link.reader.read(100)
        await link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    peer = await serve(handle)
    with pytest.raises(HttpUnreachable, match=r"TLS failed"):
        await get(make_client(ssl_context=authority.trust), f"https://127.0.0.1:{peer.port}")


async def test_tls_to_a_peer_that_hangs_up(serve, make_client, authority) -> None:
    async def handle(link: Link) -> None:
        await link.reader.read(100)

    peer = await serve(handle)
    with pytest.raises(HttpUnreachable, match=r"TLS failed"):
        await get(make_client(ssl_context=authority.trust), f"https://127.0.0.1:{peer.port}")


async def test_the_default_trust_verifies() -> None:
    context = dial.Dialer(connect_timeout=1, ssl_context=None)._ssl_context
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
