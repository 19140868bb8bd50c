"""Random lives of an engine on Redis and one in memory, side by side: they must not differ in anything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec import Raw
from redis_places import redis_engine

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.redis.engine import RedisEngineStore
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
    ForcePlan,
    Lease,
    PutPause,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
    SignalTaken,
    TakeLock,
    TakePause,
    Transition,
    Unclaimed,
)
from inngest.core.timing import gcra
from inngest.ports.engine import Take

T = TypeVar("T")

FUNCTIONS = ["fn-a", "fn-b"]
STEPS = ["s1", "s2", "s3", "s4"]
EVENTS = ["app/one", "app/two"]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[MemoryEngineStore, RedisEngineStore]]:
    async with redis_engine(tmp_path) as place:
        store = place.store()
        await store.open()
        yield MemoryEngineStore(), store
        await store.close()


class World:
    """The generator: what happens next. Times move in whole seconds, as memory looks for lost leases then."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1_700_000_000_000
        self.runs: list[Run] = []
        self.leased: list[Leased] = []
        self.pauses: list[Pause] = []
        self.serial = 0

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
        effects: list[Effect] = [Unclaimed(key=run.key, now=self.now)]
        if run.lock:
            effects.append(TakeLock(key=run.lock, when=0))
        create = len(effects)
        till = self.now + self.random.choice([1000, 60_000])
        effects.append(CreateRun(run=run, key_until=till, when=create - 1))
        delay = self.random.choice([0, 0, 0, 2000])
        effects.append(Enqueue(item=self.item(run, Kind.START, f"{run.id}:start", delay), when=create))
        if self.random.random() < 0.3:
            timeout = self.item(run, Kind.START_TIMEOUT, f"{run.id}:st", 9000)
            effects.append(Enqueue(item=timeout, when=create))
        return Transition(fn=run.fn, run=run.id, effects=effects)

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
                entry=History(what=What.ATTEMPT, run=run.id, fn=run.fn, at=self.now, info={"n": 2**63})
            ),
        ]
        if run.id:  # else it is one that has no calls
            make += [
                lambda: Enqueue(item=sleep),
                lambda: Enqueue(item=call),
                lambda: Discover(item=call),
                lambda: Discover(item=call),
            ]
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
            until = self.now + 20_000
            effects.append(ResetAttempts(job=lease.item.job, epoch=lease.item.epoch, until=until))
        for effect in effects:
            effect.when = effect.unless = -1
        epoch = lease.item.epoch + (self.random.random() < 0.05)
        return Transition(fn=run.fn, run=run.id, effects=effects, lease=Lease(lease.item.job, epoch))

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
        return self.change(run, leased)

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
            return Transition(fn=fn, run="", effects=[SetCrons(items=crons, partition=runner)])
        ts = self.random.randrange(5)
        event = b'{"name":"%d","ts":%d}' % (self.next(), ts)
        item.payload = b"[" + event + b"]"
        collect = Collect(
            key=f"{kind}:{fn}",
            item=item,
            partition=runner,
            event=event,
            ts=ts,
            now=self.now,
            last=kind is Kind.DEBOUNCE,
            bound=self.random.choice([0, 6000]),
            max_size=3,
            max_bytes=self.random.choice([0, 60]),
            token=f"t{self.random.randrange(50)}",
            token_ttl=5000,
        )
        params = gcra.rate_limit(20, 30_000)
        admit = Admit(key=f"rate:{fn}", params=params, now=self.now, token="", token_ttl=0)
        return Transition(fn=fn, run="", effects=[collect, admit])


async def _same(ours: Awaitable[T], theirs: Awaitable[T]) -> T:
    one, other = await ours, await theirs
    assert one == other
    return other


class Pair:
    """Two stores to which the same happens."""

    def __init__(self, memory: MemoryEngineStore, redis: RedisEngineStore, world: World) -> None:
        self.memory = memory
        self.redis = redis
        self.world = world

    async def commit(self, transition: Transition, take: Take | None = None) -> None:
        committed = await _same(
            self.memory.commit([transition], take=take), self.redis.commit([transition], take=take)
        )
        self.world.leased += [each.next for each in committed if each.next is not None]

    async def step(self) -> None:
        world, roll = self.world, self.world.random.random()
        if roll < 0.05:
            functions = [world.function(fn) for fn in FUNCTIONS]
            app = App(id="app", name="app", url="http://app.test")
            await _same(self.memory.put_app(app, functions), self.redis.put_app(app, functions))
        elif roll < 0.2:
            await self.commit(world.start())
        elif roll < 0.27:
            await self.commit(world.without_run())
        elif roll < 0.45:
            await self.lease()
        elif roll < 0.55:
            world.now += world.random.choice([1000, 1000, 2000, 10_000])
        elif roll < 0.75 and world.leased:
            take = Take(world.now, world.now + 30_000) if world.random.random() < 0.7 else None
            await self.commit(world.work(), take)
        elif roll < 0.8 and world.leased:
            await self.prolong_or_hand_back()
        elif world.runs:
            run = world.random.choice(world.runs[-12:])
            await self.commit(world.change(run, None))
            await _same(self.memory.run(run.id), self.redis.run(run.id))
        await _same(self.memory.stats(), self.redis.stats())

    async def lease(self) -> None:
        world = self.world
        queue = world.random.choice([Queue.EXECUTOR, Queue.EXECUTOR, Queue.RUNNER])
        limit = world.random.choice([1, 2, 5, 100])
        until = world.now + world.random.choice([3000, 30_000])
        ours = await self.memory.lease(queue, limit, world.now, until)
        theirs = await self.redis.lease(queue, limit, world.now, until)
        assert ours.items == theirs.items
        world.leased += theirs.items

    async def prolong_or_hand_back(self) -> None:
        world = self.world
        some = [Lease(one.item.job, one.item.epoch) for one in world.leased[:3]]
        if world.random.random() < 0.5:
            until = world.now + 40_000
            await _same(self.memory.extend(some, until), self.redis.extend(some, until))
        else:
            await _same(self.memory.hand_back(some, world.now), self.redis.hand_back(some, world.now))

    async def end(self) -> None:
        """End all runs, and complete what was leased."""
        for run in self.world.runs:
            end = EndRun(status=RunStatus.CANCELLED)
            await self.commit(Transition(fn=run.fn, run=run.id, effects=[end]))
        for leased in self.world.leased:
            item, token = leased.item, Lease(leased.item.job, leased.item.epoch)
            await self.commit(Transition(fn=item.fn, run=item.run, effects=[Complete()], lease=token))

    async def compare(self) -> None:
        memory, redis, now = self.memory, self.redis, self.world.now
        for run in self.world.runs:
            await _same(memory.run(run.id), redis.run(run.id))
            items = await _same(_by(memory.items(run.id), "job"), _by(redis.items(run.id), "job"))
            for item in items:
                assert await redis.item(item.job) == item
            if run.lock:
                await _same(memory.lock_holder(run.lock), redis.lock_holder(run.lock))
        events = [
            Event(id="e", name=name, ts=1, received=1, data=Raw(b'{"id":%d,"name":"n"}' % number))
            for name in EVENTS
            for number in range(3)
        ]
        for ours, theirs in zip(await memory.pauses(events), await redis.pauses(events), strict=True):
            assert sorted(ours, key=attrgetter("id")) == sorted(theirs, key=attrgetter("id"))
        for later in (now - 20_000, now + 1):
            await _same(_by(memory.orphans(later), "id"), _by(redis.orphans(later), "id"))
        for fn in FUNCTIONS:
            await _same(memory.runs(fn, now - 30_000, now), redis.runs(fn, now - 30_000, now))
        outbox, their_outbox = await memory.outbox_events(9999), await redis.outbox_events(9999)
        assert outbox.events == their_outbox.events
        history, their_history = await memory.outbox_history(9999), await redis.outbox_history(9999)
        assert history.entries == their_history.entries


async def _by(found: Awaitable[list[T]], name: str) -> list[T]:
    return sorted(await found, key=attrgetter(name))


@pytest.mark.parametrize("seed", range(20))
async def test_redis_does_as_memory_does(
    stores: tuple[MemoryEngineStore, RedisEngineStore], seed: int
) -> None:
    pair = Pair(*stores, World(seed))
    for _ in range(250):
        await pair.step()
    await pair.compare()
    assert pair.world.runs
    await pair.end()
    await pair.compare()
    assert (await pair.redis.stats()).runs == 0
