"""What happens once for an event, and what is remembered of those that cancel."""

from __future__ import annotations

import pytest
from engine_bench import FN, HOUR, OTHER, Bench

from inngest.core.model.runs import Item, Kind, Queue, RunStatus
from inngest.core.model.transition import Emit, EndRun, Once, Recall, Remember, SaveStep, Transition
from inngest.core.policy import MAX_REMEMBERED

YEAR = 366 * 24 * HOUR
TTL = 120_000


# -- once --


def _once(engine: Bench, key: str = "event", *, ago: int = 0, forget: int = 0, mark: bool = True) -> Once:
    return Once(key=key, at=engine.now - ago, forget=forget, mark=mark)


async def test_an_event_is_decided_on_once(engine: Bench) -> None:
    assert await engine.won(_once(engine), Emit(event=b"1", when=0)) == [True, True]
    assert await engine.won(_once(engine), Emit(event=b"2", when=0)) == [False, False]
    assert await engine.events() == [b"1"]


async def test_within_one_transition_too(engine: Bench) -> None:
    assert await engine.won(_once(engine), _once(engine)) == [True, False]


async def test_each_function_decides_for_itself_and_on_each_event(engine: Bench) -> None:
    assert await engine.won(_once(engine), _once(engine, "other")) == [True, True]
    assert await engine.won(_once(engine), fn=OTHER) == [True]


async def test_time_alone_forgets_nothing(engine: Bench) -> None:
    await engine.commit(_once(engine))
    for _ in range(3):
        engine.now += YEAR
        assert await engine.won(_once(engine, f"at {engine.now}")) == [True]
        assert await engine.won(_once(engine)) == [False]


async def test_looking_marks_nothing(engine: Bench) -> None:
    look = _once(engine, mark=False)
    assert await engine.won(look, look) == [True, True]
    assert await engine.won(_once(engine), look) == [True, False]
    assert await engine.won(look) == [False]


async def test_what_loses_marks_nothing(engine: Bench) -> None:
    other = _once(engine, "other")
    other.when = 0
    await engine.commit(_once(engine))
    assert await engine.won(_once(engine), other) == [False, False]
    assert await engine.won(_once(engine, "other")) == [True]


async def test_what_the_stream_is_done_with_is_forgotten_and_nothing_else(engine: Bench) -> None:
    start = engine.now
    for number in range(10):
        engine.now = start + number
        await engine.commit(_once(engine, f"e{number}"))
    engine.now += HOUR
    assert await engine.won(_once(engine, "new", forget=start + 5)) == [True]
    looks = [_once(engine, f"e{number}", mark=False) for number in range(10)]
    assert await engine.won(*looks) == [True] * 5 + [False] * 5
    assert await engine.won(_once(engine, "new", mark=False)) == [False]


async def test_much_is_forgotten_bit_by_bit(engine: Bench) -> None:
    for begin in range(0, 1000, 100):
        await engine.commit(*[_once(engine, f"old{begin + n}") for n in range(100)])
    engine.now += HOUR
    for number in range(1000):
        await engine.commit(_once(engine, f"new{number}", forget=engine.now))
    looks = [_once(engine, f"old{number}", mark=False) for number in range(1000)]
    assert await engine.won(*looks) == [True] * 1000


async def test_events_that_come_late_are_remembered_like_others(engine: Bench) -> None:
    """Those that waited in a stream while others went on."""
    await engine.commit(_once(engine, "fresh"))
    await engine.commit(_once(engine, "late", ago=HOUR))
    assert await engine.won(_once(engine, "late", ago=HOUR), _once(engine, "fresh")) == [False, False]


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_a_restart_forgets_nothing_that_was_decided_on(engine: Bench, crash: bool) -> None:
    start = engine.now
    for number in range(5):
        engine.now = start + number
        await engine.commit(_once(engine, f"e{number}"), _once(engine, f"e{number}:w"))
        await engine.commit(_once(engine, f"e{number}"), fn=OTHER)
    await engine.reopen(crash=crash)
    engine.now += YEAR
    for fn, keys in ((FN, ("", ":w")), (OTHER, ("",))):
        marks = [_once(engine, f"e{number}{key}") for number in range(5) for key in keys]
        assert not any(await engine.won(*marks, fn=fn))
    await engine.commit(_once(engine, "new", forget=start + 3))
    await engine.reopen(crash=crash)
    looks = [_once(engine, f"e{number}", mark=False) for number in (3, 4)]
    assert await engine.won(*looks) == [False, False]


# -- events that cancel --


def _remember(engine: Bench, event: bytes = b"stop", name: str = "app/stop", *, ago: int = 0) -> Remember:
    return Remember(name=name, event=event, at=engine.now - ago, ttl=TTL)


def _recall(engine: Bench, *names: str, since: int, job: str = "recall", run: str = "") -> Recall:
    item = Item(
        job=job, kind=Kind.RECALL, fn=FN, run=run, due=engine.now, score=engine.now, queued=engine.now
    )
    return Recall(names=list(names) or ["app/stop"], since=since, item=item)


async def _recalls(engine: Bench, *names: str, since: int) -> bool:
    """Whether a new run is told of an event, which it then finds."""
    run = await engine.create(start=False)
    effect = _recall(engine, *names, since=since, job=f"{run.id}:recall", run=run.id)
    (won,) = await engine.won(effect, run=run.id)
    found = await engine.lease(queue=Queue.RUNNER)
    assert [leased.item.run for leased in found] == ([run.id] if won else [])
    asked = await engine.store.remembered(FN, list(names) or ["app/stop"], since)
    assert bool(asked) is won
    for leased in found:
        assert leased.run is not None
        await engine.complete(leased)
    return won


async def test_a_run_is_told_of_an_event_that_came_after_its_own(engine: Bench) -> None:
    assert await engine.won(_remember(engine)) == [True]
    assert await _recalls(engine, since=engine.now - 5)
    assert await _recalls(engine, since=engine.now)
    assert not await _recalls(engine, since=engine.now + 1)


async def test_nobody_is_told_of_nothing(engine: Bench) -> None:
    assert not await _recalls(engine, since=0)
    assert await engine.store.remembered(FN, [], 0) == []


async def test_events_are_remembered_by_name_and_function(engine: Bench) -> None:
    await engine.commit(_remember(engine))
    await engine.commit(_remember(engine, name="app/other"), fn=OTHER)
    assert not await _recalls(engine, "app/other", since=0)
    assert await _recalls(engine, "app/other", "app/stop", since=0)


async def test_what_is_remembered_comes_back_as_it_was(engine: Bench) -> None:
    event = b'{"name":"app/stop","data":{"\xc3\xa9":1.0}}'
    await engine.commit(_remember(engine, event), _remember(engine, b"old", ago=50))
    await engine.commit(_remember(engine, b"third", "app/third"))
    found = await engine.store.remembered(FN, ["app/stop", "app/third"], engine.now - 10)
    assert sorted(found) == sorted([event, b"third"])
    assert sorted(await engine.store.remembered(FN, ["app/stop"], 0)) == sorted([event, b"old"])


async def test_remembering_the_same_event_again_does_no_harm(engine: Bench) -> None:
    for _ in range(2):
        assert await engine.won(_remember(engine)) == [True]
    assert set(await engine.store.remembered(FN, ["app/stop"], 0)) == {b"stop"}


async def test_of_very_many_the_newest_are_remembered(engine: Bench) -> None:
    count = MAX_REMEMBERED + 100
    for begin in range(0, count, 300):
        some = range(begin, min(begin + 300, count))
        await engine.commit(*[_remember(engine, b"%d" % n, ago=count - n) for n in some])
    found = await engine.store.remembered(FN, ["app/stop"], 0)
    assert sorted(map(int, found)) == list(range(100, count))


async def test_a_run_that_does_not_exist_is_told_of_nothing(engine: Bench) -> None:
    await engine.commit(_remember(engine))
    assert await engine.won(_recall(engine, since=0, run="ghost"), run="ghost") == [False]
    run = await engine.create()
    won = await engine.won(
        EndRun(status=RunStatus.CANCELLED), _recall(engine, since=0, run=run.id), run=run.id
    )
    assert won == [True, False]


async def test_an_event_that_is_remembered_in_the_same_commit_is_known_to_what_follows(engine: Bench) -> None:
    run = await engine.create(start=False)
    first, second = await engine.store.commit(
        [
            Transition(fn=FN, run="", effects=[_remember(engine)]),
            Transition(fn=FN, run=run.id, effects=[_recall(engine, since=engine.now, run=run.id)]),
        ]
    )
    assert (first.won, second.won) == ([True], [True])
    assert await engine.won(SaveStep(step="a", value=b"1"), run=run.id) == [True]
