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
from inngest.core.model.history import History
from inngest.ports.data import Refusal, refused
from inngest.services.backoff import backoff
from inngest.services.counts import IndexerCounts
from inngest.services.loop import Loop
from inngest.services.runtime import Runtime

log = structlog.get_logger("inngest.indexer")

GROUP = "indexer"
_BATCH = 1000
_IDLE_SECONDS = 30.0


class Indexer:
    """One indexer; any number of them may share the systems."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._eventing = Loop("indexer.events", self._events)
        self._recording = Loop("indexer.history", self._history)
        self._ended = asyncio.Event()
        self.counts = IndexerCounts()

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
        runtime, loop = self._runtime, self._eventing
        delivery = await loop.rest(runtime.stream.fetch(GROUP, _BATCH, _IDLE_SECONDS))
        if delivery is None:
            return
        failures = 0
        while True:
            try:
                await runtime.data.put_events(delivery.events)
                await runtime.stream.ack(GROUP, delivery.token)
                self.counts.lag.add((runtime.clock() - delivery.events[0].received) / 1000)
                return
            except StoreUnavailable as error:
                log.warning("events wait for the data store", action="indexer.events", error=str(error))
                failures += 1
                await loop.rest(backoff(failures))

    async def _history(self) -> None:
        runtime = self._runtime
        box = await runtime.engine.outbox_history(_BATCH)
        if not box.entries:
            await self._recording.rest(runtime.engine.wait_history(_IDLE_SECONDS))
            return
        await self._keep(box.entries)
        await runtime.engine.ack_history(box.token)

    async def _keep(self, entries: Sequence[History]) -> None:
        """Into the data store with all that it takes; the rest is dropped, and told of.

        Raises `StoreUnavailable`, and then nothing is dropped: also for a store that fails on every entry, of
        which none can then be the reason.
        """
        put = self._runtime.data.put_history
        try:
            await put(entries)
        except StoreUnavailable:
            raise
        except StoreRefused as error:
            self._drop(error)
        except Exception as error:
            # Whose fault it is shows when each comes alone.
            log.error("history cannot be kept together", action="indexer.history", exc_info=error)
            refusals = []
            for place, entry in enumerate(entries):
                try:
                    await put([entry])
                except StoreUnavailable:
                    raise
                except Exception as reason:  # noqa: BLE001 -- a defect that is told of below
                    refusals.append(Refusal(place, entry.id, f"{type(reason).__name__}: {reason}"))
            if len(refusals) == len(entries):
                raise StoreUnavailable(f"the data store takes no history: {refusals[0].reason}") from error
            if refusals:
                self._drop(refused("data store", "history", refusals))

    def _drop(self, error: StoreRefused) -> None:
        refusals = error.facts["refusals"]
        assert isinstance(refusals, Sequence)
        self.counts.refused += len(refusals)
        log.error(
            "history that cannot be kept is dropped",
            action="indexer.refused",
            count=len(refusals),
            error=str(error),
        )
