"""One damaged record in the engine's file: the start tells of it, and all else goes on."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlite_bench import snapshot
from sqlite_world import FN, HOUR, World, function, opened
from test_sqlite_engine import Chaos

from inngest.backends.sqlite import loading
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.rows import BODY, EVENT, HEAD, ITEM, PAUSE, STEP
from inngest.core.errors import StoreUnusable
from inngest.core.model.functions import App
from inngest.core.model.history import What
from inngest.core.model.runs import Kind, Queue, runner_items
from inngest.core.model.transition import Collect, TakeLock

# Each table, the columns that find a row, and the one that is damaged.
TABLES = {
    "meta": ("key", "value"),
    "apps": ("id", "body"),
    "functions": ("id", "body"),
    "crons": ("key", "value"),
    "cancellations": ("key", "value"),
    "locks": ("key", "run"),
    "expiring": ("seq", "body"),
    "seen": ("seq", "body"),
    "outbox_events": ("seq", "body"),
    "outbox_history": ("seq", "body"),
}
KINDS = (BODY, HEAD, STEP, ITEM, PAUSE, EVENT)
DAMAGES: dict[str, Any] = {
    "garbage": b"\xc1\xff\x00garbage",
    "empty": b"",
    "a map": msgspec.msgpack.encode({"a": 1}),
    "lists": msgspec.msgpack.encode([[1, None], "x", [["a", "b", [], -1]]]),
    "text": "text",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path / "engine.db", awake=0) as world:
        yield world


async def filled(world: World) -> None:
    """Something of each kind is in the file."""
    chaos = Chaos(world, random.Random(1))
    for _ in range(150):
        await chaos.step()
    for number in range(2):
        run = world.run(lock="lock-c")
        lock = TakeLock(key=run.lock, order=f"{number:020}-{run.id}")
        await world.commit(run.id, *world.creation(run), lock)
        await collect(world, world.store)
    await world.store._journal.settled()


async def collect(world: World, store: SqliteEngineStore) -> None:
    world_store, world.store = world.store, store
    try:
        item = world.item("", Kind.BATCH, due=world.now + HOUR)
        batch = Collect(
            key="batch-d", item=item, partition=runner_items(FN), event=b'{"ts":1}', ts=1, bound=10_000,
            max_size=100,
        )  # fmt: skip
        await world.commit("", batch)
    finally:
        world.store = world_store


def rows(path: Path) -> list[tuple[str, str, tuple[Any, ...]]]:
    """A few of each kind: the table, what finds the row, its values."""
    found: list[tuple[str, str, tuple[Any, ...]]] = []
    with closing(sqlite3.connect(path)) as db:
        for table, (key, _) in TABLES.items():
            keys = [row for row in db.execute(f"SELECT {key} FROM {table}") if row != ("boots",)]
            assert keys, f"nothing is in {table}"
            found += [(table, f"{key} = ?", row) for row in keys[:2]]
        for kind in KINDS:
            keys = db.execute("SELECT run, kind, key FROM state WHERE kind = ? LIMIT 40", (kind,)).fetchall()
            assert keys, f"there is no row of kind {kind}"
            found += [("state", "run = ? AND kind = ? AND key = ?", row) for row in keys[::10]]
    return found


async def goes_on(world: World, store: SqliteEngineStore) -> None:
    """It takes a registration, a run, an event, hands out what is due, and writes all of it."""
    unlimited = replace(function(), concurrency=[], run_concurrency=None, throttle=None)
    await store.put_app(App(id="app", name="app", url="http://app.test"), [unlimited])
    world.store, before = store, world.store
    try:
        run = world.run()
        await world.commit(run.id, *world.creation(run))
    finally:
        world.store = before
    await collect(world, store)
    later = world.now
    world.now += 2 * HOUR
    for queue in Queue:
        work = await store.lease(queue, 1000, 30_000, "worker")
        assert queue is not Queue.EXECUTOR or run.id in {leased.item.run for leased in work.items}
    world.now = later
    cursor = ""
    while True:
        page = await store.orphans(0, cursor, 100)
        if not (cursor := page.cursor):
            break
    for box in (store.events, store.history):
        await box.ack((await box.take(1000)).token)
    await store._journal.settled()


@pytest.mark.parametrize("damage", [*DAMAGES, "gone"])
async def test_one_damaged_record_stops_neither_the_start_nor_the_others(world: World, damage: str) -> None:
    await filled(world)
    runs = set(world.store._state.runs)
    for table, where, key in rows(snapshot(world.path)):
        copy = snapshot(world.path)
        with closing(sqlite3.connect(copy)) as db, db:
            if damage == "gone":
                db.execute(f"DELETE FROM {table} WHERE {where}", key)
            else:
                column = "value" if table == "state" else TABLES[table][1]
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (DAMAGES[damage], *key))
        store = await world.open(copy)
        what = (table, key)
        assert set(store._state.runs) >= runs - {key[0]}, what
        for run in runs - {key[0]}:
            await store.run(FN, run)
        await goes_on(world, store)
        assert set(store._state.runs) >= runs - {key[0]}, what
        again = await world.open(snapshot(copy))
        await goes_on(world, again)


async def test_what_is_damaged_is_counted(world: World) -> None:
    await filled(world)
    for kind in (ITEM, PAUSE, EVENT):
        copy = snapshot(world.path)
        with closing(sqlite3.connect(copy)) as db, db:
            last = "SELECT run, key FROM state WHERE kind = ? AND value IS NOT NULL LIMIT 1"
            ((run, key),) = db.execute(last, (kind,)).fetchall()
            db.execute(
                "UPDATE state SET value = x'c1' WHERE run = ? AND kind = ? AND key = ?", (run, kind, key)
            )
        assert (await (await world.open(copy)).stats()).damaged == 1


async def test_rows_of_a_run_that_is_missing(world: World) -> None:
    await world.commit("")
    copy = snapshot(world.path)
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute("INSERT INTO state VALUES ('nobody', 1, '', x'95ffc2009000')")
        db.execute("INSERT INTO state VALUES (x'ff', 4, '', x'')")
        db.execute("INSERT INTO state VALUES ('', 77, x'00', NULL)")
    store = await world.open(copy)
    assert (await store.stats()).damaged == 3
    await goes_on(world, store)


async def test_a_run_of_which_only_rows_are_left_has_failed(world: World) -> None:
    run = world.run()
    await world.commit(run.id, *world.creation(run))
    copy = snapshot(world.path)
    with closing(sqlite3.connect(copy)) as db, db:
        assert db.execute("DELETE FROM state WHERE run = ? AND kind = ?", (run.id, BODY)).rowcount == 1
    store = await world.open(copy)
    assert (await store.stats()).damaged > 0
    assert run.id not in store._state.runs
    await store._journal.settled()
    again = await world.open(snapshot(copy))
    assert (await again.stats()).damaged == 0, "what leads to nothing is gone"
    (entry,) = [each for each in (await again.history.take(100)).entries if each.what is What.ENDED]
    assert (entry.run, entry.fn, entry.outcome) == (run.id, FN, "Failed")
    assert b"damaged" in (entry.value or b"")


async def test_a_batch_goes_on_without_the_event_that_cannot_be_read(world: World) -> None:
    await filled(world)
    (job,) = [job for job, each in world.store._state.collected.items() if each.key == "batch-d"]
    copy = snapshot(world.path)
    with closing(sqlite3.connect(copy)) as db, db:
        first = "SELECT min(key) FROM state WHERE kind = ? AND key GLOB ?"
        ((key,),) = db.execute(first, (EVENT, f"{job}*")).fetchall()
        db.execute("UPDATE state SET value = x'00' WHERE kind = ? AND key = ?", (EVENT, key))
    store = await world.open(copy)
    await collect(world, store)
    await store._journal.settled()
    again = await world.open(snapshot(copy))
    assert again._state.collected[job].events == [b'{"ts":1}'] * 2
    assert (await again.stats()).damaged == 0, "what could not be read has made room"


async def test_an_error_of_ours_says_nothing_of_the_file(world: World) -> None:
    def fails(_: sqlite3.Connection) -> None:
        raise MemoryError

    journal = world.store._journal
    with pytest.raises(MemoryError):
        await journal.look(fails)
    with pytest.raises(MemoryError):
        await journal.read(fails)
    await goes_on(world, world.store)


@pytest.mark.parametrize(
    ("decoder", "error"),
    [
        *(
            (name, MemoryError)
            for name in ("_unpack_place", "_unpack_item", "_unpack_pause", "_json", "_lock")
        ),
        *((name, sqlite3.DatabaseError) for name in ("_unpack_place", "_unpack_item", "_unpack_pause")),
    ],
)
async def test_what_is_no_fault_of_a_record_leaves_none_out(
    world: World, monkeypatch: pytest.MonkeyPatch, decoder: str, error: type[Exception]
) -> None:
    def fails(_: object) -> None:
        raise error

    await filled(world)
    copy = snapshot(world.path)
    with monkeypatch.context() as patch:
        patch.setattr(loading, decoder, fails)
        with pytest.raises((MemoryError, StoreUnusable)):
            await SqliteEngineStore(Journal(copy)).open()
    store = await world.open(copy)
    assert set(store._state.runs) == set(world.store._state.runs)
    assert (await store.stats()).damaged == 0


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnusable, match=r"engine\.db"):
        await SqliteEngineStore(Journal(path)).open()
