"""The engine store of one process: what `ports.engine` demands, on dictionaries and heaps.

A subclass makes it durable: it is told of each change through the ``_note_*`` methods, in order, and holds
back what leaves the store (results of commits, leases, acknowledgements) until the changes before it are on
disk: see ``_settle``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from inngest.backends.memory.apply import Collector, EngineState, RunState
from inngest.backends.memory.queue import Entry, State
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function
from inngest.core.model.runs import Item, Leased, Pause, PauseKind, Queue, Run
from inngest.core.model.transition import Committed, Lease, Transition
from inngest.ports.engine import EventOutbox, HistoryOutbox, Registry, Stats, Take, Work

__all__ = ["Collector", "MemoryEngineStore", "RunState"]


class MemoryEngineStore(EngineState):
    """See `inngest.ports.engine.EngineStore`."""

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    async def _settle(self) -> None:
        """Return when all changes so far are durable."""

    # -- the registry --

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        self._apps[app.id] = app
        self._note_app(app)
        kept = {fn.id for fn in functions}
        gone = [
            fn
            for fn in self._functions.values()
            if fn.app_id == app.id and fn.id not in kept and not fn.archived
        ]
        for fn in [*functions, *(replace(fn, archived=True) for fn in gone)]:
            before = self._functions.get(fn.id)
            self._functions[fn.id] = fn
            self._note_function(fn)
            if before is not None and (before.limits != fn.limits or before.throttle != fn.throttle):
                self._queue.reconsider(fn.id)
        self._version += 1
        self._registered.set()
        await self._settle()

    async def registry(self) -> Registry:
        return Registry(version=self._version, apps=dict(self._apps), functions=dict(self._functions))

    async def wait_registry(self, version: int, seconds: float) -> int:
        if self._version == version:
            self._registered.clear()
            await _wait(self._registered, seconds)
        return self._version

    # -- commits --

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        results = [self._apply(transition, take) for transition in transitions]
        await self._settle()
        return results

    # -- the queue --

    async def lease(self, queue: Queue, limit: int, now: int, until: int) -> Work:
        self._ready[queue].clear()
        for entry in self._queue.expired(now):
            self._unlease(entry, now)
        leased: list[Leased] = []
        for entry in self._queue.lease(queue, limit, now, until):
            item = entry.item
            self._stamp(entry)
            if item.job in self._collector_of:
                self._close_collector(item.job)
                self._note_item(item, entry.part.definition)
            run = self._states[item.run].run if item.run else None
            leased.append(Leased(item=replace(item), run=run, until=until))
        if self._queue.has_ready(queue):
            self._ready[queue].set()
        await self._settle()
        return Work(items=leased, next_due=self._queue.next_due(queue))

    async def extend(self, leases: Sequence[Lease], until: int) -> list[Lease]:
        lost = []
        for lease in leases:
            entry = self._entries.get(lease.job)
            if entry is None or entry.state != State.LEASED or entry.item.epoch != lease.epoch:
                lost.append(lease)
            else:
                entry.until = max(entry.until, until)
        return lost

    async def hand_back(self, leases: Sequence[Lease], now: int) -> None:
        for lease in leases:
            entry = self._entries.get(lease.job)
            if entry is not None and entry.state == State.LEASED and entry.item.epoch == lease.epoch:
                self._unlease(entry, now)

    def _unlease(self, entry: Entry, now: int) -> None:
        """Back to the queue, unless the run has ended."""
        if entry.item.run and entry.item.run not in self._states:
            self._forget(entry, None, remember=False)
        else:
            self._queue.unlease(entry, now)

    async def wait(self, queue: Queue, seconds: float) -> None:
        await _wait(self._ready[queue], seconds)

    # -- reads --

    async def run(self, run_id: str) -> Run | None:
        state = self._states.get(run_id)
        return state.run if state is not None else None

    async def runs(self, fn: str, created_from: int, created_to: int) -> list[Run]:
        found = [
            s.run
            for s in self._states.values()
            if s.run.fn == fn and created_from <= s.run.created < created_to
        ]
        return sorted(found, key=lambda run: (run.created, run.id))

    async def item(self, job: str) -> Item | None:
        entry = self._entries.get(job)
        return replace(entry.item) if entry is not None else None

    async def items(self, run_id: str) -> list[Item]:
        state = self._states.get(run_id)
        if state is None:
            return []
        return sorted((replace(entry.item) for entry in state.entries.values()), key=lambda item: item.due)

    async def pauses(self, events: Sequence[Event]) -> list[list[Pause]]:
        return [self._pauses.candidates(event) for event in events]

    async def signal(self, name: str) -> Pause | None:
        found = self._pauses.plain(name)
        return found[0] if found else None

    async def lock_holder(self, key: str) -> str | None:
        holder = self._locks.get(key)
        return holder if holder in self._states else None

    async def orphans(self, older_than: int) -> list[Run]:
        return [
            state.run
            for state in self._states.values()
            if state.run.created < older_than
            and not state.entries
            and all(pause.kind is PauseKind.CANCEL for pause in state.pauses.values())
        ]

    async def stats(self) -> Stats:
        return Stats(
            runs=len(self._states),
            queued=len(self._entries) - self._queue.leased,
            leased=self._queue.leased,
            pauses=len(self._pauses),
            outbox=len(self._events) + len(self._history),
        )

    # -- the outbox --

    async def outbox_events(self, limit: int) -> EventOutbox:
        self._has_events.clear()
        taken = [slot for slot, _ in zip(self._events, range(limit), strict=False)]
        await self._settle()
        return EventOutbox(events=[event for _, event in taken], token=taken[-1][0] if taken else 0)

    async def outbox_history(self, limit: int) -> HistoryOutbox:
        self._has_history.clear()
        taken = [slot for slot, _ in zip(self._history, range(limit), strict=False)]
        await self._settle()
        return HistoryOutbox(entries=[entry for _, entry in taken], token=taken[-1][0] if taken else 0)

    async def ack_events(self, token: int) -> None:
        if _ack(self._events, token):
            self._note_events_acked(token)

    async def ack_history(self, token: int) -> None:
        if _ack(self._history, token):
            self._note_history_acked(token)

    async def wait_events(self, seconds: float) -> None:
        await _wait(self._has_events, seconds)

    async def wait_history(self, seconds: float) -> None:
        await _wait(self._has_history, seconds)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    if event.is_set() or seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _ack(box: deque[tuple[int, Any]], token: int) -> bool:
    """Drop what the token covers. False if that was done before: a newer token came first."""
    before = len(box)
    while box and box[0][0] <= token:
        box.popleft()
    return len(box) < before
