"""Odd JSON, and odd text in paths and parameters, through the doors of the APIs: it passes whole or is
refused with its place. Nothing of it is an error of the server.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from api_world import T0, World, reported
from later_stages import event_goes_through, goes_through
from odd_json import Writer
from streams import events_of
from test_event_api import Entrance

from inngest.core.errors import InvalidEvent
from inngest.core.model.events import INVOKED, Event, accept, parse_body
from inngest.core.policy import MAX_DEPTH
from inngest.core.sdk.calls import dispatch_id
from inngest.core.sdk.responses import read

SDK = {"x-inngest-sdk": "js:v4.24.0", "x-inngest-req-version": "2"}
DEEP = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
REFUSED = [
    (b'{"v":[1,1e400]}', "v[1]: the number 1e400 is beyond the range of doubles"),
    (b'{"v":%b}' % (b"9" * 400), "v: the number 9999"),
    (b'{"v":"\xff"}', "v: text that is not UTF-8"),
    (b'{"v":%b}' % DEEP, "nested deeper than 128 levels"),
]
KEPT = [b'{"v":20000000000000000000}', b'{"v":1e308,"v":2}', b'{"v":"\\u0000"}', b'{"v":"\\ud83d"}']
SEEDS = range(60)
INVOKE = b'"mutation M($d: Map) { invokeFunction(functionSlug: \\"shop-order\\", data: $d) }"'


async def published(world: World) -> list[Event]:
    delivery = await world.stream.fetch("runner", 10_000, 0)
    return events_of(delivery) if delivery is not None else []


async def waiting(world: World, signal: str) -> str:
    """A run that waits for a signal."""
    run = await world.start()
    await world.call(
        reported({"id": "w", "op": "WaitForSignal", "opts": {"signal": signal, "timeout": "1h"}})
    )
    return run


async def test_whatever_is_sent_is_no_error_of_the_server(world: World) -> None:
    run = await world.start()
    leased = await world.lease()
    for seed in SEEDS:
        writer = Writer(seed)
        member = writer.any
        report = (
            b'{"qi_id":%b,"generation_id":%d,"steps":[{"id":"s%d","op":"StepRun",'
            b'"data":%b,"timing":{"a":%b,"b":%b},"opts":%b}]}'
            % (
                msgspec.json.encode(dispatch_id(leased.item, T0)), leased.item.epoch, seed,
                member(), member(), member(), writer.object(),
            )
        )  # fmt: skip
        bodies = {
            f"/v1/checkpoint/{run}/async": (report, member()),
            "/v1/signals": (b'{"signal":%b,"data":%b}' % (writer.text(), member()), member()),
            "/v1/cancellations": (
                b'{"app_id":"shop","function_id":"order","started_before":%b,"if":%b}'
                % (writer.text(), writer.text()),
                member(),
            ),
            "/v1/traces/userland": (member(), b"\xff"),
            "/invoke/shop-order": (
                b'{"data":%b,"user":%b,"id":%b}' % (member(), member(), writer.text()),
                member(),
            ),
            "/v0/gql": (
                b'{"query":%b,"variables":{"d":%b}}' % (INVOKE, member()),
                b'{"query":"{ apps { id } }","variables":%b}' % member(),
                b'{"query":%b}' % writer.text(),
            ),
        }  # fmt: skip
        for path, sent in bodies.items():
            for body in sent:
                status, answer = await world.ask("POST", path, body)
                assert status < 500, (path, body)
                assert status == 200 or answer["error"]
    for event in await published(world):
        event_goes_through(event)
    kept = await world.state(run)
    assert kept is not None
    assert len(kept.steps) > 10
    for value in kept.steps.values():
        goes_through(value)


@pytest.mark.parametrize(("data", "place"), REFUSED, ids=lambda value: repr(value)[:20])
async def test_what_cannot_pass_is_refused_at_every_door(world: World, data: bytes, place: str) -> None:
    waits = await waiting(world, "go")
    status, answer = await world.ask("POST", "/v1/signals", b'{"signal":"go","data":%b}' % data)
    assert status == 400
    assert place in answer["error"]
    assert "data" in answer["error"]
    kept = await world.state(waits)
    assert kept is not None
    assert kept.steps == {}  # it still waits

    status, answer = await world.ask("POST", "/invoke/shop-order", b'{"data":%b}' % data)
    assert status == 400
    assert place in answer["error"]

    query = b'{"query":%b,"variables":{"d":%b}}' % (INVOKE, data)
    status, answer = await world.ask("POST", "/v0/gql", query)
    assert place in (answer["error"] if status == 400 else answer["errors"][0]["message"])
    assert await published(world) == []

    run = await world.start()
    leased = await world.lease()
    report = b'{"qi_id":%b,"steps":[{"id":"a","op":"StepRun","data":1},{"id":"b","op":"StepRun","data":%b}]}'
    body = report % (msgspec.json.encode(dispatch_id(leased.item, T0)), data)
    status, answer = await world.ask("POST", f"/v1/checkpoint/{run}/async", body)
    assert status == 400
    assert "Invalid steps: steps[1].data" in answer["error"]
    assert place in answer["error"]
    kept = await world.state(run)
    assert kept is not None
    assert kept.steps == {}  # nothing half-done


@pytest.mark.parametrize("data", KEPT)
async def test_what_is_odd_and_can_pass_is_kept_as_it_is(world: World, data: bytes) -> None:
    kept = data.replace(b"\\ud83d", b"\\ufffd")
    run = await waiting(world, "go")
    assert (await world.ask("POST", "/v1/signals", b'{"signal":"go","data":%b}' % data))[0] == 200
    state = await world.state(run)
    assert state is not None
    assert state.steps == {"w": b'{"data":{"signal":"go","data":%b}}' % kept}
    assert (await world.ask("POST", "/invoke/shop-order", b'{"data":%b}' % data))[0] == 200
    (event,) = await published(world)
    assert event.name == INVOKED
    assert kept[1:-1].split(b",")[-1] in bytes(event.data)
    event_goes_through(event)


async def test_the_data_of_a_signal_has_a_limit(world: World) -> None:
    await waiting(world, "go")
    body = b'{"signal":"go","data":"%b"}' % (b"x" * (4 * 1024 * 1024))
    status, answer = await world.ask("POST", "/v1/signals", body)
    assert (status, answer["code"]) == (413, "output_too_large")


ODD_TEXTS = (
    "%00", "%FF", "%ED%A0%80", "%C3%28", "a%0Ab", "%F0%9F%98%80", "x" * 4000, "9" * 400, "-1", "1e400",
    "0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "%E2%80%A8", "..%2F..", "%22", "'",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_odd_parameters_are_no_error_of_the_server(world: World, text: str) -> None:
    await world.start()
    for path in (
        f"/v1/events?name={text}", f"/v1/events?cursor={text}", f"/v1/events?limit={text}",
        f"/v1/events?received_after={text}", f"/v1/events?received_before={text}", f"/v1/events/{text}",
        f"/v1/events/{text}/runs", f"/v1/runs/{text}", f"/v1/runs/{text}/jobs", f"/v1/apps/{text}/functions",
        f"/v0/runs/{text}/actions",
    ):  # fmt: skip
        status, answer = await world.ask("GET", path)
        assert status in {200, 400, 404, 410}, path
        assert status == 200 or answer["error"]
    for path in (
        f"/invoke/{text}", f"/fn/step-limit?functionId=shop-order&limit={text}",
        f"/fn/state-size-limit?functionId={text}&limit=5", f"/v1/checkpoint/{text}/async",
        f"/v1/runs/{text}/metadata",
    ):  # fmt: skip
        status, answer = await world.ask("POST", path, b"{}")
        assert status in {200, 400, 404}, path
    status, _ = await world.ask("DELETE", f"/fn/remove?url={text}")
    assert status == 404


@pytest.mark.parametrize(
    "time",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1960-01-01", 5, [], {"a": 1}, True, ""],
)
async def test_odd_times_are_told(world: World, time: Any) -> None:
    body = {"app_id": "shop", "function_id": "order", "started_before": time}
    status, answer = await world.ask("POST", "/v1/cancellations", body)
    assert status in {200, 400}
    assert status == 200 or answer["error"]
    asked = {"filter": {"from": time}}
    events = "query E($filter: EventsFilter!) { eventsV2(filter: $filter, first: 1) { totalCount } }"
    status, answer = await world.ask("POST", "/v0/gql", {"query": events, "variables": asked})
    assert status == 200
    told = [error["message"] for error in answer.get("errors", ())]
    assert "Internal server error" not in told


@pytest.mark.parametrize(
    ("cursor", "place"),
    [
        *((bad, False) for bad in ("9" * 30 + ":x", "-5:x", "\u0663:x", "1:", ":", "9" * 5000 + ":x")),
        *((odd, True) for odd in ("1:\x00", "1:" + "x" * 5000)),
    ],
)
async def test_odd_cursors_are_told(world: World, cursor: str, place: bool) -> None:
    """A place that no run has is a place all the same."""
    await world.start()
    asked = 'query R($after: String) { runs(after: $after, filter: {from: "2020-01-01"}) { totalCount } }'
    variables = {"after": urlsafe_b64encode(cursor.encode()).decode()}
    _, answer = await world.ask("POST", "/v0/gql", {"query": asked, "variables": variables})
    told = [error["message"] for error in answer.get("errors", ())]
    assert {message[:14] for message in told} == (set() if place else {"Invalid cursor"})


@pytest.mark.parametrize("value", [5, ["a"], {"a": 1}, True, 1.5, 10**30])
async def test_scalars_of_another_type_are_told(world: World, value: Any) -> None:
    for query, variables in (
        ("mutation M($v: ULID!) { cancelRun(runID: $v) { id } }", {"v": value}),
        ("mutation M($v: ULID!) { rerun(runID: $v) }", {"v": value}),
        (
            "query Q($f: RunsFilterV2!) { runs(filter: $f) { totalCount } }",
            {"f": {"from": "2020-01-01", "functionIDs": [value]}},
        ),
    ):
        told = await world.error(query, **variables)
        assert "cannot represent" in told


@pytest.mark.parametrize("depth", [100, 500, 3000])
async def test_a_query_that_nests_too_deep_is_told(world: World, depth: int) -> None:
    value = "{a:" * depth + "1" + "}" * depth
    query = f'mutation {{ invokeFunction(functionSlug: "shop-order", data: {value}) }}'
    status, answer = await world.ask("POST", "/v0/gql", {"query": query})
    assert status == 200
    if "errors" in answer:
        message = answer["errors"][0]["message"]
        assert "nests too deep" in message or "nested" in message or "token" in message
    else:
        assert depth <= MAX_DEPTH
    nested = "{ apps " + "{ functions { app " * depth + "{ id }" + " } }" * depth + " }"
    status, answer = await world.ask("POST", "/v0/gql", {"query": nested})
    assert status == 200
    assert "Internal server error" not in str(answer.get("errors"))


async def test_a_literal_that_json_cannot_say_is_refused(world: World) -> None:
    query = 'mutation { invokeFunction(functionSlug: "shop-order", data: {v: [1e400]}) }'
    assert "no number inf" in await world.error(query)
    assert await published(world) == []


async def test_what_was_reported_can_be_read(world: World) -> None:
    """Of events, steps and errors, by every API."""
    spans = "childrenSpans { outputID childrenSpans { outputID } }"
    run_query = f"query R($id: String!) {{ run(runID: $id) {{ output trace {{ outputID {spans} }} }} }}"
    output_query = """query O($id: String!) {
      runTraceSpanOutputByID(outputID: $id) { input data error { message name stack cause } } }"""
    shown = 0
    for seed in range(25):
        writer = Writer(seed)
        try:
            (inbound,) = parse_body(b'{"name":"order/placed","data":%b}' % writer.object())
            event = accept(inbound, world.ctx.new_id(), world.now, 1 << 20)
        except InvalidEvent:
            continue
        run = await world.start(event)
        ops = b'[{"id":"a","op":"StepRun","data":%b,"opts":{"input":[%b]}},'
        ops += b'{"id":"b","op":"StepFailed","error":%b}]'
        odd = (writer.any(), writer.any(), writer.object())
        await world.call(read(206, SDK, ops % odd, world.now))
        world.now += 3_600_000  # of a retry, if the answer was refused
        end = b'{"name":"E","message":"m","cause":%b}' % writer.any()
        await world.call(read(400, {**SDK, "x-inngest-no-retry": "true"}, end, world.now))
        for path in (
            f"/v1/runs/{run}",
            f"/v1/events/{event.id}",
            "/v1/events",
            f"/v1/events/{event.id}/runs",
        ):
            assert (await world.ask("GET", path))[0] == 200
        root = (await world.query(run_query, id=run))["run"]["trace"]
        found = [span["outputID"] for span in [root, *root["childrenSpans"]] if span["outputID"]]
        for output in found:
            told = (await world.query(output_query, id=output))["runTraceSpanOutputByID"]
            assert told["data"] is not None or told["error"] is not None
            shown += 1
    assert shown > 40


# -- events --


async def test_whatever_is_sent_as_an_event_is_taken_whole_or_refused() -> None:
    entrance = Entrance()
    await entrance.client.start_server()
    try:
        for seed in SEEDS:
            writer = Writer(seed)
            fields = (writer.text(), writer.object(), writer.object(), writer.text(), writer.any())
            event = b'{"name":%b,"data":%b,"user":%b,"id":%b,"meta":%b}' % fields
            for body in (event, b"[" + event + b',{"name":"b"}]', writer.any(), event[:-2]):
                status, answer = await entrance.post(body)
                kept = await entrance.kept()
                assert status in {200, 400, 413}
                assert len(kept) == len([each for each in answer["ids"] if each])
                assert status == 200 or answer["error"]
                for each in kept:
                    event_goes_through(each)
    finally:
        await entrance.client.close()


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            b'{"name":"a","data":{"a":[1,2,3,{"b":1e400}]}}',
            "event data is not valid: data.a[3].b: the number",
        ),
        (b'{"name":"a","user":{"a":"\xff"}}', "event user is not valid: user.a: text that is not UTF-8"),
        (b'{"name":"a","data":{"v":%b}}' % DEEP, "nested deeper than 128 levels"),
        (b'{"name":"a","data":{},"id":"%b"}' % (b"x" * 257), "event id is longer than 256 characters"),
        (b'{"name":"a","data":{},"v":"%b"}' % (b"x" * 257), "event v is longer than 256 characters"),
        (b'{"name":"a\\nb"}', "event name holds a control character: 'a\\nb'"),
        (b'{"name":"\\u0000signal/go"}', "event name holds a control character"),
        (b'{"name":"a","ts":%b}' % (b"9" * 400), "event ts must be between"),
        (b'{"name":"a","meta":{"sessions":{"a":"\xff"}}}', "event meta is not valid"),
        (b'{"name":"a","meta":{"other":%b}}' % (b"[" * 990 + b"]" * 990), ""),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_an_event_that_cannot_pass_is_refused_with_its_place(event: bytes, said: str) -> None:
    entrance = Entrance()
    await entrance.client.start_server()
    try:
        status, answer = await entrance.post(event)
        assert said in answer.get("error", "")
        assert status == (400 if said else status)
        assert status < 500
        assert (await entrance.kept() == []) == (status != 200)
    finally:
        await entrance.client.close()


async def test_a_form_in_an_unknown_encoding_is_refused() -> None:
    entrance = Entrance()
    await entrance.client.start_server()
    head = b'Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain; charset=nonesuch'
    part = b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n"
    try:
        status, answer = await entrance.post(part, **{"Content-Type": "multipart/form-data; boundary=b"})
        assert status == 400
        assert "form cannot be read" in answer["error"]
    finally:
        await entrance.client.close()
