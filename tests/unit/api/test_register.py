from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import builders
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from served import client_of

from inngest.api.register import RegisterApi, register
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.errors import StoreUnavailable
from inngest.core.model.functions import App, Function
from inngest.core.model.ids import UlidFactory, app_uuid, function_uuid
from inngest.core.model.runs import Item, Kind
from inngest.core.sdk.registration import parse_registration
from inngest.core.sdk.signing import hashed_key
from inngest.ports.engine import Registered
from inngest.services.runner import Runner

BODIES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "core" / "registration_bodies.json").read_text(encoding="utf-8")
)
NOW = 1_700_000_000_000
KEY = "signkey-test-0123456789abcdef"


class CountingEngine(MemoryEngineStore):
    """Counts what is written to the registry; refuses to, if told so."""

    writes = 0
    down = False

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        self.writes += 1
        await super().put_app(app, functions)

    async def registry(self) -> Registered:
        if self.down:
            raise StoreUnavailable("connection refused")
        return await super().registry()


@dataclass
class Context:
    signing_keys: Sequence[str] = ()
    dev: bool = True
    now: int = NOW

    def __post_init__(self) -> None:
        self.engine = CountingEngine(self.clock)
        self.new_id = UlidFactory(clock=self.clock, random_bytes=lambda n: b"r" * n).new
        self.runtime = builders.memory_runtime(self.engine, new_id=self.new_id)
        self.runner = Runner(self.runtime)

    def clock(self) -> int:
        return self.now

    async def cron_items(self) -> list[Item]:
        """The cron items that are queued, as a runner has derived them from what is registered."""
        await self.runtime.registry.refresh()
        await self.runner._derive()
        items = [entry.item for entry in self.engine._state.entries.values()]
        return [item for item in items if item.kind is Kind.CRON]

    async def crons(self) -> list[str]:
        """The functions they belong to, by slug."""
        functions = (await self.engine.registry()).functions
        return sorted(functions[item.fn].slug for item in await self.cron_items())


@pytest.fixture
def ctx() -> Context:
    return Context()


@pytest.fixture
async def client(ctx: Context) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with client_of(RegisterApi(ctx).routes(), max_body=1 << 20) as client:
        yield client


def body(*functions: dict[str, Any], **top: Any) -> dict[str, Any]:
    return {"url": "http://127.0.0.1:3000/api/inngest", "appName": "app", "functions": list(functions), **top}


def fn(slug: str, *crons: str, **config: Any) -> dict[str, Any]:
    runtime = {"url": f"http://127.0.0.1:3000/api/inngest?fnId={slug}&stepId=step"}
    triggers = [{"cron": cron} for cron in crons] or [{"event": "app/x"}]
    return {"id": slug, "name": slug, "triggers": triggers, "steps": {"step": {"runtime": runtime}}, **config}


async def sync(ctx: Context, *functions: dict[str, Any]) -> bool:
    return (await register(ctx, parse_registration(body(*functions)))).modified


# -- what registering does


async def test_an_app_and_its_functions_are_registered(ctx: Context) -> None:
    outcome = await register(ctx, parse_registration(body(fn("a"), fn("b"))))
    known = await ctx.engine.registry()
    assert known.apps == {app_uuid("app"): outcome.app}
    assert (outcome.app.synced, outcome.modified) == (NOW, True)
    assert set(known.functions) == {function_uuid("app", "a"), function_uuid("app", "b")}


async def test_what_is_unchanged_is_not_written_again(ctx: Context) -> None:
    assert await sync(ctx, fn("a"), fn("b"))
    before = await ctx.engine.registry()
    ctx.now += 1000
    assert not await sync(ctx, fn("b"), fn("a"))
    assert await ctx.engine.registry() == before
    assert ctx.engine.writes == 1


async def test_functions_that_are_gone_are_archived_and_come_back(ctx: Context) -> None:
    await sync(ctx, fn("a"), fn("b"))
    assert await sync(ctx, fn("a"))
    b = (await ctx.engine.registry()).functions[function_uuid("app", "b")]
    assert b.archived
    assert not await sync(ctx, fn("a"))
    assert await sync(ctx, fn("a"), fn("b"))
    b = (await ctx.engine.registry()).functions[function_uuid("app", "b")]
    assert (b.archived, b.version) == (False, 1)


async def test_a_function_that_changes_has_a_new_version_and_stays_paused(ctx: Context) -> None:
    await sync(ctx, fn("a"), fn("b"))
    known = await ctx.engine.registry()
    paused = [msgspec.structs.replace(f, paused=True) for f in known.functions.values()]
    await ctx.engine.put_app(known.apps[app_uuid("app")], paused)
    assert not await sync(ctx, fn("a"), fn("b"))
    assert await sync(ctx, fn("a", retries=1), fn("b"))
    functions = (await ctx.engine.registry()).functions
    a, b = (functions[function_uuid("app", slug)] for slug in "ab")
    assert (a.version, a.retries, a.paused) == (2, 1, True)
    assert (b.version, b.paused) == (1, True)


async def test_an_app_moves_to_a_new_url(ctx: Context) -> None:
    await sync(ctx, fn("a"))
    moved = parse_registration(body(fn("a"), url="http://10.0.0.7:3000/api/inngest"))
    assert (await register(ctx, moved)).modified
    apps = (await ctx.engine.registry()).apps
    assert [app.url for app in apps.values()] == ["http://10.0.0.7:3000/api/inngest"]


async def _live(ctx: Context) -> tuple[list[str], list[str]]:
    known = await ctx.engine.registry()
    return (
        [app.name for app in known.apps.values() if not app.archived],
        sorted(f"{fn.app}-{fn.slug}" for fn in known.functions.values() if not fn.archived),
    )


async def _runs(ctx: Context, app: str, slug: str) -> int:
    return len((await ctx.engine.runs(function_uuid(app, slug), 0, ctx.now + 60_000, "", 10)).found)


async def _start(ctx: Context, app: str, slug: str) -> None:
    known = await ctx.engine.registry()
    event = builders.event("app/x", b"{}", ctx.new_id(), at=ctx.now)
    moment = Moment(now=ctx.now, new_id=ctx.new_id)
    await ctx.engine.commit([schedule(known.functions[function_uuid(app, slug)], event, moment)])


async def test_an_app_under_a_new_id_takes_the_place_at_its_url(ctx: Context) -> None:
    await sync(ctx, fn("a", "0 * * * *"), fn("b"))
    elsewhere = parse_registration(body(fn("c"), appName="other", url="http://127.0.0.1:3001/api/inngest"))
    await register(ctx, elsewhere)
    await _start(ctx, "app", "a")
    await _start(ctx, "other", "c")
    ctx.now += 1000
    renamed = parse_registration(body(fn("a"), appName="new", url="http://localhost:3000/api/inngest"))
    assert (await register(ctx, renamed)).modified
    assert await _live(ctx) == (["other", "new"], ["new-a", "other-c"])
    assert await ctx.crons() == []
    orders = await ctx.engine.cancellations()
    assert [order.fn for order in orders] == [function_uuid("app", "a")], "only where there are runs"
    await builders.work_off(ctx.runner)
    assert (await _runs(ctx, "app", "a"), await _runs(ctx, "other", "c")) == (0, 1)
    assert not (await register(ctx, renamed)).modified
    assert len(await ctx.engine.cancellations()) == 1

    back = parse_registration(body(fn("a")))
    assert (await register(ctx, back)).modified
    assert await _live(ctx) == (["app", "other"], ["app-a", "other-c"])


async def test_of_two_apps_that_register_at_one_url_at_once_the_later_one_stays(ctx: Context) -> None:
    first, second = (parse_registration(body(fn("a"), appName=name)) for name in ("one", "two"))
    await asyncio.gather(register(ctx, first), register(ctx, second))
    assert len((await _live(ctx))[0]) == 1


async def test_a_clock_that_is_behind_changes_nothing_of_who_comes_later(ctx: Context) -> None:
    await register(ctx, parse_registration(body(fn("a"), appName="one")))
    ctx.now -= 3_600_000
    await register(ctx, parse_registration(body(fn("a"), appName="two")))
    assert (await _live(ctx))[0] == ["two"]


async def test_a_succession_that_was_cut_short_is_ended_by_the_next_registration(ctx: Context) -> None:
    old, new = (parse_registration(body(fn("a"), appName=name)) for name in ("one", "two"))
    for synced, each in enumerate([old, new], start=1):
        await ctx.engine.put_app(msgspec.structs.replace(each.app, synced=synced), each.functions)
    assert not (await register(ctx, new)).modified
    assert (await _live(ctx))[0] == ["two"]


async def test_an_app_with_an_error_is_written_again(ctx: Context) -> None:
    await sync(ctx, fn("a"))
    known = await ctx.engine.registry()
    [app] = known.apps.values()
    await ctx.engine.put_app(
        msgspec.structs.replace(app, error="unreachable"), list(known.functions.values())
    )
    assert await sync(ctx, fn("a"))
    assert [app.error for app in (await ctx.engine.registry()).apps.values()] == [""]


async def test_crons_follow_the_registration(ctx: Context) -> None:
    await sync(ctx, fn("a", "0 * * * *", "30 * * * *"), fn("b", "0 0 * * *"), fn("c"))
    assert await ctx.crons() == ["a", "a", "b"]
    await sync(ctx, fn("a", "0 * * * *"), fn("c"))
    assert await ctx.crons() == ["a"]
    await sync(ctx, fn("c"))
    assert await ctx.crons() == []


async def test_a_repeated_sync_leaves_crons_as_they_are(ctx: Context) -> None:
    await sync(ctx, fn("a", "0 * * * *"))
    before = [item.job for item in await ctx.cron_items()]
    assert len(before) == 1
    ctx.now += 10 * 3_600_000
    assert not await sync(ctx, fn("a", "0 * * * *"))
    assert [item.job for item in await ctx.cron_items()] == before
    assert await sync(ctx, fn("a", "0 * * * *", retries=1))
    assert [item.job for item in await ctx.cron_items()] == before


async def test_what_is_registered_has_its_crons_whoever_wrote_it(ctx: Context) -> None:
    registration = parse_registration(body(fn("a", "0 * * * *")))
    await ctx.engine.put_app(msgspec.structs.replace(registration.app, synced=1), registration.functions)
    assert await ctx.crons() == ["a"]
    assert not await sync(ctx, fn("a", "0 * * * *"))
    assert await ctx.crons() == ["a"]


# -- the endpoint


@pytest.mark.parametrize("line", ["py", "go", "ts3", "ts4"])
async def test_each_sdk_registers(
    ctx: Context, client: TestClient[web.Request, web.Application], line: str
) -> None:
    for modified in (True, False):
        async with client.post("/fn/register", json=BODIES[line]) as response:
            assert response.status == 200
            assert response.headers["X-Inngest-Server-Kind"] == "dev"
            answer = await response.json()
        assert UUID(answer.pop("sync_id"))
        assert answer == {"ok": True, "modified": modified, "app_id": app_uuid(line)}
    assert len((await ctx.engine.registry()).functions) == len(BODIES[line]["functions"])
    assert await ctx.crons() == [f"{line}-cron"]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"{", "Invalid request: not JSON: "),
        (b"[]", "Invalid request: the body must be a JSON object"),
        (json.dumps(body(appName="")).encode(), "App ID required"),
        (json.dumps(body(sdk="js:v3.30.0")).encode(), "sdk: version 3.30.0 "),
    ],
)
async def test_a_bad_request_is_told_in_json(
    client: TestClient[web.Request, web.Application], sent: bytes, error: str
) -> None:
    async with client.post("/fn/register?deployId=1", data=io.BytesIO(sent)) as response:
        answer = await response.json()
    assert (response.status, answer["status"], answer["data"]) == (400, 400, None)
    assert answer["error"].startswith(error)
    assert answer["code"] == ("sdk_version_denied" if error.startswith("sdk") else "config_invalid")


async def test_an_app_without_functions_is_registered(
    ctx: Context, client: TestClient[web.Request, web.Application]
) -> None:
    async with client.post("/fn/register?deployId=1", json=body()) as response:
        assert response.status == 200
    known = await ctx.engine.registry()
    assert (set(known.apps), known.functions) == ({app_uuid("app")}, {})


async def test_a_refusal_has_its_status_in_the_body_and_changes_nothing(
    ctx: Context, client: TestClient[web.Request, web.Application]
) -> None:
    bad = body(fn("a", throttle={"limit": 0, "period": "1s"}), fn("b"))
    async with client.post("/fn/register", json=bad) as response:
        assert response.status == 400
        assert await response.json() == {
            "code": "config_invalid",
            "status": 400,
            "error": (
                "At least one function is invalid: "
                'functions[0] "a": throttle.limit: must be at least 1, not 0'
            ),
            "data": None,
        }
    assert (await ctx.engine.registry()).functions == {}


@pytest.mark.parametrize(
    ("content", "status", "code", "error"),
    [
        (b"{", 400, "config_invalid", "Invalid request: not JSON"),
        (b'{"url":"http://h/"}', 400, "config_invalid", "App ID required"),
        (
            json.dumps(body(sdk="js:v3.30.0")).encode(),
            400,
            "sdk_version_denied",
            "sdk: version 3.30.0 of the TypeScript SDK is refused",
        ),
        (b" " * (1 << 20) + b"{}", 413, None, "Invalid request: the body is too large"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    client: TestClient[web.Request, web.Application],
    content: bytes,
    status: int,
    code: str | None,
    error: str,
) -> None:
    async with client.post("/fn/register", data=io.BytesIO(content)) as response:
        answer = await response.json()
    assert (response.status, answer["status"], answer.get("code")) == (status, status, code)
    assert answer["error"].startswith(error)


@pytest.mark.parametrize(
    ("dev", "expected", "status"),
    [(True, None, 200), (True, "dev", 200), (True, "cloud", 400), (False, "dev", 400), (False, "cloud", 200)],
)
async def test_the_expected_server_kind_is_checked(
    ctx: Context,
    client: TestClient[web.Request, web.Application],
    dev: bool,
    expected: str | None,
    status: int,
) -> None:
    ctx.dev, ctx.signing_keys = dev, [KEY]
    headers = {"Authorization": f"Bearer {hashed_key(KEY)}"}
    if expected:
        headers["X-Inngest-Expected-Server-Kind"] = expected
    async with client.post("/fn/register", json=body(fn("a")), headers=headers) as response:
        answer = await response.json()
    assert response.status == status
    if status == 400:
        kind = "dev" if dev else "cloud"
        assert answer == {
            "status": 400,
            "error": f"Expected server kind {expected}, got {kind}",
            "data": None,
        }


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer undefined", 401),
        ("Bearer ", 401),
        (f"Bearer {hashed_key('signkey-test-ffff')}", 401),
        (f"Bearer {hashed_key(KEY)}", 200),
        (f"Bearer {hashed_key(KEY).removeprefix('signkey-test-')}", 200),
        (f"Bearer {KEY}", 200),
    ],
)
async def test_a_signing_key_is_asked_for(
    ctx: Context, client: TestClient[web.Request, web.Application], authorization: str | None, status: int
) -> None:
    ctx.signing_keys = ["signkey-test-aaaa", KEY]
    headers = {"Authorization": authorization} if authorization is not None else {}
    async with client.post("/fn/register", json=body(fn("a")), headers=headers) as response:
        answer = await response.json()
    assert response.status == status
    if status == 401:
        assert (answer["status"], answer["code"]) == (401, "unauthorized")
        assert answer["error"].startswith("Authentication failed")
        assert (await ctx.engine.registry()).apps == {}


@pytest.mark.parametrize("authorization", ["Bearer undefined", "Bearer ", "nonsense"])
async def test_a_dev_server_without_key_lets_everybody_in(
    client: TestClient[web.Request, web.Application], authorization: str
) -> None:
    headers = {"Authorization": authorization}
    async with client.post("/fn/register", json=body(fn("a")), headers=headers) as response:
        assert response.status == 200


async def test_no_other_server_does(ctx: Context, client: TestClient[web.Request, web.Application]) -> None:
    ctx.dev = False
    async with client.post("/fn/register", json=body(fn("a"))) as response:
        assert response.status == 401
        assert (await response.json())["code"] == "missing_server_signing_key"


async def test_a_store_that_does_not_answer_is_said_to(
    ctx: Context, client: TestClient[web.Request, web.Application]
) -> None:
    ctx.engine.down = True
    async with client.post("/fn/register", json=body(fn("a"))) as response:
        assert response.status == 503
        assert (await response.json())["status"] == 503
