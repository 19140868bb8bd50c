"""The indexer: events and history into the data store, behind everything else.

While the data store is down, the stream and the outbox keep what it has not got; accepting and executing go
on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from inngest.core.errors import StoreRefused, StoreUnavailable
from inngest.core.model.events import Event
from inngest.core.model.history import History
from inngest.ports.stream import Entry
from inngest.services.counts import IndexerCounts
from inngest.services.loop import Loop
from inngest.services.reader import Reader, reason_of, sift
from inngest.services.runtime import Runtime

log = structlog.get_logger("inngest.indexer")

GROUP = "indexer"
HISTORY = "history"
"""The kind of dead letters that are entries of the history."""
_BATCH = 1000
_IDLE_SECONDS = 30.0


class Indexer:
    """One indexer; any number of them may share the systems."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._eventing = Loop("indexer.events", self._events)
        self._recording = Loop("indexer.history", self._history)
        self._ended = asyncio.Event()
        self._reader = Reader(runtime.stream, GROUP, _BATCH)
        self.counts = IndexerCounts(self._reader.counts)

    async def run(self) -> None:
        """Work until `drain`, or until cancelled: what was not acknowledged is delivered again."""
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._eventing.run())
                group.create_task(self._recording.run())
        finally:
            self._ended.set()

    async def drain(self, grace: float) -> None:
        """Take no more, and write what is under way within ``grace`` seconds."""
        self._eventing.stop()
        self._recording.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._ended.wait()

    async def _events(self) -> None:
        await self._reader.read(self._eventing, self._put)

    async def _put(self, events: Sequence[Event]) -> None:
        runtime = self._runtime
        await runtime.data.put_events(events)
        self.counts.lag.add((runtime.clock() - events[0].received) / 1000)

    async def _history(self) -> None:
        runtime = self._runtime
        box = await runtime.engine.history.take(_BATCH)
        if not box.entries:
            await self._recording.rest(runtime.engine.history.wait(_IDLE_SECONDS))
            return
        await self._keep(box.entries)
        await runtime.engine.history.ack(box.token)

    async def _keep(self, entries: Sequence[History]) -> None:
        """Into the data store with all that it takes; the rest goes to the dead letters.

        Raises `StoreUnavailable`, also for a store that fails on every entry, of which none can then be the
        reason.
        """
        put = self._runtime.data.put_history
        refusals: list[tuple[History, str]] = []

        async def refuse(entry: History, error: Exception) -> None:
            refusals.append((entry, reason_of(error)))

        try:
            await put(entries)
        except StoreUnavailable:
            raise
        except Exception as error:
            given = error.facts.get("refusals") if isinstance(error, StoreRefused) else None
            if isinstance(given, Sequence):
                refusals = [(entries[each.place], each.reason) for each in given]
            else:
                # Whose fault it is shows when each comes alone.
                log.error("history cannot be kept together", action="indexer.history", exc_info=error)
                await sift(entries, put, refuse)
            if len(refusals) == len(entries) > 1:
                raise StoreUnavailable(f"the data store takes no history: {refusals[0][1]}") from error
        for entry, reason in refusals:
            await self._refuse(entry, reason)

    async def _refuse(self, entry: History, reason: str) -> None:
        """No run may wait for one entry that the data store does not take."""
        self.counts.refused_history += 1
        body = repr(entry).encode("utf-8", "backslashreplace")[: self._runtime.stream.largest]
        letter = Entry(body=body, at=entry.at, id=entry.id)
        await self._runtime.stream.bury(GROUP, [letter], reason, kind=HISTORY)
        log.error(
            "history goes to the dead letters",
            action="indexer.refused",
            id=entry.id,
            run=entry.run,
            reason=reason,
        )
