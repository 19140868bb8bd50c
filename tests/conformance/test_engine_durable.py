"""What a durable engine store has acknowledged is there after a restart, orderly or not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_bench import FN, HOUR, Bench, function, partition, runner_partition

from inngest.core.model.functions import Throttle
from inngest.core.model.runs import Cell, Kind, Leased, PauseKind, Queue, RunStatus, signal_name
from inngest.core.model.transition import (
    Admit,
    Adopt,
    Await,
    Begin,
    Collect,
    CreateRun,
    Discover,
    Drop,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    ForcePlan,
    Once,
    PutPause,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
    TakeLock,
    TakePause,
    Unclaimed,
)
from inngest.core.timing import gcra

pytestmark = pytest.mark.durable


@pytest.fixture(params=["closed", "crashed"])
def crash(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "crashed")


async def test_a_run_with_its_steps(engine: Bench, crash: bool) -> None:
    run = await engine.create(
        start=partition(FN, "s", Cell("c", 0), run_cell=Cell("r", 1), throttle="t"), lock="lock", priority=3
    )
    head = [Begin(at=5), Adopt(version=2), ForcePlan(), Await(steps=["a", "b"])]
    steps = [SaveStep(step="b", value=b'"\xc3\xa9"'), SaveStep(step="z", value=b"1")]
    await engine.commit(*head, *steps, run=run.id)
    before = await engine.state(run.id)
    assert before is not None
    before = before.copy()
    await engine.reopen(crash=crash)
    after = await engine.state(run.id)
    assert after is not None
    assert (after.stack, after.steps, after.pending) == (["b", "z"], before.steps, {"a"})
    after.revision = before.revision
    assert after == before


async def test_queued_items_and_timers(engine: Bench, crash: bool) -> None:
    run = await engine.create()
    await engine.commit(engine.enqueue(run, Kind.SLEEP, "sleep", due=engine.now + 1000), run=run.id)
    await engine.reopen(crash=crash)
    (first,) = await engine.lease()
    assert first.item.kind is Kind.START
    assert first.run is not None
    engine.now += 1000
    assert await engine.jobs() == ["sleep"]


async def test_the_order_of_items(engine: Bench, crash: bool) -> None:
    run = await engine.create(start=False)
    for job, score in (("b", 5), ("c", 5), ("a", 1)):
        await engine.commit(engine.enqueue(run, job=job, score=score), run=run.id)
    await engine.reopen(crash=crash)
    assert await engine.jobs() == ["a", "b", "c"]


async def test_a_leased_item_comes_again_and_its_old_lease_is_stale(engine: Bench, crash: bool) -> None:
    await engine.create()
    leased = await engine.one()
    await engine.reopen(crash=crash)
    engine.expire()
    again = await engine.one()
    assert again.item.epoch > leased.item.epoch
    assert (await engine.complete(leased, SaveStep(step="a", value=b"1"))).stale
    assert not (await engine.complete(again)).stale


async def test_epochs_grow_over_many_restarts(engine: Bench, crash: bool) -> None:
    await engine.create()
    epochs = []
    for _ in range(4):
        epochs.append((await engine.one()).item.epoch)
        await engine.reopen(crash=crash)
        engine.expire()
    assert epochs == sorted(set(epochs))


async def test_completed_dropped_and_retried_items(engine: Bench, crash: bool) -> None:
    run = await engine.create()
    leased = await engine.one()
    await engine.complete(leased, engine.enqueue(run, job="a"), engine.enqueue(run, job="b"))
    await engine.commit(engine.enqueue(run, job="c"), Drop(job="c"), run=run.id)
    first, second = await engine.lease()
    retry = Retry(due=engine.now + 1000, attempt=2, payload=b"p")
    await engine.commit(retry, run=run.id, lease=first)
    await engine.complete(second)
    await engine.reopen(crash=crash)
    (item,) = await engine.items(run.id)
    assert (item.job, item.due, item.attempt, item.payload) == ("a", engine.now + 1000, 2, b"p")
    assert await engine.lease() == []
    for job in "bc":
        assert await engine.won(engine.enqueue(run, job=job), run=run.id) == [False]
    assert await engine.won(engine.enqueue(run, Kind.START, leased.item.job), run=run.id) == [False]


async def test_progress(engine: Bench, crash: bool) -> None:
    run = await engine.create()
    await engine.commit(Retry(due=engine.now, attempt=3), run=run.id, lease=await engine.one())
    leased = await engine.one()
    reset = ResetAttempts(job=leased.item.job, epoch=leased.item.epoch, ms=HOUR)
    await engine.commit(SaveStep(step="a", value=b"1"), reset, run=run.id, lease=leased)
    await engine.reopen(crash=crash)
    engine.now += HOUR
    engine.expire()
    again = await engine.one()
    assert again.item.attempt == 0
    assert again.run is not None
    assert again.run.stack == ["a"]


async def test_the_end_of_a_run(engine: Bench, crash: bool) -> None:
    run = await engine.create(engine.run(key="key", lock="lock"))
    await engine.commit(PutPause(pause=engine.pause(run)), run=run.id)
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    await engine.reopen(crash=crash)
    stats = await engine.store.stats()
    assert (stats.runs, stats.queued, stats.leased, stats.pauses) == (0, 0, 0, 0)
    assert await engine.won(Unclaimed(key="key")) == [False]
    engine.now += HOUR
    assert await engine.won(Unclaimed(key="key")) == [True]


async def test_claims_locks_and_limits(engine: Bench, crash: bool) -> None:
    run = engine.run(key="key", lock="lock")
    create = CreateRun(run=run, claim=HOUR, when=0)
    await engine.commit(TakeLock(key="lock", order="1"), create, run=run.id)
    admit = Admit(key="rate", params=gcra.rate_limit(1, HOUR))
    assert await engine.won(admit) == [True]
    await engine.reopen(crash=crash)
    assert await engine.holder("lock") == run.id
    assert await engine.won(Unclaimed(key="key")) == [False]
    assert await engine.won(admit) == [False]
    assert await engine.won(TakeLock(key="lock", order="1"), run="another") == [False]


async def test_pauses(engine: Bench, crash: bool) -> None:
    run = await engine.create(start=False)
    kept, taken = engine.pause(run, "kept", terms=[("data.id", "s:x")]), engine.pause(run, "taken")
    timeout = engine.enqueue(run, Kind.TIMEOUT, kept.timeout_job, due=kept.expires)
    await engine.commit(PutPause(pause=kept), PutPause(pause=taken), timeout, run=run.id)
    await engine.commit(TakePause(id=taken.id), run=run.id)
    await engine.reopen(crash=crash)
    event = engine.event(data=b'{"id":"x"}')
    assert await engine.pauses(event) == [kept]
    assert await engine.won(PutPause(pause=kept), TakePause(id=kept.id), run=run.id) == [False, True]
    assert await engine.items(run.id) == []


async def test_a_replaced_wait_stays_replaced(engine: Bench, crash: bool) -> None:
    run, other = await engine.create(start=False), await engine.create(start=False)
    name = signal_name("sig")
    first = engine.pause(run, "s", name, kind=PauseKind.SIGNAL)
    second = engine.pause(other, "s", name, kind=PauseKind.SIGNAL)
    await engine.commit(PutPause(pause=first, exclusive="fail"), run=run.id)
    await engine.commit(PutPause(pause=second, exclusive="replace"), run=other.id)
    await engine.reopen(crash=crash)
    assert await engine.store.signal(name) == second
    assert await engine.won(TakePause(id=first.id), run=run.id) == [True]
    assert await engine.store.signal(name) == second
    assert await engine.won(TakePause(id=second.id), run=other.id) == [True]
    assert await engine.store.signal(name) is None


async def test_pending_steps_and_the_discovery_after_them(engine: Bench, crash: bool) -> None:
    run = await engine.create(start=False)
    await engine.commit(Adopt(version=2), ForcePlan(), Await(steps=["a", "b"]), run=run.id)
    discover = Discover(item=engine.item(run, job="d"))
    await engine.commit(SaveStep(step="a", value=b"1"), discover, run=run.id)
    await engine.reopen(crash=crash)
    assert await engine.won(SaveStep(step="b", value=b"1"), discover, discover, run=run.id) == [
        True, True, False,
    ]  # fmt: skip
    state = await engine.state(run.id)
    assert state is not None
    assert not state.force_plan
    assert await engine.jobs() == ["d"]


async def test_the_registry(engine: Bench, crash: bool) -> None:
    await engine.register(function(FN, limits=[1]), function("gone"))
    await engine.register(function(FN, limits=[2]))
    before = await engine.store.registry()
    await engine.reopen(crash=crash)
    after = await engine.store.registry()
    assert (after.apps, after.functions) == (before.apps, before.functions)
    await engine.register(function(FN))
    assert (await engine.store.registry()).version > before.version


async def test_the_outbox(engine: Bench, crash: bool) -> None:
    entries = [engine.history(str(n), info={"n": n}) for n in range(3)]
    await engine.commit(*[Emit(event=b"%d" % n) for n in range(3)], *[Record(entry=e) for e in entries])
    await engine.store.events.ack((await engine.store.events.take(1)).token)
    await engine.store.history.ack((await engine.store.history.take(1)).token)
    await engine.commit()
    await engine.reopen(crash=crash)
    # An acknowledgement may be lost, never what was not acknowledged.
    assert (await engine.events(10))[-2:] == [b"1", b"2"]
    assert (await engine.told(10))[-2:] == entries[1:]
    await engine.commit(Emit(event=b"3"))
    assert (await engine.events(10))[-3:] == [b"1", b"2", b"3"]


async def test_an_older_acknowledgement_takes_nothing_back(engine: Bench) -> None:
    entries = [engine.history(run="r") for _ in range(3)]
    await engine.commit(*[Emit(event=b"%d" % n) for n in range(3)], *[Record(entry=e) for e in entries])
    older, newer = await engine.store.events.take(1), await engine.store.events.take(3)
    older_history, newer_history = await engine.store.history.take(1), await engine.store.history.take(3)
    for token in (newer.token, older.token, 0):
        await engine.store.events.ack(token)
    for token in (newer_history.token, older_history.token, 0):
        await engine.store.history.ack(token)
    await engine.reopen()
    assert (await engine.store.stats()).outbox == 0


async def test_acknowledged_outbox_entries_stay_gone_after_an_orderly_restart(engine: Bench) -> None:
    await engine.commit(Emit(event=b"1"), Record(entry=engine.history()))
    await engine.store.events.ack((await engine.store.events.take(1)).token)
    await engine.store.history.ack((await engine.store.history.take(1)).token)
    await engine.reopen()
    assert (await engine.store.stats()).outbox == 0


async def test_schedules(engine: Bench, crash: bool) -> None:
    def crons(version: int, *names: str) -> SetCrons:
        items = [engine.item(None, Kind.CRON, f"cron:{n}", name=n, due=engine.now + 1000) for n in names]
        return SetCrons(items=items, partition=runner_partition(FN), version=version)

    await engine.commit(crons(2, "a", "b"))
    await engine.reopen(crash=crash)
    assert await engine.won(crons(1, "old"), crons(2, "b", "c")) == [False, True]
    engine.now += 1000
    assert sorted(await engine.jobs(queue=Queue.RUNNER)) == ["cron:b", "cron:c"]


def _collect(engine: Bench, name: str, kind: Kind = Kind.BATCH, **more: Any) -> Collect:
    event = msgspec.json.encode({"name": name, "ts": 1})
    job = f"collector-{engine.serial()}"
    item = engine.item(None, kind, job, due=engine.now + 1000, payload=b"[" + event + b"]")
    values: dict[str, Any] = {"max_size": 3} if kind is Kind.BATCH else {"last": True}
    return Collect(key="k", item=item, partition=runner_partition(FN), event=event, ts=1, **(values | more))


def _collected(leased: Leased) -> list[str]:
    return [event["name"] for event in msgspec.json.decode(leased.item.payload)]


async def test_collectors(engine: Bench, crash: bool) -> None:
    def collect(name: str) -> list[Effect]:
        return [Once(key=name, at=engine.now), _collect(engine, name, when=0)]

    assert await engine.won(*collect("a")) == await engine.won(*collect("b")) == [True, True]
    await engine.reopen(crash=crash)
    assert await engine.won(*collect("b")) == [False, False]
    for name in "cd":
        assert await engine.won(*collect(name)) == [True, True]
    full = await engine.one(queue=Queue.RUNNER)
    assert _collected(full) == ["a", "b", "c"]
    await engine.reopen(crash=crash)
    await engine.commit(*collect("e"))
    engine.now += 1000
    engine.expire()
    found = sorted(_collected(leased) for leased in await engine.lease(queue=Queue.RUNNER))
    assert found == [["a", "b", "c"], ["d", "e"]]


async def test_a_collector_fills_up_over_many_restarts(engine: Bench, crash: bool) -> None:
    for name in "abcdef":
        await engine.commit(_collect(engine, name, max_size=6))
        await engine.reopen(crash=crash)
    assert _collected(await engine.one(queue=Queue.RUNNER)) == list("abcdef")


async def test_a_batch_is_full_by_bytes_after_a_restart(engine: Bench, crash: bool) -> None:
    size = len(msgspec.json.encode({"name": "a", "ts": 1}))
    bytes_of_two: dict[str, Any] = {"max_size": 100, "max_bytes": 2 * size + 2}
    await engine.commit(_collect(engine, "a", **bytes_of_two))
    await engine.reopen(crash=crash)
    await engine.commit(_collect(engine, "b", **bytes_of_two), _collect(engine, "c", **bytes_of_two))
    assert _collected(await engine.one(queue=Queue.RUNNER)) == ["a", "b"]


async def test_a_debounce_has_its_last_event_and_its_bound(engine: Bench, crash: bool) -> None:
    opened = engine.now
    for name in ("a", "b", "c"):
        await engine.commit(_collect(engine, name, Kind.DEBOUNCE, bound=2500))
        await engine.reopen(crash=crash)
        engine.now += 900
    await engine.commit(_collect(engine, "d", Kind.DEBOUNCE, bound=2500))
    assert engine.now > opened + 2500
    assert _collected(await engine.one(queue=Queue.RUNNER)) == ["d"]


async def test_a_completed_collector_leaves_nothing(engine: Bench, crash: bool) -> None:
    await engine.commit(*[_collect(engine, name) for name in "abc"])
    await engine.complete(await engine.one(queue=Queue.RUNNER))
    await engine.reopen(crash=crash)
    engine.expire()
    assert await engine.lease(queue=Queue.RUNNER) == []
    assert (await engine.store.stats()).queued == 0
    await engine.commit(*[_collect(engine, name) for name in "def"])
    assert _collected(await engine.one(queue=Queue.RUNNER)) == list("def")


@pytest.mark.parametrize("kind", [Kind.BATCH, Kind.DEBOUNCE])
async def test_a_leased_collector_stays_closed(engine: Bench, crash: bool, kind: Kind) -> None:
    await engine.commit(_collect(engine, "a", kind))
    engine.now += 1000
    await engine.one(queue=Queue.RUNNER)
    await engine.reopen(crash=crash)
    await engine.commit(_collect(engine, "b", kind))
    engine.expire()
    found = [_collected(leased) for leased in await engine.lease(queue=Queue.RUNNER)]
    assert sorted(found) == [["a"], ["b"]]


async def test_limits_hold_after_a_restart(engine: Bench, crash: bool) -> None:
    await engine.register(function(limits=[1]))
    parts = {"start": partition(FN, "s", Cell("c", 0)), "work": partition(FN, "w", Cell("c", 0))}
    for _ in range(3):
        await engine.create(engine.run(fields=parts))
    await engine.one()
    await engine.reopen(crash=crash)
    engine.expire()
    leased = await engine.one()
    assert await engine.lease() == []
    await engine.complete(leased)
    await engine.one()


async def test_a_run_that_has_its_place_keeps_it(engine: Bench, crash: bool) -> None:
    await engine.register(function(limits=[0], run_limit=1))
    parts = {
        "start": partition(FN, "s", Cell("c", 0), run_cell=Cell("r", 1)),
        "work": partition(FN, "w", Cell("c", 0)),
    }
    first = await engine.create(engine.run(fields=parts))
    second = await engine.create(engine.run(fields=parts))
    leased = await engine.one()
    sleep = engine.enqueue(first, Kind.SLEEP, "sleep", due=engine.now + HOUR)
    await engine.complete(leased, Begin(at=engine.now), sleep)
    await engine.reopen(crash=crash)
    assert await engine.lease() == []
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=first.id)
    assert (await engine.one()).item.run == second.id


async def test_a_retried_start_keeps_its_place(engine: Bench, crash: bool) -> None:
    await engine.register(function(limits=[0], run_limit=1))
    parts = {
        "start": partition(FN, "s", Cell("c", 0), run_cell=Cell("r", 1)),
        "work": partition(FN, "w", Cell("c", 0)),
    }
    first = await engine.create(engine.run(fields=parts))
    await engine.create(engine.run(fields=parts))
    retry = Retry(due=engine.now + 1000, attempt=1)
    await engine.commit(retry, Begin(at=engine.now), run=first.id, lease=await engine.one())
    await engine.reopen(crash=crash)
    assert await engine.lease() == []
    engine.now += 1000
    assert (await engine.one()).item.run == first.id


async def test_a_throttle_remembers(engine: Bench, crash: bool) -> None:
    await engine.register(function(throttle=Throttle(limit=1, period=HOUR)))
    parts = {"start": partition(FN, "s", throttle="throttle")}
    for _ in range(2):
        await engine.create(engine.run(fields=parts))
    await engine.complete(await engine.one())
    await engine.reopen(crash=crash)
    assert await engine.lease() == []
    engine.now += HOUR
    await engine.one()


async def test_nothing_of_a_stale_commit(engine: Bench, crash: bool) -> None:
    run = await engine.create()
    first = await engine.one()
    engine.expire()
    await engine.one()
    assert (await engine.complete(first, SaveStep(step="a", value=b"1"), Emit(event=b"1"))).stale
    await engine.reopen(crash=crash)
    state = await engine.state(run.id)
    assert state is not None
    assert not state.steps
    assert (await engine.store.stats()).outbox == 0


async def test_a_continuation_that_was_taken(engine: Bench, crash: bool) -> None:
    run = await engine.create()
    leased, following = await engine.one(), Enqueue(item=engine.item(run, job="next"))
    committed = await engine.complete(leased, SaveStep(step="a", value=b"1"), following, take=True)
    assert committed.next is not None
    await engine.reopen(crash=crash)
    engine.expire()
    again = await engine.one()
    assert again.item.job == "next"
    assert again.item.epoch > committed.next.item.epoch
    assert (await engine.complete(committed.next)).stale


async def test_many_runs(engine: Bench, crash: bool) -> None:
    runs = [await engine.create() for _ in range(200)]
    for run in runs[::2]:
        await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    await engine.reopen(crash=crash)
    assert sorted(leased.item.run for leased in await engine.lease(500)) == [run.id for run in runs[1::2]]
