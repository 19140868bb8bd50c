"""Collectors: debounces and batches that fill up in the store."""

from __future__ import annotations

from typing import Any

import msgspec
from engine_bench import Bench, due_in, runner_partition, token

from inngest.core.model.runs import Kind, Leased, Queue
from inngest.core.model.transition import Collect, Drop, Effect, Once

PERIOD = 10_000


def _event(name: str, ts: int = 0) -> bytes:
    return msgspec.json.encode({"name": name, "ts": ts})


def _collect(
    engine: Bench, name: str, kind: Kind = Kind.BATCH, *, key: str = "k", ts: int = 0, **more: Any
) -> Collect:
    event = _event(name, ts)
    due = engine.now + PERIOD
    item = engine.item(
        None, kind, f"{kind}:{key}:{engine.serial()}", due=due, score=due, payload=b"[" + event + b"]"
    )
    return Collect(
        key=f"{kind}:{key}",
        item=item,
        partition=runner_partition(item.fn),
        event=event,
        ts=ts,
        last=kind is Kind.DEBOUNCE,
        **more,
    )


def _debounce(engine: Bench, name: str, **more: Any) -> Collect:
    return _collect(engine, name, Kind.DEBOUNCE, **more)


def _names(leased: Leased) -> list[str]:
    return [event["name"] for event in msgspec.json.decode(leased.item.payload)]


async def _collected(engine: Bench) -> list[list[str]]:
    return [_names(leased) for leased in await engine.lease(queue=Queue.RUNNER)]


async def test_a_batch_keeps_all_events_in_order_until_its_time(engine: Bench) -> None:
    assert await engine.won(*[_collect(engine, name, max_size=10) for name in "abc"]) == [True] * 3
    assert await _collected(engine) == []
    engine.now += PERIOD - 1
    assert await _collected(engine) == []
    engine.now += 1
    assert await _collected(engine) == [["a", "b", "c"]]


async def test_the_first_event_of_a_batch_sets_its_time(engine: Bench) -> None:
    await engine.commit(_collect(engine, "a", max_size=10))
    engine.now += PERIOD - 1
    await engine.commit(_collect(engine, "b", max_size=10))
    engine.now += 1
    assert await _collected(engine) == [["a", "b"]]


async def test_a_full_batch_is_due_at_once_and_the_next_event_opens_another(engine: Bench) -> None:
    await engine.commit(*[_collect(engine, name, max_size=2) for name in "abc"])
    assert await _collected(engine) == [["a", "b"]]
    engine.now += PERIOD
    assert await _collected(engine) == [["c"]]


async def test_full_batches_pile_up_unmixed(engine: Bench) -> None:
    await engine.commit(*[_collect(engine, name, max_size=2) for name in "abcdefg"])
    assert sorted(await _collected(engine)) == [["a", "b"], ["c", "d"], ["e", "f"]]


async def test_a_batch_of_one_is_full_at_once(engine: Bench) -> None:
    await engine.commit(*[_collect(engine, name, max_size=1) for name in "ab"])
    assert sorted(await _collected(engine)) == [["a"], ["b"]]


async def test_a_batch_is_full_by_bytes(engine: Bench) -> None:
    size = len(_event("a")) + 2
    await engine.commit(*[_collect(engine, name, max_size=100, max_bytes=size + 1) for name in "abc"])
    assert await _collected(engine) == [["a", "b"]]


async def test_an_event_that_fills_a_batch_alone(engine: Bench) -> None:
    await engine.commit(*[_collect(engine, name, max_size=100, max_bytes=5) for name in "ab"])
    assert sorted(await _collected(engine)) == [["a"], ["b"]]


async def test_without_a_limit_of_bytes_or_number_a_batch_is_never_full(engine: Bench) -> None:
    await engine.commit(*[_collect(engine, name) for name in "abc"])
    assert await _collected(engine) == []
    engine.now += PERIOD
    assert await _collected(engine) == [["a", "b", "c"]]


async def test_keys_have_batches_of_their_own(engine: Bench) -> None:
    await engine.commit(
        *[_collect(engine, n, key=n, max_size=10) for n in "ab"], _collect(engine, "c", key="a")
    )
    engine.now += PERIOD
    assert sorted(await _collected(engine)) == [["a", "c"], ["b"]]


async def test_an_event_goes_into_one_batch_once_however_late_it_comes_again(engine: Bench) -> None:
    def decide() -> list[Effect]:
        return [Once(key="event", at=engine.now), _collect(engine, "a", max_size=10, when=0)]

    assert await engine.won(*decide()) == [True, True]
    assert await engine.won(*decide()) == [False, False]
    engine.now += PERIOD
    assert await _collected(engine) == [["a"]]
    engine.now += 365 * 24 * 3_600_000
    assert await engine.won(*decide()) == [False, False]


async def test_a_leased_batch_is_closed(engine: Bench) -> None:
    await engine.commit(_collect(engine, "a", max_size=10))
    engine.now += PERIOD
    leased = await engine.one(queue=Queue.RUNNER)
    await engine.commit(_collect(engine, "b", max_size=10))
    engine.expire()
    assert sorted(await _collected(engine)) == [["a"], ["b"]]
    assert (await engine.complete(leased)).stale


async def test_a_batch_that_is_handed_back_stays_closed(engine: Bench) -> None:
    await engine.commit(_collect(engine, "a", max_size=10))
    engine.now += PERIOD
    leased = await engine.one(queue=Queue.RUNNER)
    await engine.store.hand_back([token(leased)])
    await engine.commit(_collect(engine, "b", max_size=10))
    assert await _collected(engine) == [["a"]]


async def test_a_completed_batch_is_gone(engine: Bench) -> None:
    await engine.commit(_collect(engine, "a", max_size=1))
    assert not (await engine.complete(await engine.one(queue=Queue.RUNNER))).stale
    assert (await engine.store.stats()).queued == 0
    await engine.commit(_collect(engine, "b", max_size=1))
    assert await _collected(engine) == [["b"]]


async def test_a_dropped_collector_is_closed(engine: Bench) -> None:
    collect = _collect(engine, "a", max_size=10)
    assert await engine.won(collect, Drop(job=collect.item.job)) == [True, True]
    await engine.commit(_collect(engine, "b", max_size=10))
    engine.now += PERIOD
    assert await _collected(engine) == [["b"]]


async def test_a_debounce_keeps_the_last_event_and_waits_on(engine: Bench) -> None:
    await engine.commit(_debounce(engine, "a", ts=1))
    engine.now += PERIOD - 1
    assert await engine.won(_debounce(engine, "b", ts=2)) == [True]
    engine.now += PERIOD - 1
    assert await _collected(engine) == []
    engine.now += 1
    assert await _collected(engine) == [["b"]]


async def test_a_debounce_ignores_an_older_event(engine: Bench) -> None:
    await engine.commit(_debounce(engine, "new", ts=2))
    engine.now += PERIOD - 1
    assert await engine.won(_debounce(engine, "old", ts=1)) == [False]
    engine.now += 1
    assert await _collected(engine) == [["new"]]


async def test_a_debounce_takes_an_event_of_the_same_time(engine: Bench) -> None:
    await engine.commit(_debounce(engine, "a", ts=5), _debounce(engine, "b", ts=5))
    engine.now += PERIOD
    assert await _collected(engine) == [["b"]]


async def test_a_debounce_waits_no_longer_than_its_bound(engine: Bench) -> None:
    await engine.commit(_debounce(engine, "a", ts=1, bound=15_000))
    engine.now += 9_000
    await engine.commit(_debounce(engine, "b", ts=2, bound=15_000))
    engine.now += 5_999
    assert await _collected(engine) == []
    engine.now += 1
    assert await _collected(engine) == [["b"]]


async def test_events_that_never_cease_do_not_move_a_debounce_beyond_its_bound(engine: Bench) -> None:
    await engine.commit(_debounce(engine, "a", ts=1, bound=15_000))
    for ts in range(2, 16):
        engine.now += 1_000
        await engine.commit(_debounce(engine, f"e{ts}", ts=ts, bound=15_000))
        assert await _collected(engine) == []
    engine.now += 999
    await engine.commit(_debounce(engine, "last", ts=16, bound=15_000))
    engine.now += 1
    assert await _collected(engine) == [["last"]]


async def test_a_leased_debounce_is_closed(engine: Bench) -> None:
    await engine.commit(_debounce(engine, "a", ts=1))
    engine.now += PERIOD
    leased = await engine.one(queue=Queue.RUNNER)
    await engine.commit(_debounce(engine, "b", ts=2))
    assert _names(leased) == ["a"]
    engine.now += PERIOD
    assert await _collected(engine) == [["b"]]


async def test_a_debounce_that_is_due_but_not_leased_still_takes_events(engine: Bench) -> None:
    await engine.commit(_debounce(engine, "a", ts=1))
    engine.now += PERIOD
    await engine.commit(_debounce(engine, "b", ts=2))
    assert await _collected(engine) == []
    engine.now += PERIOD
    assert await _collected(engine) == [["b"]]


async def test_an_open_collector_is_a_queued_item(engine: Bench) -> None:
    collect = _collect(engine, "a", max_size=10)
    await engine.commit(collect)
    assert (await engine.store.stats()).queued == 1
    item = await engine.item_of(collect.item.job)
    assert item is not None
    assert (item.kind, item.due) == (Kind.BATCH, engine.now + PERIOD)
    assert due_in(await engine.work(queue=Queue.RUNNER)) == PERIOD
