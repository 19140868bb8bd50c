"""An engine store with handles: short ways to make runs, items and commits, and a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from inngest.core.model.events import Event
from inngest.core.model.functions import App, Concurrency, Function, Throttle
from inngest.core.model.history import History, What
from inngest.core.model.runs import (
    Cell,
    Item,
    Kind,
    Leased,
    Partition,
    Pause,
    PauseKind,
    Queue,
    Run,
    start_job,
)
from inngest.core.model.transition import (
    Committed,
    Complete,
    CreateRun,
    Effect,
    Enqueue,
    Lease,
    Transition,
)
from inngest.ports.engine import Take, Work

FN = "fn-a"
OTHER = "fn-b"
LEASE = 30_000
MARGIN = 2_000
"""A lease that ran out may be noticed this much (ms) later."""
HOUR = 3_600_000


class Bench:
    """A store under test. ``now`` is the time of all that is done with it, until a test moves it."""

    def __init__(self, place: Any) -> None:
        self.place = place
        self.now = int(time.time() * 1000)
        self._serial = 0

    async def start(self) -> None:
        self.store = self.place.store()
        await self.store.open()

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
        taking = Take(now=self.now, until=self.now + LEASE) if take else None
        (committed,) = await self.store.commit([transition], take=taking)
        return committed

    async def won(self, *effects: Effect, **fields: Any) -> list[bool]:
        return (await self.commit(*effects, **fields)).won

    async def create(self, run: Run | None = None, *, start: bool = True, **fields: Any) -> Run:
        """A run, with its start item unless ``start`` is False."""
        if run is None:
            run = self.run(**fields)
        effects: list[Effect] = [CreateRun(run=run, key_until=self.now + HOUR)]
        if start:
            effects.append(Enqueue(item=self.item(run, Kind.START), when=0))
        assert all(await self.won(*effects, run=run.id, fn=run.fn))
        return run

    async def complete(self, leased: Leased, *effects: Effect, take: bool = False) -> Committed:
        """Commit under a lease, which is completed."""
        item = leased.item
        return await self.commit(*effects, Complete(), run=item.run, fn=item.fn, lease=leased, take=take)

    # -- the queue --

    async def work(self, limit: int = 100, *, queue: Queue = Queue.EXECUTOR) -> Work:
        return await self.store.lease(queue, limit, self.now, self.now + LEASE)

    async def lease(self, limit: int = 100, *, queue: Queue = Queue.EXECUTOR) -> list[Leased]:
        return (await self.work(limit, queue=queue)).items

    async def one(self, *, queue: Queue = Queue.EXECUTOR) -> Leased:
        """The only item that can be leased."""
        (leased,) = await self.lease(queue=queue)
        return leased

    async def jobs(self, limit: int = 100, *, queue: Queue = Queue.EXECUTOR) -> list[str]:
        return [leased.item.job for leased in await self.lease(limit, queue=queue)]

    def expire(self) -> None:
        """Let all leases run out."""
        self.now += LEASE + MARGIN

    # -- things --

    def run(self, id: str = "", fn: str = FN, *, fields: dict[str, Any] | None = None, **more: Any) -> Run:  # noqa: A002
        number = self.serial()
        id = id or f"run-{number:04}"  # noqa: A001
        values: dict[str, Any] = {
            "slug": fn,
            "app": "app",
            "events": [b'{"name":"a","data":{}}'],
            "event_ids": [f"event-{number}"],
            "key": f"key-{number}",
            "created": self.now,
            "start": partition(fn, "s"),
            "work": partition(fn, "w"),
        }
        return Run(id=id, fn=fn, **(values | (fields or {}) | more))

    def item(self, run: Run | None, kind: Kind = Kind.DISCOVER, job: str = "", **fields: Any) -> Item:
        """An item that is due now. Those of a run go where the run's items of this kind go."""
        fn = run.fn if run is not None else fields.pop("fn", FN)
        default = start_job(run.id) if run is not None and kind is Kind.START else f"job-{self.serial()}"
        values: dict[str, Any] = {
            "due": self.now,
            "score": self.now,
            "queued": self.now,
            "partition": run.partition(kind).id if run is not None else f"{fn}/r",
        }
        return Item(
            job=job or default,
            kind=kind,
            fn=fn,
            run=run.id if run is not None else "",
            **(values | fields),
        )

    def enqueue(self, run: Run | None, kind: Kind = Kind.DISCOVER, job: str = "", **fields: Any) -> Enqueue:
        into = None if run is not None else runner_partition(fields.get("fn", FN))
        return Enqueue(item=self.item(run, kind, job, **fields), partition=into)

    def pause(self, run: Run, step: str = "s1", event: str = "app/go", **fields: Any) -> Pause:
        values: dict[str, Any] = {
            "kind": PauseKind.EVENT,
            "created": self.now,
            "expires": self.now + HOUR,
            "timeout_job": f"{run.id}:timeout:{step}",
            "partition": run.work.id,
        }
        return Pause(
            id=f"{run.id}:{step}", fn=run.fn, run=run.id, event=event, step=step, **(values | fields)
        )

    def history(self, run: str = "run", **fields: Any) -> History:
        return History(id=f"entry-{self.serial()}", what=What.ATTEMPT, run=run, fn=FN, at=self.now, **fields)

    def event(self, name: str = "app/go", data: bytes = b"{}", id: str = "") -> Event:  # noqa: A002
        from msgspec import Raw

        id = id or f"event-{self.serial()}"  # noqa: A001
        return Event(id=id, name=name, ts=self.now, received=self.now, data=Raw(data))


def _lease(lease: Leased | Lease | None) -> Lease | None:
    return Lease(lease.item.job, lease.item.epoch) if isinstance(lease, Leased) else lease


def token(leased: Leased) -> Lease:
    return Lease(leased.item.job, leased.item.epoch)


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
