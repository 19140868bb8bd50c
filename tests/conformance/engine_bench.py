"""An engine store with handles: short ways to make runs, items and commits, and a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import builders

from inngest.core.model.events import Event
from inngest.core.model.functions import App, Concurrency, Function, Throttle
from inngest.core.model.history import History, What
from inngest.core.model.runs import Cell, Item, Kind, Leased, Partition, Pause, Queue, Run
from inngest.core.model.transition import (
    Committed,
    Complete,
    CreateRun,
    Effect,
    Enqueue,
    Lease,
    Transition,
    lease_of,
)
from inngest.ports.engine import EngineStore, Take, Work

FN = "fn-a"
OTHER = "fn-b"
WORKER = "worker"
LEASE = 30_000
MARGIN = 2_000
"""A lease that ran out may be noticed this much (ms) later."""
HOUR = 3_600_000


class Bench:
    """A store under test. ``now`` is the time of the store and of all that is done with it, until a test
    moves it.
    """

    def __init__(self, place: Any) -> None:
        self.place = place
        self.now = int(time.time() * 1000)
        self._serial = 0

    async def start(self) -> None:
        self.store: EngineStore = self.place.store(self.clock)
        await self.store.open()

    def clock(self) -> int:
        return self.now

    async def reopen(self, *, crash: bool = False) -> None:
        """Close the store, or crash it, and open another on the same data."""
        if crash:
            await self.place.crash()
        else:
            await self.store.close()
        await self.start()

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    # -- functions --

    async def register(self, *functions: Function, app: str = "app") -> None:
        await self.store.put_app(App(id=app, name=app, url="http://app.test"), list(functions))

    # -- commits --

    async def commit(
        self,
        *effects: Effect,
        run: str = "",
        fn: str = FN,
        lease: Leased | Lease | None = None,
        take: bool = False,
    ) -> Committed:
        transition = Transition(fn=fn, run=run, effects=list(effects), lease=_lease(lease))
        taking = Take(WORKER, LEASE) if take else None
        (committed,) = await self.store.commit([transition], take=taking)
        return committed

    async def won(self, *effects: Effect, **fields: Any) -> list[bool]:
        return (await self.commit(*effects, **fields)).won

    async def create(self, run: Run | None = None, *, start: bool = True, **fields: Any) -> Run:
        """A run, with its start item unless ``start`` is False."""
        if run is None:
            run = self.run(**fields)
        effects: list[Effect] = [CreateRun(run=run, claim=HOUR)]
        if start:
            effects.append(Enqueue(item=self.item(run, Kind.START), when=0))
        assert all(await self.won(*effects, run=run.id, fn=run.fn))
        return run

    async def complete(self, leased: Leased, *effects: Effect, take: bool = False) -> Committed:
        """Commit under a lease, which is completed."""
        item = leased.item
        return await self.commit(*effects, Complete(), run=item.run, fn=item.fn, lease=leased, take=take)

    # -- the queue --

    async def work(
        self, limit: int = 100, *, queue: Queue = Queue.EXECUTOR, worker: str = WORKER, **more: Any
    ) -> Work:
        return await self.store.lease(queue, limit, LEASE, worker, **more)

    async def lease(self, limit: int = 100, **more: Any) -> list[Leased]:
        return (await self.work(limit, **more)).items

    async def one(self, **more: Any) -> Leased:
        """The only item that can be leased."""
        (leased,) = await self.lease(**more)
        return leased

    async def jobs(self, limit: int = 100, **more: Any) -> list[str]:
        return [leased.item.job for leased in await self.lease(limit, **more)]

    def expire(self) -> None:
        """Let all leases run out."""
        self.now += LEASE + MARGIN

    # -- what there is --

    async def state(self, run: str, fn: str = FN) -> Run | None:
        return await self.store.run(fn, run)

    async def item_of(self, job: str, fn: str = FN) -> Item | None:
        return await self.store.item(fn, job)

    async def items(self, run: str, fn: str = FN) -> list[Item]:
        return await self.store.items(fn, run)

    async def runs(self, low: int = 0, high: int = 1 << 60, fn: str = FN) -> list[Run]:
        """The runs of a function that have not ended, page by page."""
        found: list[Run] = []
        cursor = ""
        while True:
            page = await self.store.runs(fn, low, high, cursor, 100)
            found += page.found
            cursor = page.cursor
            if not cursor:
                return found

    async def pauses(self, event: Event) -> list[Pause]:
        """All pauses that an event can meet."""
        (page,) = await self.store.first_pauses([event], 100)
        found = page.found
        while page.cursor:
            page = await self.store.pauses(event, page.cursor, 100)
            found = found + page.found
        return found

    async def orphans(self, age: int = 0) -> list[str]:
        """The ids of the runs older than ``age`` that nothing will ever move."""
        found: list[str] = []
        cursor = ""
        while True:
            page = await self.store.orphans(age, cursor, 100)
            found += [run.id for run in page.found]
            cursor = page.cursor
            if not cursor:
                return found

    async def holder(self, lock: str, fn: str = FN) -> str | None:
        (holder,) = await self.store.lock_holders([(fn, lock)])
        return holder

    async def events(self, limit: int = 100) -> list[bytes]:
        """What the outbox of events holds."""
        return (await self.store.events.take(limit)).entries

    async def told(self, limit: int = 100) -> list[History]:
        """What the outbox of history holds."""
        return (await self.store.history.take(limit)).entries

    # -- things --

    def run(self, id: str = "", fn: str = FN, *, fields: dict[str, Any] | None = None, **more: Any) -> Run:  # noqa: A002
        """Runs that are made later have greater ids."""
        number = self.serial()
        named = {"key": f"key-{number}", "event_ids": [f"event-{number}"]}
        return builders.run(id or f"run-{number:04}", fn, at=self.now, **(named | (fields or {}) | more))

    def item(self, run: Run | None, kind: Kind = Kind.DISCOVER, job: str = "", **fields: Any) -> Item:
        """An item that is due now. Those of a run go where the run's items of this kind go."""
        return builders.item(run, kind, job, at=self.now, **({"fn": FN} | fields))

    def enqueue(self, run: Run | None, kind: Kind = Kind.DISCOVER, job: str = "", **fields: Any) -> Enqueue:
        into = None if run is not None else runner_partition(fields.get("fn", FN))
        return Enqueue(item=self.item(run, kind, job, **fields), partition=into)

    def pause(self, run: Run, step: str = "s1", event: str = "app/go", **fields: Any) -> Pause:
        return builders.pause(run, step, event, at=self.now, **fields)

    def history(self, run: str = "run", **fields: Any) -> History:
        return History(id=f"entry-{self.serial()}", what=What.ATTEMPT, run=run, fn=FN, at=self.now, **fields)

    def event(self, name: str = "app/go", data: bytes = b"{}", id: str = "", **fields: Any) -> Event:  # noqa: A002
        return builders.event(name, data, id, at=self.now, **fields)


def _lease(lease: Leased | Lease | None) -> Lease | None:
    return token(lease) if isinstance(lease, Leased) else lease


def token(leased: Leased) -> Lease:
    return lease_of(leased.item)


def due_in(work: Work) -> int | None:
    """In how many ms more can fall due by itself."""
    return None if work.next_in is None else round(work.next_in * 1000)


def partition(fn: str, suffix: str, *cells: Cell, **fields: Any) -> Partition:
    return Partition(id=f"{fn}/{suffix}", fn=fn, cells=cells, **fields)


def runner_partition(fn: str) -> Partition:
    return Partition(id=f"{fn}/r", fn=fn)


def function(
    id: str = FN,  # noqa: A002
    limits: Sequence[int] = (),
    *,
    run_limit: int = 0,
    throttle: Throttle | None = None,
    **fields: Any,
) -> Function:
    """A function by its limits."""
    return Function(
        id=id,
        slug=id,
        name=id,
        app="app",
        app_id=fields.pop("app_id", "app"),
        url="http://app.test",
        triggers=[],
        concurrency=[Concurrency(limit=limit) for limit in limits],
        run_concurrency=Concurrency(limit=run_limit) if run_limit else None,
        throttle=throttle,
        **fields,
    )
