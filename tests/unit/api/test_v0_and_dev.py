from __future__ import annotations

import base64
import json

import pytest
from api_world import APP, ORDER, T0, World, reported, returned, step_run
from msgspec.structs import replace
from streams import events_of

from inngest.api.context import Limits
from inngest.api.events import SEED
from inngest.core.model.events import INVOKED
from inngest.core.model.functions import Trigger
from inngest.core.model.ids import ulid
from inngest.core.policy import Policy
from inngest.ports.data import EventFilter

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def test_the_state_of_a_run_is_fetched_in_the_order_of_its_steps(world: World) -> None:
    run = await world.start(world.event(data=b'{"n":1e2}'))
    await world.call(reported(step_run("b", {"x": 1})))
    await world.call(reported(step_run("a", None)))
    async with world.client.get(f"/v0/runs/{run}/actions") as answer:
        assert await answer.text() == '{"id-b":{"data":{"x":1}},"id-a":{"data":null}}'
    async with world.client.get(f"/v0/runs/{run}/batch") as answer:
        text = await answer.text()
    assert '"data":{"n":1e2}' in text
    assert json.loads(text)[0]["name"] == "order/placed"


async def test_the_state_of_a_run_that_has_ended_is_gone(world: World) -> None:
    run = await world.start()
    await world.call(returned(1))
    for path in ("actions", "batch"):
        status, body = await world.ask("GET", f"/v0/runs/{run}/{path}")
        assert (status, body["status"]) == (410, 410)
        assert "runtime state is no longer available" in body["error"]
        assert (await world.ask("GET", f"/v0/runs/nope/{path}"))[0] == 400


async def test_v0_cancels_a_run(world: World) -> None:
    run = await world.start()
    assert await world.ask("DELETE", f"/v0/runs/{run}") == (204, None)
    assert await world.state(run) is None
    assert (await world.ask("DELETE", f"/v0/runs/{UNKNOWN}"))[0] == 404


async def test_telemetry_is_let_go(world: World) -> None:
    assert (await world.ask("POST", "/v0/telemetry", {"a": 1}))[0] == 200
    assert (await world.ask("POST", "/dev/traces", b"\x00"))[0] == 200


async def test_the_development_server_tells_what_it_is(world: World) -> None:
    status, body = await world.ask("GET", "/dev")
    assert status == 200
    assert body["version"] == "1.2.3"
    assert [fn["slug"] for fn in body["functions"]] == ["shop-order"]
    assert [handler["appName"] for handler in body["handlers"]] == ["shop"]
    assert body["isMissingSigningKey"] is True
    assert (await world.ask("GET", "/"))[0] == 200, "where tools look whether it is up"


async def test_a_foreign_page_learns_that_it_is_there_and_no_more(world: World) -> None:
    status, body = await world.ask("GET", "/dev", Origin="https://evil.example")
    assert (status, body) == (200, {"version": "1.2.3", "functions": [], "handlers": [], "startOpts": {}})
    assert (await world.ask("GET", "/dev", Origin="http://localhost:3000"))[1]["functions"] != []


async def test_another_server_is_no_development_server(world: World) -> None:
    world.ctx.dev = False
    assert (await world.ask("GET", "/dev"))[0] == 404


async def test_what_keeps_an_app_from_answering_is_shown(world: World) -> None:
    problems = {APP.url: "connection refused"}
    world.ctx.app_error = lambda url: problems.get(url, "")
    asked = "{ apps { error connected } }"
    assert await world.query(asked) == {"apps": [{"error": "connection refused", "connected": False}]}
    problems.clear()
    assert await world.query(asked) == {"apps": [{"error": None, "connected": True}]}


async def test_an_app_is_removed_by_its_url_and_its_schedules_stop(world: World) -> None:
    nightly = replace(ORDER, id="cron", slug="shop-nightly", triggers=[Trigger(cron="0 0 * * *")])
    await world.engine.put_app(APP, [ORDER, nightly])
    await world.registry.refresh()
    await world.derive()
    assert (await world.engine.stats()).queued == 1
    status, body = await world.ask("DELETE", "/fn/remove?url=http://nowhere/")
    assert (status, body["status"]) == (404, 404)
    url = "http://127.0.0.1:3000/api/inngest?fnId=x"
    assert (await world.ask("DELETE", f"/fn/remove?url={url}"))[0] == 200
    await world.registry.refresh()
    assert world.registry.apps[APP.id].archived
    assert all(fn.archived for fn in world.registry.functions.values())
    await world.derive()
    assert (await world.engine.stats()).queued == 0


@pytest.mark.parametrize("setting", ["step-limit", "state-size-limit"])
async def test_a_limit_is_set_for_one_function_and_taken_back(world: World, setting: str) -> None:
    limits = world.ctx.limits
    field = "max_steps" if setting == "step-limit" else "max_state"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await world.ask("POST", f"/fn/{setting}", b"functionId=shop-order&limit=7", **form))[0] == 200
    assert getattr(limits.of(ORDER.id), field) == 7
    assert (await world.ask("DELETE", f"/fn/{setting}?functionId={ORDER.id}"))[0] == 200
    assert limits.of(ORDER.id) == limits.of("another")


async def test_a_bad_limit_is_named(world: World) -> None:
    status, body = await world.ask("POST", "/fn/step-limit?functionId=shop-order&limit=-1")
    assert (status, body["error"]) == (400, "Invalid limit: -1")
    status, body = await world.ask("POST", "/fn/step-limit?functionId=nope&limit=1")
    assert (status, body["error"]) == (404, "Unknown function: nope")


# -- invocations --


async def test_a_function_is_invoked_by_name(world: World) -> None:
    body = {"data": {"k": 1, "_inngest": {"correlation_id": "forged"}}, "id": "mine", "v": "2", "name": "x"}
    status, answer = await world.ask("POST", "/invoke/shop-order", body)
    assert status == answer["status"] == 200
    delivery = await world.stream.fetch("runner", 10, 0)
    (event,) = events_of(delivery)
    assert (event.id, event.name, event.external_id, event.v) == (answer["id"], INVOKED, "mine", "2")
    assert event.value["data"] == {
        "k": 1,
        "_inngest": {"fn_id": "shop-order", "source_app_id": APP.id, "name": "Order"},
    }
    assert world.registry.invoked(event) == ORDER


async def test_an_invocation_that_is_repeated_is_the_same(world: World) -> None:
    seed = {SEED: f"{T0},{base64.b64encode(b'0123456789').decode()}"}
    answers = [(await world.ask("POST", "/invoke/shop-order", {}, **seed))[1]["id"] for _ in range(2)]
    # Seeds count from 0 here, and from 1 for the events of a request.
    assert answers == [ulid(T0, b"0123456789")] * 2
    _, other = await world.ask("POST", "/invoke/shop%2Dorder", {}, **{SEED: "nonsense"})
    assert other["id"] not in answers


async def test_an_invocation_is_as_large_as_an_event_may_be(world: World) -> None:
    world.ctx.limits = Limits(Policy(max_event=20))
    assert (await world.ask("POST", "/invoke/shop-order", {"data": {"k": "x" * 12}}))[0] == 200
    status, body = await world.ask("POST", "/invoke/shop-order", {"data": {"k": "x" * 13}})
    assert (status, "21 bytes of data, 20 allowed" in body["error"]) == (400, True)


async def test_a_function_is_invoked_without_a_payload(world: World) -> None:
    assert (await world.ask("POST", "/invoke/shop-order"))[0] == 200
    assert await world.stream.backlog("runner") == 1


async def test_an_invocation_that_is_too_large_for_the_stream_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.stream, "largest", 1000)
    status, body = await world.ask("POST", "/invoke/shop-order", {"data": {"x": "y" * 1000}})
    assert status == body["status"] == 413
    assert "the event stream takes 1000" in body["error"]
    assert await world.stream.backlog("runner") == 0


@pytest.mark.parametrize(
    ("slug", "body", "status"),
    [
        ("nope", b"{}", 404),
        ("shop-order", b'{"data":1}', 400),
        ("shop-order", b"{", 400),
        ("shop-order", b"[{},{}]", 400),
        ("shop-order", b'{"ts":5}', 400),
    ],
)
async def test_a_bad_invocation_is_refused(world: World, slug: str, body: bytes, status: int) -> None:
    answer, told = await world.ask("POST", f"/invoke/{slug}", body)
    assert (answer, told["status"]) == (status, status)
    assert told["error"]
    assert await world.stream.backlog("runner") == 0
    assert await world.data.events(EventFilter(internal=True), limit=9) == []
