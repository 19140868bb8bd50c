from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from served import FrontServer
from structlog.testing import capture_logs
from sync_world import (
    BODIES,
    KEY,
    LINES,
    NOW,
    OLD,
    Context,
    Logs,
    SdkApp,
    answering,
    closed_port,
    eventually,
    running,
)

from inngest.api.front import application
from inngest.api.pages import Pages
from inngest.api.register import RegisterApi
from inngest.core.model.functions import App
from inngest.core.sdk.keyring import fingerprint
from inngest.core.sdk.signing import verify
from inngest.drivers.http import HttpClient
from inngest.loops.trouble import ERRORS
from inngest.services import sync
from inngest.services.sync import AppSync, SyncResult, default_ports, local_url


@pytest.fixture
def ctx() -> Context:
    return Context()


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as entries:
        yield Logs(entries)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
def syncing(ctx: Context, client: HttpClient, logs: Logs) -> AppSync:
    return AppSync(ctx, client, ports=())


AddApp = Callable[[str], Any]


@pytest.fixture
async def add_app(ctx: Context) -> AsyncIterator[AddApp]:
    """Starts an application that registers with the server under test."""
    apps: list[SdkApp] = []
    async with (
        FrontServer(application(RegisterApi(ctx).routes(), pages=Pages(dev=True))) as api,
        aiohttp.ClientSession() as session,
    ):

        async def add(line: str) -> SdkApp:
            app = SdkApp(line, str(api.make_url("")).rstrip("/"), session)
            apps.append(app)
            await app.start()
            return app

        yield add
        for app in apps:
            await app.stop()


# -- ping


@pytest.mark.parametrize("line", LINES)
async def test_a_ping_makes_an_app_register(
    ctx: Context, syncing: AppSync, add_app: AddApp, line: str
) -> None:
    app = await add_app(line)
    for _ in range(2):
        result = await syncing.ping(app.url)
        assert (result.ok, result.message, result.sdk) == (True, "", BODIES[line]["sdk"])
    assert await ctx.engine.apps() == {line: app.url}
    request, body = app.pings[0]
    assert request.headers["X-Inngest-Server-Kind"] == "dev"
    assert request.headers["Content-Type"] == "application/json"
    assert "X-Inngest-Signature" not in request.headers
    assert json.loads(body) == {"url": app.url}


async def test_a_ping_is_signed(ctx: Context, syncing: AppSync, add_app: AddApp) -> None:
    ctx.signing_keys, ctx.dev = [KEY], False
    app = await add_app("ts4")
    app.key = KEY
    assert (await syncing.ping(app.url)).ok
    request, body = app.pings[0]
    assert request.headers["X-Inngest-Server-Kind"] == "cloud"
    assert verify(body, request.headers["X-Inngest-Signature"], [KEY], NOW // 1000)


async def test_while_keys_are_exchanged_an_app_is_asked_by_its_own(
    ctx: Context, syncing: AppSync, add_app: AddApp
) -> None:
    ctx.signing_keys, ctx.dev = [KEY, OLD], False
    app = await add_app("ts4")
    app.verifies = True
    for key, pings in [(OLD, 2), (OLD, 1), (KEY, 2), (KEY, 1)]:
        app.key = key
        app.pings.clear()
        assert (await syncing.ping(app.url)).ok
        assert len(app.pings) == pings
        [known] = (await ctx.engine.registry()).apps.values()
        assert known.signed_by == fingerprint(key)
    app.key = "signkey-test-0bad"
    assert (await syncing.ping(app.url)).code == "unauthorized"


async def test_no_ping_without_a_key_outside_dev(ctx: Context, syncing: AppSync, add_app: AddApp) -> None:
    ctx.dev = False
    app = await add_app("ts4")
    result = await syncing.ping(app.url)
    assert result.code == "missing_server_signing_key"
    assert app.pings == []


@pytest.mark.parametrize("line", LINES)
async def test_a_refused_registration_is_known_from_every_sdk(
    ctx: Context, syncing: AppSync, add_app: AddApp, line: str
) -> None:
    app = await add_app(line)
    function = {**BODIES[line]["functions"][0], "idempotency": "event.data. >"}
    app.change = {"functions": [function]}
    result = await syncing.ping(app.url)
    assert result.code == "invalid_function"
    assert "idempotency: invalid expression" in result.message
    assert await ctx.engine.apps() == {}


@pytest.mark.parametrize("line", ["py", "ts3"])
async def test_an_app_with_another_key_is_unauthorized(
    ctx: Context, syncing: AppSync, add_app: AddApp, line: str
) -> None:
    ctx.signing_keys = [KEY]
    app = await add_app(line)
    result = await syncing.ping(app.url)
    assert result.code == "unauthorized"
    assert "both need the same signing key" in result.message


async def test_an_app_may_register_under_another_url(ctx: Context, syncing: AppSync, add_app: AddApp) -> None:
    app = await add_app("ts4")
    app.change = {"url": "https://app.example.com/api/inngest"}
    assert (await syncing.ping(app.url)).ok


async def test_an_app_that_registers_elsewhere_is_told_apart(
    ctx: Context, syncing: AppSync, add_app: AddApp
) -> None:
    answer = b'{"message":"Successfully registered","modified":true}'
    async with answering(200, answer, X_Inngest_SDK="inngest-js:v4.24.0") as url:
        result = await syncing.ping(url)
    assert result.code == "unknown"
    assert "nothing is registered here under this URL" in result.message


async def test_redirects_are_followed(ctx: Context, syncing: AppSync, add_app: AddApp) -> None:
    app = await add_app("go")
    async with answering(308, Location=app.url) as url:
        assert (await syncing.ping(url)).ok
    request, body = app.pings[0]
    assert (request.method, json.loads(body)) == ("PUT", {"url": url})


async def test_what_is_signed_goes_to_no_other_origin(
    ctx: Context, syncing: AppSync, add_app: AddApp
) -> None:
    ctx.signing_keys = [KEY]
    app = await add_app("go")
    async with answering(308, Location=app.url) as url:
        result = await syncing.ping(url)
    assert (result.ok, result.code) == (False, "unreachable")
    assert "redirects to another origin" in result.message
    assert app.pings == []


@pytest.mark.parametrize(
    ("status", "body", "sdk", "code", "message"),
    [
        (200, b"<html>", "", "not_sdk", "what answers is no Inngest SDK: it answered 200"),
        (405, b"", "", "not_sdk", "what answers is no Inngest SDK: it answered 405"),
        (401, b'{"message":"Unauthorized"}', "", "unauthorized", None),
        (403, b"", "", "forbidden", "the app does not allow this request: it answered 403"),
        (404, b"Not Found", "", "url_not_found", None),
        (500, b"[]", "x", "internal_server_error", "the app failed: it answered 500"),
        (500, b'{"message":"boom"}', "x", "internal_server_error", "the app failed: boom"),
        (418, b'{"message":"teapot"}', "x", "http_not_ok", "teapot"),
        (400, b'{"error":"Invalid signing key"}', "x", "invalid_signing_key", "Invalid signing key"),
        (400, b'{"message":"missing signing key"}', "x", "missing_signing_key", "missing signing key"),
        (400, b'{"message":"missing branch name"}', "x", "missing_branch_env_name", "missing branch name"),
        (
            500,
            b'{"code":"function_config_invalid","message":"no functions found"}',
            "x",
            "no_functions",
            "no functions found",
        ),
        (
            200,
            b'{"code":"sdk_version_denied","status":400,"error":"sdk: refused"}',
            "x",
            "sdk_version_denied",
            "sdk: refused",
        ),
        (
            400,
            b'{"code":"server_kind_mismatch","message":"Sync rejected"}',
            "x",
            "server_kind_mismatch",
            None,
        ),
        (400, b'{"message":"Expected server kind cloud, got dev"}', "x", "server_kind_mismatch", None),
    ],
)
async def test_failures_have_a_code_and_a_message(
    syncing: AppSync, status: int, body: bytes, sdk: str, code: str, message: str | None
) -> None:
    headers = {"X_Inngest_SDK": sdk} if sdk else {}
    async with answering(status, body, **headers) as url:
        result = await syncing.ping(url)
    assert result.code == code
    assert message is None or result.message == message


async def test_an_app_that_was_started_for_no_server_is_told_from_what_is_no_app(
    ctx: Context, client: HttpClient, logs: Logs
) -> None:
    """As the TypeScript SDK 4 answers in its production mode without a signing key: without its name."""

    async def refuse(request: web.Request) -> web.Response:
        body = {"code": "internal_server_error"}
        return web.json_response(body, status=500, headers={"x-inngest-sdk-handled": "true"})

    app = web.Application()
    app.router.add_put("/api/inngest", refuse)
    server = TestServer(app)
    await server.start_server()
    discovering = AppSync(ctx, client, ports=[server.port or 0]).discover(every=0.01)
    async with server, running(discovering):
        await eventually(lambda: len(logs.of("sync.failed")) == 1)
    [entry] = logs.of("sync.failed")
    assert entry["code"] == "internal_server_error"
    assert "INNGEST_DEV=1" in entry["error"]


async def test_what_cannot_be_called_is_said_to(syncing: AppSync) -> None:
    result = await syncing.ping(f"http://127.0.0.1:{closed_port()}/api/inngest")
    assert result.code == "unreachable"
    assert "cannot connect to 127.0.0.1:" in result.message
    assert (await syncing.ping("ftp://127.0.0.1/")).code == "unsupported_protocol"


async def test_a_silent_app_is_unreachable(syncing: AppSync) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        result = await syncing.ping(f"http://127.0.0.1:{port}/", seconds=0.05)
    assert result.code == "unreachable"
    assert "timeout" in result.message


# -- the loops


async def test_named_urls_are_tried_until_they_register(
    ctx: Context, syncing: AppSync, logs: Logs, add_app: AddApp
) -> None:
    first, second = await add_app("py"), await add_app("go")
    await second.stop()
    async with running(syncing.watch([first.url, second.url], every=0.01)) as task:
        await eventually(lambda: ctx.engine.reads > 20)
        assert [entry["url"] for entry in logs.of("sync.failed")] == [second.url]
        await second.start()
        await eventually(task.done)
    assert await ctx.engine.apps() == {"py": first.url, "go": second.url}
    assert len(logs.of("sync.failed")) == 1
    assert [entry["url"] for entry in logs.of("sync.recovered")] == [second.url]
    assert len(first.pings) == 1


async def test_registered_apps_are_asked_again(
    ctx: Context, syncing: AppSync, logs: Logs, add_app: AddApp
) -> None:
    app = await add_app("ts3")
    await syncing.ping(app.url)
    async with running(syncing.poll(every=0.01)):
        app.change = {"functions": BODIES["ts3"]["functions"][:1]}
        await eventually(lambda: len(app.pings) > 5)
        live = [fn for fn in (await ctx.engine.registry()).functions.values() if not fn.archived]
        assert len(live) == 1
        assert syncing.error_of(app.url) == ""
        await app.stop()
        await eventually(lambda: len(logs.of("sync.failed")) == 1)
        assert syncing.error_of(app.url) == logs.of("sync.failed")[0]["error"] != ""
        await app.start()
        await eventually(lambda: len(logs.of("sync.recovered")) == 1)
    assert len(logs.of("sync.failed")) == 1
    assert syncing.error_of(app.url) == ""


async def test_an_app_that_is_silent_is_polled_less_often(
    ctx: Context, syncing: AppSync, add_app: AddApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "PING_SECONDS", 0.2)
    monkeypatch.setattr(sync, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(sync, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(sync, "MAX_REST_SECONDS", 7200.0)
    apps = [await add_app(line) for line in ("ts3", "ts4")]
    for app in apps:
        assert (await syncing.ping(app.url)).ok
        app.pings.clear()
    silent, other = apps
    silent.silent = True
    for _ in range(3):
        await syncing._poll()
    assert (len(silent.pings), len(other.pings)) == (1, 3)
    # Whoever asks for it is not kept waiting by that, and once it has registered it is polled again.
    silent.silent = False
    assert (await syncing.ping(silent.url)).ok
    syncing.registered(next(iter((await ctx.engine.registry()).apps.values())))
    await syncing._poll()
    assert len(silent.pings) == 3


async def test_who_asks_for_an_app_never_waits_for_polls(syncing: AppSync, add_app: AddApp) -> None:
    app = await add_app("ts4")
    for _ in range(sync.MAX_CONCURRENT):
        await syncing._own.acquire()
    assert (await syncing.ping(app.url)).ok


async def test_only_of_registered_apps_errors_are_kept(
    ctx: Context, syncing: AppSync, add_app: AddApp
) -> None:
    app = await add_app("ts3")
    await app.stop()
    assert not (await syncing.ping(app.url)).ok
    assert syncing.error_of(app.url) == ""
    await app.start()
    assert (await syncing.ping(app.url)).ok
    await app.stop()
    error = (await syncing.ping(app.url)).message
    assert syncing.error_of(app.url) == error != ""
    [known] = (await ctx.engine.registry()).apps.values()
    syncing.registered(known)
    assert syncing.error_of(app.url) == ""


async def test_a_store_that_is_down_stops_no_loop(
    ctx: Context, syncing: AppSync, logs: Logs, add_app: AddApp
) -> None:
    app = await add_app("ts4")
    ctx.engine.down = True
    async with (
        running(syncing.watch([app.url], every=0.01)) as watching,
        running(syncing.poll(every=0.01)) as polling,
        running(syncing.discover(every=0.01)) as discovering,
    ):
        await eventually(lambda: ctx.engine.reads > 20)
        ctx.engine.down = False
        await eventually(watching.done)
        assert not polling.done()
        assert not discovering.done()
    assert await ctx.engine.apps() == {"ts4": app.url}


async def test_an_unexpected_error_with_one_app_keeps_no_other_from_its_turn(
    ctx: Context, syncing: AppSync, logs: Logs, add_app: AddApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await add_app("ts4"), await add_app("py")
    real = AppSync._ping

    async def ping(self: AppSync, url: str, seconds: float) -> SyncResult:
        if url == bad.url:
            raise RuntimeError("anything")
        return await real(self, url, seconds)

    monkeypatch.setattr(AppSync, "_ping", ping)
    before = ERRORS["sync.ping"]
    async with running(syncing.watch([bad.url, good.url], every=0.01)) as watching:
        await eventually(lambda: ERRORS["sync.ping"] > before + 3)
        assert await ctx.engine.apps() == {"py": good.url}
        monkeypatch.setattr(AppSync, "_ping", real)
        await eventually(watching.done)
    assert {entry["url"] for entry in logs.of("sync.ping")} == {bad.url}


async def test_an_unexpected_error_of_the_registry_ends_no_loop(
    ctx: Context, syncing: AppSync, logs: Logs, add_app: AddApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await add_app("ts4")
    await syncing.ping(app.url)
    failures = 0

    async def fail(self: AppSync) -> list[App]:
        nonlocal failures
        failures += 1
        raise RuntimeError("anything")

    real = AppSync._apps
    monkeypatch.setattr(AppSync, "_apps", fail)
    pings = len(app.pings)
    async with running(syncing.poll(every=0.01)) as polling, running(syncing.discover(every=0.01)) as found:
        await eventually(lambda: failures > 4)
        monkeypatch.setattr(AppSync, "_apps", real)
        await eventually(lambda: len(app.pings) > pings + 2)
        assert not polling.done()
        assert not found.done()
    assert logs.of("sync.poll")
    assert logs.of("sync.discover")


@pytest.mark.parametrize("url", ["http://[bad", "http://a:99999/", "http://a:b/", "", "\ud800"])
def test_what_is_no_url_has_no_port_here(url: str) -> None:
    assert sync._local_port(sync.normalise_url(url)) is None


async def test_apps_on_this_host_are_found(
    ctx: Context, client: HttpClient, logs: Logs, add_app: AddApp
) -> None:
    app = await add_app("ts4")
    async with answering(404) as other:
        served = AppSync(ctx, client, ports=[app.port, closed_port(), int(other.split(":")[2].split("/")[0])])
        async with running(served.discover(every=0.01)):
            await eventually(lambda: bool(app.pings))
            rounds = ctx.engine.reads
            await eventually(lambda: ctx.engine.reads > rounds + 20)
    assert await ctx.engine.apps() == {"ts4": app.url}
    [(request, body)] = app.pings
    assert json.loads(body) == {"url": f"http://localhost:{app.port}/api/inngest"}
    assert request.headers["Host"] == f"localhost:{app.port}"
    assert logs.entries == []


async def test_what_else_listens_is_left_in_peace(ctx: Context, client: HttpClient, logs: Logs) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    discovering = AppSync(ctx, client, ports=[server.port or 0]).discover(every=0.01)
    async with server, running(discovering):
        await eventually(lambda: len(asked) == len(sync.PATHS))
        rounds = ctx.engine.reads
        await eventually(lambda: ctx.engine.reads > rounds + 10)
    assert asked == list(sync.PATHS)
    assert logs.entries == []


async def test_an_app_that_is_found_but_fails_is_logged_once(
    ctx: Context, client: HttpClient, logs: Logs, add_app: AddApp
) -> None:
    app = await add_app("ts4")
    app.change = {"functions": [{}]}
    async with running(AppSync(ctx, client, ports=[app.port]).discover(every=0.01)):
        await eventually(lambda: len(logs.of("sync.failed")) == 1)
    [entry] = logs.of("sync.failed")
    assert (entry["code"], entry["url"]) == ("invalid_function", f"http://localhost:{app.port}/api/inngest")


async def test_all_of_it_runs_and_ends_together(
    ctx: Context, client: HttpClient, logs: Logs, add_app: AddApp
) -> None:
    named, found = await add_app("py"), await add_app("ts4")
    served = AppSync(ctx, client, ports=[found.port])
    async with running(served.run(urls=[named.url], poll_every=0.01)) as task:
        await eventually(lambda: len(named.pings) > 2 and len(found.pings) > 2)
        assert not task.done()
    assert task.cancelled()


async def test_with_nothing_to_do_it_waits_for_its_end(syncing: AppSync) -> None:
    """A service that returns ends its process."""
    async with running(syncing.run(discover=False, poll_every=None)) as task:
        for _ in range(20):  # turns of the loop, in which it could end
            await asyncio.sleep(0)
        assert not task.done()


def test_where_it_looks() -> None:
    ports = default_ports({})
    assert {80, 443, 3000, 3010, 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888, 8910, 8915} <= set(ports)
    assert default_ports({"PORT": "9876"}) == (*ports, 9876)
    assert default_ports({"PORT": "8080"}) == default_ports({"PORT": "x"}) == ports
    assert local_url(80, "/a") == "http://localhost/a"
    assert local_url(443, "/a") == "https://localhost/a"
    assert local_url(3000, "/a") == "http://localhost:3000/a"
