"""Schedules are derived from what is registered: each has one next tick, whatever died or overlapped."""

from __future__ import annotations

import asyncio

import msgspec
from builders import APP, function
from runner_world import World

from inngest.api.register import register
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.decisions.crons import Tick
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.sdk.registration import Registration
from inngest.core.timing.times import HOUR, MINUTE
from inngest.services.runner import Runner

APP_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
PATIENCE = 60


def _fn(*crons: str, id: str = "fn") -> Function:  # noqa: A002
    return function(id, app_id=APP_ID, triggers=[Trigger(cron=cron) for cron in crons])


def _registration(*crons: str) -> Registration:
    app = App(id=APP_ID, name=APP.name, url=APP.url, checksum=" ".join(crons))
    return Registration(app=app, functions=[_fn(*crons)])


class Context:
    """What registering is given."""

    signing_keys = ()
    dev = True

    def __init__(self, world: World) -> None:
        self.engine = world.engine
        self.clock = world.clock
        self.new_id = world.runtime.new_id


def _queued(world: World) -> list[str]:
    return sorted(msgspec.json.decode(item.payload, type=Tick).cron for item in world.queued())


async def _derive(world: World, runner: Runner | None = None) -> None:
    await world.runtime.registry.refresh()
    await (runner or world.runner)._derive()


async def test_a_registration_has_its_schedules_although_the_process_that_took_it_died() -> None:
    world = World()
    await register(Context(world), _registration("*/5 * * * *"))  # type: ignore[arg-type]
    await _derive(world)
    assert _queued(world) == ["*/5 * * * *"]


async def test_of_two_versions_that_register_at_a_time_the_one_that_is_registered_is_queued() -> None:
    gate = asyncio.Event()

    class Slow(MemoryEngineStore):
        async def put_app(self, app: App, functions: object) -> None:
            await super().put_app(app, functions)  # type: ignore[arg-type]
            if app.checksum == "0 * * * *":
                await gate.wait()

    world = World(Slow)
    context = Context(world)
    old = asyncio.create_task(register(context, _registration("0 * * * *")))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await register(context, _registration("*/5 * * * *"))  # type: ignore[arg-type]
    gate.set()
    await old
    await _derive(world)
    (registered,) = world.runtime.registry.functions.values()
    assert _queued(world) == [trigger.cron for trigger in registered.triggers]


async def test_a_runner_that_knows_an_older_registration_takes_no_schedule_back() -> None:
    world = World()
    await world.register(_fn("0 * * * *"))
    late = World(lambda _: world.engine)
    await late.runtime.registry.refresh()
    await world.register(_fn("*/5 * * * *"))
    await world.runner._derive()
    await late.runner._derive()  # from what it had read before
    assert _queued(world) == ["*/5 * * * *"]


async def test_deriving_again_moves_no_tick() -> None:
    world = World()
    await world.register(_fn("0 * * * *"))
    await world.runner._derive()
    before = [(item.job, item.due) for item in world.queued()]
    world.now += 2 * MINUTE
    await world.runner._derive(all_of_them=True)
    await Runner(world.runtime)._derive()
    assert [(item.job, item.due) for item in world.queued()] == before


async def test_a_schedule_that_was_lost_comes_back() -> None:
    world = World()
    await world.register(_fn("0 * * * *"))
    await world.runner._derive()
    assert isinstance(world.engine, MemoryEngineStore)
    state = world.engine._state
    for entry in list(state.entries.values()):
        state.forget(entry, remember=False)
    await world.runner._derive()
    assert _queued(world) == [], "what has not changed is not looked after each time"
    await world.runner._derive(all_of_them=True)
    assert _queued(world) == ["0 * * * *"]


async def test_a_schedule_ends_with_its_function() -> None:
    world = World()
    await world.register(_fn("0 * * * *"), _fn("0 0 * * *", id="other"))
    await world.runner._derive()
    await world.engine.put_app(App(id=APP_ID, name=APP.name, url=APP.url), [_fn("0 * * * *")])
    await _derive(world)
    assert _queued(world) == ["0 * * * *"]


async def test_a_running_runner_follows_the_registry() -> None:
    world = World()
    running = asyncio.create_task(world.runner.run())
    watching = asyncio.create_task(world.runtime.registry.watch())
    try:
        async with asyncio.timeout(PATIENCE):
            for cron in ("0 * * * *", "*/5 * * * *"):
                await world.engine.put_app(APP, [function(triggers=[Trigger(cron=cron)])])
                while _queued(world) != [cron]:
                    await asyncio.sleep(0.001)
    finally:
        watching.cancel()
        await world.runner.drain(PATIENCE)
        await running
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_tick_fires_once_an_hour_whoever_derives_in_between() -> None:
    world = World()
    await world.register(_fn("0 * * * *"))
    for _ in range(3):
        await world.runner._derive(all_of_them=True)
        world.now += HOUR
        await world.fire()
        await Runner(world.runtime)._derive()
    assert len(await world.runs()) == 3
    assert len(world.queued()) == 1
