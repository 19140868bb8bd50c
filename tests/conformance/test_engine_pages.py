"""What is read in pages, where runs are found, and what bulk cancellations were ordered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from engine_bench import FN, HOUR, OTHER, Bench
from msgspec.structs import replace

from inngest.core.decisions.moment import Moment
from inngest.core.decisions.sweeps import order_sweep, sweep_job
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.runs import Queue, RunStatus
from inngest.core.model.transition import (
    CreateRun,
    Effect,
    EndRun,
    Enqueue,
    PutPause,
    SaveStep,
    TakeLock,
    TakePause,
)
from inngest.core.policy import LEASE_BYTES
from inngest.ports.engine import Page

MANY = 130


async def _all(ask: Callable[[str], Awaitable[Page[object]]], most: int) -> list[object]:
    """Follow the cursors to the end."""
    found: list[object] = []
    cursor = ""
    for _ in range(1000):
        page = await ask(cursor)
        assert len(page.found) <= most
        found += page.found
        cursor = page.cursor
        if not cursor:
            return found
    raise AssertionError("the cursors lead to no end")


# -- runs --


@pytest.mark.parametrize("limit", [1, 7, 50, MANY, 1000])
@pytest.mark.parametrize("apart", [0, 1, 10])
async def test_all_runs_of_a_window_are_found_page_by_page(engine: Bench, limit: int, apart: int) -> None:
    start, ids = engine.now, []
    for number in range(MANY):
        engine.now = start + number // 40 * apart
        ids.append((await engine.create(start=False)).id)
    await engine.create(start=False, fn=OTHER)
    window = (start, start + 3 * apart + 1)
    found = await _all(lambda cursor: engine.store.runs(FN, *window, cursor, limit), limit)
    assert sorted(run.id for run in found) == ids  # type: ignore[attr-defined]
    earlier = await _all(lambda cursor: engine.store.runs(FN, start, start + 2 * apart, cursor, limit), limit)
    assert len(earlier) == (80 if apart else 0)


async def test_runs_that_are_there_from_the_first_page_to_the_last_are_found(engine: Bench) -> None:
    """Whatever ends and comes meanwhile."""
    ids = [(await engine.create(start=False)).id for _ in range(60)]
    gone, seen, cursor = set(ids[::3]), [], ""
    ending = list(ids[::3])
    while True:
        page = await engine.store.runs(FN, 0, engine.now + 1, cursor, 10)
        seen += [run.id for run in page.found]
        cursor = page.cursor
        if not cursor:
            break
        for run in [ending.pop() for _ in ending[:4]]:
            await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run)
        await engine.create(start=False)
    assert set(ids) - gone <= set(seen)


async def test_cancelling_what_each_page_shows_comes_to_an_end(engine: Bench) -> None:
    for _ in range(60):
        await engine.create(start=False)
    cursor = ""
    while True:
        page = await engine.store.runs(FN, 0, engine.now + 1, cursor, 10)
        for run in page.found:
            await engine.commit(EndRun(status=RunStatus.CANCELLED), run=run.id)
        cursor = page.cursor
        if not cursor:
            break
    assert (await engine.store.stats()).runs == 0


async def test_a_window_without_runs_is_one_empty_page(engine: Bench) -> None:
    await engine.create()
    page = await engine.store.runs(FN, engine.now + 1, engine.now + HOUR, "", 10)
    assert (page.found, page.cursor) == ([], "")
    assert (await engine.store.runs("unknown", 0, engine.now + 1, "", 10)).found == []


# -- orphans --


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
async def test_all_orphans_are_found_page_by_page(engine: Bench, limit: int) -> None:
    lost = {(await engine.create(start=False, fn=fn)).id for fn in (FN, OTHER) for _ in range(40)}
    for _ in range(40):
        await engine.create()
    engine.now += 10
    young = await engine.create(start=False)
    found, cursor = set(), ""
    for _ in range(1000):
        page = await engine.store.orphans(5, cursor, limit)
        found |= {run.id for run in page.found}
        cursor = page.cursor
        if not cursor:
            break
    assert found == lost
    assert young.id not in found


# -- pauses --


@pytest.mark.parametrize("limit", [1, 10, 100, 10_000])
async def test_all_that_wait_for_an_event_are_found_page_by_page(engine: Bench, limit: int) -> None:
    """Those without terms, and those whose first term it fulfils, on any path."""
    count = 400
    run = await engine.create(start=False)
    kinds = [[], [("data.id", "s:x")], [("data.user", "n:7")], [("data.id", "s:other")]]
    expected = set()
    for begin in range(0, count, 100):
        pauses = [
            engine.pause(run, f"s{number}", terms=kinds[number % 4]) for number in range(begin, begin + 100)
        ]
        await engine.commit(*[PutPause(pause=pause) for pause in pauses], run=run.id)
        expected |= {pause.id for pause in pauses if pause.terms != kinds[3]}
    event = engine.event(data=b'{"id":"x","user":7}')
    first, nothing = await engine.store.first_pauses([event, engine.event("app/none")], limit)
    assert (nothing.found, nothing.cursor) == ([], "")
    found = [pause.id for pause in first.found]
    cursor, pages = first.cursor, 1
    while cursor:
        page = await engine.store.pauses(event, cursor, limit)
        found += [pause.id for pause in page.found]
        cursor, pages = page.cursor, pages + 1
    assert set(found) == expected
    if limit != 100:  # it is about as many
        assert (pages == 1) is (limit == 10_000)
    begun = await engine.store.pauses(event, "", limit)
    assert {pause.id for pause in begun.found} <= expected


async def test_waits_that_last_are_found_whatever_comes_and_goes_between_pages(engine: Bench) -> None:
    run = await engine.create(start=False)
    pauses = [engine.pause(run, f"s{number:03}", terms=[("data.id", "s:x")]) for number in range(300)]
    for begin in range(0, 300, 100):
        await engine.commit(*[PutPause(pause=each) for each in pauses[begin : begin + 100]], run=run.id)
    event = engine.event(data=b'{"id":"x"}')
    going = [pause.id for pause in pauses[::3]]
    lasting = {pause.id for pause in pauses} - set(going)
    (page,) = await engine.store.first_pauses([event], 20)
    seen = {pause.id for pause in page.found}
    while page.cursor:
        taken = [TakePause(id=going.pop()) for _ in going[:5]]
        fresh = PutPause(pause=engine.pause(run, f"t{engine.serial()}", terms=[("data.id", "s:x")]))
        await engine.commit(*taken, fresh, run=run.id)
        page = await engine.store.pauses(event, page.cursor, 20)
        seen |= {pause.id for pause in page.found}
    assert lasting <= seen


async def test_ending_what_each_page_shows_comes_to_an_end(engine: Bench) -> None:
    run = await engine.create(start=False)
    for begin in range(0, 300, 100):
        pauses = [engine.pause(run, f"s{begin + number}") for number in range(100)]
        await engine.commit(*[PutPause(pause=pause) for pause in pauses], run=run.id)
    event = engine.event()
    (page,) = await engine.store.first_pauses([event], 20)
    while True:
        await engine.commit(*[TakePause(id=pause.id) for pause in page.found], run=run.id)
        if not page.cursor:
            break
        page = await engine.store.pauses(event, page.cursor, 20)
    assert (await engine.store.stats()).pauses == 0


# -- where things are --


async def test_a_run_is_located_while_it_lives(engine: Bench) -> None:
    runs = [await engine.create(start=False, fn=fn) for fn in (FN, OTHER)]
    assert [await engine.store.locate(run.id) for run in runs] == [FN, OTHER]
    assert await engine.store.locate("unknown") is None
    await engine.commit(EndRun(status=RunStatus.FAILED), run=runs[0].id)
    assert [await engine.store.locate(run.id) for run in runs] == [None, OTHER]


async def test_a_run_is_its_functions_alone(engine: Bench) -> None:
    run = await engine.create()
    assert await engine.store.run(OTHER, run.id) is None
    assert await engine.store.items(OTHER, run.id) == []
    assert await engine.store.run(FN, run.id) is not None


async def test_the_holders_of_locks_come_as_they_were_asked_for(engine: Bench) -> None:
    holders = []
    for number in range(2):
        run = engine.run(lock=f"lock-{number}")
        take = TakeLock(key=run.lock, order="1")
        effects: list[Effect] = [take, CreateRun(run=run), Enqueue(item=engine.item(run), when=1)]
        await engine.commit(*effects, run=run.id)
        holders.append(run.id)
    asked = [(FN, "lock-1"), (FN, "free"), (FN, "lock-0"), (FN, "lock-1")]
    assert await engine.store.lock_holders(asked) == [holders[1], None, holders[0], holders[1]]
    assert await engine.store.lock_holders([]) == []


# -- bulk cancellations --


def _order(engine: Bench, id: str, **fields: object) -> Cancellation:  # noqa: A002
    values: dict[str, object] = {"fn": FN, "slug": "s", "app_id": "app", "created": engine.now}
    return Cancellation(id=id, started_before=engine.now, **(values | fields))  # type: ignore[arg-type]


async def test_cancellations_are_kept_until_deleted(engine: Bench) -> None:
    first, second = _order(engine, "1"), _order(engine, "2", started_after=5, condition="event.data.x == 1")
    older = replace(first, begun=not first.begun, condition="another")
    for each in (older, second, first):
        await engine.store.put_cancellation(each)
    assert await engine.store.cancellations() == [second, first]
    assert await engine.store.delete_cancellation("1")
    assert not await engine.store.delete_cancellation("1")
    assert await engine.store.cancellations() == [second]


async def test_what_carries_a_cancellation_out_is_found_until_it_is_done(engine: Bench) -> None:
    effects = order_sweep(_order(engine, "1"), Moment(now=engine.now, new_id=str)).effects
    assert await engine.won(*effects) == [True]
    assert await engine.won(*effects) == [False]
    assert await engine.item_of(sweep_job("1")) is not None
    leased = await engine.one(queue=Queue.RUNNER)
    assert await engine.item_of(sweep_job("1")) is not None
    await engine.complete(leased)
    assert await engine.item_of(sweep_job("1")) is None


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_cancellations_are_there_after_a_restart(engine: Bench, crash: bool) -> None:
    orders = [_order(engine, str(number)) for number in range(3)]
    for each in orders:
        await engine.store.put_cancellation(each)
    await engine.store.delete_cancellation("1")
    await engine.reopen(crash=crash)
    assert await engine.store.cancellations() == [orders[2], orders[0]]


# -- runs that are large --

LARGE = b'"' + b"x" * 3_000_000 + b'"'
HEAVY = 25  # of them: more than twice what is handed out together


async def _heavy(engine: Bench) -> list[str]:
    ids = []
    for _ in range(HEAVY):
        run = await engine.create()
        await engine.commit(SaveStep(step="large", value=LARGE), run=run.id)
        ids.append(run.id)
    return ids


async def test_runs_are_handed_out_until_there_is_enough_in_memory(engine: Bench) -> None:
    ids = await _heavy(engine)
    handed: list[str] = []
    for _ in range(HEAVY):
        work = await engine.store.lease(Queue.EXECUTOR, 1000, HOUR, "w")
        assert len(work.items) <= LEASE_BYTES // len(LARGE) + 1
        for leased in work.items:
            assert leased.run is not None
            assert leased.run.steps["large"] == LARGE
            handed.append(leased.item.run)
        if len(handed) == HEAVY:
            break
        await engine.store.wait(Queue.EXECUTOR, 10)  # more is ready: it returns at once
    assert sorted(handed) == ids


async def test_a_page_of_runs_ends_where_there_is_enough_in_memory(engine: Bench) -> None:
    ids = await _heavy(engine)
    found: list[str] = []
    cursor = ""
    for _ in range(HEAVY):
        page = await engine.store.runs(FN, 0, engine.now + 1, cursor, 1000)
        assert len(page.found) <= LEASE_BYTES // len(LARGE) + 1
        found += [run.id for run in page.found]
        if not (cursor := page.cursor):
            break
    assert sorted(found) == ids
