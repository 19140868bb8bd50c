"""The indexer: events and history into the data store, behind everything else.

While the data store is down, the stream and the outbox keep what it has not got; accepting and executing go
on.
"""

from __future__ import annotations

import asyncio
import contextlib

from inngest.core.errors import StoreUnavailable
from inngest.loops.trouble import Trouble
from inngest.services.counts import IndexerCounts
from inngest.services.loop import Loop
from inngest.services.runtime import Runtime

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
        with Trouble("indexer.events") as trouble:
            while True:
                try:
                    await runtime.data.put_events(delivery.events)
                    await runtime.stream.ack(GROUP, delivery.token)
                except StoreUnavailable as error:
                    trouble.met(error)
                    await loop.rest(trouble.wait())
                else:
                    trouble.over()
                    self.counts.lag.add((runtime.clock() - delivery.events[0].received) / 1000)
                    return

    async def _history(self) -> None:
        runtime = self._runtime
        box = await runtime.engine.outbox_history(_BATCH)
        if not box.entries:
            await self._recording.rest(runtime.engine.wait_history(_IDLE_SECONDS))
            return
        await runtime.data.put_history(box.entries)
        await runtime.engine.ack_history(box.token)
