"""A service out of functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from inngest.services.supervisor import START_SECONDS


class Task:
    """See `inngest.services.supervisor.Service`.

    Args:
        name: for the log.
        run: goes on until it is stopped or cancelled.
        prepare: returns when ``run`` can begin.
        stop: lets ``run`` end within the seconds that it is given; what it leaves is cancelled.
        start_seconds: how long ``prepare`` may take; None for as long as it takes.

    """

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        stop: Callable[[float], Awaitable[None]] | None = None,
        start_seconds: float | None = START_SECONDS,
    ) -> None:
        self.name = name
        self.start_seconds = start_seconds
        self._run = run
        self._prepare = prepare
        self._stop = stop
        self._running: asyncio.Future[None] | None = None

    async def prepare(self) -> None:
        if self._prepare is not None:
            await self._prepare()

    async def run(self) -> None:
        self._running = asyncio.ensure_future(self._run())
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            if not self._running.done():
                self._running.cancel()
                await asyncio.wait({self._running})
            if not self._running.cancelled() and (error := self._running.exception()) is not None:
                raise error from None
            raise

    async def stop(self, grace: float) -> None:
        if self._stop is not None:
            await self._stop(grace)
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})
