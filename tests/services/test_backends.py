"""Backing systems that are down at the start, go away and come back: nothing is lost, and readiness tells."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from processes import Redis, Server
from service_rig import Launch, until
from slow_app import EVENT, SlowApp

from inngest.backends.sqlite.journal import SCHEMA_VERSION

pytestmark = pytest.mark.slow


async def _status(server: Server) -> dict[str, object]:
    answer: dict[str, object] = json.loads(await server.get("/health/ready"))
    return answer


async def test_a_backend_that_is_down_at_the_start_is_waited_for(
    server: Launch, redis: Redis, app: SlowApp
) -> None:
    one = server(redis=redis)
    await one.launch()
    await until(lambda: _lives(one), "the process answers")
    assert await one.status("/health/ready") == 503
    status = await _status(one)
    assert status["status"] == "starting"
    assert status["missing"] == {
        "engine store": ["core-api", "runner", "executor"],
        "event stream": ["event-api", "runner"],
    }
    # Senders try again on a 503 as on a refused connection, and are told why.
    assert await one.send(EVENT) == 503
    await until(lambda: "connect.wait" in one.log.read_text(), "the log says what is waited for")
    waiting = next(line for line in one.lines() if line["action"] == "connect.wait")
    assert "refused" in waiting["error"]

    await redis.start()
    await until(one.ready, "the server is ready")
    await app.register(one.url, one.signing_key)
    app.go.set()
    assert await one.send(EVENT) == 200
    await until(lambda: app.ended, "the run ends")


async def _lives(server: Server) -> bool:
    return await server.status("/health/live") == 200


async def test_a_backend_that_goes_away_comes_back_with_everything(
    server: Launch, redis: Redis, app: SlowApp
) -> None:
    await redis.start()
    one = server(redis=redis)
    await one.start()
    await app.register(one.url, one.signing_key)
    assert await one.send(EVENT) == 200
    await until(app.called.is_set, "the step is called")

    await redis.end()
    await until(lambda: _unready(one), "the server is not ready")

    async def both_are_missing() -> bool:
        status = await _status(one)
        assert status["status"] == "unready"
        return set(status["missing"]) == {"engine store", "event stream"}  # type: ignore[call-overload]

    await until(both_are_missing, "the server misses both")
    assert await one.send(EVENT) == 503
    app.go.set()  # its result waits for the store

    await redis.start()
    await until(one.ready, "the server is ready again")
    await until(lambda: app.ended, "the run ends")
    assert list(app.calls.values()) == [1]
    assert await one.send(EVENT) == 200
    await until(lambda: len(app.ended) == 2, "another run ends")
    # Whatever was tried, and however often.
    began = Counter(line["action"] for line in one.lines() if "does not answer" in line["event"])
    assert set(began.values()) == {1}

    def over() -> bool:
        return sum("answers again" in line["event"] for line in one.lines()) == began.total()

    await until(over, "the log says that it is over")


async def _unready(server: Server) -> bool:
    return await server.status("/health/ready") == 503


async def test_accepting_and_executing_go_on_without_the_data_store(server: Launch, app: SlowApp) -> None:
    one = server()
    one.data.mkdir(parents=True)
    with sqlite3.connect(one.data / "history.db") as lock:
        lock.execute("PRAGMA locking_mode = EXCLUSIVE")
        lock.execute("BEGIN EXCLUSIVE")
        await one.start()
        status = await _status(one)
        assert status["status"] == "degraded"
        assert (status["missing"], status["degraded"]) == ({}, {"data store": ["core-api"]})
        app.go.set()
        await app.register(one.url, one.signing_key)
        assert await one.send(EVENT) == 200
        await until(lambda: app.ended, "the run ends")
        lock.rollback()
    lock.close()

    async def ready() -> bool:
        return (await _status(one))["status"] == "ready"

    await until(ready, "the data store is open")
    (run,) = app.ended

    def indexed() -> bool:
        with sqlite3.connect(one.data / "history.db") as db:
            found = db.execute("SELECT status FROM runs WHERE id = ?", [run]).fetchall()
        db.close()
        return found == [("Completed",)]

    await until(indexed, "what happened meanwhile is in the data store")


async def test_a_backend_that_refuses_for_good_ends_the_start(server: Launch, tmp_path: Path) -> None:
    one, newer, taker = server(), server("newer"), server("taker")
    newer.data.mkdir(parents=True)
    with sqlite3.connect(newer.data / "engine.db") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    taker.data.parent.mkdir(parents=True)
    taker.data.symlink_to(one.data)
    await one.start()
    await asyncio.gather(newer.launch(), taker.launch())
    assert await newer.wait() == 1
    assert "written by a newer release" in newer.tail()
    assert await taker.wait() == 1
    assert "another process is using it" in taker.tail()
    assert await one.ready()


async def test_a_wrong_password_ends_the_start_and_is_not_shown(server: Launch, redis: Redis) -> None:
    await redis.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
    writer.write(b"CONFIG SET requirepass right-password\r\n")
    assert (await reader.readline()).startswith(b"+OK")
    writer.close()
    await writer.wait_closed()

    class Stranger(Redis):
        @property
        def url(self) -> str:
            return redis.url.replace("redis://", "redis://:wrong-password@")

    one = server(redis=Stranger(redis.folder), services=("executor",))
    await one.launch()
    assert await one.wait() == 1
    assert "it does not let us in" in one.tail()
    assert "wrong-password" not in one.log.read_text()


async def test_what_waiting_does_not_change_is_one_line_and_the_end(server: Launch, redis: Redis) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    class At(Redis):
        def __init__(self, url: str) -> None:
            super().__init__(redis.folder)
            self._url = url

        @property
        def url(self) -> str:
            return self._url

    await redis.start()
    other = await asyncio.start_server(web, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    wrong = {
        "no-redis": (At(f"redis://127.0.0.1:{port}/0"), "what answers there is no Redis server"),
        "no-database": (At(f"redis://127.0.0.1:{redis.port}/99"), "there is no database of that number"),
    }
    async with other:
        for name, (place, told) in wrong.items():
            one = server(name, redis=place, services=("executor",))
            await one.launch()
            assert await one.wait() == 1
            (line,) = [each for each in one.lines() if each["level"] == "error"]
            assert told in line["error"]
            assert "Traceback" not in one.log.read_text()
