"""Random lives of an engine on Redis and one in memory, side by side: they must not differ in anything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from redis_places import redis_engine

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.redis.engine import RedisEngineStore
from inngest.core import gcra
from inngest.core.events import Event
from inngest.core.functions import App, Concurrency, Function, Throttle
from inngest.core.history import History, What
from inngest.core.runs import Cell, Item, Kind, Leased, Partition, Pause, PauseKind, Queue, Run, RunStatus
from inngest.core.transition import (
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
from inngest.ports.engine import Take

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
            partition=run.partition(kind).id,
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
            lambda: Enqueue(item=sleep),
            lambda: Enqueue(item=call),
            lambda: Discover(item=call),
            lambda: Discover(item=call),
            lambda: PutPause(pause=pause),
            lambda: PutPause(pause=pause),
            lambda: TakePause(id=pause.id),
            lambda: PutPause(pause=self.signal(pause, signal), exclusive=choose(["fail", "replace"])),
            lambda: SignalTaken(name=signal, pause=pause.id, step=pause.step),
            lambda: Drop(job=self.job(run)),
            lambda: Emit(event=b"%d" % self.next()),
            lambda: Record(
                entry=History(what=What.ATTEMPT, run=run.id, fn=run.fn, at=self.now, info={"n": 2**70})
            ),
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


async def _same(ours: Any, theirs: Any) -> Any:
    one, other = await ours, await theirs
    assert _plain(one) == _plain(other)
    return other


def _plain(value: Any) -> Any:
    """Pauses of one event come in any order, and huge numbers of history as floats."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, Run):
        return value.copy()
    return value


@pytest.mark.parametrize("seed", range(25))
async def test_redis_does_as_memory_does(
    stores: tuple[MemoryEngineStore, RedisEngineStore], seed: int
) -> None:
    memory, redis = stores
    world = World(seed)
    for _ in range(250):
        await _step(world, memory, redis)
    await _compare(world, memory, redis)
    while world.runs:
        run = world.runs.pop()
        end = Transition(fn=run.fn, run=run.id, effects=[EndRun(status=RunStatus.CANCELLED)])
        await _same(memory.commit([end]), redis.commit([end]))
    for leased in world.leased:
        token = Lease(leased.item.job, leased.item.epoch)
        done = Transition(fn=leased.item.fn, run=leased.item.run, effects=[Complete()], lease=token)
        await _same(memory.commit([done]), redis.commit([done]))
    await _compare(world, memory, redis)


async def _step(world: World, memory: MemoryEngineStore, redis: RedisEngineStore) -> None:
    roll = world.random.random()
    if roll < 0.05:
        functions = [world.function(fn) for fn in FUNCTIONS]
        app = App(id="app", name="app", url="http://app.test")
        await memory.put_app(app, functions)
        await redis.put_app(app, functions)
    elif roll < 0.2:
        start = world.start()
        await _same(memory.commit([start]), redis.commit([start]))
    elif roll < 0.27:
        other = world.without_run()
        await _same(memory.commit([other]), redis.commit([other]))
    elif roll < 0.45:
        queue = world.random.choice([Queue.EXECUTOR, Queue.EXECUTOR, Queue.RUNNER])
        limit = world.random.choice([1, 2, 5, 100])
        until = world.now + world.random.choice([3000, 30_000])
        ours = await memory.lease(queue, limit, world.now, until)
        theirs = await redis.lease(queue, limit, world.now, until)
        assert [_leased(one) for one in ours.items] == [_leased(one) for one in theirs.items]
        world.leased += theirs.items
    elif roll < 0.55:
        world.now += world.random.choice([1000, 1000, 2000, 10_000])
    elif roll < 0.75 and world.leased:
        lease = world.leased.pop(world.random.randrange(len(world.leased)))
        run = next((run for run in world.runs if run.id == lease.item.run), None)
        if run is None:
            run = Run(
                id=lease.item.run, fn=lease.item.fn, slug="", app="", events=[], event_ids=[], key="",
                created=0, start=Partition("", ""), work=Partition("", ""),
            )  # fmt: skip
        change = world.change(run, lease)
        take = Take(world.now, world.now + 30_000) if world.random.random() < 0.7 else None
        (ours,), (theirs,) = await memory.commit([change], take=take), await redis.commit([change], take=take)
        assert (ours.won, ours.stale) == (theirs.won, theirs.stale)
        assert (ours.next is None) == (theirs.next is None)
        if ours.next is not None and theirs.next is not None:
            assert _leased(ours.next) == _leased(theirs.next)
            world.leased.append(theirs.next)
    elif roll < 0.8 and world.leased:
        some = [Lease(one.item.job, one.item.epoch) for one in world.leased[:3]]
        if world.random.random() < 0.5:
            until = world.now + 40_000
            await _same(memory.extend(some, until), redis.extend(some, until))
        else:
            await memory.hand_back(some, world.now)
            await redis.hand_back(some, world.now)
    elif world.runs:
        run = world.random.choice(world.runs[-12:])
        await _same(memory.commit([c := world.change(run, None)]), redis.commit([c]))
        state, known = await memory.run(run.id), await redis.run(run.id)
        assert state == known
    await _same(memory.stats(), redis.stats())


def _leased(leased: Leased) -> Any:
    return leased.item, leased.run.copy() if leased.run is not None else None, leased.until


async def _compare(world: World, memory: MemoryEngineStore, redis: RedisEngineStore) -> None:
    for run in world.runs:
        assert await memory.run(run.id) == await redis.run(run.id)
        ours, theirs = await memory.items(run.id), await redis.items(run.id)
        assert sorted(ours, key=lambda i: i.job) == sorted(theirs, key=lambda i: i.job)
        for item in ours:
            assert await redis.item(item.job) == item
        if run.lock:
            await _same(memory.lock_holder(run.lock), redis.lock_holder(run.lock))
    events = [
        Event(id="e", name=name, ts=1, received=1, data=Raw(b'{"id":%d,"name":"n"}' % number))
        for name in EVENTS
        for number in range(3)
    ]
    for ours_, theirs_ in zip(await memory.pauses(events), await redis.pauses(events), strict=True):
        assert sorted(ours_, key=lambda p: p.id) == sorted(theirs_, key=lambda p: p.id)
    for later in (world.now - 20_000, world.now + 1):
        ours__, theirs__ = await memory.orphans(later), await redis.orphans(later)
        assert sorted(run.id for run in ours__) == sorted(run.id for run in theirs__)
    for fn in FUNCTIONS:
        await _same(
            memory.runs(fn, world.now - 30_000, world.now), redis.runs(fn, world.now - 30_000, world.now)
        )
    events_, their_events = await memory.outbox_events(9999), await redis.outbox_events(9999)
    assert events_.events == their_events.events
    assert len((await memory.outbox_history(9999)).entries) == len((await redis.outbox_history(9999)).entries)
