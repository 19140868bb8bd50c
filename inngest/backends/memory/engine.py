"""The engine store of one process: what `ports.engine` demands, on dictionaries and heaps.

A subclass makes it durable: its notes are told of each change, in order, and `_settle` holds back what leaves
the store (results of commits, leases, outboxes) until the changes before it are on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from msgspec.structs import replace

from inngest.backends.memory.apply import apply
from inngest.backends.memory.boxes import MemoryOutbox, wait_for
from inngest.backends.memory.clock import elapsed, wall_clock
from inngest.backends.memory.notes import NoNotes, Notes
from inngest.backends.memory.queue import NEVER, State
from inngest.backends.memory.state import EngineState, RunState
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.runs import Item, Leased, Pause, PauseKind, Queue, Run
from inngest.core.model.transition import Committed, Lease, Transition
from inngest.core.policy import LEASE_BYTES
from inngest.ports.engine import Page, Registered, Stats, Take, Work

_LOOKED_AT = 10_000
"""Runs in one page, so that nobody else waits long for it."""


class MemoryEngineStore:
    """See `inngest.ports.engine.EngineStore`.

    Leases and signs of life go by what time has passed, not by the wall clock: who sets that takes no work
    from those who are at it.

    Args:
        clock: the store's time, in ms. What replaces the wall clock tells what time has passed, too.

    """

    def __init__(self, clock: Callable[[], int] = wall_clock, *, notes: Notes | None = None) -> None:
        self._clock = clock
        self._elapsed = elapsed if clock is wall_clock else clock
        self._state = EngineState(notes if notes is not None else NoNotes(), self._settle, clock)
        self._signs: dict[str, int] = {}  # until when each worker is known to be alive

    @property
    def events(self) -> MemoryOutbox[bytes]:
        return self._state.events

    @property
    def history(self) -> MemoryOutbox[History]:
        return self._state.history

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    def now(self) -> int:
        return self._clock()

    def slack(self) -> int:
        return 1 if self._clock is wall_clock else 0  # which cuts off what is less than a millisecond

    async def _settle(self) -> None:
        """Return when all changes so far are durable."""

    async def _wake(self, runs: Collection[str]) -> None:
        """When this returns, none of these runs rests. Something else may have happened meanwhile."""

    # -- the registry --

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        store = self._state
        store.apps[app.id] = app
        store.notes.app(app)
        kept = {fn.id for fn in functions}
        gone = [
            fn
            for fn in store.functions.values()
            if fn.app_id == app.id and fn.id not in kept and not fn.archived
        ]
        for fn in [*functions, *(replace(fn, archived=True) for fn in gone)]:
            before = store.functions.get(fn.id)
            store.functions[fn.id] = fn
            store.notes.function(fn)
            if before is not None and (before.limits != fn.limits or before.throttle != fn.throttle):
                store.queue.reconsider(fn.id)
        store.version += 1
        store.registered.set()
        await self._settle()

    async def registry(self) -> Registered:
        store = self._state
        return Registered(version=store.version, apps=dict(store.apps), functions=dict(store.functions))

    async def wait_registry(self, version: int, seconds: float) -> int:
        store = self._state
        if store.version == version:
            store.registered.clear()
            await wait_for(store.registered, seconds)
        return store.version

    # -- commits --

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        results = [apply(self._state, transition, take) for transition in transitions]
        for result in results:
            if result.next is not None and result.next.run is not None:
                result.next.run = self._view(result.next.run)
        try:
            await self._settle()
        finally:
            if take is not None:
                self._hand_out([result.next for result in results if result.next is not None], take.ms)
        return results

    def _hand_out(self, leased: Sequence[Leased], ms: int) -> None:
        """Leases count from when they are durable, however long that took."""
        until = self._elapsed() + ms
        for one in leased:
            entry = self._state.entries.get(one.item.job)
            if entry is not None and entry.item.epoch == one.item.epoch and entry.state == State.LEASED:
                entry.until = until if entry.until == NEVER else max(entry.until, until)

    # -- the queue --

    async def lease(
        self, queue: Queue, limit: int, ms: int, worker: str, *, request: int = 0, again: bool = False
    ) -> Work:
        store = self._state
        store.ready[queue].clear()
        now = self._clock()
        for entry in store.queue.expired(self._elapsed()):
            store.unlease(entry, now)
        leased: list[Leased] = []
        most = LEASE_BYTES
        if again:
            for entry in store.queue.held_by((worker, request), queue):
                if store.is_over(entry.item):
                    store.unlease(entry, now)
                else:
                    leased.append(Leased(item=store.complete_item(entry.item), run=None))
                    most -= store.weigh(entry)
        for entry in store.queue.lease(
            queue, limit - len(leased), now, NEVER, (worker, request), weigh=store.weigh, most=most
        ):
            item = entry.item
            store.stamp(entry)
            if store.close_collector(item.job):
                store.notes.item(item, entry.part.definition)
            leased.append(Leased(item=store.complete_item(item), run=None))
        if store.queue.has_ready(queue):
            store.ready[queue].set()
        try:
            await self._wake([one.item.run for one in leased if one.item.run])
            handed = [one for one in leased if self._join(one)]
            await self._settle()
        finally:
            self._hand_out(leased, ms)
        waits = store.queue.waits(queue, self._clock(), self._elapsed())
        return Work(items=handed, next_in=waits / 1000 if waits is not None else None)

    def _join(self, leased: Leased) -> bool:
        """Bring an item and its run together. False if there is no such run any more."""
        if leased.item.run:
            state = self._state.runs.get(leased.item.run)
            if state is None:
                return False
            leased.run = self._view(state.run)
        return True

    def _view(self, run: Run) -> Run:
        """The run as it is handed out, before what was done with it is durable."""
        return run

    async def extend(self, leases: Sequence[Lease], ms: int) -> list[Lease]:
        lost = []
        until = self._elapsed() + ms
        for lease in leases:
            entry = self._state.leased(lease)
            if entry is None:
                lost.append(lease)
            elif entry.until != NEVER:
                entry.until = max(entry.until, until)
        return lost

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        now = self._clock()
        for lease in leases:
            entry = self._state.leased(lease)
            if entry is not None:
                self._state.unlease(entry, now)

    async def alive(self, worker: str, ms: int) -> None:
        passed = self._elapsed()
        if ms:
            self._signs[worker] = passed + ms
        else:
            self._signs.pop(worker, None)
        for silent in [name for name, until in self._signs.items() if until <= passed]:
            del self._signs[silent]
            for entry in self._state.queue.held_by_worker(silent):
                self._state.unlease(entry, self._clock())

    async def wait(self, queue: Queue, seconds: float) -> None:
        await wait_for(self._state.ready[queue], seconds)

    # -- reads --

    async def locate(self, run_id: str) -> str | None:
        state = self._state.runs.get(run_id)
        return state.fn if state is not None else None

    async def run(self, fn: str, run_id: str) -> Run | None:
        await self._wake([run_id])
        state = self._state.runs.get(run_id)
        return state.run if state is not None and state.fn == fn else None

    async def runs(self, fn: str, created_from: int, created_to: int, cursor: str, limit: int) -> Page[Run]:
        return await self._page(
            cursor, limit, lambda state: state.fn == fn and created_from <= state.created < created_to
        )

    async def _page(self, cursor: str, limit: int, wanted: Callable[[RunState], bool]) -> Page[Run]:
        """By run id, since new ones come at the end; it looks at so many of them, however few it finds."""
        if cursor:
            await asyncio.sleep(0)  # others have their turn between pages
        runs = self._state.runs
        found: list[str] = []
        weight = 0
        for looked, state in enumerate(self._state.run_order.after(cursor, runs)):
            if len(found) == limit or looked == _LOOKED_AT or weight >= LEASE_BYTES:
                break
            cursor = state.id
            if wanted(state):
                found.append(cursor)
                weight += state.weight
        else:
            cursor = ""
        await self._wake(found)
        return Page(found=[runs[id_].run for id_ in found if id_ in runs], cursor=cursor)

    async def item(self, fn: str, job: str) -> Item | None:
        entry = self._state.entries.get(job)
        return replace(entry.item) if entry is not None and entry.item.fn == fn else None

    async def items(self, fn: str, run_id: str) -> list[Item]:
        state = self._state.runs.get(run_id)
        if state is None or state.fn != fn:
            return []
        return sorted((replace(entry.item) for entry in state.entries.values()), key=lambda item: item.due)

    async def pauses(self, event: Event, cursor: str, limit: int) -> Page[Pause]:
        return self._state.pauses.page(event, cursor, limit)

    async def first_pauses(self, events: Sequence[Event], limit: int) -> list[Page[Pause]]:
        return [self._state.pauses.page(event, "", limit) for event in events]

    async def remembered(self, fn: str, names: Sequence[str], since: int) -> list[bytes]:
        found = [self._state.remembered.get((fn, name)) for name in names]
        now = self._clock()
        return [event for each in found if each is not None for event in each.since(since, now)]

    async def signal(self, name: str) -> Pause | None:
        found = self._state.pauses.plain(name)
        return found[0] if found else None

    async def lock_holders(self, locks: Sequence[tuple[str, str]]) -> list[str | None]:
        holders = [self._state.locks.get(key, ("", ""))[0] for _, key in locks]
        return [holder if self._state.alive(holder) else None for holder in holders]

    async def orphans(self, age: int, cursor: str, limit: int) -> Page[Run]:
        before = self._clock() - age

        def lost(state: RunState) -> bool:
            return (
                state.created < before
                and not state.entries
                and all(pause.kind is PauseKind.CANCEL for pause in state.pauses.values())
            )

        return await self._page(cursor, limit, lost)

    async def stats(self) -> Stats:
        store = self._state
        return Stats(
            runs=len(store.runs),
            queued=len(store.entries) - store.queue.leased,
            leased=store.queue.leased,
            pauses=len(store.pauses),
            outbox=len(store.events) + len(store.history),
            dropped=store.history.dropped,
        )

    # -- bulk cancellations --

    async def put_cancellation(self, cancellation: Cancellation) -> None:
        self._state.cancellations[cancellation.id] = cancellation
        self._state.notes.cancellation(cancellation)
        await self._settle()

    async def cancellations(self) -> list[Cancellation]:
        return sorted(self._state.cancellations.values(), key=lambda each: each.id, reverse=True)

    async def delete_cancellation(self, cancellation_id: str) -> bool:
        if self._state.cancellations.pop(cancellation_id, None) is None:
            return False
        self._state.notes.cancellation_gone(cancellation_id)
        await self._settle()
        return True
