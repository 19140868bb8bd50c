"""What can be asked of an engine store: the registry, runs, items, pauses, orphans, sizes."""

from __future__ import annotations

import asyncio

import pytest
from engine_bench import FN, HOUR, OTHER, Bench, function

from inngest.core.model.functions import App, Trigger
from inngest.core.model.runs import Kind, PauseKind, RunStatus
from inngest.core.model.transition import EndRun, Enqueue, PutPause, Record, SaveStep

# -- the registry --


async def test_an_empty_registry(engine: Bench) -> None:
    registry = await engine.store.registry()
    assert (registry.apps, registry.functions) == ({}, {})


async def test_what_is_registered_comes_back(engine: Bench) -> None:
    fn = function(limits=[3], run_limit=2, priority="event.data.p", start_timeout=5)
    fn.triggers.append(Trigger(event="app/go", expression="event.data.x == 1"))
    app = App(id="app", name="App", url="http://app.test", sdk_language="python", checksum="c", synced=7)
    await engine.store.put_app(app, [fn])
    registry = await engine.store.registry()
    assert registry.apps == {"app": app}
    assert registry.functions == {FN: fn}


async def test_a_function_that_is_gone_is_archived_and_may_come_back(engine: Bench) -> None:
    await engine.register(function(FN), function(OTHER))
    await engine.register(function(FN))
    functions = (await engine.store.registry()).functions
    assert {id_: fn.archived for id_, fn in functions.items()} == {FN: False, OTHER: True}
    await engine.register(function(OTHER))
    functions = (await engine.store.registry()).functions
    assert {id_: fn.archived for id_, fn in functions.items()} == {FN: True, OTHER: False}


async def test_apps_leave_each_others_functions_alone(engine: Bench) -> None:
    await engine.register(function(FN, app_id="one"), app="one")
    await engine.register(function(OTHER, app_id="two"), app="two")
    await engine.register(app="two")
    functions = (await engine.store.registry()).functions
    assert {id_: fn.archived for id_, fn in functions.items()} == {FN: False, OTHER: True}
    assert set((await engine.store.registry()).apps) == {"one", "two"}


async def test_the_version_grows(engine: Bench) -> None:
    versions = [(await engine.store.registry()).version]
    for _ in range(3):
        await engine.register(function())
        versions.append((await engine.store.registry()).version)
    assert versions == sorted(set(versions))


async def test_waiting_for_the_registry_ends_with_a_change(engine: Bench) -> None:
    version = (await engine.store.registry()).version
    waiting = asyncio.create_task(engine.store.wait_registry(version, 60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await engine.register(function())
    changed = await asyncio.wait_for(waiting, 10)
    assert changed == (await engine.store.registry()).version != version


async def test_waiting_for_the_registry_looks_first_and_ends_by_itself(engine: Bench) -> None:
    old = (await engine.store.registry()).version
    await engine.register(function())
    new = (await engine.store.registry()).version
    assert await asyncio.wait_for(engine.store.wait_registry(old, 60), 10) == new
    assert await engine.store.wait_registry(new, 0.001) == new


# -- runs and items --


async def test_unknown_things_are_none(engine: Bench) -> None:
    assert await engine.state("run") is None
    assert await engine.item_of("job") is None
    assert await engine.items("run") == []
    assert await engine.holder("lock") is None
    assert await engine.runs() == []


async def test_runs_of_a_function_by_creation(engine: Bench) -> None:
    start = engine.now
    ids = []
    for _ in range(4):
        ids.append((await engine.create()).id)
        engine.now += 10
    await engine.create(fn=OTHER)

    async def between(low: int, high: int) -> list[str]:
        return [run.id for run in await engine.runs(start + low, start + high)]

    assert await between(0, 100) == ids
    assert await between(10, 30) == ids[1:3]
    assert await between(11, 20) == []
    assert await between(0, 1) == ids[:1]


async def test_items_of_a_run_by_due_time(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    for job, delay in (("far", 3000), ("near", 1000)):
        await engine.commit(engine.enqueue(run, Kind.SLEEP, job, due=engine.now + delay), run=run.id)
    await engine.create()
    items = await engine.items(run.id)
    assert [item.job for item in items] == [leased.item.job, "near", "far"]
    found = await engine.item_of("near")
    assert found == items[1]
    assert (await engine.item_of(leased.item.job)) == leased.item


async def test_reading_changes_nothing(engine: Bench) -> None:
    run = await engine.create()
    await engine.state(run.id)
    await engine.items(run.id)
    await engine.runs()
    await engine.orphans()
    assert len(await engine.lease()) == 1


# -- pauses --


async def test_an_event_meets_the_pauses_on_its_name(engine: Bench) -> None:
    run = await engine.create()
    for step, name in (("a", "app/one"), ("b", "app/two"), ("c", "app/one")):
        await engine.commit(PutPause(pause=engine.pause(run, step, name)), run=run.id)
    events = [engine.event("app/one"), engine.event("app/two"), engine.event("app/three")]
    one, two, three = await engine.store.first_pauses(events, 10)
    assert sorted(pause.step for pause in one.found) == ["a", "c"]
    assert [pause.step for pause in two.found] == ["b"]
    assert three.found == []
    assert [page.cursor for page in (one, two, three)] == [""] * 3
    assert await engine.store.first_pauses([], 10) == []


@pytest.mark.parametrize(
    ("term", "data", "met"),
    [
        (("data.id", "s:x"), b'{"id":"x"}', True),
        (("data.id", "s:x"), b'{"id":"y"}', False),
        (("data.id", "s:x"), b'{"id":null}', False),
        (("data.id", "s:x"), b"{}", False),
        (("data.id", "n:1"), b'{"id":1}', True),
        (("data.id", "n:1"), b'{"id":1.0}', True),
        (("data.id", "n:1"), b'{"id":"1"}', False),
        (("data.id", "b:true"), b'{"id":true}', True),
        (("data.id", "b:true"), b'{"id":1}', False),
        (("data.deep.id", "s:\u00e9\u0001:"), '{"deep":{"id":"\u00e9\\u0001:"}}'.encode(), True),
        (("data.deep.id", "s:x"), b'{"deep":"x"}', False),
        (("name", "s:app/go"), b"{}", True),
    ],
)
async def test_an_event_meets_the_pauses_whose_first_term_it_fulfils(
    engine: Bench, term: tuple[str, str], data: bytes, met: bool
) -> None:
    run = await engine.create()
    pause = engine.pause(run, terms=[term, ("data.other", "s:never looked at")])
    await engine.commit(PutPause(pause=pause), run=run.id)
    assert await engine.pauses(engine.event(data=data)) == ([pause] if met else [])


async def test_pauses_with_and_without_terms_are_met_together(engine: Bench) -> None:
    run = await engine.create()
    matching = {"id": [("data.id", "s:x")], "user": [("data.user", "n:7")]}
    terms = {"plain": [], "other": [("data.id", "s:z")], **matching}
    for step, given in terms.items():
        await engine.commit(PutPause(pause=engine.pause(run, step, terms=given)), run=run.id)
    met = await engine.pauses(engine.event(data=b'{"id":"x","user":7}'))
    assert sorted(pause.step for pause in met) == ["id", "plain", "user"]


async def test_pauses_of_many_runs_are_met(engine: Bench) -> None:
    runs = [await engine.create() for _ in range(3)]
    for run in runs:
        terms = [("data.id", "s:same")]
        await engine.commit(PutPause(pause=engine.pause(run, terms=terms)), run=run.id)
    met = await engine.pauses(engine.event(data=b'{"id":"same"}'))
    assert sorted(pause.run for pause in met) == sorted(run.id for run in runs)
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=runs[0].id)
    met = await engine.pauses(engine.event(data=b'{"id":"same"}'))
    assert sorted(pause.run for pause in met) == sorted(run.id for run in runs[1:])


# -- orphans and sizes --


async def test_a_run_that_nothing_will_move_is_an_orphan(engine: Bench) -> None:
    run = await engine.create()
    leased = await engine.one()
    engine.now += 10
    assert await engine.orphans(5) == []
    await engine.complete(leased)
    assert await engine.orphans(9) == [run.id]
    assert await engine.orphans(10) == []


async def test_whatever_moves_a_run_keeps_it_from_being_an_orphan(engine: Bench) -> None:
    queued = await engine.create(start=False)
    await engine.commit(engine.enqueue(queued), run=queued.id)
    sleeping = await engine.create(start=False)
    await engine.commit(engine.enqueue(sleeping, Kind.SLEEP, due=engine.now + HOUR), run=sleeping.id)
    waiting = await engine.create(start=False)
    await engine.commit(PutPause(pause=engine.pause(waiting)), run=waiting.id)
    engine.now += 1
    assert await engine.orphans() == []


async def test_a_pause_that_cancels_moves_nothing(engine: Bench) -> None:
    run = await engine.create(start=False)
    pause = engine.pause(run, "", kind=PauseKind.CANCEL)
    await engine.commit(PutPause(pause=pause), run=run.id)
    engine.now += 1
    assert await engine.orphans() == [run.id]


async def test_an_ended_run_is_no_orphan(engine: Bench) -> None:
    run = await engine.create(start=False)
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    engine.now += 1
    assert await engine.orphans() == []


async def test_sizes(engine: Bench) -> None:
    run = await engine.create()
    await engine.create()
    await engine.lease(1)
    await engine.commit(
        SaveStep(step="a", value=b"1"),
        PutPause(pause=engine.pause(run)),
        Enqueue(item=engine.item(run, Kind.SLEEP, due=engine.now + HOUR)),
        Record(entry=engine.history()),
        run=run.id,
    )
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued, stats.leased, stats.pauses, stats.outbox) == (2, 2, 1, 1, 1)
