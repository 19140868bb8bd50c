from __future__ import annotations

import json
from typing import Any

import pytest
from api_world import APP, ORDER, T0, Sync, World, failed, reported, returned, step_run
from streams import events_of

from inngest.core.model.events import INVOKED
from inngest.core.model.ids import hashed_step_id, is_ulid
from inngest.core.model.runs import RunStatus
from inngest.core.timing.times import rfc3339

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
SINCE = rfc3339(T0 - 1000)

SPAN = """
  name status attempts duration outputID queuedAt startedAt endedAt stepOp stepID stepType isRoot
  parentSpanID spanID traceID runID isUserland userlandSpan { spanName }
  metadata { scope kind values updatedAt } skipReason skipExistingRunID
  debugRunID debugSessionID debugPaused response { statusCode headers }
  stepInfo {
    __typename
    ... on InvokeStepInfo {
      triggeringEventID functionID returnEventID runID invokeTimeout: timeout invokeTimedOut: timedOut
    }
    ... on SleepStepInfo { sleepUntil }
    ... on WaitForEventStepInfo {
      eventName expression foundEventID waitTimeout: timeout waitTimedOut: timedOut
    }
    ... on WaitForSignalStepInfo { signal signalTimeout: timeout signalTimedOut: timedOut }
    ... on RunStepInfo { type }
  }
"""
RUN = f"""
query Run($id: String!) {{
  run(runID: $id) {{
    id status output traceID startedAt endedAt queuedAt isBatch batchCreatedAt cronSchedule eventName hasAI
    function {{ name slug }} app {{ name }}
    trace(preview: true) {{ {SPAN} childrenSpans {{ {SPAN} childrenSpans {{ {SPAN} }} }} }}
  }}
}}
"""
OUTPUT = """
query Output($id: String!) {
  runTraceSpanOutputByID(outputID: $id) { input data error { message name stack cause } }
}
"""
RUNS = """
query Runs($first: Int, $after: String, $by: [RunsV2OrderBy!]!, $filter: RunsFilterV2!) {
  runs(first: $first, after: $after, orderBy: $by, filter: $filter) {
    edges { cursor node { id status } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    totalCount
  }
}
"""
NEWEST = [{"field": "QUEUED_AT", "direction": "DESC"}]


async def test_a_run_with_its_trace(world: World) -> None:
    run = await world.start()
    await world.call(reported(step_run("one", {"a": 1}, opts={"type": "step.run", "input": [5]})))
    await world.call(returned([3]))
    found = (await world.query(RUN, id=run))["run"]
    assert (found["id"], found["status"], found["output"]) == (run, "COMPLETED", "[3]")
    assert (found["eventName"], found["isBatch"], found["hasAI"]) == ("order/placed", False, False)
    assert found["function"] == {"name": "Order", "slug": "shop-order"}
    assert found["app"] == {"name": "shop"}
    assert (found["queuedAt"], found["startedAt"], found["endedAt"]) == (
        rfc3339(T0),
        rfc3339(T0),
        rfc3339(T0 + 20),
    )
    root = found["trace"]
    assert (root["name"], root["status"], root["isRoot"], root["parentSpanID"]) == (
        "Run",
        "COMPLETED",
        True,
        None,
    )
    assert (root["runID"], root["traceID"], root["duration"]) == (run, found["traceID"], 20)
    step, final = root["childrenSpans"]
    assert (step["name"], step["stepOp"], step["stepID"], step["stepType"]) == (
        "one",
        "RUN",
        "id-one",
        "step.run",
    )
    assert step["stepInfo"] == {"__typename": "RunStepInfo", "type": "step.run"}
    assert (final["name"], final["status"], final["stepInfo"]) == ("Finalization", "COMPLETED", None)

    async def output(span: Any) -> Any:
        return (await world.query(OUTPUT, id=span["outputID"]))["runTraceSpanOutputByID"]

    assert await output(root) == {"input": None, "data": "[3]", "error": None}
    assert await output(step) == {"input": "[5]", "data": '{"a":1}', "error": None}
    assert await output(final) == {"input": None, "data": "[3]", "error": None}


async def test_a_run_of_many_days_has_a_duration(world: World) -> None:
    run = await world.start()
    await world.call(reported({"id": "z", "op": "Sleep", "name": "60d"}))
    days = 60 * 86_400_000
    world.now += days
    root = (await world.query(RUN, id=run))["run"]["trace"]
    assert [root["duration"], root["childrenSpans"][0]["duration"]] == [days + 10, days]


async def test_connected_workers_are_listed(world: World) -> None:
    worker = {
        "instanceID": "i",
        "appName": "shop",
        "connectedAt": SINCE,
        "functionCount": 1,
        "sdkLang": "py",
        "sdkVersion": "1",
        "sdkPlatform": "",
        "os": "linux",
        "cpuCores": 2,
        "memBytes": 16 << 30,
    }
    world.ctx.workers = lambda: [
        {"id": "W1", "status": "READY", **worker},
        {"id": "W2", "status": "DRAINING", **worker},
    ]
    query = """
    query W($after: String, $filter: ConnectV1WorkerConnectionsFilter) {
      workerConnections(first: 1, after: $after, filter: $filter) {
        edges { cursor node { id appName memBytes } } pageInfo { hasNextPage } totalCount
      }
    }
    """
    page = (await world.query(query))["workerConnections"]
    assert page["edges"] == [{"cursor": "W2", "node": {"id": "W2", "appName": "shop", "memBytes": 16 << 30}}]
    assert (page["pageInfo"]["hasNextPage"], page["totalCount"]) == (True, 2)
    page = (await world.query(query, after="W2"))["workerConnections"]
    assert [edge["cursor"] for edge in page["edges"]] == ["W1"]
    page = (await world.query(query, filter={"status": ["READY"]}))["workerConnections"]
    assert [edge["cursor"] for edge in page["edges"]] == ["W1"]


async def test_a_failed_run_and_its_error(world: World) -> None:
    run = await world.start()
    await world.call(failed("boom"))
    found = (await world.query(RUN, id=run))["run"]
    assert found["status"] == "FAILED"
    assert json.loads(found["output"])["message"] == "boom"
    output = (await world.query(OUTPUT, id=found["trace"]["outputID"]))["runTraceSpanOutputByID"]
    error = {"message": "boom", "name": "TypeError", "stack": "at x", "cause": None}
    assert output == {"input": None, "data": None, "error": error}


async def test_waits_tell_what_they_wait_for(world: World) -> None:
    run = await world.start()
    await world.call(
        reported(
            {"id": "z", "op": "Sleep", "name": "1m"},
            {"id": "w", "op": "WaitForEvent", "opts": {"event": "app/y", "timeout": "1h"}},
            {"id": "s", "op": "WaitForSignal", "opts": {"signal": "go", "timeout": "1h"}},
            {"id": "i", "op": "InvokeFunction", "opts": {"function_id": "shop-x", "payload": {}}},
        )
    )
    found = (await world.query(RUN, id=run))["run"]
    assert found["status"] == "RUNNING"
    assert found["trace"]["outputID"] is None
    spans = {span["stepID"]: span for span in found["trace"]["childrenSpans"]}
    assert {span["status"] for span in spans.values()} == {"WAITING"}
    assert [spans[step]["stepOp"] for step in "zwsi"] == [
        "SLEEP",
        "WAIT_FOR_EVENT",
        "WAIT_FOR_SIGNAL",
        "INVOKE",
    ]
    assert spans["z"]["stepInfo"] == {
        "__typename": "SleepStepInfo",
        "sleepUntil": rfc3339(T0 + 60_010),
    }
    assert spans["w"]["stepInfo"] == {
        "__typename": "WaitForEventStepInfo",
        "eventName": "app/y",
        "expression": None,
        "foundEventID": None,
        "waitTimeout": rfc3339(T0 + 3_600_010),
        "waitTimedOut": None,
    }
    assert spans["s"]["stepInfo"]["signal"] == "go"
    assert spans["i"]["stepInfo"]["functionID"] == "shop-x"


async def test_what_is_unknown_is_null(world: World) -> None:
    found = await world.query(
        """
        query Q($run: String!, $id: ID!, $ulid: ULID!, $uuid: UUID!) {
          run(runID: $run) { id }
          runTrace(runID: $run) { name }
          runTrigger(runID: $run) { eventName }
          runTraceSpanOutputByID(outputID: "nonsense") { data }
          functionRun(query: {functionRunId: $id}) { id }
          event(query: {eventId: $id}) { id }
          eventV2(id: $ulid) { id }
          app(id: $uuid) { id }
          functionBySlug(query: {functionSlug: "nope"}) { id }
        }
        """,
        run=UNKNOWN,
        id=UNKNOWN,
        ulid=UNKNOWN,
        uuid="nope",
    )
    assert set(found.values()) == {None}
    run = await world.start()
    await world.call(returned(1))
    trace = (await world.query("query Q($i: String!) { runTrace(runID: $i) { outputID } }", i=run))[
        "runTrace"
    ]
    elsewhere = trace["outputID"][:-4] + "AAAA"
    assert (await world.query(OUTPUT, id=elsewhere))["runTraceSpanOutputByID"] is None


async def test_the_trigger_of_a_run(world: World) -> None:
    event = world.event(external_id="mine")
    run = await world.start(event)
    query = """
    query T($id: String!) {
      runTrigger(runID: $id) { eventName IDs payloads timestamp isBatch batchID cron }
    }
    """
    expected = {
        "eventName": "order/placed",
        "IDs": [event.id],
        "payloads": [event.payload.decode()],
        "timestamp": rfc3339(T0),
        "isBatch": False,
        "batchID": None,
        "cron": None,
    }
    assert (await world.query(query, id=run))["runTrigger"] == expected
    world.ctx.data = World().data  # nothing has arrived there yet
    assert (await world.query(query, id=run))["runTrigger"] == expected


async def test_an_event_leads_to_its_runs(world: World) -> None:
    event = world.event(external_id="mine")
    run = await world.start(event)
    found = await world.query(
        """
        query Q($id: ID!, $ulid: ULID!, $run: ID!) {
          event(query: {eventId: $id}) { functionRuns { id status function { slug } } }
          eventV2(id: $ulid) {
            id idempotencyKey name occurredAt receivedAt raw version
            runs { id status startedAt endedAt function { name slug } }
          }
          functionRun(query: {functionRunId: $run}) { output status event { name } }
        }
        """,
        id=event.id,
        ulid=event.id,
        run=run,
    )
    assert found["event"]["functionRuns"] == [
        {"id": run, "status": "QUEUED", "function": {"slug": "shop-order"}}
    ]
    shown = found["eventV2"]
    assert (shown["id"], shown["idempotencyKey"], shown["occurredAt"]) == (event.id, "mine", rfc3339(T0))
    assert json.loads(shown["raw"])["data"] == {"n": 1}
    assert [each["id"] for each in shown["runs"]] == [run]
    assert found["functionRun"] == {"output": None, "status": "QUEUED", "event": {"name": "order/placed"}}


async def test_an_event_without_an_id_of_its_sender_is_one_by_its_own(world: World) -> None:
    event = world.event()
    await world.start(event)
    found = await world.query("query Q($id: ULID!) { eventV2(id: $id) { idempotencyKey } }", id=event.id)
    assert found["eventV2"] == {"idempotencyKey": event.id}


async def test_runs_are_listed_and_paged(world: World) -> None:
    runs = []
    for _ in range(5):
        world.now += 1000
        runs.append(await world.start())
    newest = runs[::-1]
    page = (await world.query(RUNS, first=2, by=NEWEST, filter={"from": SINCE}))["runs"]
    assert [edge["node"]["id"] for edge in page["edges"]] == newest[:2]
    assert page["totalCount"] == 5
    assert page["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": page["edges"][0]["cursor"],
        "endCursor": page["edges"][1]["cursor"],
    }
    after = page["pageInfo"]["endCursor"]
    rest = (await world.query(RUNS, first=9, after=after, by=NEWEST, filter={"from": SINCE}))["runs"]
    assert [edge["node"]["id"] for edge in rest["edges"]] == newest[2:]
    assert rest["pageInfo"]["hasNextPage"] is False
    assert rest["pageInfo"]["hasPreviousPage"] is True


async def test_runs_are_filtered_and_ordered(world: World) -> None:
    first = await world.start(world.event(data=b'{"k":"a"}'))
    await world.call(returned(1))
    world.now += 1000
    second = await world.start(world.event(data=b'{"k":"b"}'))

    async def ids(by: list[dict[str, str]] = NEWEST, **where: object) -> list[str]:
        filters = {"from": SINCE, **where}
        found = (await world.query(RUNS, first=9, by=by, filter=filters))["runs"]
        assert found["totalCount"] == len(found["edges"])
        return [edge["node"]["id"] for edge in found["edges"]]

    assert await ids() == [second, first]
    assert await ids([{"field": "QUEUED_AT", "direction": "ASC"}]) == [first, second]
    assert await ids([{"field": "ENDED_AT", "direction": "DESC"}]) == [first, second]
    assert await ids(status=["COMPLETED", "FAILED"]) == [first]
    assert await ids(functionIDs=[ORDER.id]) == [second, first]
    assert await ids(functionIDs=[APP.id]) == []
    assert await ids(appIDs=[APP.id]) == [second, first]
    assert await ids(appIDs=[ORDER.id]) == []
    assert await ids(until=rfc3339(T0 + 500)) == [first]
    assert await ids(timeField="ENDED_AT") == [first]
    assert await ids(query="event.data.k == 'b'") == [second]
    assert await ids(query="event.data.k == 'c'") == []


async def test_a_search_looks_beyond_its_first_chunk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inngest.api.search._CHUNK", 2)
    runs = [await world.start(world.event(data=b'{"n":%d}' % number)) for number in range(7)]
    filters = {"from": SINCE, "query": "event.data.n < 2"}
    page = (await world.query(RUNS, first=1, by=NEWEST, filter=filters))["runs"]
    assert [edge["node"]["id"] for edge in page["edges"]] == [runs[1]]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (2, True)


async def test_events_are_listed(world: World) -> None:
    events = [world.event(f"app/{number}") for number in range(3)]
    await world.data.put_events([*events, world.event(INVOKED)])
    query = """
    query E($first: Int!, $after: String, $filter: EventsFilter!) {
      eventsV2(first: $first, after: $after, filter: $filter) {
        edges { cursor node { id name } } pageInfo { hasNextPage endCursor } totalCount
      }
    }
    """

    async def names(first: int = 9, after: str | None = None, **where: object) -> list[str]:
        found = await world.query(query, first=first, after=after, filter={"from": SINCE, **where})
        return [edge["node"]["name"] for edge in found["eventsV2"]["edges"]]

    assert await names() == ["app/2", "app/1", "app/0"]
    assert await names(1, events[2].id) == ["app/1"]
    assert await names(includeInternalEvents=True) == [INVOKED, "app/2", "app/1", "app/0"]
    assert await names(eventNames=["app/1", INVOKED]) == [INVOKED, "app/1"]
    assert await names(query="event.name == 'app/0'") == ["app/0"]
    assert await names(until=SINCE) == []
    stream = "{ stream(query: {limit: 2}) { id trigger type runs { id } } }"
    assert [item["trigger"] for item in (await world.query(stream))["stream"]] == ["app/2", "app/1"]


async def test_apps_and_functions(world: World) -> None:
    found = await world.query(
        """
        query Q($id: UUID!) {
          functions { id name slug app { id externalID name } triggers { type value condition } config }
          functionBySlug(query: {functionSlug: "shop-order"}) { id }
          apps { id externalID connected functionCount functions { slug } url sdkLanguage method error }
          archived: apps(filter: {archived: true}) { id }
          connected: apps(filter: {method: CONNECT}) { id }
          app(id: $id) { name }
          workerConnections(first: 5, filter: {}) { edges { node { id } } totalCount }
        }
        """,
        id=APP.id,
    )
    (function,) = found["functions"]
    assert (function["id"], function["slug"]) == (ORDER.id, "shop-order")
    assert function["app"] == {"id": APP.id, "externalID": "shop", "name": "shop"}
    assert function["triggers"] == [{"type": "EVENT", "value": "order/placed", "condition": None}]
    assert json.loads(function["config"])["slug"] == "shop-order"
    assert found["functionBySlug"] == {"id": ORDER.id}
    (app,) = found["apps"]
    assert (app["externalID"], app["connected"], app["functionCount"], app["method"]) == (
        "shop",
        True,
        1,
        "SERVE",
    )
    assert found["archived"] == found["connected"] == []
    assert found["app"] == {"name": "shop"}
    assert found["workerConnections"] == {"edges": [], "totalCount": 0}


# -- mutations --


async def test_a_run_is_cancelled(world: World) -> None:
    run = await world.start()
    mutation = "mutation C($id: ULID!) { cancelRun(runID: $id) { id status } }"
    assert (await world.query(mutation, id=run))["cancelRun"] == {"id": run, "status": "CANCELLED"}
    assert await world.state(run) is None
    assert await world.error(mutation, id=UNKNOWN) == "Run not found"


async def test_a_function_is_invoked(world: World) -> None:
    mutation = "mutation I($d: Map) { invokeFunction(functionSlug: %s, data: $d, user: {id: 1}) }"
    assert await world.query(mutation % '"shop-order"', d={"k": [1]}) == {"invokeFunction": True}
    delivery = await world.stream.fetch("runner", 10, 0)
    (event,) = events_of(delivery)
    assert (event.name, event.value["data"]["k"], event.value["user"]) == (INVOKED, [1], {"id": 1})
    assert "nope" in await world.error(mutation % '"nope"')


async def test_a_run_is_repeated(world: World) -> None:
    event = world.event(external_id="mine")
    run = await world.start(event)
    await world.call(returned(1))
    found = await world.query("mutation R($id: ULID!) { rerun(runID: $id) }", id=run)
    again = found["rerun"]
    state = await world.state(again)
    assert state is not None
    assert (state.original, state.event_ids, state.events) == (run, [event.id], [event.payload])
    await world.index()
    await world.call(returned(2))
    record = await world.data.run(again)
    assert record is not None
    assert (record.status, record.original, record.output) == (RunStatus.COMPLETED, run, b"2")
    assert await world.error("mutation R($id: ULID!) { rerun(runID: $id) }", id=UNKNOWN) == "Run not found"


RERUN_FROM = "mutation R($id: ULID!, $s: String!) { rerun(runID: $id, fromStep: {stepID: $s}) }"


async def test_a_run_is_repeated_from_a_step(world: World) -> None:
    run = await world.start()
    await world.call(reported(step_run("a", 1)))
    await world.call(reported({"id": "z", "op": "Sleep", "name": "1s"}))
    world.now += 2000
    await world.engine.commit([_expired(await world.lease())])
    await world.call(reported(step_run("b", 2)))
    await world.call(reported(step_run("c", 3)))
    await world.call(returned("end"))
    again = (await world.query(RERUN_FROM, id=run, s="id-b"))["rerun"]
    state = await world.state(again)
    assert state is not None
    assert state.steps == {"id-a": b'{"data":1}', "z": b"null"}
    assert state.stack == ["id-a", "z"]
    await world.index()
    told = await world.data.history([run, again])
    ids = [entry.id for entries in told.values() for entry in entries]
    assert len(told[again]) > 3
    assert all(map(is_ulid, ids))
    assert len(set(ids)) == len(ids)
    await world.index()
    trace = (await world.query(RUN, id=again))["run"]["trace"]
    assert [(span["stepID"], span["stepOp"], span["status"]) for span in trace["childrenSpans"]] == [
        ("id-a", "RUN", "COMPLETED"),
        ("z", "SLEEP", "COMPLETED"),
    ]
    assert "no step" in await world.error(RERUN_FROM, id=run, s=hashed_step_id("x"))
    with_input = 'mutation R($id: ULID!) { rerun(runID: $id, fromStep: {stepID: "id-b", input: "[]"}) }'
    assert "another input" in await world.error(with_input, id=run)


def _expired(leased: Any) -> Any:
    from inngest.core.decisions.advance import expire
    from inngest.core.decisions.moment import Moment

    return expire(leased.run, ORDER, leased.item, Moment(now=T0 + 2000, new_id=lambda: UNKNOWN))


async def test_an_app_is_synced_and_deleted(world: World) -> None:
    create = "mutation C($u: String!) { createApp(input: {url: $u}) { id externalID } }"
    url = "http://127.0.0.1:3000/api/inngest"
    assert (await world.query(create, u=url))["createApp"] == {"id": APP.id, "externalID": "shop"}
    assert world.synced == [url]
    world.sync = Sync(ok=False, code="unreachable", message="nobody answers")
    assert await world.error(create, u=url) == "nobody answers"

    by_name = "mutation { deleteAppByName(name: %s) }"
    assert await world.query(by_name % '"nope"') == {"deleteAppByName": False}
    assert await world.query(by_name % '"shop"') == {"deleteAppByName": True}
    await world.registry.refresh()
    assert (await world.query("{ apps { id } functions { id } }")) == {"apps": [], "functions": []}
    delete = "mutation D($id: String!) { deleteApp(id: $id) }"
    assert "App not found" in await world.error(delete, id=APP.id)


async def test_an_app_moves(world: World) -> None:
    update = "mutation U($id: String!, $u: String!) { updateApp(input: {id: $id, url: $u}) { id } }"
    assert (await world.query(update, id=APP.id, u=APP.url))["updateApp"] == {"id": APP.id}
    assert "App not found" in await world.error(update, id=ORDER.id, u=APP.url)


# -- what SDK suites and tools ask for --

SPAN = """
name status attempts duration outputID queuedAt startedAt endedAt stepOp stepID stepType isRoot parentSpanID
spanID traceID runID isUserland userlandSpan { spanName } metadata { scope kind values updatedAt } skipReason
skipExistingRunID debugRunID debugSessionID debugPaused response { statusCode headers }
stepInfo {
  __typename
  ... on InvokeStepInfo { triggeringEventID functionID timeout returnEventID runID timedOut }
  ... on SleepStepInfo { sleepUntil }
  ... on WaitForEventStepInfo { eventName expression waitTimeout: timeout foundEventID timedOut }
  ... on WaitForSignalStepInfo { signal signalTimeout: timeout timedOut }
  ... on RunStepInfo { type }
}
"""

EVERYTHING = """
query Q($run: String!, $id: ID!, $ulid: ULID!, $uuid: UUID!, $out: String!, $from: Time!) {
  run(runID: $run) {
    id status output traceID startedAt endedAt queuedAt isBatch batchCreatedAt cronSchedule eventName hasAI
    function { name slug } app { name } trace(preview: true) { %s childrenSpans { %s } }
  }
  runTraceSpanOutputByID(outputID: $out) { input data error { message name stack cause } }
  runTrigger(runID: $run) { eventName IDs payloads timestamp isBatch batchID cron }
  event(query: {eventId: $id}) { functionRuns { id } }
  functionRun(query: {functionRunId: $run2}) { output status }
  runs(
    first: 1, after: null, orderBy: [{field: STARTED_AT, direction: ASC}], preview: true,
    filter: {
      from: $from, until: $from, status: [COMPLETED, FAILED, CANCELLED, RUNNING], timeField: ENDED_AT,
      functionIDs: [$uuid], appIDs: [$uuid], query: "event.data.n == 1"
    }
  ) {
    edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount
  }
  eventsV2(
    first: 1, after: null,
    filter: {from: $from, until: $from, query: "true", eventNames: ["a"], includeInternalEvents: true}
  ) { edges { node { id } } }
  eventV2(id: $ulid) {
    id idempotencyKey name occurredAt receivedAt raw version
    runs { id status startedAt endedAt function { name slug } }
  }
  functions { id name slug app { id externalID name } }
  apps(filter: {archived: false}) { id } app(id: $uuid) { id }
  functionBySlug(query: {functionSlug: "shop-order"}) { id }
  stream(query: {limit: 1}) { id } workerConnections(first: 1, filter: {}) { totalCount }
}
""".replace("%s", SPAN).replace("$run2", "$id")


async def test_every_name_that_is_asked_for_is_there(world: World) -> None:
    run = await world.start()
    await world.call(reported(step_run("a", 1)))
    await world.call(returned({"n": 1}))
    output = "query O($i: String!) { run(runID: $i) { trace(preview: true) { outputID } } }"
    trace = (await world.query(output, i=run))["run"]["trace"]
    event = (await world.query(TRIGGER, i=run))["runTrigger"]["IDs"][0]
    found = await world.query(
        EVERYTHING, run=run, id=event, ulid=event, uuid=APP.id, out=trace["outputID"], **{"from": SINCE}
    )
    assert (found["run"]["status"], found["run"]["output"]) == ("COMPLETED", '{"n":1}')
    assert found["run"]["trace"]["name"] == "Run"
    assert [span["name"] for span in found["run"]["trace"]["childrenSpans"]] == ["a", "Finalization"]
    assert found["runTraceSpanOutputByID"] == {"input": None, "data": '{"n":1}', "error": None}
    assert found["event"] == {"functionRuns": [{"id": run}]}


TRIGGER = "query T($i: String!) { runTrigger(runID: $i) { IDs } }"


# -- the border --


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ nothing }", "Cannot query field 'nothing'"),
        ("{ apps {", "Syntax Error"),
        ("{ run { id } }", "runID"),
        ("{ " + "a " * 11_000 + "}", "tokens"),
        ('{ runs(filter: {from: "x"}) { totalCount } }', "from must be an RFC 3339 time"),
        ('{ runs(after: "x", filter: {from: "2020-01-01T00:00:00Z"}) { totalCount } }', "Invalid cursor"),
        ('{ runs(first: 0, filter: {from: "2020-01-01T00:00:00Z"}) { totalCount } }', "at least one"),
        ('{ runs(filter: {from: "2020-01-01T00:00:00Z", query: "a +"}) { totalCount } }', "Invalid query"),
    ],
)
async def test_a_bad_query_says_why(world: World, query: str, message: str) -> None:
    for _ in range(2):
        assert message in await world.error(query)


async def test_what_goes_wrong_inside_stays_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(world.data, "run", broken)
    assert await world.error("query Q($i: String!) { run(runID: $i) { id } }", i=UNKNOWN) == (
        "Internal server error"
    )
