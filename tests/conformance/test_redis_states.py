"""States of runs that are fetched by themselves, while something happens to the run, or to what is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from engine_bench import Bench
from redis_places import RedisPlace, empty, engine_at

from inngest.backends.redis import engine as module
from inngest.backends.redis.link import Command, Reply
from inngest.core.model.runs import Run, RunStatus
from inngest.core.model.transition import EndRun


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    empty()
    bench = Bench(RedisPlace(engine_at))
    await bench.start()
    yield bench
    await bench.store.close()


async def test_nobody_gets_an_item_of_a_run_that_has_just_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state is fetched by itself, since it is large and not known here; meanwhile somebody cancels it."""
    monkeypatch.setattr(module, "ROOM", 0)
    run = await bench.create()
    leased = await bench.one()
    store = bench.store
    read = store._states

    async def late(runs: Sequence[tuple[str, str]], damaged: set[str] | None = None) -> dict[str, Run]:
        monkeypatch.setattr(store, "_states", read)
        assert await bench.won(EndRun(status=RunStatus.CANCELLED), run=run.id) == [True]
        return dict(await read(runs, damaged))

    monkeypatch.setattr(store, "_states", late)
    store._cache.clear()
    committed = await bench.complete(leased, bench.enqueue(run), take=True)
    assert committed.won == [True, True]
    assert committed.next is None
    stats = await store.stats()
    assert (stats.runs, stats.queued, stats.leased) == (0, 0, 0)


async def test_a_state_stays_known_while_it_is_asked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known when the server was asked is the state, though the cache has let it go meanwhile. It was
    taken for damaged, and the item of a healthy run was dropped.
    """
    run = await bench.create()
    store = bench.store
    assert await store.run(run.fn, run.id) is not None
    ask = store._link.run

    async def slow(commands: Sequence[Command]) -> list[Reply]:
        replies = await ask(commands)
        store._cache.clear()
        return list(replies)

    monkeypatch.setattr(store._link, "run", slow)
    known = await store.run(run.fn, run.id)
    assert known is not None
    assert known.id == run.id
