"""A store on a journal, and a picture of what it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from inngest.backends.memory.queue import Entry, State
from inngest.backends.memory.state import EngineState
from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.resting import AWAKE_BYTES
from inngest.core.model.functions import App, Concurrency, Function, Throttle
from inngest.core.model.runs import (
    Cell,
    Item,
    Kind,
    Leased,
    Partition,
    Pause,
    Queue,
    Run,
)
from inngest.core.model.transition import (
    CreateRun,
    Effect,
    Enqueue,
    Transition,
    lease_of,
)

FN = "fn"
HOUR = 3_600_000
START = 1_790_000_000_000


def function() -> Function:
    return Function(
        id=FN, slug=FN, name=FN, app="app", app_id="app", url="http://app.test", triggers=[],
        concurrency=[Concurrency(limit=3)], run_concurrency=Concurrency(limit=5),
        throttle=Throttle(limit=100, period=60_000),
    )  # fmt: skip


class World:
    """A store on a journal, at a time of its own."""

    def __init__(self, path: Path, awake: int = AWAKE_BYTES) -> None:
        self.path = path
        self.awake = awake
        self.now = START
        self.opened: list[SqliteEngineStore] = []
        self._serial = 0

    async def open(self, path: Path) -> SqliteEngineStore:
        store = SqliteEngineStore(Journal(path), lambda: self.now, awake=self.awake)
        self.opened.append(store)
        await store.open()
        return store

    async def start(self) -> World:
        self.store = await self.open(self.path)
        await self.store.put_app(App(id="app", name="app", url="http://app.test"), [function()])
        return self

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    def run(self, **fields: Any) -> Run:
        number = self.serial()
        cell = Cell("cell", 0)
        return Run(
            id=f"run-{number:05}", fn=FN, slug=FN, app="app", events=[b'{"name":"a"}'],
            event_ids=[f"event-{number}"], key=f"key-{number}", created=self.now,
            start=Partition(id=f"{FN}/s", fn=FN, cells=(cell,), run_cell=Cell("runs", 1), throttle="t"),
            work=Partition(id=f"{FN}/w", fn=FN, cells=(cell,)), **fields,
        )  # fmt: skip

    def item(self, run: str, kind: Kind, **fields: Any) -> Item:
        fields = {
            "due": self.now,
            "score": self.now,
            "queued": self.now,
            "job": f"job-{self.serial()}",
            **fields,
        }
        return Item(kind=kind, fn=FN, run=run, **fields)

    def creation(self, run: Run) -> list[Effect]:
        item = self.item(run.id, Kind.START, job=f"{run.id}:start")
        return [CreateRun(run=run, claim=HOUR), Enqueue(item=item, when=0)]

    async def commit(self, run: str, *effects: Effect, lease: Leased | None = None) -> list[bool]:
        token = lease_of(lease.item) if lease is not None else None
        (committed,) = await self.store.commit(
            [Transition(fn=FN, run=run, effects=list(effects), lease=token)]
        )
        return committed.won

    async def lease(self, queue: Queue = Queue.EXECUTOR) -> list[Leased]:
        return (await self.store.lease(queue, 100, 30_000, "worker")).items


@asynccontextmanager
async def opened(path: Path, awake: int = AWAKE_BYTES) -> AsyncIterator[World]:
    world = World(path, awake)
    try:
        yield await world.start()
    finally:
        for store in world.opened:
            await store.close()


async def picture(store: SqliteEngineStore, now: int) -> dict[str, Any]:
    """All that is to survive, in comparable form. Afterwards no run rests."""
    state = store._state
    await store._wake(list(state.runs))
    alive = state.runs
    entries = [e for e in state.entries.values() if _goes_on(store, e.item)]
    indexed = [
        pause.id
        for name in state.pauses._names.values()
        for found in [name.plain, *[b for values in name.paths.values() for b in values.values()]]
        for pause in ([found] if isinstance(found, Pause) else found.pauses.values())
    ]
    return {
        "registry": (state.apps, state.functions, state.version),
        "runs": {run: replace(each.run, revision=0) for run, each in alive.items()},
        "evicted": sorted(run for run, each in alive.items() if each.evicted),
        "jobs": {run: each.jobs for run, each in alive.items() if not each.evicted},
        "items": {e.item.job: (replace(e.item, epoch=0, partition=""), _place(e)) for e in entries},
        "of runs": {run: sorted(each.entries) for run, each in alive.items() if not each.evicted},
        "pauses": {run: each.pauses for run, each in alive.items() if each.pauses},
        "indexed": sorted(indexed),
        "maps": {name: _valid(followed, now) for name, followed in store._maps.items()},
        "locks": {key: holder for key, holder in state.locks.items() if state.alive(holder[0])},
        "collectors": ({key: c.job for key, c in state.collectors.items()}, _collected(state)),
        "crons": {part: {n: e.item.job for n, e in c.items()} for part, c in state.crons.items() if c},
        "crons of": state.crons_version,
        "seen": {fn: sorted(seen._keys) for fn, seen in state.seen.items() if seen},
        "cancellations": state.cancellations,
        "outbox": (list(state.events.slots), list(state.history.slots)),
    }


def _goes_on(store: SqliteEngineStore, item: Item) -> bool:
    """Leased items of runs that have ended, or are about to, are not handed out again."""
    return (
        not item.run
        or store._state.alive(item.run)
        or (item.kind is Kind.EVICT and item.run in store._state.runs)
    )


def _collected(state: EngineState) -> dict[str, tuple[bool, list[bytes], int]]:
    return {job: (each.last, each.events, each.size) for job, each in state.collected.items()}


def _place(entry: Entry) -> Partition:
    """Where the item goes if its lease ends."""
    moved = entry.admitted is not None and entry.state == State.LEASED
    return entry.admitted if moved and entry.admitted is not None else entry.part.definition


def _valid(followed: Any, now: int) -> dict[str, Any]:
    return {key: entry for key, entry in followed._entries.items() if entry[0] > now}
