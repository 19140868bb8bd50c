"""What web pages can do to a server, and that SDKs notice nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from served import client_of

from inngest.api.answers import answer
from inngest.api.pages import Pages, is_foreign

Client = TestClient[web.Request, web.Application]


class Counted:
    """Handlers that count who comes through."""

    def __init__(self) -> None:
        self.came: list[tuple[str, bool]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.came.append((request.path, is_foreign(request)))
        return answer({})

    def routes(self) -> list[web.RouteDef]:
        posts = ["/e/key", "/fn/register", "/v0/gql", "/invoke/x", "/v1/signals"]
        gets = ["/dev", "/health", "/health/live", "/health/ready", "/metrics", "/v1/events"]
        return [
            *(web.post(path, self.handle) for path in posts),
            *(web.get(path, self.handle) for path in gets),
        ]


OPEN = [("POST", "/e/key"), *(("GET", path) for path in ("/dev", "/health", "/health/live", "/health/ready"))]
KEPT = [
    ("POST", "/fn/register"),
    ("POST", "/v0/gql"),
    ("POST", "/invoke/x"),
    ("POST", "/v1/signals"),
    ("GET", "/metrics"),
    ("GET", "/v1/events"),
    ("GET", "/nowhere"),
]
FOREIGN_PAGES: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Content-Type": "text/plain"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://127.0.0.1.evil.example:8288"},
    {"Origin": "http://192.168.1.7:3000"},
    {"Origin": "http://[::1"},
    {"Origin": "chrome-extension://abc"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]
NEAR_PAGES: list[dict[str, str]] = [
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://127.0.0.1:5173", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://[::1]:3000"},
    {"Origin": "https://app.localhost"},
    {"Origin": "http://studio.internal:8288", "Host": "studio.internal:8288"},
]
SDKS: list[dict[str, str]] = [
    {},
    {"Content-Type": "text/plain", "X-Inngest-SDK": "inngest-go:v0.14.0"},
    {"Host": "0.0.0.0:8288"},
    {"Host": "host.docker.internal:8288"},
    {"Host": "inngest:8288"},
    {"Host": "inngest"},
    {"Host": "[::1]:8288"},
    {"Host": "[fe80::1%25eth0]:8288"},
    {"Host": "192.168.1.7:8288"},
    {"Host": "my.machine.local"},
    {"Host": "a.b.test:80"},
    {"Host": "dev.localhost."},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def dev(counted: Counted) -> AsyncIterator[Client]:
    async with client_of(counted.routes(), hosts=["dev.example.com", ".tunnel.example"]) as client:
        yield client


@pytest.fixture
async def shared(counted: Counted) -> AsyncIterator[Client]:
    async with client_of(counted.routes(), dev=False) as client:
        yield client


async def ask(client: Client, method: str, path: str, headers: dict[str, str]) -> tuple[int, Any, str | None]:
    """Status, answer, and who may read it."""
    async with client.request(method, path, headers=headers) as response:
        body = await response.json() if response.status != 204 else None
        return response.status, body, response.headers.get("Access-Control-Allow-Origin")


@pytest.mark.parametrize("headers", FOREIGN_PAGES, ids=str)
async def test_a_foreign_page_sends_events_and_does_nothing_else(
    dev: Client, counted: Counted, headers: dict[str, str]
) -> None:
    for method, path in KEPT:
        status, body, readable = await ask(dev, method, path, headers)
        assert (status, body["code"], readable) == (403, "forbidden_origin", None)
        preflight = {**headers, "Access-Control-Request-Method": method}
        status, _, readable = await ask(dev, "OPTIONS", path, preflight)
        assert (status, readable) == (403, None)
    assert counted.came == []
    for method, path in OPEN:
        status, _, readable = await ask(dev, method, path, headers)
        assert (status, readable) == (200, "*")
        preflight = {**headers, "Access-Control-Request-Method": method}
        assert (await ask(dev, "OPTIONS", path, preflight))[::2] == (204, "*")
    assert counted.came == [(path, True) for _, path in OPEN]


@pytest.mark.parametrize("headers", NEAR_PAGES, ids=str)
async def test_a_page_of_this_machine_does_all(dev: Client, headers: dict[str, str]) -> None:
    for method, path in KEPT:
        status, _, readable = await ask(dev, method, path, headers)
        assert (status, readable) == (404 if path == "/nowhere" else 200, headers["Origin"])
        asks = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-a"}
        async with dev.options(path, headers={**headers, **asks}) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == headers["Origin"]
            assert response.headers["Access-Control-Allow-Headers"] == "x-a"
            assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("headers", SDKS, ids=str)
async def test_sdks_notice_nothing(dev: Client, headers: dict[str, str]) -> None:
    for method, path in [*OPEN, *KEPT]:
        assert (await ask(dev, method, path, headers))[0] == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize(
    "host", ["rebound.evil.example:8288", "evil.example", "tunnel.example", "xdev.example.com", "a.b.co.uk."]
)
async def test_another_name_is_no_name_of_the_server(dev: Client, counted: Counted, host: str) -> None:
    for method, path in [*OPEN, *KEPT]:
        status, body, readable = await ask(dev, method, path, {"Host": host})
        assert (status, readable) == (403, None)
        assert "--allowed-host" in body["error"]
    assert counted.came == []


@pytest.mark.parametrize("host", ["dev.example.com", "DEV.example.com:8288", "a.tunnel.example"])
async def test_a_name_can_be_allowed(dev: Client, host: str) -> None:
    assert (await ask(dev, "GET", "/v1/events", {"Host": host}))[0] == 200


async def test_outside_development_pages_send_events_and_read_nothing(shared: Client) -> None:
    headers = {"Origin": "https://shop.example", "Host": "events.example.com"}
    assert (await ask(shared, "POST", "/e/key", headers))[::2] == (200, "*")
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    assert (await ask(shared, "OPTIONS", "/e/key", preflight))[::2] == (204, "*")
    for method, path in [*KEPT, ("GET", "/health"), ("GET", "/dev")]:
        status, _, readable = await ask(shared, method, path, headers)
        assert (status, readable) == (404 if path == "/nowhere" else 200, None)
        status, _, readable = await ask(shared, "OPTIONS", path, preflight)
        assert (status, readable) == (404 if path == "/nowhere" else 405, None)


@pytest.fixture
def hosts() -> Iterator[str]:
    return iter(["", ":8288", "[", "[]", "::1", "1.2.3.4.5", "%", "..", "a..b", "x" * 10_000])


def test_odd_hosts_are_decided(hosts: Iterator[str]) -> None:
    pages = Pages(dev=True)
    decided = {host[:9]: pages.is_ours(host) for host in hosts}
    assert decided["::1"]
    assert not decided["1.2.3.4.5"]
    assert not decided["a..b"]
