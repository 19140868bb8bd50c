"""The engine store: the queue and the state of all runs that have not ended.

It is made of roles, so that whoever needs one names that. What is common to all:

- Every method may raise `StoreUnavailable`: it is then unknown whether a write happened, and repeating it is
  safe. `StoreRefused` tells that nothing of the call was done and never will be; `StoreDefect`, that the
  store's own program failed on it.
- Time is the store's: callers say how long, in milliseconds, and the store says when, by its own clock.
- Things are named with the function they belong to, which is what a store that is spread over several places
  finds them by. Order is promised only inside a function.
- Cursors and tokens are opaque texts or numbers of the store's making; an empty cursor is the beginning, and
  as an answer the end.

The words. An *item* is a piece of work in the queue, known by its *job* id. A *partition* is a line of items
that the same capacity admits; a *cell* is a share of capacity. A *ring* holds the partitions that may have
work, and they take turns. A *lease* gives an item to one worker, and its *epoch* fences all earlier ones. A
*claim* is an idempotency key in use. A *pause* is a wait for an event. An *outbox* holds what a commit sends
out. One suite (``tests/conformance``) holds every implementation to these words and to the effects of
`core.model.transition`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from inngest.core.model.cancellations import Cancellation
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.runs import Item, Leased, Pause, Queue, Run
from inngest.core.model.transition import Committed, Lease, Transition

T = TypeVar("T")


class Registered(Struct):
    """All that is registered. ``version`` grows with every change."""

    version: int
    apps: dict[str, App]  # by app id
    functions: dict[str, Function]  # by function id; archived ones stay, for the runs that still need them


class Registry(Protocol):
    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        """Register an app with exactly these functions, in one write; those it had before and has no more are
        archived.
        """

    async def registry(self) -> Registered: ...

    async def wait_registry(self, version: int, seconds: float) -> int:
        """Return the registry's version as soon as it is not ``version``, at the latest after ``seconds``."""


class Take(Struct, frozen=True):
    """Permission to lease the continuation of a commit to the committing worker at once, for ``ms``."""

    worker: str
    ms: int


class Work(Struct):
    """What a worker got. ``next_in``: the seconds until more can fall due by itself; None if nothing is
    planned.
    """

    items: list[Leased]
    next_in: float | None


class WorkQueue(Protocol):
    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        """Apply each transition, whole or not at all, in this order. When this returns, they are durable."""

    async def lease(
        self, queue: Queue, limit: int, ms: int, worker: str, *, request: int = 0, again: bool = False
    ) -> Work:
        """Lease up to ``limit`` due items for ``ms``, counted from when they are handed out.

        Partitions take turns; within one, items come in score order, and among equals in due time or score,
        the one that was queued first is first. Leases that ran out, and those of workers that give no sign of
        life, are taken up again first. What is handed out is durable. Items of runs that have ended are not
        handed out. The item with which their runs reach ``policy.LEASE_BYTES`` is the last of one request.

        A worker numbers its requests. ``again``: the reply to this request was lost, and what it gave is
        given first.
        """

    async def extend(self, leases: Sequence[Lease], ms: int) -> list[Lease]:
        """Let leases go on for ``ms`` from now; those that are lost (re-leased, completed, unknown) are
        returned.
        """

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        """Return unfinished items to the queue, due at once, as if never leased; those of runs that have
        ended are forgotten. Leases that are lost stay so.
        """

    async def alive(self, worker: str, ms: int) -> None:
        """A sign of life: for ``ms`` nobody takes up the worker's leases before they run out. With 0 the
        worker says farewell. A worker that never gave a sign is judged by its leases alone.
        """

    async def wait(self, queue: Queue, seconds: float) -> None:
        """Return when an item of the queue may have become ready since the last ``lease``, at the latest
        after ``seconds``.
        """


class Page(Struct, Generic[T]):
    """Some of what was asked for. ``cursor`` leads on, and is empty at the end; something may come twice."""

    found: list[T]
    cursor: str = ""


class Stats(Struct):
    """Sizes, for metrics. ``dropped``: history that nobody fetched in time. ``damaged``: records that could
    not be read and were dropped, since the start of this process.
    """

    runs: int
    queued: int
    leased: int
    pauses: int
    outbox: int
    dropped: int = 0
    damaged: int = 0


class Runs(Protocol):
    async def locate(self, run_id: str) -> str | None:
        """The function of a run that has not ended, for those who know nothing but the run."""

    async def run(self, fn: str, run_id: str) -> Run | None:
        """The state of a run that has not ended."""

    async def runs(self, fn: str, created_from: int, created_to: int, cursor: str, limit: int) -> Page[Run]:
        """The runs of a function created in the half-open window that have not ended. All that are there from
        the first page to the last are found.
        """

    async def item(self, fn: str, job: str) -> Item | None:
        """A queued or leased item."""

    async def items(self, fn: str, run_id: str) -> list[Item]:
        """The queued and leased items of a run, by due time."""

    async def pauses(self, event: Event, cursor: str, limit: int) -> Page[Pause]:
        """The pauses on the event's name that it can match: those without terms, and those whose first term
        it fulfils. About ``limit`` of them.
        """

    async def first_pauses(self, events: Sequence[Event], limit: int) -> list[Page[Pause]]:
        """The first page of `pauses` for each event."""

    async def remembered(self, fn: str, names: Sequence[str], since: int) -> list[bytes]:
        """The remembered events of these names (`Remember`) that were accepted at ``since`` or later."""

    async def signal(self, name: str) -> Pause | None:
        """The pause that waits for a signal, by its ``signal_name``."""

    async def lock_holders(self, locks: Sequence[tuple[str, str]]) -> list[str | None]:
        """The runs that hold singleton locks, given as (function, key). It may have changed by now."""

    async def orphans(self, age: int, cursor: str, limit: int) -> Page[Run]:
        """Runs older than ``age`` ms that nothing will ever move: no item, no lease, no pause but those that
        cancel.
        """

    async def stats(self) -> Stats: ...


class Cancellations(Protocol):
    """What was ordered; `Kind.SWEEP` items carry it out."""

    async def put_cancellation(self, cancellation: Cancellation) -> None: ...

    async def cancellations(self) -> list[Cancellation]:
        """Newest first."""

    async def delete_cancellation(self, cancellation_id: str) -> bool:
        """Whether it was there."""


class Box(Struct, Generic[T]):
    """Some of what is on its way, oldest first. ``token`` acknowledges all of it."""

    entries: list[T]
    token: int


class Outbox(Protocol[T]):
    """What commits send out, until it is acknowledged. One drains it at a time."""

    async def take(self, limit: int) -> Box[T]: ...

    async def ack(self, token: int) -> None: ...

    async def wait(self, seconds: float) -> None:
        """Return when there may be something, at the latest after ``seconds``."""


class EngineStore(Registry, WorkQueue, Runs, Cancellations, Protocol):
    """All roles. ``events``: encoded internal events for the stream. ``history``: for the data store; it is
    bounded, and what is dropped is counted (`Stats.dropped`).
    """

    @property
    def events(self) -> Outbox[bytes]: ...

    @property
    def history(self) -> Outbox[History]: ...

    async def open(self) -> None:
        """Connect, and create or check what is stored. Raises `StoreUnavailable`, and of
        its kind `StoreUnusable` for what does not pass by itself.
        """

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Ask the backing system, cheaply, whether it would take a write. Raises `StoreUnavailable`."""

    def now(self) -> int:
        """The store's time in ms, as it is known here: never ahead of the store's own, so that what is due
        now is due there.
        """

    def slack(self) -> int:
        """How far (ms) the store's time may be ahead of `now`: about what a round trip takes, and the part of
        a millisecond. What is due a duration after the sum of both is not due early.
        """
