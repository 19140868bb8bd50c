"""The indexer: events and history into the data store, behind everything else.

While the data store is down, the stream and the outbox keep what it has not got; accepting and executing go
on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from inngest.core.errors import StoreUnavailable
from inngest.services.runtime import Runtime, backoff

log = structlog.get_logger("inngest.indexer")

GROUP = "indexer"
_BATCH = 1000
_IDLE_SECONDS = 30.0


class Indexer:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._events, "indexer.events"))
            group.create_task(self._forever(self._history, "indexer.history"))

    async def _forever(self, work: Callable[[], Awaitable[None]], action: str) -> None:
        failures = 0
        while True:
            try:
                await work()
                failures = 0
            except StoreUnavailable as error:
                log.warning("backing system does not answer", action=action, error=str(error))
                failures += 1
                await backoff(failures)

    async def _events(self) -> None:
        runtime = self._runtime
        delivery = await runtime.stream.fetch(GROUP, _BATCH, _IDLE_SECONDS)
        if delivery is None:
            return
        failures = 0
        while True:
            try:
                await runtime.data.put_events(delivery.events)
                await runtime.stream.ack(GROUP, delivery.token)
                return
            except StoreUnavailable as error:
                log.warning("events wait for the data store", action="indexer.events", error=str(error))
                failures += 1
                await backoff(failures)

    async def _history(self) -> None:
        runtime = self._runtime
        box = await runtime.engine.outbox_history(_BATCH)
        if not box.entries:
            await runtime.engine.wait_history(_IDLE_SECONDS)
            return
        await runtime.data.put_history(box.entries)
        await runtime.engine.ack_history(box.token)
