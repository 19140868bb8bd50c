from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from api_world import APP, ORDER, T0, World, failed, returned

from inngest.core.timing.times import rfc3339


async def page(world: World, **parameters: Any) -> dict[str, Any]:
    status, body = await world.ask("GET", f"/v1/runs?{urlencode(parameters, doseq=True)}")
    assert status == 200, body
    return dict(body)


async def ids(world: World, **parameters: Any) -> list[str]:
    return [run["run_id"] for run in (await page(world, **parameters))["data"]]


async def test_a_failed_run_is_listed_with_its_error(world: World) -> None:
    run = await world.start()
    await world.call(failed("no stock"))
    (found,) = (await page(world, status="Failed"))["data"]
    assert found == {
        "run_id": run,
        "run_started_at": rfc3339(T0),
        "function_id": ORDER.id,
        "function_version": 1,
        "function_slug": "shop-order",
        "app": "shop",
        "environment_id": "00000000-0000-4000-b000-000000000000",
        "event_id": found["event_id"],
        "status": "Failed",
        "queued_at": rfc3339(T0),
        "ended_at": rfc3339(T0 + 10),
        "error": {"name": "TypeError", "message": "no stock"},
    }


async def test_long_errors_are_cut(world: World) -> None:
    await world.start()
    await world.call(failed("x" * 100_000))
    (found,) = (await page(world))["data"]
    assert found["error"]["message"] == "x" * 500


async def test_runs_are_filtered(world: World) -> None:
    done = await world.start()
    await world.call(returned(1))
    world.now += 1000
    bad = await world.start()
    await world.call(failed("no"))
    world.now += 1000
    waiting = await world.start()
    newest = [waiting, bad, done]
    assert await ids(world) == newest
    assert await ids(world, status="failed") == [bad]
    assert await ids(world, status="FAILED,completed") == [bad, done]
    assert await ids(world, status=["Failed", "Scheduled"]) == [waiting, bad]
    assert await ids(world, status="QUEUED") == [waiting]
    for function in ("shop-order", ORDER.id, ORDER.id.upper()):
        assert await ids(world, function=function) == newest
    assert await ids(world, function="order", app="shop") == newest
    assert await ids(world, app=APP.id) == newest
    assert await ids(world, function=APP.id) == []
    assert await ids(world, since=rfc3339(T0 + 1000)) == [waiting, bad]
    assert await ids(world, until=rfc3339(T0 + 1000)) == [done]
    assert await ids(world, time_field="ended_at", since=rfc3339(T0)) == [bad, done]
    assert await ids(world, order="asc") == newest[::-1]


async def test_runs_are_paged(world: World) -> None:
    runs = []
    for number in range(5):
        world.now += number // 2  # some of the same moment
        runs.append(await world.start())
    for order, expected in (("desc", runs[::-1]), ("asc", runs)):
        found: list[str] = []
        cursor = ""
        while True:
            body = await page(world, limit=2, order=order, cursor=cursor)
            found += [run["run_id"] for run in body["data"]]
            assert body["page"]["limit"] == 2
            assert body["page"]["has_more"] == (body["page"]["cursor"] is not None)
            if not body["page"]["has_more"]:
                break
            cursor = body["page"]["cursor"]
        assert found == expected
    whole = await page(world, limit=5)
    assert whole["page"] == {"cursor": None, "has_more": False, "limit": 5}
    assert (await page(world, limit=100_000))["page"]["limit"] == 100


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"status": "Faild"}, "status: 'Faild' is not one of Scheduled, Running, Completed, Failed"),
        ({"function": "nope"}, "function: there is no function 'nope'"),
        ({"function": "nope", "app": "shop"}, "function: there is no function 'nope' of 'shop'"),
        ({"app": "nope"}, "app: there is no app 'nope'"),
        ({"since": "yesterday"}, "since must be an RFC 3339 time, not 'yesterday'"),
        ({"until": "1"}, "until must be an RFC 3339 time, not '1'"),
        ({"time_field": "died_at"}, "time_field: 'died_at' is not one of queued_at, started_at, ended_at"),
        ({"order": "up"}, "order: 'up' is not one of desc, asc"),
        ({"limit": "0"}, "limit must be an integer from 1 to 100, not '0'"),
        ({"cursor": "x"}, "cursor: Invalid cursor: 'x'"),
        ({"stauts": "Failed"}, "unknown parameters: 'stauts'; there are status, function,"),
    ],
)
async def test_bad_parameters_are_named(world: World, parameters: dict[str, str], message: str) -> None:
    status, body = await world.ask("GET", f"/v1/runs?{urlencode(parameters)}")
    assert (status, body["status"], body["code"]) == (400, 400, "invalid_parameters")
    assert message in body["error"]


async def test_all_bad_parameters_are_named_at_once(world: World) -> None:
    status, body = await world.ask("GET", "/v1/runs?status=a&limit=b&since=c")
    assert status == 400
    assert [part.split()[0] for part in body["error"].split("; ")] == ["status:", "since", "limit"]
