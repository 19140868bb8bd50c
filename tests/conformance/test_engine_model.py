"""Random lives of an engine in memory and of another, side by side: they must not differ in anything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec import Raw
from redis_places import redis_engine
from sqlite_places import sqlite_engine_at_rest

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Concurrency, Function, Throttle
from inngest.core.model.history import History, What
from inngest.core.model.runs import (
    CALLS,
    Cell,
    Item,
    Kind,
    Leased,
    Partition,
    Pause,
    PauseKind,
    Queue,
    Run,
    RunStatus,
    timers,
)
from inngest.core.model.transition import (
    Admit,
    Adopt,
    Await,
    Begin,
    Collect,
    Complete,
    CreateRun,
    Discover,
    Drop,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    EnqueueFirst,
    Evict,
    ForcePlan,
    Lease,
    Once,
    PutPause,
    Recall,
    Record,
    Remember,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
    SignalTaken,
    TakeLock,
    TakePause,
    Transition,
    Unclaimed,
    lease_of,
)
from inngest.core.timing import gcra
from inngest.ports.engine import EngineStore, Page, Take

T = TypeVar("T")

FUNCTIONS = ["fn-a", "fn-b"]
WORKERS = ["w1", "w2"]
STEPS = ["s1", "s2", "s3", "s4"]
EVENTS = ["app/one", "app/two"]


class Clock:
    """The time of both stores."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now


Stores = tuple[MemoryEngineStore, EngineStore, Clock]


@pytest.fixture(params=[redis_engine, sqlite_engine_at_rest], ids=["redis", "sqlite-at-rest"])
async def stores(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    clock = Clock()
    async with request.param(tmp_path) as place:
        store = place.store(clock)
        await store.open()
        yield MemoryEngineStore(clock), store, clock
        await store.close()


class World:
    """The generator: what happens next. Times move in whole seconds, as memory looks for lost leases then."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.random = random.Random(seed)
        self.clock = clock
        self.runs: list[Run] = []
        self.leased: list[Leased] = []
        self.pauses: list[Pause] = []
        self.serial = 0

    @property
    def now(self) -> int:
        return self.clock.now

    def next(self) -> int:
        self.serial += 1
        return self.serial

    def function(self, fn: str) -> Function:
        roll = self.random.random
        return Function(
            id=fn,
            slug=fn,
            name=fn,
            app="app",
            app_id="app",
            url="http://app.test",
            triggers=[],
            concurrency=[Concurrency(limit=self.random.choice([0, 1, 2, 3])) for _ in range(2)],
            run_concurrency=Concurrency(limit=self.random.choice([1, 2, 4])) if roll() < 0.5 else None,
            throttle=Throttle(limit=2, period=4000) if roll() < 0.5 else None,
        )

    def run(self) -> Run:
        fn, key = self.random.choice(FUNCTIONS), self.random.choice("xy")
        number = self.next()
        cells = (Cell("env:shared", 0), Cell(f"{fn}:1:{key}", 1))
        return Run(
            id=f"run-{number:05}",
            fn=fn,
            slug=fn,
            app="app",
            events=[b'{"name":"e"}'],
            event_ids=[f"event-{number}"],
            key=f"{fn}:key-{self.random.randrange(400)}",
            created=self.now,
            start=Partition(f"{fn}/s/{key}", fn, cells, Cell(f"{fn}:run", 2), f"throttle:{fn}"),
            work=Partition(f"{fn}/w/{key}", fn, cells),
            lock=f"lock:{fn}:{key}" if self.random.random() < 0.2 else "",
            priority=self.random.choice([0, 0, 5]),
            order=f"{self.random.randrange(10**6):014}",
        )

    def item(self, run: Run, kind: Kind, job: str, delay: int = 0) -> Item:
        return Item(
            job=job,
            kind=kind,
            fn=run.fn,
            run=run.id,
            due=self.now + delay,
            score=self.now + delay - run.priority * 1000 + self.random.randrange(3),
            partition=(run.partition(kind) if kind in CALLS else timers(run.fn)).id,
            target=self.random.choice(STEPS),
            queued=self.now,
            payload=b"\x00\xff",
            race=self.random.random() < 0.2,
        )

    def job(self, run: Run) -> str:
        return f"{run.id}:{self.random.randrange(25)}"

    def pause(self, run: Run) -> Pause:
        step = self.random.choice(STEPS)
        kind = self.random.choice([PauseKind.EVENT, PauseKind.EVENT, PauseKind.CANCEL])
        terms = [("data.id", f"n:{self.random.randrange(3)}")] if self.random.random() < 0.6 else []
        if self.random.random() < 0.2:
            terms = [("data.name", "s:n")]
        return Pause(
            id=f"{run.id}:{step}",
            kind=kind,
            fn=run.fn,
            run=run.id,
            event=self.random.choice(EVENTS),
            step=step,
            terms=terms,
            timeout_job=self.job(run),
        )

    def start(self) -> Transition:
        run = self.run()
        self.runs.append(run)
        effects: list[Effect] = [Unclaimed(key=run.key)]
        if self.random.random() < 0.5:
            effects = [self.once()]
        if run.lock:
            evict = self.runner_item(run.fn, Kind.EVICT, "") if self.random.random() < 0.6 else None
            effects.append(TakeLock(key=run.lock, order=run.order, evict=evict, when=0))
        create = len(effects)
        claim = self.random.choice([0, 1000, 60_000])
        effects.append(CreateRun(run=run, claim=claim, when=create - 1))
        delay = self.random.choice([0, 0, 0, 2000])
        effects.append(Enqueue(item=self.item(run, Kind.START, f"{run.id}:start", delay), when=create))
        if self.random.random() < 0.3:
            timeout = self.item(run, Kind.START_TIMEOUT, f"{run.id}:st", 9000)
            effects.append(Enqueue(item=timeout, when=create))
        if self.random.random() < 0.3:
            effects.append(self.recall(run))
        return Transition(fn=run.fn, run=run.id, effects=effects)

    def once(self) -> Once:
        at = self.now  # events arrive in about this order
        forget = self.random.choice([0, self.now - 40_000, self.now - 10_000])
        key = f"e{self.random.randrange(60)}"
        return Once(key=key, at=at, forget=forget, mark=self.random.random() < 0.8)

    def runner_item(self, fn: str, kind: Kind, run: str) -> Item:
        job = f"{run}:{kind}" if run else ""
        return Item(
            job=job,
            kind=kind,
            fn=fn,
            run=run,
            due=self.now,
            score=self.now,
            partition=f"{fn}/r",
            payload=b"x",
        )

    def recall(self, run: Run) -> Recall:
        names = self.random.sample(EVENTS, self.random.randrange(1, 3))
        since = self.now - self.random.randrange(20_000)
        return Recall(names=names, since=since, item=self.runner_item(run.fn, Kind.RECALL, run.id))

    def effect(self, run: Run) -> Effect:
        choose = self.random.choice
        sleep = self.item(run, choose([Kind.SLEEP, Kind.TIMEOUT]), self.job(run), choose([0, 1000, 7000]))
        call = self.item(run, choose([Kind.DISCOVER, Kind.PLAN]), self.job(run), choose([0, 0, 3000]))
        pause = self.pause(run)
        signal = f"\x00signal/{choose('pq')}"
        make: list[Any] = [
            lambda: SaveStep(step=choose(STEPS), value=b"\xff" * self.random.randrange(40)),
            lambda: SaveStep(step=f"s{self.next()}", value=b"1"),
            lambda: Await(steps=self.random.sample(STEPS, self.random.randrange(4))),
            lambda: Begin(at=self.now),
            lambda: Adopt(version=choose([1, 2])),
            lambda: ForcePlan(),
            lambda: PutPause(pause=pause),
            lambda: PutPause(pause=pause),
            lambda: TakePause(id=pause.id),
            lambda: PutPause(pause=self.signal(pause, signal), exclusive=choose(["fail", "replace"])),
            lambda: SignalTaken(name=signal, pause=pause.id, step=pause.step),
            lambda: Drop(job=self.job(run)),
            lambda: Emit(event=b"%d" % self.next()),
            lambda: Record(
                entry=History(
                    id=f"{self.next()}",
                    what=What.ATTEMPT,
                    run=run.id,
                    fn=run.fn,
                    at=self.now,
                    info={"n": 2**60},
                )
            ),
            self.once,
            lambda: Remember(name=choose(EVENTS), event=b"%d" % self.next(), at=self.now, ttl=10**9),
        ]
        if run.id:  # else it is one that has no calls
            make += [
                lambda: Enqueue(item=sleep),
                lambda: Enqueue(item=call),
                lambda: Discover(item=call),
                lambda: Discover(item=call),
                lambda: EnqueueFirst(items=[call, self.item(run, Kind.DISCOVER, self.job(run))]),
                lambda: self.recall(run),
            ]
            if self.random.random() < 0.03:
                return Evict(item=self.runner_item(run.fn, Kind.EVICT, run.id))
        if self.random.random() < 0.04:
            return EndRun(status=RunStatus.COMPLETED)
        effect: Effect = choose(make)()
        return effect

    def signal(self, pause: Pause, name: str) -> Pause:
        pause.kind, pause.event, pause.terms = PauseKind.SIGNAL, name, []
        return pause

    def change(self, run: Run, lease: Leased | None) -> Transition:
        effects: list[Effect] = []
        for place in range(self.random.randrange(1, 6)):
            effect = self.effect(run)
            if place and self.random.random() < 0.3:
                effect.when = self.random.randrange(place)
            if place and self.random.random() < 0.2:
                effect.unless = self.random.randrange(place)
            effects.append(effect)
        if lease is None:
            return Transition(fn=run.fn, run=run.id, effects=effects)
        roll = self.random.random()
        if roll < 0.65:
            effects.insert(self.random.randrange(len(effects) + 1), Complete())
        elif roll < 0.85:
            due = self.now + self.random.choice([0, 1000, 5000])
            effects.append(Retry(due=due, attempt=lease.item.attempt + 1, payload=b"again"))
        else:
            effects.append(ResetAttempts(job=lease.item.job, epoch=lease.item.epoch, ms=20_000))
        for effect in effects:
            effect.when = effect.unless = -1
        epoch = lease.item.epoch + (self.random.random() < 0.05)
        return Transition(fn=run.fn, run=run.id, effects=effects, lease=Lease(run.fn, lease.item.job, epoch))

    def work(self) -> Transition:
        """What comes of a leased item."""
        leased = self.leased.pop(self.random.randrange(len(self.leased)))
        item = leased.item
        run = next((run for run in self.runs if run.id == item.run), None)
        if run is None:
            nowhere = Partition("", "")
            run = Run(
                id=item.run,
                fn=item.fn,
                slug="",
                app="",
                events=[],
                event_ids=[],
                key="",
                created=0,
                start=nowhere,
                work=nowhere,
            )
        if item.kind is Kind.EVICT:
            over: list[Effect] = [EndRun(status=RunStatus.CANCELLED), Complete()]
            return Transition(fn=item.fn, run=item.run, effects=over, lease=lease_of(item))
        return self.change(run, leased)

    def crons(self, items: list[Item], runner: Partition) -> SetCrons:
        return SetCrons(items=items, partition=runner, version=self.random.choice([1, 2, 2, self.serial]))

    def without_run(self) -> Transition:
        fn = self.random.choice(FUNCTIONS)
        runner = Partition(f"{fn}/r", fn)
        kind = self.random.choice([Kind.DEBOUNCE, Kind.BATCH, Kind.CRON])
        due = self.now + self.random.choice([0, 1000, 4000])
        item = Item(job=f"{kind}:{fn}:{self.next()}", kind=kind, fn=fn, due=due, score=due, queued=self.now)
        item.partition = runner.id
        if kind is Kind.CRON:
            crons = []
            for name in self.random.sample("abc", self.random.randrange(4)):
                job = f"cron:{fn}:{name}:{self.next()}"
                crons.append(
                    Item(job=job, kind=kind, fn=fn, name=name, due=due, score=due, partition=runner.id)
                )
            return Transition(fn=fn, run="", effects=[self.crons(crons, runner)])
        ts = self.random.randrange(5)
        event = b'{"name":"%d","ts":%d}' % (self.next(), ts)
        item.payload = b"[" + event + b"]"
        collect = Collect(
            key=f"{kind}:{fn}",
            item=item,
            partition=runner,
            event=event,
            ts=ts,
            last=kind is Kind.DEBOUNCE,
            bound=self.random.choice([0, 6000]),
            max_size=3,
            max_bytes=self.random.choice([0, 60]),
        )
        params = gcra.rate_limit(20, 30_000)
        admit = Admit(key=f"rate:{fn}", params=params)
        return Transition(fn=fn, run="", effects=[collect, admit])


async def _same(ours: Awaitable[T], theirs: Awaitable[T]) -> T:
    one, other = await ours, await theirs
    assert one == other
    return other


class Pair:
    """Two stores to which the same happens."""

    def __init__(self, memory: MemoryEngineStore, other: EngineStore, world: World) -> None:
        self.memory = memory
        self.other = other
        self.world = world

    async def commit(self, transition: Transition, take: Take | None = None) -> None:
        committed = await _same(
            self.memory.commit([transition], take=take), self.other.commit([transition], take=take)
        )
        self.world.leased += [each.next for each in committed if each.next is not None]

    async def step(self) -> None:
        world, roll = self.world, self.world.random.random()
        if roll < 0.05:
            functions = [world.function(fn) for fn in FUNCTIONS]
            app = App(id="app", name="app", url="http://app.test")
            await _same(self.memory.put_app(app, functions), self.other.put_app(app, functions))
        elif roll < 0.2:
            await self.commit(world.start())
        elif roll < 0.27:
            await self.commit(world.without_run())
        elif roll < 0.45:
            await self.lease()
        elif roll < 0.55:
            world.clock.now += world.random.choice([1000, 1000, 2000, 10_000])
        elif roll < 0.58:
            worker, ms = world.random.choice(WORKERS), world.random.choice([0, 1000, 5000])
            await _same(self.memory.alive(worker, ms), self.other.alive(worker, ms))
        elif roll < 0.75 and world.leased:
            worker = world.random.choice(WORKERS)
            take = Take(worker, 30_000) if world.random.random() < 0.7 else None
            await self.commit(world.work(), take)
        elif roll < 0.8 and world.leased:
            await self.prolong_or_hand_back()
        elif world.runs:
            run = world.random.choice(world.runs[-12:])
            await self.commit(world.change(run, None))
            await _same(self.memory.run(run.fn, run.id), self.other.run(run.fn, run.id))
        await _same(self.memory.stats(), self.other.stats())

    async def lease(self) -> None:
        world = self.world
        queue = world.random.choice([Queue.EXECUTOR, Queue.EXECUTOR, Queue.RUNNER])
        limit = world.random.choice([1, 2, 5, 100])
        ms, worker = world.random.choice([3000, 30_000]), world.random.choice(WORKERS)
        request, again = world.random.randrange(1, 4), world.random.random() < 0.1
        ours = await self.memory.lease(queue, limit, ms, worker, request=request, again=again)
        theirs = await self.other.lease(queue, limit, ms, worker, request=request, again=again)
        if again:  # in any order
            ours.items.sort(key=lambda leased: leased.item.job)
            theirs.items.sort(key=lambda leased: leased.item.job)
        assert ours.items == theirs.items
        known = {(one.item.job, one.item.epoch) for one in world.leased}
        world.leased += [one for one in theirs.items if (one.item.job, one.item.epoch) not in known]

    async def prolong_or_hand_back(self) -> None:
        world = self.world
        some = [lease_of(one.item) for one in world.leased[:3]]
        if world.random.random() < 0.5:
            await _same(self.memory.extend(some, 40_000), self.other.extend(some, 40_000))
        else:
            await _same(self.memory.hand_back(some), self.other.hand_back(some))

    async def end(self) -> None:
        """End all runs, and complete what was leased."""
        for run in self.world.runs:
            end = EndRun(status=RunStatus.CANCELLED)
            await self.commit(Transition(fn=run.fn, run=run.id, effects=[end]))
        for leased in self.world.leased:
            item, token = leased.item, lease_of(leased.item)
            if item.kind is Kind.EVICT:
                continue
            await self.commit(Transition(fn=item.fn, run=item.run, effects=[Complete()], lease=token))
        # Evicted runs end by what was queued to tell of it.
        self.world.clock.now += 60_000
        while True:
            ours = await self.memory.lease(Queue.RUNNER, 100, 30_000, "w1")
            theirs = await self.other.lease(Queue.RUNNER, 100, 30_000, "w1")
            assert ours.items == theirs.items
            if not ours.items:
                return
            for leased in ours.items:
                item = leased.item
                over: list[Effect] = [EndRun(status=RunStatus.CANCELLED), Complete()]
                await self.commit(Transition(fn=item.fn, run=item.run, effects=over, lease=lease_of(item)))

    async def compare(self) -> None:
        memory, other, now = self.memory, self.other, self.world.now
        for run in self.world.runs:
            await _same(memory.run(run.fn, run.id), other.run(run.fn, run.id))
            items = await _same(
                _by(memory.items(run.fn, run.id), "job"), _by(other.items(run.fn, run.id), "job")
            )
            for item in items:
                assert await other.item(item.fn, item.job) == item
            assert await other.locate(run.id) == await memory.locate(run.id)
            if run.lock:
                lock = (run.fn, run.lock)
                await _same(memory.lock_holders([lock]), other.lock_holders([lock]))
        events = [
            Event(id="e", name=name, ts=1, received=1, data=Raw(b'{"id":%d,"name":"n"}' % number))
            for name in EVENTS
            for number in range(3)
        ]
        for event in events:
            assert await _all(lambda cursor, e=event: memory.pauses(e, cursor, 3)) == await _all(
                lambda cursor, e=event: other.pauses(e, cursor, 3)
            )
        for age in (20_000, -1):
            assert await _all(lambda cursor, a=age: memory.orphans(a, cursor, 3)) == await _all(
                lambda cursor, a=age: other.orphans(a, cursor, 3)
            )
        for fn in FUNCTIONS:
            assert await _all(
                lambda cursor, f=fn: memory.runs(f, now - 30_000, now, cursor, 2)
            ) == await _all(lambda cursor, f=fn: other.runs(f, now - 30_000, now, cursor, 2))
            ours, theirs = await memory.remembered(fn, EVENTS, 0), await other.remembered(fn, EVENTS, 0)
            assert set(ours) <= set(theirs)  # it may remember longer
        outbox, their_outbox = await memory.events.take(9999), await other.events.take(9999)
        assert outbox.entries == their_outbox.entries
        history, their_history = await memory.history.take(9999), await other.history.take(9999)
        assert history.entries == their_history.entries


async def _all(page: Callable[[str], Awaitable[Page[Any]]]) -> list[Any]:
    """All pages, without what came twice, by id."""
    found, cursor = {}, ""
    while True:
        some = await page(cursor)
        found.update({each.id: each for each in some.found})
        cursor = some.cursor
        if not cursor:
            return sorted(found.values(), key=attrgetter("id"))


async def _by(found: Awaitable[list[T]], name: str) -> list[T]:
    return sorted(await found, key=attrgetter(name))


@pytest.mark.parametrize("seed", range(20))
async def test_the_other_does_as_memory_does(stores: Stores, seed: int) -> None:
    memory, other, clock = stores
    pair = Pair(memory, other, World(seed, clock))
    for _ in range(250):
        await pair.step()
    await pair.compare()
    assert pair.world.runs
    await pair.end()
    await pair.compare()
    stats = await pair.other.stats()
    assert (stats.runs, stats.pauses, stats.damaged) == (0, 0, 0)
