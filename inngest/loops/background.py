"""Work in the background, for as long as a process lives: no error but the end of all use stops it.

Whoever creates a task for such work does it by one of these. A task that fails with nobody to hear of it
leaves half of a server behind, which looks like a whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.loops.backoff import MOST_SECONDS
from inngest.loops.trouble import Trouble

T = TypeVar("T")

Work = Callable[[], Awaitable[object]]


async def forever(action: str, work: Work, *, every: float = 0.0) -> NoReturn:
    """Do ``work`` again and again until cancelled. What it raises is logged and counted, and it is tried
    again, later and later, but at least as often as it is due.

    Args:
        action: what the log and the metrics call it.
        work: one round of it.
        every: seconds between two rounds, and before the first one; 0 if a round waits by itself.

    Raises:
        StoreUnusable: somebody has to mend a backing system. Whoever awaits this ends the process by it.

    """
    with Trouble(action) as trouble:
        while True:
            if every and not trouble.failures:
                await asyncio.sleep(every)
            try:
                await work()
            except StoreUnusable:
                raise
            except (Exception, asyncio.CancelledError) as error:
                if is_own(error):
                    raise
                trouble.met(error)
                await trouble.wait(min(every or MOST_SECONDS, MOST_SECONDS))
            else:
                trouble.over()


async def persist(action: str, work: Callable[[], Awaitable[T]], *, stubborn: bool = False) -> T:
    """The result of ``work``, which is tried again for as long as a backing system is away.

    Args:
        action: what the log and the metrics call it.
        work: can be repeated.
        stubborn: it is tried again after any other error too; else those are the caller's.

    Raises:
        StoreUnusable: trying again does not help.

    """
    with Trouble(action) as trouble:
        while True:
            try:
                result = await work()
            except StoreUnusable:
                raise
            except (Exception, asyncio.CancelledError) as error:
                if is_own(error) or not (stubborn or isinstance(error, StoreUnavailable)):
                    raise
                trouble.met(error)
                await trouble.wait()
            else:
                trouble.over()
                return result


class Watched:
    """`forever` in a task of its own, for what nobody awaits: here a system that cannot be used is like one
    that does not answer, since somebody else will end the process for it.
    """

    def __init__(self, action: str, work: Work, *, every: float = 0.0) -> None:
        self._action = action
        self._work = work
        self._every = every
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin, unless it has begun."""
        if not self.running:
            self._task = asyncio.create_task(self._run(), name=self._action)

    async def stop(self) -> None:
        """End it, and return when it has ended."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        await forever(self._action, self._once, every=self._every)

    async def _once(self) -> None:
        try:
            await self._work()
        except StoreUnusable as error:
            raise StoreUnavailable(str(error), system=error.system, **error.facts) from error


def is_own(error: BaseException) -> bool:
    """Whether an error is the cancellation of the task that meets it. One that comes out of what the task
    waited for is none, and must not end it: to everybody else it would look like an orderly end.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())
