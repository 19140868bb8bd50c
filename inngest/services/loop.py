"""Work that is repeated until the end, through failures of the backing systems."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from inngest.core.errors import StoreUnavailable
from inngest.services.backoff import backoff

log = structlog.get_logger("inngest.loop")

T = TypeVar("T")


class Stopped(Exception):
    """A rest was cut short: the loop is to end."""


class Loop:
    """Repeats a piece of work. A stop lets the piece under way end, and cuts short only its `rest`.

    Args:
        action: what the log calls it.
        work: raises `StoreUnavailable` to be tried again later, and lets `Stopped` pass.

    """

    def __init__(self, action: str, work: Callable[[], Awaitable[None]]) -> None:
        self._action = action
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._resting = False
        self.stopping = False

    async def run(self) -> None:
        """Go on until `stop`, or until cancelled."""
        self._task = asyncio.current_task()
        failures = 0
        while not self.stopping:
            try:
                await self._work()
                failures = 0
            except Stopped:
                return
            except StoreUnavailable as error:
                log.warning("backing system does not answer", action=self._action, error=str(error))
                failures += 1
                try:
                    await self.rest(backoff(failures))
                except Stopped:
                    return

    async def rest(self, waiting: Awaitable[T]) -> T:
        """Wait for something that may as well never happen. Raises `Stopped`."""
        if self.stopping:
            if asyncio.iscoroutine(waiting):
                waiting.close()
            raise Stopped
        self._resting = True
        try:
            return await waiting
        except asyncio.CancelledError:
            if self._resting:  # by somebody else
                raise
            if self._task is not None:
                self._task.uncancel()
            raise Stopped from None
        finally:
            self._resting = False

    def stop(self) -> None:
        self.stopping = True
        if self._resting and self._task is not None:
            self._resting = False
            self._task.cancel()
