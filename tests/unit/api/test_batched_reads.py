"""What a page costs the data store, and that one bad record does not cost the page."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from api_world import T0, World, reported, returned, step_run
from data_stores import Story, name
from msgspec import Raw

from inngest.api import nodes, paging, search
from inngest.api.loader import Loader
from inngest.core.errors import StoreUnavailable
from inngest.core.model.runs import RunStatus
from inngest.core.timing.times import rfc3339

SINCE = rfc3339(T0 - 1000)
RUN = """
  id status output eventName hasAI triggerIDs
  function { name } trace { name outputID childrenSpans { name outputID } }
"""
RUNS = """
query Runs($filter: RunsFilterV2!, $first: Int) {
  runs(first: $first, filter: $filter) {
    edges { node { %s } } totalCount totalCountExact pageInfo { hasNextPage }
  }
}
"""
EVENTS = """
query Events($filter: EventsFilter!) {
  eventsV2(first: 400, filter: $filter) {
    edges { node { id raw runs { %s } } } totalCount totalCountExact
  }
}
"""
STREAM = (
    "{ stream(query: {limit: 400}) { id trigger runs { id output event { name totalRuns } events { id } } } }"
)


class Counted:
    """A data store that tells how often it was asked for what."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._store, name)

        def ask(*args: Any, **more: Any) -> Any:
            self.calls[name] += 1
            return method(*args, **more)

        return ask


@pytest.fixture
async def counted() -> AsyncIterator[tuple[World, Counted]]:
    world = World()
    counted = Counted(world.data)
    world.ctx.data = counted  # type: ignore[assignment]
    await world.open()
    yield world, counted
    await world.close()


RUNNING = 60


async def _many(world: World) -> None:
    for number in range(RUNNING):
        await world.start()
        await world.call(reported(step_run("a", number)))
        await world.call(returned(number))


async def test_a_page_of_runs_is_a_handful_of_reads(counted: tuple[World, Counted]) -> None:
    world, store = counted
    await _many(world)
    found = await world.query(RUNS % RUN, filter={"from": SINCE}, first=400)
    runs = [edge["node"] for edge in found["runs"]["edges"]]
    assert [run["output"] for run in runs] == [str(number) for number in range(RUNNING)][::-1]
    assert {run["eventName"] for run in runs} == {"order/placed"}
    assert all(len(run["trace"]["childrenSpans"]) == 2 and run["trace"]["outputID"] for run in runs)
    assert (found["runs"]["totalCount"], found["runs"]["totalCountExact"]) == (RUNNING, True)
    assert store.calls.pop("count_runs") == 1
    assert store.calls.keys() == {"runs", "events_by_id", "history", "outputs"}
    assert all(count <= 2 for count in store.calls.values()), store.calls


async def test_a_page_of_events_with_their_runs_is_a_handful_of_reads(
    counted: tuple[World, Counted],
) -> None:
    world, store = counted
    await _many(world)
    found = await world.query(EVENTS % RUN, filter={"from": SINCE})
    events = [edge["node"] for edge in found["eventsV2"]["edges"]]
    assert [[run["output"] for run in event["runs"]] for event in events] == [
        [str(number)] for number in range(RUNNING)
    ][::-1]
    assert all(count <= 2 for count in store.calls.values()), store.calls

    store.calls.clear()
    items = (await world.query(STREAM))["stream"]
    assert [item["runs"][0]["event"] for item in items] == [
        {"name": "order/placed", "totalRuns": 1}
    ] * RUNNING
    assert all(count <= 2 for count in store.calls.values()), store.calls


async def test_the_runs_of_an_event_show_their_outputs_in_v1(counted: tuple[World, Counted]) -> None:
    world, store = counted
    event = world.event()
    run = await world.start(event)
    await world.call(returned({"n": 1}))
    going = Story(1, events=[event.id])
    await world.data.put_history(going.entries)
    store.calls.clear()
    _, answer = await world.ask("GET", f"/v1/events/{event.id}/runs")
    assert {each["run_id"]: each["output"] for each in answer["data"]} == {run: {"n": 1}, going.id: None}
    assert store.calls == {"runs_of": 1, "outputs": 1}


async def test_a_total_may_stop_at_a_bound_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_COUNTED", 3)
    for number, exact in ((3, True), (3, False)):
        for _ in range(3 if exact else 1):
            await world.start()
        runs = (await world.query(RUNS % "id", filter={"from": SINCE}))["runs"]
        events = (await world.query(EVENTS % "id", filter={"from": SINCE}))["eventsV2"]
        for page in (runs, events):
            assert (page["totalCount"], page["totalCountExact"]) == (number, exact)


async def test_a_search_that_did_not_see_everything_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_CHUNK", 2)
    monkeypatch.setattr(search, "MAX_SCANNED", 4)
    for number in range(5):
        await world.start(world.event(data=b'{"n":%d}' % number))
        searched = {"from": SINCE, "query": "event.data.n >= 0"}
        for page in (
            (await world.query(RUNS % "id", filter=searched))["runs"],
            (await world.query(EVENTS % "id", filter=searched))["eventsV2"],
        ):
            # Four are all that it looks at: whether there are more, it does not know then.
            assert page["totalCount"] == min(number + 1, 4)
            assert page["totalCountExact"] is (number < 3)


# -- bad records --


async def test_a_record_that_makes_no_sense_does_not_fail_the_page(world: World) -> None:
    good = await world.start()
    await world.call(returned("good"))
    stories = [Story(at, events=[name(at)], fn="f").start(at) for at in range(1, 6)]
    stories[0].end(6, RunStatus.FAILED, b"\xff{")
    stories[1].end(7, RunStatus.COMPLETED, b"\xff")
    stories[2].step(8, "s", b"\xff", started=2**62, queued=-(2**62)).end(9)
    stories[2].entries[-1].at = 2**60
    stories[3].step(9, "s", info={"input": [2**70]}).end(10)
    await world.data.put_history([entry for story in stories for entry in story.entries])
    events = [world.event(data=b'{"a":"\xff"}'), world.event(data=b"{}"), world.event()]
    events[1].received = 2**60
    events[2].data = Raw(b"{")
    await world.data.put_events(events)

    times = "queuedAt startedAt endedAt"
    more = f"{times} trace {{ {times} duration childrenSpans {{ {times} duration }} }}"
    page = (await world.query(RUNS % (RUN + more), filter={"from": SINCE}))["runs"]
    shown = {edge["node"]["id"]: edge["node"] for edge in page["edges"]}
    assert set(shown) == {good, *(story.id for story in stories)}
    assert shown[good]["output"] == '"good"'
    assert shown[stories[1].id]["output"] == "\ufffd"
    searched = {"from": SINCE, "query": "event.data.n == 1"}
    assert [
        edge["node"]["id"] for edge in (await world.query(RUNS % "id", filter=searched))["runs"]["edges"]
    ] == [good]

    page = (await world.query(EVENTS % "id", filter={"from": SINCE}))["eventsV2"]
    assert {events[0].id, events[1].id} < {edge["node"]["id"] for edge in page["edges"]}
    assert events[2].id not in {edge["node"]["id"] for edge in page["edges"]}
    assert world.data.damaged
    page = (await world.query(EVENTS % "id", filter=searched))["eventsV2"]
    assert len(page["edges"]) == 1

    trace = shown[stories[0].id]["trace"]
    found = await world.query(
        "query O($id: String!) { runTraceSpanOutputByID(outputID: $id) { error { message } } }",
        id=trace["outputID"],
    )
    assert found["runTraceSpanOutputByID"]["error"] == {"message": "\ufffd{"}


@pytest.mark.parametrize("place", ["9" * 30 + ":x", "-" + "9" * 30 + ":x", "9" * 5000 + ":x", "x:x", ":"])
async def test_a_cursor_that_no_page_has_is_an_error_of_the_caller(world: World, place: str) -> None:
    cursor = urlsafe_b64encode(place.encode()).decode()
    query = "query R($f: RunsFilterV2!, $a: String) { runs(filter: $f, after: $a) { totalCount } }"
    assert "Invalid cursor" in await world.error(query, f={"from": SINCE}, a=cursor)


# -- the loader --


class Source:
    def __init__(self) -> None:
        self.reads: list[list[str]] = []
        self.error: BaseException | None = None

    async def read(self, keys: Sequence[str]) -> Mapping[str, str]:
        self.reads.append(list(keys))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return {key: key.upper() for key in keys if key != "unknown"}


async def test_what_is_asked_for_together_is_read_together() -> None:
    source = Source()
    loader = Loader(source.read, most=3)
    found = await asyncio.gather(*map(loader.get, ["a", "b", "a", "unknown", "c", "d"]))
    assert found == ["A", "B", "A", None, "C", "D"]
    assert source.reads == [["a", "b", "unknown"], ["c", "d"]]
    assert await loader.get("a") == "A"
    assert source.reads[2:] == [["a"]]


async def test_a_failure_goes_to_all_who_asked_and_to_nobody_after() -> None:
    source = Source()
    loader = Loader(source.read, most=3)
    source.error = ValueError("no")
    found = await asyncio.gather(loader.get("a"), loader.get("b"), return_exceptions=True)
    assert [str(error) for error in found] == ["no", "no"]
    source.error = None
    assert await loader.get("a") == "A"


async def test_a_cancellation_inside_of_a_read_leaves_nobody_waiting() -> None:
    source = Source()
    loader = Loader(source.read, most=2)
    source.error = asyncio.CancelledError()
    found = await asyncio.gather(*map(loader.get, ["a", "b", "c"]), return_exceptions=True)
    assert [type(error) for error in found] == [StoreUnavailable] * 3
    assert source.reads == [["a", "b"], ["c"]]


@pytest.mark.parametrize("begun", [False, True])
async def test_the_end_of_a_read_leaves_nobody_waiting(begun: bool) -> None:
    source = Source()
    loader = Loader(source.read, most=2)
    waiting = asyncio.gather(*map(loader.get, ["a", "b", "c"]), return_exceptions=True)
    while not loader._reading or (begun and not source.reads):
        await asyncio.sleep(0)
    assert bool(source.reads) is begun
    (reading,) = loader._reading
    reading.cancel()
    assert [type(error) for error in await waiting] == [StoreUnavailable] * 3


async def test_who_gives_up_takes_nobody_along() -> None:
    source = Source()
    loader = Loader(source.read, most=3)
    first, second = (asyncio.create_task(loader.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "A"
    with pytest.raises(asyncio.CancelledError):
        await first


def test_a_page_is_read_in_few_parts() -> None:
    assert nodes._AT_ONCE >= RUNNING
