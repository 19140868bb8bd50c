"""Searches by expression: over events and outputs, over several lines, and what they may cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from api_world import World, failed, returned

from inngest.api import search
from inngest.api.paging import page_of_events
from inngest.api.query_bounds import MAX_SEARCHES
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.ports.data import EventFilter

RUNS = """
query Runs($first: Int!, $after: String, $where: String) {
  runs(first: $first, after: $after, filter: {from: "2020-01-01T00:00:00Z", query: $where},
       orderBy: [{field: QUEUED_AT, direction: DESC}]) {
    edges { node { id } } pageInfo { hasNextPage endCursor } totalCount totalCountExact
  }
}
"""
EVENTS = """
query Events($first: Int!, $after: String, $where: String) {
  eventsV2(first: $first, after: $after, filter: {from: "2020-01-01T00:00:00Z", query: $where}) {
    edges { node { id } } pageInfo { hasNextPage endCursor } totalCount totalCountExact
  }
}
"""


@pytest.fixture(params=["memory", "sqlite"])
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world = World()
    if request.param == "sqlite":
        world.data = world.ctx.data = SqliteDataStore(tmp_path / "data.db")  # type: ignore[assignment]
    await world.data.open()
    await world.open()
    yield world
    await world.close()
    await world.data.close()


async def found(world: World, query: str) -> list[str]:
    """By GraphQL, and the same by REST."""
    runs = (await world.query(RUNS, first=50, where=query))["runs"]
    ids = [edge["node"]["id"] for edge in runs["edges"]]
    assert (runs["totalCount"], runs["totalCountExact"]) == (len(ids), True)
    status, body = await world.ask("GET", f"/v1/runs?{urlencode({'query': query})}")
    assert status == 200, body
    assert [run["run_id"] for run in body["data"]] == ids
    return ids


async def three(world: World) -> tuple[str, str, str]:
    """Runs: one that completed, one that failed, one that goes on."""
    done = await world.start(world.event(data=b'{"n":1}'))
    await world.call(returned({"total": 7, "items": ["a"]}))
    world.now += 1
    bad = await world.start(world.event(data=b'{"n":2}'))
    await world.call(failed("no stock"))
    world.now += 1
    return done, bad, await world.start(world.event(data=b'{"n":3}'))


async def test_runs_are_found_by_their_output(stored: World) -> None:
    done, bad, going = await three(stored)
    assert await found(stored, "output.total == 7") == [done]
    assert await found(stored, "output.total > 7") == []
    assert await found(stored, "output.message == 'no stock'") == [bad]
    assert await found(stored, "'a' in output.items") == [done]
    assert await found(stored, "has(output.total) || event.data.n == 3") == [going, done]


async def test_every_line_has_to_hold(stored: World) -> None:
    done, bad, going = await three(stored)
    assert await found(stored, "event.data.n >= 2\noutput.name == 'TypeError'") == [bad]
    assert await found(stored, "event.data.n >= 2\n\n// and\noutput.total == 7") == []
    assert await found(stored, "event.data.n == 1 ||\n  event.data.n == 3") == [going, done]


async def test_events_are_found_by_several_lines(stored: World) -> None:
    await three(stored)
    query = "event.name == 'order/placed'\nevent.data.n > 1"
    page = (await stored.query(EVENTS, first=9, where=query))["eventsV2"]
    assert page["totalCount"] == 2


async def test_an_output_is_nothing_of_an_event(world: World) -> None:
    message = await world.error(EVENTS, first=1, where="event.data.n == 1\noutput.n == 1")
    assert message.startswith("Invalid query: line 2: unknown name 'output'")
    status, body = await world.ask("GET", f"/v1/runs?{urlencode({'query': 'output.'})}")
    assert status == 400
    assert body["error"].startswith("Invalid query: ")


async def test_lines_may_come_as_several_parameters(world: World) -> None:
    done, bad, _ = await three(world)
    both = urlencode({"query": ["event.data.n < 3", "output.total == 7"]}, doseq=True)
    _, body = await world.ask("GET", f"/v1/runs?{both}")
    assert [run["run_id"] for run in body["data"]] == [done]
    alone = urlencode({"query": "event.data.n < 3"})
    _, body = await world.ask("GET", f"/v1/runs?{alone}")
    assert [run["run_id"] for run in body["data"]] == [bad, done]


# -- what it costs --


async def test_outputs_are_read_only_for_those_that_look_at_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three(world)
    asked: list[str] = []
    for name in ("outputs", "events_by_id"):
        read = getattr(world.data, name)

        async def counted(ids: Any, name: str = name, read: Any = read) -> Any:
            asked.append(name)
            return await read(ids)

        monkeypatch.setattr(world.data, name, counted)
    query = 'query Q($q: String) { runs(filter: {from: "2020-01-01T00:00:00Z", query: $q}) { totalCount } }'
    await world.query(query, q="event.data.n == 4")
    assert set(asked) == {"events_by_id"}
    asked.clear()
    await world.query(query, q="output.total == 4")
    assert set(asked) == {"outputs"}


@pytest.mark.parametrize(
    ("bound", "value"),
    [("MAX_SCANNED", 3), ("MAX_SEARCH_WORK", 3_000), ("MAX_SEARCH_BYTES", 3 * 1000), ("SEARCH_SECONDS", -1)],
)
async def test_a_search_that_ends_early_goes_on_from_there(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str, value: float
) -> None:
    monkeypatch.setattr(search, bound, value)
    monkeypatch.setattr(search, "_CHUNK", 4)
    monkeypatch.setattr(search, "_BODIES", 2)
    data = b'{"n":%d,"l":[' + b",".join([b"1"] * 1000) + b"]}"
    runs, events = [], []
    for number in range(10):
        event = world.event(data=data % number)
        events.append(event.id)
        runs.append(await world.start(event))
    for query, root, wanted in ((RUNS, "runs", runs[1]), (EVENTS, "eventsV2", events[1])):
        condition = "event.data.l.all(x, x == 1) && event.data.n == 1"
        pages, seen, after = 0, [], None
        while True:
            page = (await world.query(query, first=5, after=after, where=condition))[root]
            pages += 1
            seen += [edge["node"]["id"] for edge in page["edges"]]
            assert not page["totalCountExact"]
            if not page["pageInfo"]["hasNextPage"]:
                break
            after = page["pageInfo"]["endCursor"]
        assert seen == [wanted]
        assert pages > 3


async def test_others_have_their_turn_while_a_search_goes_on(world: World) -> None:
    for number in range(100):
        await world.data.put_events([world.event(data=b'{"n":%d}' % number)])
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    conditions = search.parse_query("event.data.n < 0", search.EVENT_VARIABLES)
    page = await page_of_events(world.ctx, EventFilter(), conditions, "", 1)
    task.cancel()
    assert (page.found, page.after) == ([], None)
    assert turns >= 100 // 32


async def test_the_next_page_of_a_search_goes_on_behind_the_last_one(world: World) -> None:
    runs = [await world.start(world.event(data=b'{"n":%d}' % number)) for number in range(7)]
    even, after, pages = [], None, 0
    while True:
        page = (await world.query(RUNS, first=2, after=after, where="event.data.n % 2 == 0"))["runs"]
        even += [edge["node"]["id"] for edge in page["edges"]]
        pages += 1
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert even == runs[::-2]
    assert pages == 2


async def test_a_query_may_search_some_times(world: World) -> None:
    one = 'a%d: runs(filter: {from: "2020-01-01T00:00:00Z", query: "true"}) { edges { node { id } } }'
    fields = [one % number for number in range(MAX_SEARCHES + 1)]
    assert await world.query("{" + " ".join(fields[1:]) + "}")
    message = await world.error("{" + " ".join(fields) + "}")
    assert message == f"One query may search {MAX_SEARCHES} times"
