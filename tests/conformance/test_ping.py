"""A backing system says whether it would take a write."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from data_stores import STORES
from engine_bench import Bench
from redis import Redis
from redis_places import empty, engine_at, server

from inngest.backends.redis.stream import RedisEventStream
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import SCHEMA_VERSION, Journal
from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.ports.stream import EventStream


async def test_an_open_engine_store_answers(engine: Bench) -> None:
    await engine.store.ping()
    await engine.store.ping()


async def test_an_open_stream_answers(stream: EventStream) -> None:
    await stream.ping()
    assert await stream.backlog("runner") == 0, "a ping is no event"


@pytest.mark.parametrize("name", STORES)
async def test_an_open_data_store_answers(name: str, tmp_path: Path) -> None:
    store = await STORES[name](tmp_path)
    await store.open()
    await store.ping()
    await store.close()


@pytest.mark.durable
async def test_a_closed_engine_store_does_not(engine: Bench) -> None:
    await engine.store.close()
    with pytest.raises(StoreUnavailable):
        await engine.store.ping()


async def test_a_redis_server_that_takes_no_writes_does_not_answer() -> None:
    """It answers PING all the same."""
    empty()
    engine, stream = engine_at(server()), RedisEventStream(server())
    await engine.open()
    await stream.open()
    with Redis.from_url(server()) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            assert client.ping()
            for one in (engine, stream):
                with pytest.raises(StoreUnavailable, match="too few replicas"):
                    await one.ping()
        finally:
            client.config_set("min-replicas-to-write", 0)
    await engine.ping()
    await stream.ping()
    await stream.close()
    await engine.close()


async def test_a_redis_server_that_does_not_let_us_in_is_refused_for_good() -> None:
    empty()
    engine = engine_at(server().replace("unix://", "unix://nobody:wrong@"))
    with pytest.raises(StoreUnusable, match="does not let us in"):
        await engine.open()


async def test_a_redis_server_that_is_not_there_may_come(tmp_path: Path) -> None:
    engine = engine_at(f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(StoreUnavailable) as caught:
        await engine.open()
    assert not isinstance(caught.value, StoreUnusable)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()


def _newer_history(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied TEXT NOT NULL)")
        db.execute("INSERT INTO migrations VALUES (999, 'then')")
    db.close()


def _no_database(path: Path) -> None:
    path.write_bytes(b"This is no database. " * 1000)


@pytest.mark.parametrize("spoil", [_newer, _no_database])
async def test_an_engine_file_that_cannot_be_used_is_refused_for_good(spoil: object, tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    assert callable(spoil)
    spoil(path)
    with pytest.raises(StoreUnusable, match=r"engine\.db"):
        await SqliteEngineStore(Journal(path)).open()


@pytest.mark.parametrize("spoil", [_newer_history, _no_database])
async def test_a_history_file_that_cannot_be_used_is_refused_for_good(spoil: object, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    assert callable(spoil)
    spoil(path)
    store = SqliteDataStore(path)
    with pytest.raises(StoreUnusable, match=r"history\.db"):
        await store.open()
    await store.close()


async def test_an_engine_file_of_another_process_is_refused_for_good(tmp_path: Path) -> None:
    first, second = (SqliteEngineStore(Journal(tmp_path / "engine.db")) for _ in range(2))
    await first.open()
    with pytest.raises(StoreUnusable, match="another process is using it"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()
