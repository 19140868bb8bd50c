"""Work that is repeated until the end, through failures of the backing systems and its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

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
        self._resting: set[asyncio.Task[Any]] = set()
        self.stopping = False

    async def run(self) -> None:
        """Go on until `stop`, or until cancelled. Raises `StoreUnusable`."""
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
        """Wait for something that may as well never happen. Any task may, that works for this loop.

        Raises `Stopped`.
        """
        if self.stopping:
            if asyncio.iscoroutine(waiting):
                waiting.close()
            raise Stopped
        task = asyncio.current_task()
        assert task is not None
        self._resting.add(task)
        try:
            return await waiting
        except asyncio.CancelledError:
            if task in self._resting:  # by somebody else
                raise
            task.uncancel()
            raise Stopped from None
        finally:
            self._resting.discard(task)

    def stop(self) -> None:
        self.stopping = True
        while self._resting:
            self._resting.pop().cancel()
