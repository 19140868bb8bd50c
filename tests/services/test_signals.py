"""Signals while a step is under way: it ends, or it is handed back; nothing waits for a lease to run out."""

from __future__ import annotations

import signal

import pytest
from processes import Redis, Server
from service_rig import Launch, until
from slow_app import EVENT, SlowApp

pytestmark = pytest.mark.slow

BRIEF = {"limits": {"gracePeriod": "500ms"}}


async def _in_step(server: Server, app: SlowApp) -> None:
    """Start the server, and a run whose step is under way."""
    await server.start()
    await app.register(server.url, server.signing_key)
    assert await server.send(EVENT) == 200
    await until(app.called.is_set, "the step is called")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_step_under_way_ends_before_the_process_does(
    server: Launch, app: SlowApp, number: signal.Signals
) -> None:
    first = server()
    await _in_step(first, app)
    first.tell(number)
    await until(lambda: _stopping(first), "the server says that it is stopping")
    # What applications ask of the APIs while they end their steps is still answered.
    assert await first.send("test/other") == 200
    app.go.set()
    assert await first.wait() == 0
    assert not app.ended, "a step was begun by a server that was stopping"

    await first.start()
    await until(lambda: app.ended, "the run ends")
    assert list(app.calls.values()) == [1], "the result of the step was not kept"


async def _stopping(server: Server) -> bool:
    return await server.status("/health/ready") == 503 and await server.status("/health/live") == 200


async def test_what_does_not_end_within_the_grace_period_is_handed_back(server: Launch, app: SlowApp) -> None:
    first = server(config=BRIEF)
    await _in_step(first, app)
    assert await first.end(signal.SIGTERM) == 0
    app.go.set()
    await first.start()
    await until(lambda: app.ended, "the run ends")
    assert list(app.calls.values()) == [2]


async def test_another_process_has_at_once_what_was_handed_back(
    server: Launch, redis: Redis, app: SlowApp
) -> None:
    await redis.start()
    first = server("first", redis, config=BRIEF)
    await _in_step(first, app)
    second = server("second", redis, services=("executor",))
    await second.start()
    assert await first.end(signal.SIGTERM) == 0
    await until(lambda: list(app.calls.values()) == [2], "the other process calls the step")
    # A lease that had to run out would have been lost, or taken up by a look for such.
    item = [line for line in first.lines() if line["action"] == "executor.drain"]
    assert [line["count"] for line in item] == [1]
    app.go.set()
    await until(lambda: app.ended, "the run ends")
    assert list(app.calls.values()) == [2]


async def test_a_second_signal_stops_at_once_and_hands_back(
    server: Launch, redis: Redis, app: SlowApp
) -> None:
    await redis.start()
    first = server("first", redis)
    await _in_step(first, app)
    first.tell(signal.SIGTERM)
    await until(lambda: _stopping(first), "the server says that it is stopping")
    assert await first.end(signal.SIGTERM) == 1
    assert any("second signal" in line["event"] for line in first.lines())

    second = server("second", redis, services=("runner", "executor"))
    await second.start()
    app.go.set()
    await until(lambda: app.ended, "the run ends")
    assert list(app.calls.values()) == [2]
