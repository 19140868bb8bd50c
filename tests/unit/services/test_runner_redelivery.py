"""Events that are delivered again, however late: nothing more happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import function
from runner_world import World

from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.core.decisions.advance import advance
from inngest.core.decisions.draft import Call
from inngest.core.model.events import Event
from inngest.core.model.functions import Batch, Cancel, Debounce, Function, RateLimit, Singleton
from inngest.core.model.runs import Run
from inngest.core.policy import PAGE
from inngest.core.sdk.responses import Op, Reported, Step
from inngest.core.timing.times import DAY, MINUTE

FN = function()


async def _world(fn: Function = FN) -> World:
    world = World()
    await world.register(fn)
    return world


async def _asks(world: World, step: str, event: str) -> None:
    """The run waits for an event: it is a run's only one."""
    (leased,) = await world.calls()
    assert leased.run is not None
    opts = {"event": event, "timeout": "1h"}
    wait = Step(id=step, op=Op.WAIT, label=step, name=event, opts=opts, data=b"", error=b"")
    answer = Reported(steps=[wait], request_version=2)
    call = Call(world.now, world.now)
    transition = advance(leased.run, FN, leased.item, answer, world.runtime.moment(), call=call)
    await world.engine.commit([transition])


async def _run(world: World) -> Run:
    (run,) = await world.runs()
    return run


async def test_an_event_ends_no_later_wait_of_the_run_that_it_has_resumed() -> None:
    world = await _world()
    await world.process(world.event())
    await _asks(world, "first", "app/approve")
    world.now += 1000
    approval = world.event("app/approve", {"by": "alice"})
    await world.process(approval)  # committed, and the process dies before it acknowledges
    world.now += 200
    await _asks(world, "second", "app/approve")
    await world.process(approval)
    assert list((await _run(world)).steps) == ["first"]
    await world.process(world.event("app/approve", {"by": "bob"}))
    assert list((await _run(world)).steps) == ["first", "second"]


async def test_an_event_that_comes_again_ends_the_waits_that_it_has_not_met() -> None:
    """Those of other functions, when the commit had reached some of them."""
    world = World()
    other = function("other")
    await world.register(FN, other)
    await world.process(world.event())
    waiting = await world.calls()
    for leased in waiting:
        assert leased.run is not None
        fn = FN if leased.item.fn == FN.id else other
        opts = {"event": "app/approve", "timeout": "1h"}
        wait = Step(id="w", op=Op.WAIT, label="w", name="w", opts=opts, data=b"", error=b"")
        answer = Reported(steps=[wait], request_version=2)
        moment = world.runtime.moment()
        call = Call(world.now, world.now)
        await world.engine.commit([advance(leased.run, fn, leased.item, answer, moment, call=call)])
    approval = world.event("app/approve")
    real, committed = world.engine.commit, []

    async def dies(transitions, *, take=None):  # type: ignore[no-untyped-def]
        results = await real(transitions[:1], take=take)
        committed.append(transitions[0].fn)
        raise ConnectionError
        return results

    world.engine.commit = dies  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await world.process(approval)
    world.engine.commit = real  # type: ignore[method-assign]
    await world.process(approval)
    for fn in (FN, other):
        (run,) = await world.runs(fn.id)
        assert list(run.steps) == ["w"]


async def test_an_event_that_more_wait_for_than_a_page_holds_ends_each_wait_once() -> None:
    world = await _world()
    count = PAGE + 10
    for start in range(0, count, PAGE):
        await world.process(*[world.event() for _ in range(min(PAGE, count - start))])

    async def ask(step: str) -> None:
        while leases := await world.calls():
            for leased in leases:
                assert leased.run is not None
                opts = {"event": "app/approve", "timeout": "1h"}
                wait = Step(id=step, op=Op.WAIT, label=step, name=step, opts=opts, data=b"", error=b"")
                answer = Reported(steps=[wait], request_version=2)
                moment, call = world.runtime.moment(), Call(world.now, world.now)
                await world.engine.commit([advance(leased.run, FN, leased.item, answer, moment, call=call)])

    await ask("first")
    approval = world.event("app/approve")
    await world.process(approval)
    assert {tuple(run.steps) for run in await world.runs()} == {("first",)}
    await ask("second")
    await world.process(approval)
    assert {tuple(run.steps) for run in await world.runs()} == {("first",)}


async def test_an_event_that_was_replaced_does_not_open_the_debounce_again() -> None:
    world = await _world(function(debounce=Debounce(period=1000)))
    replaced = world.event(data={"n": "a"})
    world.now += 100
    kept = world.event(data={"n": "b"})
    await world.process(replaced)
    await world.process(kept)
    world.now += 2500
    await world.fire()
    assert await world.alive() == [kept.id]
    await world.process(replaced)
    world.now += 2500
    await world.fire()
    assert await world.alive() == [kept.id]
    assert world.queued() == []


async def test_an_event_joins_a_batch_once_however_late_it_comes_again() -> None:
    world = await _world(function(batch=Batch(max_size=10, timeout=MINUTE)))
    event = world.event()
    await world.process(event)
    world.now += MINUTE
    await world.fire()
    world.now += 31 * MINUTE
    await world.process(event)
    world.now += MINUTE
    await world.fire()
    assert await world.alive() == [event.id]
    assert world.queued() == []


async def test_a_process_that_comes_back_after_days_decides_on_nothing_again(tmp_path: Path) -> None:
    """It dies between its commit and the acknowledgement."""
    now = [World().now]
    path = tmp_path / "engine.db"
    fns = (
        FN, function("limited", rate_limit=RateLimit(limit=9, period=1000)),
        function("single", singleton=Singleton(mode="cancel")),
        function("batched", batch=Batch(max_size=10, timeout=1000)),
        function("debounced", debounce=Debounce(period=1000)),
    )  # fmt: skip

    async def live(event: Event | None) -> tuple[Event, dict[str, list[str]]]:
        journal = Journal(path)
        world = World(lambda clock: SqliteEngineStore(journal, clock), now=now[0])
        await world.engine.open()
        await world.register(*fns)
        event = event or world.event()
        await world.process(event)
        world.now += 1000
        await world.fire()
        now[0] = world.now
        found = {fn.id: await world.alive(fn.id) for fn in fns}
        await world.engine.close()
        return event, found

    event, first = await live(None)
    assert first == {fn.id: [event.id] for fn in fns}
    for _ in range(3):
        now[0] += 7 * DAY
        assert await live(event) == (event, first)


async def test_a_cancelling_event_that_comes_again_cancels_no_later_run() -> None:
    world = await _world(function(cancel=[Cancel(event="app/stop")]))
    await world.process(world.event())
    stop = world.event("app/stop")
    await world.process(stop)
    await world.fire()
    world.now += 10
    later = world.event()
    await world.process(later)
    await world.process(stop)
    await world.fire()
    assert await world.alive() == [later.id]
