"""Outboxes: what commits send out, in order, until it is acknowledged; history is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from engine_bench import Bench

from inngest.backends.memory import state
from inngest.backends.redis import engine as redis_engine
from inngest.core.model.transition import Effect, Emit, Record
from inngest.ports.engine import Outbox

Make = Callable[[Bench, int], tuple[Effect, Any]]


def _emit(_: Bench, number: int) -> tuple[Effect, Any]:
    event = b"%d" % number
    return Emit(event=event), event


def _record(engine: Bench, number: int) -> tuple[Effect, Any]:
    entry = engine.history(str(number), info={"n": number}, value=b'{"v":1}')
    return Record(entry=entry), entry


@pytest.fixture(params=["events", "history"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _box(engine: Bench, name: str) -> Outbox[Any]:
    box: Outbox[Any] = getattr(engine.store, name)
    return box


async def _send(engine: Bench, name: str, *numbers: int) -> list[Any]:
    made = [(_emit if name == "events" else _record)(engine, number) for number in numbers]
    await engine.commit(*[effect for effect, _ in made])
    return [sent for _, sent in made]


async def test_what_is_sent_leaves_in_order_and_stays_until_it_is_acknowledged(
    engine: Bench, name: str
) -> None:
    box, sent = _box(engine, name), await _send(engine, name, *range(5))
    first = await box.take(2)
    assert first.entries == sent[:2]
    assert (await box.take(2)).entries == sent[:2]
    await box.ack(first.token)
    second = await box.take(10)
    assert second.entries == sent[2:]
    await box.ack(first.token)
    assert (await box.take(10)).entries == second.entries
    await box.ack(second.token)
    assert (await box.take(10)).entries == []
    assert (await engine.store.stats()).outbox == 0


async def test_a_taken_part_may_be_acknowledged_after_more_was_taken(engine: Bench, name: str) -> None:
    box, sent = _box(engine, name), await _send(engine, name, *range(4))
    first, more = await box.take(1), await box.take(3)
    await box.ack(first.token)
    assert (await box.take(10)).entries == sent[1:]
    await box.ack(more.token)
    assert (await box.take(10)).entries == sent[3:]


async def test_the_two_do_not_mix(engine: Bench) -> None:
    events, entries = await _send(engine, "events", 1, 2), await _send(engine, "history", 3, 4)
    assert (await engine.store.stats()).outbox == 4
    assert (await engine.store.events.take(10)).entries == events
    taken = await engine.store.history.take(10)
    assert taken.entries == entries
    await engine.store.history.ack(taken.token)
    assert (await engine.store.events.take(10)).entries == events


async def test_waiting_ends_with_what_arrives_and_misses_nothing(engine: Bench, name: str) -> None:
    box = _box(engine, name)
    await box.take(10)
    waiting = asyncio.create_task(box.wait(60))
    await asyncio.sleep(0)
    await _send(engine, name, 1)
    await asyncio.wait_for(waiting, 10)
    taken = await box.take(10)
    await box.ack(taken.token)
    await _send(engine, name, 2)
    await asyncio.wait_for(box.wait(60), 10)


async def test_what_a_take_left_is_not_waited_for(engine: Bench, name: str) -> None:
    box = _box(engine, name)
    await _send(engine, name, 1, 2)
    taken = await box.take(1)
    await box.ack(taken.token)
    await asyncio.wait_for(box.wait(60), 10)


async def test_waiting_ends_by_itself(engine: Bench, name: str) -> None:
    box = _box(engine, name)
    await box.take(10)
    await box.wait(0.001)
    await box.wait(0)


async def _bounded(engine: Bench, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A store that keeps so much history."""
    monkeypatch.setattr(state, "MAX_HISTORY_WAITING", most)
    monkeypatch.setattr(redis_engine, "MAX_HISTORY_WAITING", most)
    await engine.store.close()
    await engine.start()


async def test_history_that_nobody_fetches_is_bounded_and_what_is_dropped_counted(
    engine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _bounded(engine, monkeypatch, 5)
    sent = await _send(engine, "history", *range(3))
    assert (await engine.store.stats()).dropped == 0
    sent += await _send(engine, "history", *range(3, 9))
    stats = await engine.store.stats()
    assert (stats.dropped, stats.outbox) == (4, 5)
    assert (await engine.store.history.take(100)).entries == sent[4:]


async def test_events_are_never_dropped(engine: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await _bounded(engine, monkeypatch, 5)
    sent = await _send(engine, "events", *range(50))
    await _send(engine, "history", *range(50))
    assert (await engine.store.events.take(100)).entries == sent


async def test_what_was_dropped_after_it_was_taken_is_not_acknowledged_twice(
    engine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _bounded(engine, monkeypatch, 4)
    await _send(engine, "history", *range(4))
    taken = await engine.store.history.take(2)
    sent = await _send(engine, "history", *range(4, 7))  # three of the four go, the two among them
    await engine.store.history.ack(taken.token)
    left = (await engine.store.history.take(100)).entries
    assert left[-3:] == sent
    assert len(left) == 4
    (rest,) = [await engine.store.history.take(100)]
    await engine.store.history.ack(rest.token)
    assert (await engine.store.stats()).outbox == 0


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_what_was_dropped_stays_gone_after_a_restart(
    engine: Bench, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    await _bounded(engine, monkeypatch, 5)
    sent = await _send(engine, "history", *range(20))
    await engine.reopen(crash=crash)
    sent += await _send(engine, "history", 20)
    assert (await engine.store.history.take(100)).entries == sent[-5:]
