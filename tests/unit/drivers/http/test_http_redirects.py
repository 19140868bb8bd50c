"""Redirects keep method, headers, body and query, and what is meant for one origin stays with it."""

from __future__ import annotations

import asyncio

import pytest
from http_peer import Link, answering, ok, until

from inngest.drivers.http import (
    ForeignRedirect,
    HttpClient,
    HttpTimeout,
    Redirects,
    TooManyRedirects,
    UnsupportedUrl,
)
from inngest.drivers.http.target import Target


def to(location: str, status: int = 307) -> bytes:
    return ok(b"moved", f"location: {location}", status=status)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_repeats_the_request(serve, client: HttpClient, status: int) -> None:
    peer = await serve(answering(to("/new/", status), ok(b"here")))
    headers = {"x-inngest-signature": "t=1&s=2", "authorization": "Bearer a"}
    response = await client.request("PUT", f"{peer.url}/old?fnId=a&stepId=step", headers, b"body", timeout=10)
    assert (response.status, response.body) == (200, b"here")
    assert response.url == f"{peer.url}/new/?fnId=a&stepId=step"
    old, new = peer.requests
    assert (new.method, new.path, new.body) == ("PUT", "/new/?fnId=a&stepId=step", b"body")
    assert new.headers == old.headers
    assert peer.accepted == 1


HEADERS = {
    "x-inngest-signature": "t=1&s=2",
    "Authorization": "Bearer a",
    "Cookie": "b=1",
    "api-key": "c",
    "x-run-id": "1",
    "Content-Type": "application/json",
}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_another_origin_gets_nothing(serve, client: HttpClient, status: int) -> None:
    other = await serve(answering(ok(b"there")))
    peer = await serve(answering(to(f"{other.url}/x", status)))
    with pytest.raises(ForeignRedirect) as caught:
        await client.request("POST", f"{peer.url}/?fnId=f", HEADERS, b"state", timeout=10)
    told = (
        f"127.0.0.1:{peer.port} redirects to another origin, {other.url}: the URL that answers is to be used"
    )
    assert str(caught.value) == told
    assert other.accepted == 0


async def test_what_may_go_to_another_origin_goes_without_credentials(serve, client: HttpClient) -> None:
    other = await serve(answering(ok(b"there")))
    peer = await serve(answering(to("/y?step=1"), to(f"{other.url}/x?p=1")))
    url = peer.url.replace("//", "//user:secret@") + "/?key=d"
    response = await client.request("POST", url, HEADERS, b"body", timeout=10, redirects=Redirects.ANY)
    assert response.url == f"{other.url}/x?p=1"
    (request,) = other.requests
    assert (request.path, request.body) == ("/x?p=1", b"body")
    assert set(request.headers) == {"host", "accept-encoding", "content-length", "content-type"}
    assert request.headers["host"] == f"127.0.0.1:{other.port}"
    assert peer.requests[1].path == "/y?step=1&key=d", "the same origin gets all"


async def test_credentials_of_the_url_stay_on_the_same_origin(serve, client: HttpClient) -> None:
    peer = await serve(answering(to("/new"), ok()))
    response = await client.request("POST", peer.url.replace("//", "//user:p%40ss@"), {}, b"", timeout=10)
    assert [r.headers["authorization"] for r in peer.requests] == ["Basic dXNlcjpwQHNz"] * 2
    assert response.url == f"{peer.url}/new"


@pytest.mark.parametrize("status", [300, 303, 304])
async def test_other_statuses_are_returned_as_they_are(serve, client: HttpClient, status: int) -> None:
    peer = await serve(answering(to("/new", status)))
    assert (await client.request("POST", peer.url, {}, b"", timeout=10)).status == status
    assert len(peer.requests) == 1


async def test_a_redirect_to_nowhere_is_returned_as_it_is(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok(b"", status=302)))
    assert (await client.request("POST", peer.url, {}, b"", timeout=10)).status == 302


async def test_redirects_are_not_followed_when_not_wanted(serve, client: HttpClient) -> None:
    peer = await serve(answering(to("/new")))
    response = await client.request("POST", peer.url, {}, b"", timeout=10, redirects=Redirects.NONE)
    assert (response.status, response.headers["location"]) == (307, "/new")


async def test_as_many_redirects_as_allowed(serve, make_client) -> None:
    peer = await serve(answering(to("/1"), to("/2"), to("/3"), ok(b"end")))
    assert (await make_client(max_redirects=3).request("POST", peer.url, {}, b"", timeout=10)).body == b"end"


async def test_a_loop_of_redirects_ends(serve, client: HttpClient) -> None:
    peer = await serve(answering(to("/again")))
    with pytest.raises(TooManyRedirects, match=f"more than 5 redirects, the last one from {peer.url}/again"):
        await client.request("POST", peer.url, {}, b"", timeout=60)
    assert len(peer.requests) == 6


async def test_redirects_share_one_timeout(serve, make_client) -> None:
    async def handle(link: Link) -> None:
        while await link.request() is not None:
            await asyncio.sleep(0.005)
            await link.send(to("/again"))

    peer = await serve(handle)
    with pytest.raises(HttpTimeout):
        await make_client(max_redirects=10_000).request("POST", peer.url, {}, b"", timeout=0.1)
    await until(lambda: peer.open == 0)


async def test_a_redirect_off_https_is_refused(serve, make_client, authority) -> None:
    plain = await serve(answering(ok()))
    peer = await serve(answering(to(plain.url)), context=authority.server)
    with pytest.raises(UnsupportedUrl, match="redirects from https to http"):
        await make_client(ssl_context=authority.trust).request("POST", peer.url, {}, b"", timeout=10)
    assert plain.requests == []


@pytest.mark.parametrize("location", ["ftp://a/b", "http://[", "http://a:b/", "mailto:a@b", "http://a b/"])
async def test_a_redirect_that_cannot_be_followed_is_an_error(
    serve, client: HttpClient, location: str
) -> None:
    peer = await serve(answering(to(location)))
    with pytest.raises(UnsupportedUrl):
        await client.request("POST", peer.url, {}, b"", timeout=10)


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        ("http://a/x/y?p=1", "z", "http://a/x/z?p=1"),
        ("http://a/x/y?p=1", "/z#there", "http://a/z?p=1"),
        ("http://a/x?p=1&q=2", "/z?p=3", "http://a/z?p=3&q=2"),
        ("http://a/x?p=1&p=2", "/z?r=", "http://a/z?r=&p=1&p=2"),
        ("http://a/x?p=1", "/z?p=", "http://a/z?p="),
        ("http://a/x?p%20q=1", "/z?p+q=2", "http://a/z?p+q=2"),
        ("http://a/x?p=%C3%A9", "/z?", "http://a/z?p=%C3%A9"),
        ("http://a/x", "/z?", "http://a/z"),
        ("http://a/x", "//b:81/z", "http://b:81/z"),
        ("http://a/x", "https://b/z", "https://b/z"),
        ("https://a/x", "/z", "https://a/z"),
        ("http://a/x", "/caf\xc3\xa9", "http://a/caf%C3%A9"),
        ("http://a/x", "", "http://a/x"),
    ],
)
def test_where_a_redirect_leads(url: str, location: str, expected: str) -> None:
    assert Target.parse(url).redirected(location).url == expected


def test_a_location_that_is_not_text_is_refused() -> None:
    with pytest.raises(UnsupportedUrl, match="malformed"):
        Target.parse("http://a/").redirected("/\xff")
