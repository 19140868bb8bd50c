"""Pages of runs in memory: a page looks at a bounded number of them, and all are found in the end."""

from __future__ import annotations

import asyncio

import pytest
from builders import NOW, run

from inngest.backends.memory import engine as engines
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import CreateRun, Effect, EndRun, Transition


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryEngineStore:
    monkeypatch.setattr(engines, "_LOOKED_AT", 10)
    return MemoryEngineStore(lambda: NOW)


async def create(store: MemoryEngineStore, id_: str, fn: str) -> None:
    await store.commit([Transition(fn=fn, run=id_, effects=[CreateRun(run=run(id_, fn))])])


async def found(store: MemoryEngineStore, fn: str, limit: int = 3) -> tuple[list[str], int]:
    """The ids, and on how many pages they were."""
    ids: list[str] = []
    cursor, pages = "", 0
    while True:
        page = await store.runs(fn, 0, NOW + 1, cursor, limit)
        pages += 1
        assert len(page.found) <= limit
        ids += [each.id for each in page.found]
        cursor = page.cursor
        if not cursor:
            return ids, pages


async def test_few_among_many_are_found_on_pages_that_look_at_some(store: MemoryEngineStore) -> None:
    ids = [f"run-{number:04}" for number in range(200)]
    for number, id_ in enumerate(ids):
        await create(store, id_, "rare" if number % 50 == 7 else "fn")
    rare, pages = await found(store, "rare")
    assert rare == ids[7::50]
    assert pages == 20
    assert await found(store, "none") == ([], 20)


async def test_others_have_their_turn_between_pages(store: MemoryEngineStore) -> None:
    for number in range(100):
        await create(store, f"run-{number:04}", "fn")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    _, pages = await found(store, "none")
    task.cancel()
    assert turns >= pages - 1


async def test_runs_that_come_and_go_between_pages(store: MemoryEngineStore) -> None:
    ids = [f"run-{number:04}" for number in range(0, 100, 2)]
    for id_ in ids:
        await create(store, id_, "fn")
    page = await store.runs("fn", 0, NOW + 1, "", 5)
    assert [each.id for each in page.found] == ids[:5]
    over: list[Effect] = [EndRun(status=RunStatus.CANCELLED)]
    for id_ in ids[:40]:
        await store.commit([Transition(fn="fn", run=id_, effects=over)])
    await create(store, "run-0099", "fn")
    await create(store, "run-0081", "fn")
    found: list[str] = []
    while page.cursor:
        page = await store.runs("fn", 0, NOW + 1, page.cursor, 5)
        found += [each.id for each in page.found]
    assert found == sorted([*ids[40:], "run-0081", "run-0099"])
