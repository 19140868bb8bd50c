"""Work that is repeated until the end, through failures of the backing systems and its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from inngest.core.errors import StoreUnusable
from inngest.loops.background import is_own
from inngest.loops.trouble import Trouble

T = TypeVar("T")


class Stopped(Exception):
    """A rest was cut short: the loop is to end."""


class Loop:
    """Repeats a piece of work. A stop lets the piece under way end, and cuts short only its `rest`.

    Only two things end it: a stop, and a backing system that somebody has to mend (`StoreUnusable`). Any
    other error of the work is logged and counted, and the work is tried again, later and later.

    Args:
        action: what the log and the metrics call it.
        work: can be repeated after an error. Lets `Stopped` pass.

    """

    def __init__(self, action: str, work: Callable[[], Awaitable[None]]) -> None:
        self._action = action
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._resting = False
        self.stopping = False

    async def run(self) -> None:
        """Go on until `stop`, or until cancelled. Raises `StoreUnusable`."""
        self._task = asyncio.current_task()
        with Trouble(self._action) as trouble:
            while not self.stopping:
                try:
                    await self._work()
                except StoreUnusable:
                    raise
                except (Exception, asyncio.CancelledError) as error:
                    if is_own(error):
                        raise
                    if self.stopping and isinstance(error, Stopped):
                        return
                    trouble.met(error)
                else:
                    trouble.over()
                    continue
                try:
                    await self.rest(trouble.wait())
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
