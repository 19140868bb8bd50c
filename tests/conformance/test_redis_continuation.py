"""A continuation that is leased with a commit, and whose run ends before its state is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from engine_bench import Bench
from redis_places import RedisPlace, empty, engine_at

from inngest.backends.redis import engine as module
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
