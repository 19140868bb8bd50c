"""Any one record on Redis may be lost or damaged: what it stood for is dropped, and all else goes on.

The world of each test has a record of each kind. One of them is damaged; then everything is done with the
store that can be, and another function, which shares nothing with the damaged one but the server, works on.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from engine_bench import FN, HOUR, LEASE, OTHER, WORKER, Bench, function, partition, runner_partition
from redis import Redis
from redis_places import RedisPlace, empty, engine_at, server

from inngest.backends.redis import wire
from inngest.core.errors import StoreDefect
from inngest.core.model.functions import Throttle
from inngest.core.model.history import What
from inngest.core.model.runs import (
    Cell,
    Kind,
    Leased,
    Queue,
    Run,
    RunStatus,
    digest,
    signal_name,
    timers,
)
from inngest.core.model.transition import (
    Admit,
    Await,
    Collect,
    Drop,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    Once,
    PutPause,
    Record,
    Remember,
    SaveStep,
    SetCrons,
    TakeLock,
    TakePause,
)
from inngest.core.timing import gcra

STEP = "s1"
GARBAGE = b"\xc1garbage"
"""No msgpack, no number, no UTF-8, nothing with a bar."""


class World(Bench):
    """The records of `FN` are damaged; those of `OTHER` are not."""

    def __init__(self) -> None:
        empty()
        super().__init__(RedisPlace(engine_at))
        self.redis = Redis.from_url(server())

    async def build(self) -> None:
        await self.start()
        throttled = function(FN, limits=[1, 1], run_limit=2, throttle=Throttle(limit=1, period=60_000))
        await self.register(throttled, function(OTHER, limits=[1]))
        await self.fill(OTHER, "z")
        await self.fill(FN, "a")
        await self.commit(
            Remember(name="app/stop", event=b"{}", at=self.now, ttl=HOUR),
            Admit(key="rate", params=gcra.rate_limit(5, 1000)),
            Once(key="event-1", at=self.now),
            Emit(event=b"{}"),
            Record(entry=self.history()),
        )
        self.redis.zadd("inngest:reconsider", {FN: 5})
        self.redis.hset("inngest:reconsidered", FN, "0")
        await self.store.alive(WORKER, HOUR)

    async def fill(self, fn: str, name: str) -> None:
        self.made: dict[str, Run] = getattr(self, "made", {})
        cells = (Cell(f"{fn}:0", 0), Cell(f"{fn}:1:k", 1))
        places = {
            "start": partition(fn, "s", *cells, run_cell=Cell(f"{fn}:run", 2), throttle="t"),
            "work": partition(fn, "w", *cells),
        }
        if fn == OTHER:
            places = {"start": partition(fn, "s"), "work": partition(fn, "w")}
        first = await self.create(self.run(f"{name}1", fn, lock=f"lock:{fn}", **places))
        await self.won(TakeLock(key=f"lock:{fn}", order="1"), run=first.id, fn=fn)
        assert first.id in {leased.item.run for leased in await self.lease()}
        steps: list[Effect] = [SaveStep(step=STEP, value=b"1"), Await(steps=["p1", "p2"])]
        await self.won(*steps, run=first.id, fn=fn)
        for number, event in enumerate(("app/go", signal_name("sig"))):
            pause = self.pause(first, f"w{number}", event, terms=[("data.x", "s:1")] if number == 0 else [])
            timeout = self.item(first, Kind.TIMEOUT, pause.timeout_job, due=self.now + HOUR)
            await self.won(
                PutPause(pause=pause), Enqueue(item=timeout, partition=timers(fn)), run=first.id, fn=fn
            )
        # One that waits for capacity, and one for nothing but its turn.
        second = await self.create(self.run(f"{name}2", fn, **places))
        await self.lease()
        sleep = self.item(second, Kind.SLEEP, f"{second.id}:sleep", due=self.now + 5_000)
        await self.won(Enqueue(item=sleep, partition=timers(fn)), run=second.id, fn=fn)
        third = await self.create(self.run(f"{name}3", fn, **{k: partition(fn, f"{k}3") for k in places}))
        self.made |= {run.id: run for run in (first, second, third)}
        await self.crons(fn)
        await self.collect(fn, last=False)
        await self.collect(fn, last=True)

    async def crons(self, fn: str) -> None:
        tick = self.item(None, Kind.CRON, f"cron:{fn}", fn=fn, name="* * * * *", due=self.now + 5_000)
        await self.won(SetCrons(items=[tick], partition=runner_partition(fn), version=1), fn=fn)

    async def collect(self, fn: str, *, last: bool) -> list[bool]:
        kind = Kind.DEBOUNCE if last else Kind.BATCH
        job = f"{kind.value}:{fn}:{self.serial()}"
        item = self.item(None, kind, job, fn=fn, due=self.now + 5_000, payload=b'["e"]')
        into = runner_partition(fn)
        more: dict[str, Any] = {"last": True} if last else {"max_size": 100}
        return await self.won(
            Collect(key=kind.value, item=item, partition=into, event=b'"e"', ts=self.now, **more), fn=fn
        )

    async def leave(self) -> None:
        self.redis.close()
        await self.store.close()

    # -- everything that a server does --

    async def everything(self, fn: str) -> None:
        """What concerns one function, call by call. What fails has to say that it is a defect, and is this
        function's alone.
        """
        event = self.event("app/go", b'{"x":"1"}')
        names = [name for name, run in self.made.items() if run.fn == fn]
        calls: list[Callable[[], Any]] = [
            lambda: self.crons(fn),
            lambda: self.collect(fn, last=True),
            lambda: self.collect(fn, last=False),
            lambda: self.won(Once(key="event-2", at=self.now), fn=fn),
            lambda: self.won(Admit(key="rate", params=gcra.rate_limit(5, 1000)), fn=fn),
            lambda: self.create(fn=fn),
            lambda: self.store.remembered(fn, ["app/stop"], 0),
            lambda: self.store.signal(signal_name("sig")),
            lambda: self.store.first_pauses([event], 100),
            lambda: self.holder(f"lock:{fn}", fn),
        ]
        for name in names:
            calls += [
                lambda name=name: self.won(TakePause(id=f"{name}:w0"), run=name, fn=fn),  # type: ignore[misc]
                lambda name=name: self.won(SaveStep(step="p1", value=b"2"), run=name, fn=fn),  # type: ignore[misc]
                lambda name=name: self.store.run(fn, name),  # type: ignore[misc]
                lambda name=name: self.store.items(fn, name),  # type: ignore[misc]
                lambda name=name: self.store.locate(name),  # type: ignore[misc]
            ]
        for call in calls:
            if fn == OTHER:
                await call()
            else:
                with suppress(StoreDefect, AssertionError):
                    await call()

    async def look(self) -> None:
        """What concerns all."""
        await self.store.alive(WORKER, HOUR)
        await self.store.registry()
        await self.store.stats()
        await self.store.cancellations()
        await self.store.extend([], LEASE)
        for box in (self.store.events, self.store.history):
            await box.ack((await box.take(10)).token)

    async def drain(self) -> list[Leased]:
        """All that is due, on both queues, completed."""
        done = []
        for _ in range(50):
            found = [*await self.lease(), *await self.lease(queue=Queue.RUNNER)]
            for leased in found:
                done.append(leased)
                await self.complete(leased)
            if not found:
                return done
        raise AssertionError("there is no end of it")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.build()
    yield world
    await world.leave()


def _names() -> list[str]:
    """The keys of the world, by a sample of it that was written down: see `test_it_is_the_whole_world`."""
    tag = "inngest:{fn-a}:"
    return [
        *(tag + name for name in FUNCTION_KEYS),
        *(f"inngest:{name}" for name in SERVER_KEYS),
    ]


FUNCTION_KEYS = [
    "cancelling:app/stop",
    "cell:fn-a:0",
    "cell:fn-a:0:line:1",
    "cell:fn-a:0:lines",
    "cell:fn-a:1:k",
    "cell:fn-a:run",
    "claim:key-N",
    "collected:batch:fn-a:N",
    "collected:debounce:fn-a:N",
    "collector:batch",
    "collector:debounce",
    "config",
    "crons",
    "crons:fn-a/r",
    "item:a1:start",
    "item:a1:timeout:w0",
    "item:a2:sleep",
    "item:a2:start",
    "item:a3:start",
    "item:batch:fn-a:N",
    "item:cron:fn-a",
    "item:debounce:fn-a:N",
    "jobs:a1",
    "jobs:a2",
    "lock:fn-a",
    "parked",
    "pauses:a1",
    "pending:a1",
    "rate:rate",
    "ready:fn-a/s",
    "ready:fn-a/start3",
    "run:a1",
    "run:a2",
    "runs",
    "seen",
    "stack:a1",
    "steps:a1",
    "throttle:t",
]
SERVER_KEYS = [
    "apps",
    "counts",
    "due:executor",
    "due:runner",
    "functions",
    "leases",
    "outbox:events",
    "outbox:history",
    "paths:app/go",
    "pauses:\x00signal/sig",
    "reconsider",
    "reconsidered",
    "ring:executor",
    "runs",
    "serial",
    "version",
    "waits:" + digest("app/go", "data.x", "s:1"),
    "workers",
    "latest",
]


def _delete(redis: Any, key: str) -> None:
    assert redis.delete(key)


def _other_type(redis: Any, key: str) -> None:
    kind = redis.type(key)
    assert redis.delete(key)
    if kind == b"list":
        redis.set(key, GARBAGE)
    else:
        redis.rpush(key, GARBAGE)


def _garbage(redis: Any, key: str) -> None:
    """Each value of the record, or each member."""
    kind = redis.type(key)
    if kind == b"string":
        redis.set(key, GARBAGE, keepttl=True)
    elif kind == b"hash":
        redis.hset(key, mapping=dict.fromkeys(redis.hkeys(key), GARBAGE))
    elif kind == b"list":
        redis.lpush(key, GARBAGE)
    elif kind == b"set":
        redis.sadd(key, GARBAGE)
    else:
        redis.zadd(
            key, {GARBAGE: 1, b"0000000000000001" + GARBAGE: 1, b"0" * 16 + b"fn-a|no-such": 1, "x|y": 1}
        )


def _lone_byte(redis: Any, key: str) -> None:
    """Good msgpack, and a good text, but of another kind."""
    kind = redis.type(key)
    if kind == b"string":
        redis.set(key, "7", keepttl=True)
    elif kind == b"hash":
        redis.hset(key, mapping=dict.fromkeys(redis.hkeys(key), "7"))
    elif kind == b"set":
        redis.srem(key, *redis.smembers(key))
        redis.sadd(key, "7")
    elif kind == b"list":
        for place in range(redis.llen(key)):
            redis.lset(key, place, "7")
    else:
        assert kind == b"zset"
        score = redis.zrange(key, 0, 0, withscores=True)[0][1]
        redis.delete(key)
        redis.zadd(key, {"7": score})


DAMAGES = [_delete, _other_type, _garbage, _lone_byte]


def _find(redis: Any, name: str) -> str:
    """A key by its name, in which N stands for a number."""
    pattern = re.compile(re.escape(name).replace("N", r"\d+"))
    found = sorted(key.decode() for key in redis.keys("*") if pattern.fullmatch(key.decode()))
    assert found, f"the world has no {name}"
    return found[0]


async def _survive(world: World) -> None:
    await world.look()
    await world.everything(OTHER)
    await world.everything(FN)
    await world.everything(OTHER)
    for leased in await world.lease():
        assert leased.item.epoch
    # The other function's leased, ready, and sleeping items come, and those of its crons and collectors.
    world.now += 10_000
    done = await world.drain()
    world.expire()
    done += await world.drain()
    await world.look()
    # Nothing is left that would not move, and capacity is not lost.
    world.now += HOUR * 2
    done += await world.drain()
    orphans = set(await world.orphans())
    done += await world.drain()
    orphans |= set(await world.orphans())
    kinds = {leased.item.kind for leased in done if leased.item.fn == OTHER}
    assert kinds >= {Kind.START, Kind.SLEEP, Kind.CRON, Kind.BATCH, Kind.DEBOUNCE}
    for fn in (FN, OTHER):
        for run in (await world.store.runs(fn, 0, 1 << 60, "", 1000)).found:
            assert run.id in orphans or await world.items(run.id, fn) or run.id in ("a1", "z1"), run.id
            if run.id in orphans:
                again = world.item(run, job=f"{run.id}:repair")
                with suppress(StoreDefect):
                    await world.won(Enqueue(item=again), run=run.id, fn=fn)
    await world.drain()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
@pytest.mark.parametrize("name", _names())
async def test_one_key(world: World, name: str, damage: Callable[[Any, str], None]) -> None:
    damage(world.redis, _find(world.redis, name))
    await _survive(world)


async def test_it_is_the_whole_world(world: World) -> None:
    """A kind of record that is new has to be damaged, too."""
    known = [re.compile(re.escape(name).replace("N", r"\d+")) for name in _names()]
    others = re.compile(r".*(fn-b|\{fn-b\}|:b?z\d|:a[23]|collect.*|item:a1.*).*")
    new = [
        key
        for raw in world.redis.keys("*")
        if not any(each.fullmatch(key := raw.decode()) for each in known) and not others.fullmatch(key)
    ]
    assert new == []


FIELDS = [
    ("item:a3:start", "state run kind queue pid def due score mark epoch blob"),
    ("item:a2:sleep", "state run kind queue pid def due score mark epoch blob"),
    ("item:a1:start", "state run kind queue pid def due score mark epoch blob holder"),
    ("run:a1", "head weight created start start_def work work_def lock priority revision version plan"),
    ("run:a1", "started size pending live waits"),
    ("collector:batch", "job opened count ts"),
    ("collector:debounce", "job opened count ts"),
    ("config", "limits emission tolerance"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, fields in FIELDS for field in fields.split()]
)
async def test_one_field(world: World, name: str, field: str) -> None:
    assert world.redis.hdel(f"inngest:{{fn-a}}:{name}", field)
    await _survive(world)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
@pytest.mark.parametrize("job", ["a3:start", "a2:sleep", "a1:start"], ids=["ready", "timer", "leased"])
async def test_a_lost_item_is_counted_and_its_run_is_found(
    world: World, job: str, damage: Callable[[Any, str], None]
) -> None:
    run = job.partition(":")[0]
    damage(world.redis, f"inngest:{{fn-a}}:item:{job}")
    for pause in (f"{run}:w0", f"{run}:w1"):
        await world.won(TakePause(id=pause), run=run)
    others = [item.job for item in await world.items(run) if item.job != job]
    await world.won(*map(_drop, others), run=run)
    before = (await world.store.stats()).damaged
    world.now += 10_000
    world.expire()
    jobs = await world.jobs()
    assert job not in jobs
    assert (await world.store.stats()).damaged > before
    assert run in await world.orphans()


def _drop(job: str) -> Effect:
    return Drop(job=job)


async def test_a_lost_lease_gives_its_capacity_back(world: World) -> None:
    assert world.redis.smembers("inngest:{fn-a}:cell:fn-a:0") == {b"a1:start"}
    world.redis.delete("inngest:{fn-a}:item:a1:start")
    world.now += 60_000  # of the throttle
    world.expire()
    assert "a2:start" in await world.jobs()


async def test_a_lost_run_gives_its_place_back(world: World) -> None:
    """A run's own concurrency has two places; the run that has one is gone, the next has the other."""
    world.redis.delete("inngest:{fn-a}:run:a1")
    await world.register(function(FN, limits=[5, 5], run_limit=1), function(OTHER, limits=[1]))
    await world.orphans()
    world.expire()
    assert "a2:start" in await world.jobs()
    assert await world.store.locate("a1") is None
    assert [run.id for run in await world.runs()] == ["a2", "a3"]
    assert world.redis.keys("*:a1") == []
    assert await _ends(world) == [("a1", "Failed")]
    assert (await world.store.stats()).damaged > 0


async def test_people_see_that_a_run_is_lost(world: World) -> None:
    """Nobody can read what had started it: it is told of as failed, with the reason."""
    await world.won(TakePause(id="a1:w0"), TakePause(id="a1:w1"), run="a1")
    await _orphaned(world)
    world.redis.hset("inngest:{fn-a}:run:a1", "head", GARBAGE)
    world.store._cache.clear()
    assert "a1" not in await world.orphans()
    assert await world.store.locate("a1") is None
    await world.orphans()
    (entry,) = [entry for entry in await world.told() if entry.run == "a1" and entry.what is What.ENDED]
    assert entry.outcome == "Failed"
    assert b"damaged" in (entry.value or b"")


async def _ends(world: World) -> list[tuple[str, str]]:
    return [(entry.run, entry.outcome) for entry in await world.told() if entry.what is What.ENDED]


async def test_a_run_that_ends_while_orphans_are_looked_for_is_not_damaged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = world.store._script

    async def late(*args: Any) -> Any:
        monkeypatch.undo()
        await world.won(EndRun(status=RunStatus.COMPLETED), run="a1")
        return await script(*args)

    monkeypatch.setattr(world.store, "_script", late)
    await world.orphans()
    assert await world.store.locate("a1") is None
    assert (await world.store.stats()).damaged == 0


async def _orphaned(world: World) -> None:
    """Take all from a1 that would move it."""
    for item in await world.items("a1"):
        await world.won(Drop(job=item.job), run="a1")
    world.expire()
    for leased in await world.lease():
        await world.complete(leased)
    assert "a1" in await world.orphans()


async def test_a_run_for_which_memory_is_short_is_not_damaged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(_: Any) -> None:
        raise MemoryError

    await world.won(TakePause(id="a1:w0"), TakePause(id="a1:w1"), run="a1")
    await _orphaned(world)
    await world.reopen()  # it knows no state by heart
    with monkeypatch.context() as patch:
        patch.setattr(wire, "decode_run", short)
        with pytest.raises(MemoryError):
            await world.orphans()
    found = await world.store.run(FN, "a1")
    assert found is not None
    assert (await world.store.stats()).damaged == 0


@pytest.mark.parametrize("part", ["steps", "stack"])
async def test_lost_results_are_not_made_again(world: World, part: str) -> None:
    """The function is not called as if it had done nothing; the run ends."""
    world.redis.delete(f"inngest:{{fn-a}}:{part}:a1")
    await world.reopen()
    world.expire()
    await world.won(TakePause(id="a1:w0"), TakePause(id="a1:w1"), run="a1")
    assert "a1:start" not in await world.jobs()
    assert (await world.store.stats()).damaged > 0
    await world.orphans()
    assert await world.store.locate("a1") is None


async def test_a_wait_too_deep_to_be_read_hides_no_other(world: World) -> None:
    run = world.made["a1"]
    assert await world.won(PutPause(pause=world.pause(run, "w5", "app/deep")), run="a1") == [True]
    deep = b"a1\n\x81\xa4more" + b"\x91" * 100_000 + b"\x01"
    world.redis.hset("inngest:pauses:app/deep", "a1:deep", deep)
    assert [each.id for each in await world.pauses(world.event("app/deep"))] == ["a1:w5"]
    assert (await world.store.stats()).damaged > 0


async def test_a_wait_that_no_event_can_find_is_repaired(world: World) -> None:
    world.redis.delete("inngest:waits:" + digest("app/go", "data.x", "s:1"), "inngest:pauses:\x00signal/sig")
    await _orphaned(world)
    pause = world.pause(world.made["a1"], "w0", "app/go", terms=[("data.x", "s:1")])
    assert await world.won(PutPause(pause=pause), run="a1") == [True]
    assert [each.id for each in await world.pauses(world.event("app/go", b'{"x":"1"}'))] == ["a1:w0"]


async def test_a_record_of_another_type_is_kept_aside(world: World) -> None:
    key = "inngest:{fn-a}:config"
    _other_type(world.redis, key)
    await world.lease()
    world.expire()
    await world.lease()
    assert world.redis.lrange(f"inngest:damaged:{key}", 0, -1) == [GARBAGE]
    assert world.redis.ttl(f"inngest:damaged:{key}") > 0
