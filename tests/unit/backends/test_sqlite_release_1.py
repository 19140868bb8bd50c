"""A file that the first release has left goes on: ``release_1.sql`` was written by that release."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import event
from sqlite_bench import snapshot

from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import SCHEMA_VERSION, Journal
from inngest.core.decisions.advance import evicted, expire, resume
from inngest.core.decisions.collectors import collected
from inngest.core.decisions.crons import tick
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import decode_event
from inngest.core.model.history import What
from inngest.core.model.ids import UlidFactory
from inngest.core.model.runs import Kind, Leased, Queue, Run, signal_name
from inngest.core.model.transition import Transition, lease_of
from inngest.core.policy import LEASE
from inngest.core.timing.times import HOUR, MINUTE

SCRIPT = (Path(__file__).parent / "release_1.sql").read_text(encoding="utf-8")
AT = 1_790_000_000_000
"""When all of it happened."""
RUNS = dict(pair.split("=") for pair in SCRIPT.partition("\n")[0].split(". ")[1].split())


class Kept:
    """The store on that file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = AT + 1000
        self.stores: list[SqliteEngineStore] = []
        self.new_id = UlidFactory(clock=lambda: self.now, random_bytes=lambda count: b"n" * count).new

    async def open(self, path: Path) -> Kept:
        self.store = SqliteEngineStore(Journal(path), lambda: self.now)
        self.stores.append(self.store)
        await self.store.open()
        self.functions = (await self.store.registry()).functions
        return self

    async def run(self, name: str, fn: str = "plain") -> Run:
        run = await self.store.run(fn, RUNS[name])
        assert run is not None
        return run

    async def lease(self, queue: Queue) -> list[Leased]:
        return (await self.store.lease(queue, 100, LEASE, "worker")).items

    def moment(self) -> Moment:
        return Moment(now=self.now, new_id=self.new_id)

    async def commit(self, transition: Transition) -> list[bool]:
        (committed,) = await self.store.commit([transition])
        assert not committed.stale
        return committed.won


@pytest.fixture(params=["opened", "opened again"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    """As it is opened first, and after a crash that followed."""
    path = tmp_path / "engine.db"
    with sqlite3.connect(path) as db:
        db.executescript(SCRIPT)
    db.close()
    kept = await Kept(path).open(path)
    if request.param == "opened again":
        await kept.open(snapshot(path))
    yield kept
    for store in kept.stores:
        await store.close()


async def test_the_file_has_the_schema_of_today(kept: Kept) -> None:
    db = sqlite3.connect(snapshot(kept.path))
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()


async def test_the_registry_is_there(kept: Kept) -> None:
    registry = await kept.store.registry()
    assert registry.version == 2
    assert registry.apps["app"].sdk_language == "py"
    assert {id_ for id_, fn in registry.functions.items() if fn.archived} == {"gone"}
    assert len(registry.functions) == 8


async def test_runs_are_there_with_their_steps(kept: Kept) -> None:
    assert (await kept.store.stats()).runs == 9
    assert (await kept.run("sleeping")).steps == {"a": b'{"data":{"x":1.0}}'}
    parallel = await kept.run("parallel")
    assert (len(parallel.pending), len(parallel.steps), parallel.request_version) == (1, 1, 2)
    assert await kept.store.run("plain", RUNS["ended"]) is None
    assert await kept.store.locate(RUNS["limited"]) == "limited"


async def test_calls_and_timers_fall_due(kept: Kept) -> None:
    held = {leased.item.run: leased for leased in await kept.lease(Queue.EXECUTOR)}
    starts = {name for name in ("single", "limited", "cancelled") if RUNS[name] in held}
    assert starts == {"single", "limited", "cancelled"}
    assert held[RUNS["parallel"]].item.kind is Kind.PLAN
    kept.now = AT + HOUR + 1
    due = [leased for leased in await kept.lease(Queue.EXECUTOR) if leased.item.run == RUNS["sleeping"]]
    (sleep,) = due
    assert sleep.run is not None
    won = await kept.commit(expire(sleep.run, kept.functions["plain"], sleep.item, kept.moment()))
    assert all(won)


async def test_a_retry_comes_at_its_time(kept: Kept) -> None:
    (item,) = await kept.store.items("plain", RUNS["retrying"])
    assert (item.kind, item.attempt) == (Kind.START, 1)
    kept.now = item.due
    assert item.job in [leased.item.job for leased in await kept.lease(Queue.EXECUTOR)]


async def test_waits_are_met(kept: Kept) -> None:
    answer = event("app/answer", {"id": 7}, at=kept.now)
    (page,) = await kept.store.first_pauses([answer], 10)
    (pause,) = page.found
    assert pause.run == RUNS["waiting"]
    assert all(await kept.commit(resume(pause, answer.payload, kept.moment())))
    signal = await kept.store.signal(signal_name("sig"))
    assert signal is not None
    assert signal.run == RUNS["signal"]
    stop = event("app/stop", {"id": "x"}, at=kept.now)
    (page,) = await kept.store.first_pauses([stop], 10)
    assert [pause.run for pause in page.found] == [RUNS["cancelled"]]


async def test_a_newer_run_takes_the_lock_of_one_whose_arrival_is_not_known(kept: Kept) -> None:
    (holder,) = await kept.store.lock_holders([("single", "lock:single")])
    assert holder == RUNS["single"]
    transition = schedule(kept.functions["single"], event(at=kept.now), kept.moment())
    await kept.commit(transition)
    assert await kept.store.lock_holders([("single", "lock:single")]) == [transition.run]
    told = [one for one in await kept.lease(Queue.RUNNER) if one.item.kind is Kind.EVICT]
    assert [one.item.run for one in told] == [RUNS["single"]]
    assert told[0].run is not None
    assert all(await kept.commit(evicted(told[0].run, told[0].item, kept.moment())))


async def test_an_id_that_its_sender_chose_is_still_used(kept: Kept) -> None:
    again = event(external_id="mine", at=kept.now)
    transition = schedule(kept.functions["plain"], again, kept.moment())
    await kept.commit(transition)
    assert await kept.store.locate(transition.run) is None


async def test_a_rate_limit_counts_on(kept: Kept) -> None:
    transition = schedule(kept.functions["limited"], event(at=kept.now), kept.moment())
    await kept.commit(transition)
    assert await kept.store.locate(transition.run) is None


async def test_batches_fill_up_and_debounces_have_their_last_event(kept: Kept) -> None:
    names: dict[str, list[Any]] = {}

    async def fire() -> None:
        for leased in await kept.lease(Queue.RUNNER):
            if leased.item.kind in {Kind.BATCH, Kind.DEBOUNCE}:
                fn = kept.functions[leased.item.fn]
                transition = collected(fn, leased.item, kept.moment())
                transition.lease = lease_of(leased.item)
                await kept.commit(transition)
                run = await kept.store.run(fn.id, transition.run)
                assert run is not None
                names.setdefault(fn.id, []).append(run.event_ids)

    await fire()
    assert names == {"batch": [["b0", "b1", "b2"]]}
    await kept.commit(schedule(kept.functions["batch"], event(id="b5", at=kept.now), kept.moment()))
    await fire()
    assert names["batch"][1:] == [["b3", "b4", "b5"]]
    kept.now = AT + MINUTE
    await fire()
    assert names["debounce"] == [["d1"]]


async def test_a_schedule_goes_on(kept: Kept) -> None:
    kept.now = AT + 5 * MINUTE
    (leased,) = [one for one in await kept.lease(Queue.RUNNER) if one.item.kind is Kind.CRON]
    transition = tick(kept.functions["cron"], leased.item, kept.moment())
    transition.lease = lease_of(leased.item)
    assert all(await kept.commit(transition))
    assert await kept.store.locate(transition.run) == "cron"


async def test_what_was_on_its_way_arrives(kept: Kept) -> None:
    events = (await kept.store.events.take(100)).entries
    assert [decode_event(raw).name for raw in events] == ["inngest/function.finished"]
    box = await kept.store.history.take(100)
    assert len(box.entries) == 23
    assert {entry.what for entry in box.entries} >= {What.SCHEDULED, What.STARTED, What.ATTEMPT, What.ENDED}
    assert msgspec.json.encode(box.entries)
    await kept.store.history.ack(box.token)
    assert (await kept.store.stats()).outbox == 1
