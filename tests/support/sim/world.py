"""One seed from its beginning to its end: everything is started, goes wrong, heals, and is looked at."""

from __future__ import annotations

import asyncio
import random as global_random
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import structlog

from inngest.loops import trouble
from sim import audit, ports
from sim.application import Application, Definition, Stale
from sim.broker import Broker
from sim.faults import Faults
from sim.http import outside
from sim.loop import SimLoop, Stuck
from sim.node import Node
from sim.people import People
from sim.plan import REDIS, SQLITE, AppFates, Plan
from sim.process import EPOCH, Process
from sim.redis import RedisStores
from sim.truth import Truth, Violation
from sim.watch import Shadow, Watch

QUIET_LIMIT = 3 * 3600.0
"""Seconds after the last fault within which everything must have come to its end."""
MOST_STEPS = 5_000_000


@dataclass
class Result:
    """What came of a seed."""

    seed: int
    store: str
    violations: list[Violation]
    counts: dict[str, int] = field(default_factory=dict)
    digest: str = ""


class World:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = SimLoop(self.chance("order"))
        self.loop.most_steps = MOST_STEPS
        self.truth = Truth()
        self.faults = Faults(self.chance("faults"), dict(plan.rates))
        self.app_fates = AppFates(self.chance("apps"), plan.app_chance, plan.app_slow)
        self.lost_replies = max(rates.lost for rates in plan.rates.values())
        self.folder: Path | None = None
        self.stores: ports.Stores
        if plan.store == SQLITE:
            shm = Path("/dev/shm")
            self.folder = Path(tempfile.mkdtemp(prefix="sim-", dir=shm if shm.is_dir() else None))
            self.stores = ports.SqliteStores(self.folder, self.clock)
        elif plan.store == REDIS:
            self.stores = RedisStores(self.loop, self.clock, self.chance("network"), at_once=plan.at_once)
        else:
            self.stores = ports.MemoryStores(self.clock)
        self.shadow = Shadow()
        self._late = self.chance("late")
        self.broker = Broker(
            self.loop,
            self.chance("broker"),
            self.truth,
            again=not self.stores.embedded,
            late=self._lateness,
        )
        self.people = People(self, self.chance("people"))
        self.applications: dict[str, Application] = {}
        for app, definition in plan.functions:
            if app not in self.applications:
                self.applications[app] = Application(self, app, self.chance(f"app {app}"))
            self.applications[app].functions[definition.slug] = definition
        self.nodes = [Node(self, *node) for node in plan.nodes]
        self.graveyard: list[Process] = []
        self.faults.die = plan.die
        self.faults.kill = self._dies
        self.draining: dict[Process, bool] = {}
        self.over = False
        self.crons_until = 0
        self._dawn = 0.0
        self._crashes = 0
        self._returning_until = 0.0

    # -- what its parts need --

    def chance(self, name: str) -> Random:
        """A source of chance of its own, so that one part does not shift the luck of another."""
        return Random(f"{self.plan.seed} {name}")

    def now(self) -> int:
        """The store's time, in ms since the beginning."""
        return int(self.loop.time() * 1000)

    def clock(self) -> int:
        return EPOCH + self.now()

    def watch(self, engine: Any) -> Watch:
        return Watch(engine, self.truth, self.shadow, self.clock, ordered=self.stores.seen)

    def violate(self, rule: int, code: str, text: str) -> None:
        if not self.over:
            self.truth.violate(rule, code, text, self.now())

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Something that belongs to no process of the system."""
        task: asyncio.Task[Any] = outside(lambda: self.loop.create_task(work))
        return task

    async def answer(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Any:
        """What is answered at a URL."""
        host = url.split("/", 3)[2]
        if host == "elsewhere.test":
            return 200, {"content-type": "text/plain"}, b"fetched"
        try:
            return await self.applications[host.removesuffix(".test")].answer(url, headers, body)
        except Stale:
            self.truth.mistreated.add(headers.get("X-Run-ID", ""))
            return 500, {"x-inngest-sdk": "sim:v1"}, b'{"message":"stale"}'

    def crashed(self, node: Node, error: Exception) -> None:
        """A process has ended by itself. Somebody starts it again, a few times."""
        self._crashes += 1
        node.kill()
        if self._crashes < 10:
            self.loop.call_later(1.0, lambda: None if node.alive else node.start(), context=Context())

    def _lateness(self) -> float:
        if not self.plan.late or self._late.random() < 0.5:
            return 0.5 + self._late.random() * 10
        seconds = min(self._late.choice((1_900.0, 3_700.0, 90_000.0)), self.plan.longest)
        self._returning_until = max(self._returning_until, self.loop.time() + seconds)
        return seconds

    # -- the seed --

    async def run(self) -> None:
        for node in self.nodes:
            node.start()
        await asyncio.gather(*(self.people.register(app) for app in self.applications.values()))
        self._begin_workload()
        self._begin_chaos()
        await asyncio.sleep(self.plan.active + sum(self.plan.nights))
        self._heal()
        healed = self.loop.time()
        if "cron" in self.plan.features.values():
            await self._end_crons()
        await self._quiet(healed)
        await audit.audit(self, int(healed * 1000))

    async def _end_crons(self) -> None:
        """Let the schedules tick undisturbed for a while, and then end, or it would never be quiet."""
        await asyncio.sleep(200)
        audit.look_at_crons(self)
        self.crons_until = self.now()
        for app in self.applications.values():
            for slug, before in list(app.functions.items()):
                triggers = [trigger for trigger in before.config["triggers"] if "cron" not in trigger]
                config = {**before.config, "triggers": triggers}
                app.functions[slug] = Definition(slug, before.program, config, before.bad)
            await self.people.register(app)

    def _begin_workload(self) -> None:
        random, plan, people = self.chance("workload"), self.plan, self.people

        def at(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
            async def later() -> None:
                await asyncio.sleep(seconds)
                await work()

            people.do(later())

        for event in plan.events:
            at(event.at, lambda event=event: people.send(event))  # type: ignore[misc]
        for app in self.applications.values():
            for _ in range(plan.syncs - 1):
                at(random.random() * plan.active, lambda app=app: people.register(app))  # type: ignore[misc]
        for number in range(plan.garbage):
            body = random.choice((b"", b"null", b"{}", b"\xff", b'{"id":1}')) + b" " * number
            at(random.random() * plan.active, lambda body=body: people.spoil(body))  # type: ignore[misc]
        for _ in range(plan.changes):
            at(random.random() * plan.active, lambda: self._change(random))
        for what, count in plan.people.items():
            work = {"cancel": people.cancel_one, "bulk": people.cancel_many, "rerun": people.rerun}[what]
            for _ in range(count):
                at(random.random() * plan.active, work)

    async def _change(self, random: Random) -> None:
        """An application is deployed anew with another configuration, by two instances at once."""
        app = random.choice(list(self.applications.values()))
        slug = random.choice(list(app.functions))
        before = app.functions[slug]
        config = dict(before.config)
        match config.get("concurrency"):
            case [{"limit": int()} as limit, *rest]:
                config["concurrency"] = [{**limit, "limit": random.choice((1, 2, 5))}, *rest]
            case _:
                config["name"] = f"{slug} {random.randint(1, 9)}"
        app.functions[slug] = Definition(slug, before.program, config, before.bad)
        await asyncio.gather(*(self.people.register(app) for _ in range(random.choice((1, 2)))))

    def _begin_chaos(self) -> None:
        random, plan = self.chance("chaos"), self.plan

        def at(what: Callable[..., Coroutine[Any, Any, None]], *given: Any) -> None:
            self.people.do(self._at(random.random() * plan.active, what, *given))

        for _ in range(plan.kills):
            at(self._kill, random.choice(self.nodes), random.random() * 10)
        for _ in range(plan.stops):
            at(self._stop, random.choice(self.nodes), random.choice((2, 35, 100, 200)))
        for _ in range(plan.restarts):
            at(self._restart, random.choice(self.nodes), random.choice((0.1, 5)))
        for _ in range(plan.outages):
            system = random.choice(("engine", "stream", "data", "disk", "apps"))
            at(self._outage, system, random.choice((0.5, 5.0, 40.0)))
        for seconds in plan.nights:
            at(self._night, seconds)

    async def _at(self, seconds: float, what: Callable[..., Coroutine[Any, Any, None]], *given: Any) -> None:
        await asyncio.sleep(seconds)
        if not self.faults.healed:
            await what(*given)

    async def _kill(self, node: Node, rest: float) -> None:
        # Between any two awaits: so many callbacks later.
        self.faults.counts["kill"] += 1
        node.kill()
        await asyncio.sleep(rest)
        if not node.alive:
            node.start()

    def _dies(self, process: Process) -> None:
        """In the middle of what it does."""
        node = next(node for node in self.nodes if node.process is process)
        self.faults.counts["kill in a call"] += 1
        node.kill()
        seconds = self._late.random() * 5
        self.loop.call_later(seconds, lambda: None if node.alive else node.start(), context=Context())

    async def _stop(self, node: Node, rest: float) -> None:
        self.faults.counts["stop"] += 1
        node.stop()
        await asyncio.sleep(rest)
        node.wake()

    async def _restart(self, node: Node, grace: float) -> None:
        self.faults.counts["restart"] += 1
        await node.leave(grace)
        await asyncio.sleep(0.5)
        if not node.alive:
            node.start()

    async def _outage(self, system: str, rest: float) -> None:
        self.faults.counts[f"{system} away"] += 1
        if system == "disk":
            if self.stores.embedded:
                self.stores.full = True
                await asyncio.sleep(rest)
                self.stores.full = False
        elif system == "apps":
            before, self.app_fates.chance = self.app_fates.chance, 1.0
            await asyncio.sleep(rest)
            self.app_fates.chance = before
        else:
            self.faults.away.add(system)
            await asyncio.sleep(rest)
            self.faults.away.discard(system)

    async def _night(self, seconds: float) -> None:
        """All machines are suspended."""
        self.faults.counts["night"] += 1
        stopped = [node for node in self.nodes if node.alive and node.process and not node.process.frozen]
        for node in stopped:
            node.stop()
        self._dawn = max(self._dawn, self.loop.time() + seconds)
        await asyncio.sleep(seconds)
        for node in stopped:
            node.wake()

    async def dawn(self) -> None:
        """Return when it is day: people sleep at night too."""
        if self._dawn > self.loop.time():
            await asyncio.sleep(self._dawn - self.loop.time())

    def _heal(self) -> None:
        self.faults.heal()
        self.app_fates.healed = True
        if self.stores.embedded:
            self.stores.full = False
        for node in self.nodes:
            node.wake()
            if not node.alive:
                node.start()

    async def _quiet(self, healed: float) -> None:
        """Return when nothing is left to do."""
        calm = 0
        while True:
            await asyncio.sleep(1.0)
            for node in self.nodes:  # who was killed or stopped a moment before everything healed
                node.wake()
                if not node.alive and self._crashes < 10:
                    node.start()
            left = await self._left()
            if not left and not self.broker.returning:
                calm += 1
                if calm >= 3:
                    return
                continue
            calm = 0
            if not left and self._returning_until > self.loop.time() + 60:
                await self._night(self._returning_until - self.loop.time())
            if self.loop.time() - max(healed, self._returning_until) > QUIET_LIMIT:
                self.violate(5, "not-quiet", f"left: {left}; {await self.stores.stuck()}"[:2000])
                return

    async def _left(self) -> dict[str, int]:
        left = {"people": self.people.busy} if self.people.busy else {}
        with suppress(AttributeError):  # the store is not open just now
            left |= await self.stores.unfinished()
            if not self.crons_until:
                left.pop("ticks", None)
        return left

    def clear(self) -> None:
        """End all that still runs."""
        self.over = True
        self.loop.everything = True
        self.faults.heal()
        for node in self.nodes:
            if node.process is not None:
                node.process.dead = True
        tasks = sorted(asyncio.all_tasks(self.loop), key=lambda task: task.number)  # type: ignore[attr-defined]
        for _ in range(3):
            for task in tasks:
                task.cancel()
            for process in [*self.graveyard, *(node.process for node in self.nodes if node.process)]:
                held, process.held = process.held, []
                self.loop.wake(held)
            with suppress(Stuck):
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=120)) if tasks else None
            tasks = [task for task in tasks if not task.done()]
            if not tasks:
                break
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.stores.close()
        self.loop.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def simulate(plan: Plan) -> Result:
    """Run one seed. The result is the same whenever and wherever it is run, by the same Python."""
    global_random.seed(plan.seed)  # what waits between two tries is drawn from it
    trouble.ERRORS.clear()
    trouble._outages.clear()
    world = World(plan)
    with _logs(world):
        asyncio.set_event_loop(world.loop)
        try:
            world.loop.run_until_complete(world.run())
        except Stuck as stuck:
            world.violate(5, "stuck", str(stuck))
        finally:
            end = world.loop.time()
            steps = world.loop.steps
            for context in world.loop.unhandled:
                error = context.get("exception")
                world.violate(0, "unhandled", f"{context.get('message')}: {error!r}")
            world.clear()
            asyncio.set_event_loop(None)
    truth = world.truth
    counts = {
        "events": len(truth.accepted),
        "runs": len(truth.created),
        "calls": truth.calls.total(),
        "faults": world.faults.counts.total() + world.app_fates.wrong,
        "steps": steps,
    }
    told = (counts, sorted(truth.created), [str(each) for each in truth.violations], end)
    from hashlib import blake2b

    digest = blake2b(repr(told).encode(), digest_size=8).hexdigest()
    return Result(plan.seed, plan.store, truth.violations, counts, digest)


# -- logs --

_sink: Callable[[dict[str, Any]], None] | None = None


def _take_log(_: Any, __: str, entry: dict[str, Any]) -> Any:
    if _sink is not None:
        _sink(entry)
    raise structlog.DropEvent


@contextmanager
def _logs(world: World) -> Iterator[None]:
    """What is logged as an error with a traceback is a defect that a service has survived."""
    global _sink

    def sink(entry: dict[str, Any]) -> None:
        error = entry.get("exc_info")
        if world.over:
            return
        if entry["event"] == "run had been left behind":
            world.violate(5, "orphan", f"{entry}")
        elif error:
            import sys

            error = sys.exc_info()[1] if error is True else error
            world.violate(0, f"defect {entry.get('action')}", f"{entry['event']}: {error!r}")

    _sink = sink
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, _take_log],
            wrapper_class=structlog.make_filtering_bound_logger(30),
            cache_logger_on_first_use=True,
        )
    try:
        yield
    finally:
        _sink = None


__all__ = ["Result", "World", "simulate"]
