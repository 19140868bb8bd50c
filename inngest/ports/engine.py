"""The engine store: the queue and the state of all runs that have not ended.

One suite (``tests/conformance``) holds every implementation to the words below and to the effects of
``core.transition``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.runs import Item, Leased, Pause, Queue, Run
from inngest.core.model.transition import Committed, Lease, Transition


class Work(Struct):
    """What a worker got. ``next_due``: the earliest time (ms) at which more can fall due by itself; None if
    nothing is planned.
    """

    items: list[Leased]
    next_due: int | None


class Registry(Struct):
    """All that is registered. ``version`` grows with every change."""

    version: int
    apps: dict[str, App]  # by app id
    functions: dict[str, Function]  # by function id; archived ones stay, for the runs that still need them


class EventOutbox(Struct):
    """Internal events on their way to the stream, oldest first. ``token`` acknowledges all of them."""

    events: list[bytes]
    token: int


class HistoryOutbox(Struct):
    """History on its way to the data store, oldest first. ``token`` acknowledges all of it."""

    entries: list[History]
    token: int


class Stats(Struct):
    """Sizes, for metrics."""

    runs: int
    queued: int
    leased: int
    pauses: int
    outbox: int


class Take(Struct, frozen=True):
    """Permission to lease the continuation of a commit to the committing worker at once."""

    now: int
    until: int


class EngineStore(Protocol):
    """Every method may raise `StoreUnavailable`: it is then unknown whether a write happened, and repeating
    it is safe.
    """

    async def open(self) -> None:
        """Connect, and create or check what is stored. Raises `StoreUnavailable`, and of
        its kind `StoreUnusable` for what does not pass by itself.
        """

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Ask the backing system, cheaply, whether it would take a write. Raises `StoreUnavailable`."""

    # -- the registry --

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        """Register an app with exactly these functions; those it had before and has no more are archived."""

    async def registry(self) -> Registry: ...

    async def wait_registry(self, version: int, seconds: float) -> int:
        """Return the registry's version as soon as it is not ``version``, at the latest after ``seconds``."""

    # -- decisions --

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        """Apply each transition, whole or not at all, in this order. When this returns, they are durable."""

    # -- the queue --

    async def lease(self, queue: Queue, limit: int, now: int, until: int) -> Work:
        """Lease up to ``limit`` due items until ``until``.

        Partitions take turns, in the order in which they came to have work; within one, items come in score
        order. Among equals in due time or score, the one that was queued first is first; leases that run out
        at the same time come in any order.

        Leases that ran out are taken up again first. What is handed out is durable. Items of runs that have
        ended are not handed out.
        """

    async def extend(self, leases: Sequence[Lease], until: int) -> list[Lease]:
        """Prolong leases; those that are lost (re-leased, completed, unknown) are returned."""

    async def hand_back(self, leases: Sequence[Lease], now: int) -> None:
        """Return unfinished items to the queue, due at once, as if never leased; those of runs that have
        ended are forgotten.
        """

    async def wait(self, queue: Queue, seconds: float) -> None:
        """Return when an item of the queue may have become ready since the last ``lease``, at the latest
        after ``seconds``.
        """

    # -- reads --

    async def run(self, run_id: str) -> Run | None:
        """The state of a run that has not ended."""

    async def runs(self, fn: str, created_from: int, created_to: int) -> list[Run]:
        """The runs of a function created in the half-open window, oldest first."""

    async def item(self, job: str) -> Item | None:
        """A queued or leased item."""

    async def items(self, run_id: str) -> list[Item]:
        """The queued and leased items of a run, by due time."""

    async def pauses(self, events: Sequence[Event]) -> list[list[Pause]]:
        """For each event, the pauses on its name that it can match: those without terms, and those whose
        first term it fulfils.
        """

    async def signal(self, name: str) -> Pause | None:
        """The pause that waits for a signal, by its ``signal_name``."""

    async def lock_holder(self, key: str) -> str | None:
        """The run that holds a singleton lock."""

    async def orphans(self, older_than: int) -> list[Run]:
        """Runs created before ``older_than`` that nothing will ever move: no item, no lease, no pause but
        those that cancel.
        """

    async def stats(self) -> Stats: ...

    # -- the outbox --

    async def outbox_events(self, limit: int) -> EventOutbox: ...

    async def outbox_history(self, limit: int) -> HistoryOutbox: ...

    async def ack_events(self, token: int) -> None: ...

    async def ack_history(self, token: int) -> None: ...

    async def wait_events(self, seconds: float) -> None:
        """Return when there are events in the outbox, at the latest after ``seconds``."""

    async def wait_history(self, seconds: float) -> None: ...
