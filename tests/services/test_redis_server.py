"""A whole server on Redis: one that would lose things is refused, an outage is told of and gone through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from processes import Redis, Server
from service_rig import Launch, until
from slow_app import EVENT, SlowApp

pytestmark = pytest.mark.slow

ALLOWED = {"state": {"service": {"backend": "redis", "allowUnsafe": ["no-persistence"]}}}


async def test_a_server_that_keeps_nothing_is_refused(server: Launch, redis: Redis, tmp_path: Path) -> None:
    forgetful = Redis(tmp_path / "forgetful", appendonly="no")
    await forgetful.start()
    try:
        one = server(redis=forgetful)
        await one.launch()
        assert await one.wait() == 1
        assert "it keeps nothing on disk, a restart loses everything: set appendonly to yes" in one.tail()
        assert 'allowUnsafe: [\\"no-persistence\\"]' in one.tail()

        borne = server("borne", redis=forgetful, config=ALLOWED)
        await borne.start()
        health = json.loads(await borne.get("/health"))
        assert (health["status"], health["message"]) == (200, "OK")
        told = sorted(warning.partition(": ")[0] for warning in health["warnings"])
        assert told == ["engine store", "event stream"]
        assert "set appendonly to yes" in health["warnings"][0]
        assert str(forgetful.port) not in str(health), "where it is stays in the log"
        lines = [line for line in borne.lines() if line["action"] == "redis.unsafe"]
        assert {line["level"] for line in lines} == {"warning"}
    finally:
        await forgetful.end()


async def test_a_server_that_keeps_everything_is_not_warned_of(server: Launch, redis: Redis) -> None:
    await redis.start()
    one = server(redis=redis)
    await one.start()
    assert json.loads(await one.get("/health")) == {"status": 200, "message": "OK"}


async def test_an_outage_is_two_lines_of_the_link_and_refusals_say_when_to_come_again(
    server: Launch, redis: Redis, app: SlowApp
) -> None:
    await redis.start()
    one = server(redis=redis)
    await one.start()
    await app.register(one.url, one.signing_key)
    app.go.set()
    assert await one.send(EVENT) == 200
    await until(lambda: app.ended, "a run ends")
    await redis.end()
    refused = 0
    while refused < 50:
        status, retry_after = await _send(one)
        assert (status, retry_after) == (503, "1")
        refused += 1
    await redis.start()

    async def accepted() -> bool:
        return await one.send(EVENT) == 200

    await until(accepted, "events are accepted again")
    await until(lambda: len(app.ended) >= 2, "another run ends")
    await until(lambda: len(_told(one, "redis.outage")) == 2, "the end is told")
    assert [("failed" in line) for line in _told(one, "redis.outage")] == [False, True]
    assert _told(one, "redis.outage")[1]["failed"] >= refused
    assert len(_told(one, "event.refused")) == 2


async def _send(server: Server) -> tuple[int, str | None]:
    url = f"http://127.0.0.1:{server.port}/e/{server.event_key}"
    async with ClientSession() as session, session.post(url, json={"name": EVENT}) as response:
        return response.status, response.headers.get("Retry-After")


def _told(server: Server, action: str) -> list[dict[str, Any]]:
    return [line for line in server.lines() if line["action"] == action]
