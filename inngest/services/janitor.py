"""The janitor: history that is old enough leaves the data store.

It works in small batches, and rests after each at least as long as the batch took, so that the indexer always
comes first. Several of them side by side do no harm: what one has removed the others do not find.
"""

from __future__ import annotations

import asyncio
import random

import structlog

from inngest.ports.data import DataStore
from inngest.services.loop import Loop
from inngest.services.runtime import Runtime

log = structlog.get_logger("inngest.janitor")

PERIOD_SECONDS = 60.0
"""Between two looks, about."""
BATCH = 500
"""Runs and events forgotten at once."""
_REST_SECONDS = 0.1
"""The shortest pause between two batches."""


class Janitor:
    """Prunes the data store of what ended more than ``retention_seconds`` ago."""

    def __init__(self, runtime: Runtime, retention_seconds: int) -> None:
        self._data: DataStore = runtime.data
        self._engine = runtime.engine
        self._clock = runtime.clock
        self._retention = retention_seconds * 1000
        self._loop = Loop("janitor.prune", self._round)

    async def run(self) -> None:
        await self._loop.run()

    async def drain(self, grace: float) -> None:
        self._loop.stop()

    async def _round(self) -> None:
        # Not all at the same time, where there are several.
        spread = 0.5 + random.random()  # noqa: S311 -- nobody gains by guessing it
        await self._loop.rest(asyncio.sleep(PERIOD_SECONDS * spread))
        await self.prune()

    async def prune(self) -> int:
        """Remove all that is old enough; how much it was. Raises `StoreUnavailable`."""
        before = self._clock() - self._retention
        forgotten = 0
        loop = asyncio.get_running_loop()
        while not self._loop.stopping:
            began = loop.time()
            count = await self._data.prune(before, BATCH)
            forgotten += count
            if not count:
                break
            await asyncio.sleep(max(loop.time() - began, _REST_SECONDS))
        for cancellation in await self._engine.cancellations():
            # One whose window is still open is there to be seen.
            if max(cancellation.created, cancellation.started_before) < before:
                await self._engine.delete_cancellation(cancellation.id)
        if forgotten:
            log.info("old history is gone", action="janitor.prune", count=forgotten)
        return forgotten
