"""The effects that start runs: claims, rate limits, locks, the run itself."""

from __future__ import annotations

from engine_bench import FN, HOUR, OTHER, Bench, partition

from inngest.core.model.runs import Cell, Kind, RunStatus
from inngest.core.model.transition import (
    Admit,
    CreateRun,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    Once,
    TakeLock,
    Transition,
    Unclaimed,
)
from inngest.core.timing import gcra

LIMIT = gcra.rate_limit(1, 60_000)  # one a minute


async def test_a_run_is_created_once_for_its_key(engine: Bench) -> None:
    first, second = engine.run(key="same"), engine.run(key="same")
    assert await engine.won(CreateRun(run=first, claim=1000), run=first.id) == [True]
    assert await engine.won(CreateRun(run=second, claim=1000), run=second.id) == [False]
    assert await engine.state(first.id) is not None
    assert await engine.state(second.id) is None


async def test_keys_are_separate(engine: Bench) -> None:
    await engine.create(key="one")
    await engine.create(key="two")
    assert (await engine.store.stats()).runs == 2


async def test_a_key_stays_claimed_after_the_end_and_is_free_when_its_time_is_over(engine: Bench) -> None:
    run = await engine.create(engine.run(key="same"))
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    engine.now += HOUR - 1
    again = engine.run(key="same")
    assert await engine.won(CreateRun(run=again, claim=1), run=again.id) == [False]
    engine.now += 1
    again = engine.run(key="same")
    assert await engine.won(CreateRun(run=again, claim=1), run=again.id) == [True]


async def test_a_run_id_is_used_once(engine: Bench) -> None:
    await engine.create(engine.run("taken", key="one"))
    other = engine.run("taken", key="two")
    assert await engine.won(CreateRun(run=other, claim=HOUR), run="taken") == [False]
    third = engine.run("free", key="two")
    assert await engine.won(CreateRun(run=third, claim=HOUR), run="free") == [True]


async def test_a_run_comes_back_as_it_was_created(engine: Bench) -> None:
    run = engine.run(
        events=[b'{"data":{"\xc3\xa9":1.0},"name":"a"}', b'{"name":"b"}'],
        event_ids=["e1", "e2"],
        batch="batch",
        cron="* * * * *",
        lock="lock",
        priority=-7,
        function_version=3,
        original="older",
        start=partition(FN, "s", Cell("a", 0), Cell("b", 1), run_cell=Cell("c", 2), throttle="t"),
        work=partition(FN, "w", Cell("a", 0), Cell("b", 1)),
    )
    await engine.create(run)
    state = await engine.state(run.id)
    assert state is not None
    state.revision = run.revision
    assert state == run
    leased = await engine.one()
    assert leased.run is not None
    leased.run.revision = run.revision
    assert leased.run == run


async def test_unclaimed_looks_and_does_not_take(engine: Bench) -> None:
    look = Unclaimed(key="key")
    assert await engine.won(look) == [True]
    assert await engine.won(look) == [True]
    run = await engine.create(engine.run(key="key"))
    assert await engine.won(look) == [False]
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=run.id)
    engine.now += HOUR - 1
    assert await engine.won(look) == [False]
    engine.now += 1
    assert await engine.won(look) == [True]


async def test_a_redelivered_event_starts_nothing(engine: Bench) -> None:
    """The transition as `schedule` makes it, committed twice."""
    first, second = engine.run(key="same"), engine.run(key="same")
    for run, expected in ((first, [True] * 3), (second, [False] * 3)):
        won = await engine.won(
            CreateRun(run=run, claim=HOUR),
            Enqueue(item=engine.item(run, Kind.START), when=0),
            Emit(event=b"{}", when=0),
            run=run.id,
        )
        assert won == expected
    assert len(await engine.lease()) == 1


# -- rate limits --


def _admit(engine: Bench, key: str = "rate", **fields: object) -> Admit:
    return Admit(key=key, params=LIMIT, **fields)  # type: ignore[arg-type]


async def test_a_rate_limit_admits_at_its_pace(engine: Bench) -> None:
    assert await engine.won(_admit(engine), _admit(engine)) == [True, False]
    engine.now += 59_999
    assert await engine.won(_admit(engine)) == [False]
    engine.now += 1
    assert await engine.won(_admit(engine), _admit(engine)) == [True, False]


async def test_rate_limit_keys_are_separate(engine: Bench) -> None:
    assert await engine.won(_admit(engine), _admit(engine, "other")) == [True, True]


async def test_a_rate_limit_admits_its_burst_at_once(engine: Bench) -> None:
    params = gcra.rate_limit(20, 60_000)
    admits = [Admit(key="k", params=params) for _ in range(4)]
    assert await engine.won(*admits) == [True, True, True, False]
    engine.now += 3_000
    assert await engine.won(*[Admit(key="k", params=params) for _ in range(2)]) == [
        True,
        False,
    ]


async def test_an_event_that_was_decided_on_does_not_count_again(engine: Bench) -> None:
    def decide(event: str) -> list[Effect]:
        return [Once(key=event, at=engine.now), _admit(engine, when=0)]

    assert await engine.won(*decide("event")) == [True, True]
    assert await engine.won(*decide("event")) == [False, False]
    assert await engine.won(*decide("refused")) == [True, False]
    engine.now += 60_000
    assert await engine.won(*decide("refused")) == [False, False]
    assert await engine.won(*decide("other")) == [True, True]


async def test_an_event_that_starts_nothing_does_not_count(engine: Bench) -> None:
    await engine.create(engine.run(key="key"))
    assert await engine.won(Unclaimed(key="key"), _admit(engine, when=0)) == [False, False]
    assert await engine.won(Unclaimed(key="free"), _admit(engine, when=0)) == [True, True]


# -- locks --


async def test_a_lock_has_one_holder(engine: Bench) -> None:
    first = engine.run(lock="lock")
    second = engine.run(lock="lock")
    create = CreateRun(run=first, claim=HOUR, when=0)
    assert await engine.won(TakeLock(key="lock", order="1"), create, run=first.id) == [True, True]
    create = CreateRun(run=second, claim=HOUR, when=0)
    assert await engine.won(TakeLock(key="lock", order="1"), create, run=second.id) == [False, False]
    assert await engine.holder("lock") == first.id
    assert await engine.won(TakeLock(key="other", order="1"), run=second.id) == [True]


async def test_the_end_of_a_run_frees_its_lock(engine: Bench) -> None:
    first = engine.run(lock="lock")
    create = CreateRun(run=first, claim=HOUR, when=0)
    await engine.commit(TakeLock(key="lock", order="1"), create, run=first.id)
    await engine.commit(EndRun(status=RunStatus.CANCELLED), run=first.id)
    assert await engine.holder("lock") is None
    second = engine.run(lock="lock")
    create = CreateRun(run=second, claim=HOUR, when=0)
    assert await engine.won(TakeLock(key="lock", order="1"), create, run=second.id) == [True, True]
    assert await engine.holder("lock") == second.id


async def test_cancelling_the_holder_and_taking_its_lock_are_two_transitions_of_one_commit(
    engine: Bench,
) -> None:
    first, second = engine.run(lock="lock"), engine.run(lock="lock")
    create = CreateRun(run=first, claim=HOUR, when=0)
    await engine.commit(TakeLock(key="lock", order="1"), create, run=first.id)
    create = CreateRun(run=second, claim=HOUR, when=0)
    cancelled, taken = await engine.store.commit(
        [
            Transition(fn=FN, run=first.id, effects=[EndRun(status=RunStatus.CANCELLED)]),
            Transition(fn=FN, run=second.id, effects=[TakeLock(key="lock", order="1"), create]),
        ]
    )
    assert (cancelled.won, taken.won) == ([True], [True, True])
    assert await engine.holder("lock") == second.id


async def test_a_lock_taken_for_a_run_that_was_not_created_is_free(engine: Bench) -> None:
    await engine.create(engine.run(key="same"))
    loser = engine.run(key="same", lock="lock")
    create = CreateRun(run=loser, claim=HOUR, when=0)
    assert await engine.won(TakeLock(key="lock", order="1"), create, run=loser.id) == [True, False]
    winner = engine.run(lock="lock")
    create = CreateRun(run=winner, claim=HOUR, when=0)
    assert await engine.won(TakeLock(key="lock", order="1"), create, run=winner.id) == [True, True]


async def test_the_end_of_another_run_leaves_the_lock(engine: Bench) -> None:
    holder = engine.run(lock="lock")
    create = CreateRun(run=holder, claim=HOUR, when=0)
    await engine.commit(TakeLock(key="lock", order="1"), create, run=holder.id)
    other = await engine.create()
    await engine.commit(EndRun(status=RunStatus.COMPLETED), run=other.id)
    assert await engine.holder("lock") == holder.id


async def test_runs_of_other_functions_have_keys_of_their_own(engine: Bench) -> None:
    """Keys and locks carry their function: the store adds nothing to them."""
    await engine.create(engine.run(fn=FN, key=f"{FN}:same"))
    await engine.create(engine.run(fn=OTHER, key=f"{OTHER}:same"))
