"""Bulk cancellations that release 1 kept in its data file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import FN, function
from runner_world import World
from structlog.testing import capture_logs

from inngest.backends.sqlite.data import SqliteDataStore
from inngest.backends.sqlite.data_schema import MIGRATIONS
from inngest.core.errors import StoreRefused, StoreUnavailable
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.runs import RunStatus
from inngest.services.predecessor import take_over_cancellations

FIRST, SECOND = "01M3250V00000000000000000A", "01M3250V00000000000000000B"


@pytest.fixture
async def world() -> World:
    """With a run that goes on."""
    made = World()
    await made.register(function())
    await made.process(made.event())
    return made


@pytest.fixture
async def store(tmp_path: Path, world: World) -> AsyncIterator[SqliteDataStore]:
    """On a file of release 1 with two orders, of which the first has no limits but those it must have."""
    path = tmp_path / "history.db"
    order = {
        "id": FIRST, "fn": FN, "slug": f"app-{FN}", "app_id": "app", "created": world.now,
        "started_before": world.now,
    }  # fmt: skip
    never = {**order, "id": SECOND, "started_after": 1, "condition": "event.data.x == 'never'"}
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied TEXT NOT NULL); {MIGRATIONS[0]};"
            "INSERT INTO migrations VALUES (1, '')"
        )
        rows = [(each["id"], msgspec.msgpack.encode(each)) for each in (never, order)]
        db.executemany("INSERT INTO cancellations VALUES (?, ?)", rows)
        db.commit()
    made = SqliteDataStore(path)
    await made.open()
    yield made
    await made.close()


async def _is_taken_over(world: World, store: SqliteDataStore) -> None:
    await world.fire()
    await world.runner.reap()
    await world.fire()
    assert [(each.id, each.begun) for each in await world.engine.cancellations()] == [
        (SECOND, True),
        (FIRST, True),
    ]
    assert [outcome for _, outcome in await world.ends()] == [RunStatus.CANCELLED]
    assert await store.left_cancellations() == []
    with capture_logs() as lines:
        await take_over_cancellations(store, world.runtime)
    assert lines == []


async def test_they_are_listed_and_carried_out(world: World, store: SqliteDataStore) -> None:
    with capture_logs() as lines:
        await take_over_cancellations(store, world.runtime)
    assert [(line["id"], line["condition"]) for line in lines] == [
        (FIRST, ""),
        (SECOND, "event.data.x == 'never'"),
    ]
    await _is_taken_over(world, store)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["put_cancellation", "commit", "forget_cancellation"])
async def test_a_death_at_any_step_loses_none(
    world: World, store: SqliteDataStore, step: str, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Any = store if step == "forget_cancellation" else world.engine
    real = getattr(place, step)

    async def die(*arguments: Any) -> None:
        if done:
            await real(*arguments)
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(place, step, die)
        with pytest.raises(StoreUnavailable):
            await take_over_cancellations(store, world.runtime)
    await take_over_cancellations(store, world.runtime)
    await _is_taken_over(world, store)


async def test_one_that_is_not_taken_is_told_of_and_keeps_no_other(
    world: World, store: SqliteDataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.engine.put_cancellation

    async def refuse(order: Cancellation) -> None:
        if order.id == FIRST:
            raise StoreRefused("no")
        await real(order)

    monkeypatch.setattr(world.engine, "put_cancellation", refuse)
    with capture_logs() as lines:
        await take_over_cancellations(store, world.runtime)
    (told,) = [line for line in lines if line["log_level"] == "error"]
    assert (told["id"], told["fn"], told["started_before"]) == (FIRST, f"app-{FN}", world.now)
    assert [each.id for each in await world.engine.cancellations()] == [SECOND]
    assert [each.id for each in await store.left_cancellations()] == [FIRST]


async def test_a_damaged_one_is_told_of_and_keeps_no_other(
    world: World, store: SqliteDataStore, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "history.db")) as db:
        db.execute("UPDATE cancellations SET cancellation = x'00' WHERE id = ?", (FIRST,))
        db.commit()
    with capture_logs() as lines:
        await take_over_cancellations(store, world.runtime)
    assert [line["key"] for line in lines if line["action"] == "store.damaged"] == [FIRST]
    assert [each.id for each in await world.engine.cancellations()] == [SECOND]
