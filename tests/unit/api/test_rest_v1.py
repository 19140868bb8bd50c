from __future__ import annotations

import gzip
import json

import pytest
from api_world import APP, ORDER, T0, World, reported, returned, step_run

from inngest.core.model.runs import RunStatus
from inngest.core.timing.times import rfc3339

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def test_an_event_is_shown_with_its_bytes(world: World) -> None:
    event = world.event(data=b'{"big":12345678901234567890}', external_id="mine", v="3")
    await world.data.put_events([event])
    status, body = await world.ask("GET", f"/v1/events/{event.id}")
    assert status == 200
    assert body["metadata"] == {"fetched_at": rfc3339(T0), "cached_until": None}
    shown = body["data"]
    assert (shown["internal_id"], shown["id"], shown["name"]) == (event.id, "mine", "order/placed")
    assert (shown["data"], shown["user"], shown["ts"], shown["v"]) == (
        {"big": 12345678901234567890},
        {},
        T0,
        "3",
    )
    assert shown["received_at"] == rfc3339(T0)


async def test_events_are_listed_newest_first_and_paged(world: World) -> None:
    events = [world.event(f"app/{number % 2}") for number in range(30)]
    await world.data.put_events([*events, world.event("inngest/function.finished")])
    newest = [event.id for event in reversed(events)]

    async def listed(query: str = "") -> list[str]:
        status, body = await world.ask("GET", f"/v1/events{query}")
        assert status == 200, body
        return [each["internal_id"] for each in body["data"]]

    assert await listed() == newest[:20]
    assert await listed("?limit=5000") == newest
    assert await listed(f"?cursor={newest[1].lower()}&limit=1") == newest[2:3]
    assert await listed(f"?limit=2&cursor={newest[1]}") == newest[2:4]
    assert await listed("?name=app/1&limit=50") == newest[::2]
    assert len(await listed("?name=inngest/function.finished")) == 1


async def test_a_page_of_events_has_a_bound(world: World) -> None:
    await world.data.put_events([world.event() for _ in range(60)])
    for asked in (51, 52, 5000):
        _, body = await world.ask("GET", f"/v1/events?limit={asked}")
        assert len(body["data"]) == 51


async def test_a_bulk_cancellation_may_be_a_little_ahead(world: World) -> None:
    for ahead, status in ((5_000, 200), (5_001, 400)):
        run = await world.start()
        asked = {"app_id": "shop", "function_id": "shop-order", "started_before": rfc3339(T0 + ahead)}
        assert (await world.ask("POST", "/v1/cancellations", asked))[0] == status
        await world.work_off()
        assert (await world.state(run) is None) == (status == 200)


async def test_events_are_listed_by_the_time_of_receipt(world: World) -> None:
    old = world.event()
    world.now += 5000
    new = world.event()
    await world.data.put_events([old, new])
    between = rfc3339(T0 + 1)
    _, after = await world.ask("GET", f"/v1/events?received_after={between}")
    _, before = await world.ask("GET", f"/v1/events?received_before={between}")
    assert [each["internal_id"] for each in after["data"]] == [new.id]
    assert [each["internal_id"] for each in before["data"]] == [old.id]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/events?limit=x", "limit"),
        ("/v1/events?limit=0", "limit"),
        ("/v1/events?cursor=nope", "cursor"),
        ("/v1/events?received_after=yesterday", "received_after"),
        ("/v1/events/nope", "event ID"),
        ("/v1/events/nope/runs", "event ID"),
        ("/v1/runs/nope", "run ID"),
        ("/v1/runs/nope/jobs", "run ID"),
    ],
)
async def test_bad_parameters_are_named(world: World, path: str, message: str) -> None:
    status, body = await world.ask("GET", path)
    assert (status, body["status"]) == (400, 400)
    assert message in body["error"]


async def test_an_unknown_event_is_not_found(world: World) -> None:
    status, body = await world.ask("GET", f"/v1/events/{UNKNOWN}")
    assert (status, body) == (404, {"error": "Event not found", "data": None, "status": 404})


async def test_a_run_is_shown_from_start_to_end(world: World) -> None:
    event = world.event()
    run = await world.start(event)
    _, body = await world.ask("GET", f"/v1/runs/{run}")
    assert body["data"]["status"] == "Scheduled"
    assert body["data"]["output"] is None

    await world.call(reported(step_run("a", 1)))
    _, body = await world.ask("GET", f"/v1/runs/{run}")
    assert body["data"]["status"] == "Running"

    await world.call(returned({"total": 3}))
    _, body = await world.ask("GET", f"/v1/events/{event.id}/runs")
    (shown,) = body["data"]
    assert shown == {
        "run_id": run,
        "run_started_at": rfc3339(T0),
        "function_id": ORDER.id,
        "function_version": 1,
        "environment_id": shown["environment_id"],
        "event_id": event.id,
        "status": "Completed",
        "ended_at": rfc3339(T0 + 20),
        "output": {"total": 3},
    }


async def test_a_run_is_shown_before_its_history_has_arrived(world: World) -> None:
    run = await world.start()
    fresh = World()
    world.ctx.data = fresh.data
    status, body = await world.ask("GET", f"/v1/runs/{run}")
    assert (status, body["data"]["status"]) == (200, "Scheduled")


async def test_an_unknown_run_is_not_found(world: World) -> None:
    for method, path in [
        ("GET", f"/v1/runs/{UNKNOWN}"),
        ("DELETE", f"/v1/runs/{UNKNOWN}"),
        ("GET", f"/v1/runs/{UNKNOWN}/jobs"),
        ("POST", f"/v1/runs/{UNKNOWN}/metadata"),
    ]:
        status, body = await world.ask(method, path, {})
        assert (status, body["status"], body["error"]) == (404, 404, "Run not found")


async def test_a_run_is_cancelled_once(world: World) -> None:
    run = await world.start()
    assert await world.ask("DELETE", f"/v1/runs/{run}") == (200, None)
    assert await world.state(run) is None
    await world.index()
    record = await world.data.run(run)
    assert record is not None
    assert record.status is RunStatus.CANCELLED
    assert await world.ask("DELETE", f"/v1/runs/{run}") == (200, None)


async def test_a_run_that_has_ended_is_not_cancelled(world: World) -> None:
    run = await world.start()
    await world.call(returned(1))
    status, body = await world.ask("DELETE", f"/v1/runs/{run}")
    assert (status, body["status"]) == (409, 409)
    assert "Completed" in body["error"]


async def test_the_jobs_of_a_run_are_listed(world: World) -> None:
    run = await world.start()
    _, body = await world.ask("GET", f"/v1/runs/{run}/jobs")
    assert [(job["kind"], job["attempt"], job["position"]) for job in body["data"]] == [("start", 0, 0)]
    await world.call(reported({"id": "z", "op": "Sleep", "displayName": "nap", "name": "1h"}))
    _, body = await world.ask("GET", f"/v1/runs/{run}/jobs")
    (job,) = body["data"]
    assert (job["kind"], job["step_name"], job["at"]) == ("sleep", "nap", rfc3339(T0 + 3_600_010))


async def test_metadata_that_would_not_be_kept_are_refused(world: World) -> None:
    run = await world.start()
    good = {"target": {"run_id": run}, "metadata": [{"kind": "score", "op": "merge", "values": {"a": 1}}]}
    status, body = await world.ask("POST", f"/v1/runs/{run}/metadata", good)
    assert (status, body["error"]) == (501, "This server keeps no metadata of runs")


async def test_the_functions_of_an_app_are_listed(world: World) -> None:
    for app in ("shop", APP.id):
        status, body = await world.ask("GET", f"/v1/apps/{app}/functions")
        assert status == 200
        assert [(fn["id"], fn["slug"], fn["triggers"]) for fn in body] == [
            (ORDER.id, "shop-order", [{"event": "order/placed"}])
        ]
    assert (await world.ask("GET", "/v1/apps/nope/functions"))[0] == 404


# -- bulk cancellations --


async def test_a_bulk_cancellation_takes_what_matches_in_its_window(world: World) -> None:
    early = await world.start(world.event(data=b'{"k":"x"}'))
    world.now += 1000
    chosen = await world.start(world.event(data=b'{"k":"x"}'))
    spared = await world.start(world.event(data=b'{"k":"y"}'))
    world.now += 1000
    late = await world.start(world.event(data=b'{"k":"x"}'))
    asked = {
        "app_id": "shop",
        "function_id": "order",
        "started_after": rfc3339(T0 + 500),
        "started_before": rfc3339(T0 + 1500),
        "if": "event.data.k == 'x'",
    }
    status, body = await world.ask("POST", "/v1/cancellations", asked)
    assert status == 200
    shown = body["data"]
    assert (shown["function_id"], shown["function_internal_id"], shown["app_id"]) == (
        "shop-order",
        ORDER.id,
        APP.id,
    )
    assert (shown["started_after"], shown["started_before"], shown["if"]) == (
        asked["started_after"],
        asked["started_before"],
        asked["if"],
    )
    assert chosen in await world.runs(), "runners carry it out"
    await world.work_off()
    assert await world.runs() == [early, spared, late]
    record = await world.data.run(chosen)
    assert record is not None
    assert record.status is RunStatus.CANCELLED

    _, listed = await world.ask("GET", "/v1/cancellations")
    assert listed["data"] == [shown]
    assert await world.ask("DELETE", f"/v1/cancellations/{shown['id']}") == (200, {"ok": True})
    assert (await world.ask("DELETE", f"/v1/cancellations/{shown['id']}"))[0] == 404


@pytest.mark.parametrize("name", ["order", "shop-order", ORDER.id])
async def test_bulk_cancellation_knows_removed_functions_whose_runs_go_on(world: World, name: str) -> None:
    run = await world.start()
    await world.engine.put_app(APP, [])
    await world.registry.refresh()
    asked = {"app_id": "shop", "function_id": name, "started_before": rfc3339(world.now)}
    world.now += 1000
    assert (await world.ask("POST", "/v1/cancellations", asked))[0] == 200
    await world.work_off()
    record = await world.data.run(run)
    assert record is not None
    assert record.status is RunStatus.CANCELLED


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"function_id": "nope"}, 404, "function not found"),
        ({"app_id": "other", "function_id": "shop-order"}, 404, "function not found"),
        ({"if": "event.data.k =="}, 400, "Invalid expression"),
        ({"started_before": rfc3339(T0 + 60_000)}, 400, "started_before"),
        ({"started_after": rfc3339(T0)}, 400, "started_after"),
        ({"started_before": "soon"}, 400, "started_before"),
        ({"started_before": None}, 400, "$.started_before"),
    ],
)
async def test_a_bad_bulk_cancellation_cancels_nothing(
    world: World, changes: dict[str, object], status: int, message: str
) -> None:
    await world.start()
    asked = {"app_id": "shop", "function_id": "order", "started_before": rfc3339(T0), **changes}
    answer, body = await world.ask("POST", "/v1/cancellations", asked)
    assert (answer, body["status"]) == (status, status)
    assert message in body["error"]
    await world.work_off()
    assert len(await world.runs()) == 1
    assert await world.engine.cancellations() == []


async def test_a_bulk_cancellation_goes_through_any_number_of_runs_and_is_told_once_of_each(
    world: World,
) -> None:
    started = [await world.start() for _ in range(250)]
    asked = {"app_id": "shop", "function_id": "order", "started_before": rfc3339(T0)}
    assert (await world.ask("POST", "/v1/cancellations", asked))[0] == 200
    await world.work_off()
    assert await world.runs() == []
    records = [await world.data.run(run) for run in started]
    assert {record.status for record in records if record is not None} == {RunStatus.CANCELLED}
    assert len(await world.ended()) == 250


async def test_a_bulk_cancellation_that_is_taken_back_goes_no_further(world: World) -> None:
    run = await world.start()
    asked = {"app_id": "shop", "function_id": "order", "started_before": rfc3339(T0)}
    _, body = await world.ask("POST", "/v1/cancellations", asked)
    await world.ask("DELETE", f"/v1/cancellations/{body['data']['id']}")
    await world.work_off()
    assert await world.runs() == [run]


# -- from applications --


async def test_a_signal_resumes_its_waiter(world: World) -> None:
    run = await world.start()
    wait = {"id": "s", "op": "WaitForSignal", "opts": {"signal": "go", "timeout": "1h"}}
    await world.call(reported(wait))
    status, body = await world.ask("POST", "/v1/signals", {"signal": "go", "data": {"n": 1}})
    assert (status, body["data"]) == (200, {"run_id": run})
    state = await world.state(run)
    assert state is not None
    assert json.loads(state.steps["s"]) == {"data": {"signal": "go", "data": {"n": 1}}}
    status, body = await world.ask("POST", "/v1/signals", {"signal": "go"})
    assert (status, body["status"]) == (404, 404)


async def test_a_signal_has_a_name(world: World) -> None:
    assert (await world.ask("POST", "/v1/signals", {"data": 1}))[0] == 400
    assert (await world.ask("POST", "/v1/signals", {"signal": ""}))[0] == 400


async def test_traces_of_applications_are_taken(world: World) -> None:
    path = "/v1/traces/userland"
    assert await world.ask("POST", path, b'{"resourceSpans":[]}') == (200, {"partialSuccess": {}})
    zipped = gzip.compress(b'{"resourceSpans":[]}')
    assert (await world.ask("POST", path, zipped, **{"Content-Encoding": "gzip"}))[0] == 200
    protobuf = {"Content-Type": "application/x-protobuf"}
    assert await world.ask("POST", path, b"\x0a\x00", **protobuf) == (200, None)
    assert (await world.ask("POST", path, b"{"))[0] == 400
    assert (await world.ask("POST", path, b" " * (8 * 1024 * 1024 + 1)))[0] == 413
