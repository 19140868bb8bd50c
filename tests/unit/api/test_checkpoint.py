from __future__ import annotations

from typing import Any

import pytest
from api_world import APP, ORDER, T0, World, reported, returned, step_run
from msgspec.structs import replace

from inngest.core.decisions.advance import begin
from inngest.core.decisions.moment import Moment
from inngest.core.model.history import What
from inngest.core.model.runs import Kind, Leased, RunStatus
from inngest.core.sdk.calls import dispatch_id

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def calling(world: World) -> Leased:
    """A run that is being called."""
    await world.start()
    return await world.lease()


async def report(
    world: World, leased: Leased, *ops: dict[str, Any], called: int = T0, **changes: object
) -> tuple[int, Any]:
    item = leased.item
    body = {
        "run_id": item.run,
        "fn_id": item.fn,
        "qi_id": dispatch_id(item, called),
        "generation_id": item.epoch,
        "steps": list(ops),
        **changes,
    }
    return await world.ask("POST", f"/v1/checkpoint/{item.run}/async", body)


async def test_reported_steps_are_kept(world: World) -> None:
    leased = await calling(world)
    junk = {"rawArgs": [], "mode": "sync", "timing": {"a": T0 * 1_000_000, "b": 5_000_000}}
    assert (await report(world, leased, step_run("one", 1, **junk), step_run("two", None)))[0] == 200
    run = await world.state(leased.item.run)
    assert run is not None
    assert run.steps == {"id-one": b'{"data":1}', "id-two": b'{"data":null}'}
    await world.index()
    history = (await world.data.history([run.id]))[run.id]
    assert [entry.name for entry in history if entry.what is What.ATTEMPT] == ["one", "two"]


async def test_a_report_that_is_repeated_changes_nothing(world: World) -> None:
    leased = await calling(world)
    world.ctx.limits.set_max_steps(ORDER.id, 1)
    for value in (1, 2):
        assert (await report(world, leased, step_run("one", value)))[0] == 200
    run = await world.state(leased.item.run)
    assert run is not None
    assert run.steps == {"id-one": b'{"data":1}'}


async def test_the_lease_and_the_attempts_begin_anew(world: World) -> None:
    leased = await calling(world)
    world.now += 59_000
    assert (await report(world, leased, step_run("one", 1)))[0] == 200
    world.now += 20_000
    work = await world.engine.lease(leased.item.queue, 1, 1, "other")
    assert work.items == []


async def test_a_stale_call_is_told_so(world: World) -> None:
    leased = await calling(world)
    job, epoch = leased.item.job, leased.item.epoch
    for changes in ({"qi_id": f"{job}@{epoch + 1}"}, {"qi_id": "another@1"}, {"qi_id": job}, {"qi_id": ""}):
        status, body = await report(world, leased, step_run("one", 1), **changes)
        assert (status, body["status"]) == (409, 409)
    world.now += 61_000
    again = await world.lease()
    assert again.item.job == leased.item.job
    assert (await report(world, leased, step_run("one", 1)))[0] == 409
    assert (await report(world, again, step_run("one", 1)))[0] == 200


async def test_the_go_sdk_names_no_generation_and_is_fenced_all_the_same(world: World) -> None:
    leased = await calling(world)
    assert (await report(world, leased, step_run("one", 1), generation_id=None))[0] == 200
    world.now += 61_000
    await world.lease()
    assert (await report(world, leased, step_run("two", 1), generation_id=None))[0] == 409


@pytest.mark.parametrize(
    "op",
    [
        {"id": "z", "op": "Sleep", "name": "1h"},
        {"id": "z", "op": "Unheard"},
        {"op": "StepRun"},
        "nothing",
    ],
)
async def test_what_is_no_finished_step_is_refused(world: World, op: Any) -> None:
    leased = await calling(world)
    status, body = await report(world, leased, step_run("one", 1), op)
    assert (status, body["status"]) == (400, 400)
    run = await world.state(leased.item.run)
    assert run is not None
    assert run.steps == {}


async def test_what_is_too_large_is_refused(world: World) -> None:
    leased = await calling(world)
    assert (await report(world, leased, step_run("one", "x" * (4 * 1024 * 1024))))[0] == 413
    world.ctx.limits.set_max_state(ORDER.id, 100)
    assert (await report(world, leased, step_run("one", "x" * 101)))[0] == 413
    world.ctx.limits.set_max_steps(ORDER.id, 1)
    assert (await report(world, leased, step_run("one", 1), step_run("two", 1)))[0] == 413
    assert (await report(world, leased, step_run("one", 1)))[0] == 200


async def test_a_run_that_is_no_more_takes_nothing(world: World) -> None:
    leased = await calling(world)
    path = f"/v1/checkpoint/{UNKNOWN}/async"
    assert (await world.ask("POST", path, {"qi_id": dispatch_id(leased.item, T0), "steps": []}))[0] == 404
    await world.ask("DELETE", f"/v1/runs/{leased.item.run}")
    await world.index()
    assert (await report(world, leased, step_run("one", 1)))[0] == 410


@pytest.mark.parametrize(
    ("called", "started"),
    [(0, T0 + 500), (T0 + 200, T0 + 200), (T0 - 9_000, T0), (T0 + 9_000, T0 + 500)],
)
async def test_the_first_report_tells_that_the_run_has_begun(world: World, called: int, started: int) -> None:
    limited = replace(ORDER, finish_timeout=60_000, start_timeout=1_000)
    await world.engine.put_app(APP, [limited])
    await world.registry.refresh()
    leased = await calling(world)
    world.now += 500
    for name in ("one", "two"):  # whatever the application's clock says
        told = report(world, leased, step_run(name, 1), called=called, request_started_at=T0 + 100)
        assert (await told)[0] == 200
    await world.index()
    record = await world.data.run(leased.item.run)
    assert record is not None
    assert (record.status, record.started) == (RunStatus.RUNNING, started)
    timers = [i for i in await world.engine.items(ORDER.id, leased.item.run) if i.kind is Kind.FINISH_TIMEOUT]
    assert [timer.due for timer in timers] == [started + 60_000]
    # The executor died: that the call is made again is no late start.
    run = await world.state(leased.item.run)
    assert run is not None
    assert begin(run, limited, leased.item, Moment(now=world.now + 5_000, new_id=world.ctx.new_id)) is None


async def test_the_call_goes_on_after_a_report(world: World) -> None:
    run = await world.start()
    await world.call(reported(step_run("zero", 0)))
    leased = await world.lease()
    await report(world, leased, step_run("one", 1))
    world.now += 120_000
    await world.call(returned("done"))
    record = await world.data.run(run)
    assert record is not None
    assert record.output == b'"done"'
