"""A simulated process: a group of tasks that is killed, stopped and woken as one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.loop import SimLoop

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""Whose task or callback runs; None: the world's own."""

EPOCH = 1_790_000_000_000
"""Unix milliseconds at the loop's time 0."""


class Process:
    """One incarnation of a process: once killed it never comes back, another takes its name.

    Args:
        loop: in which it runs.
        name: for people.
        skew: how far (ms) its clock is ahead of the store's.

    """

    def __init__(self, loop: SimLoop, name: str, skew: int = 0) -> None:
        self.loop = loop
        self.name = name
        self.skew = skew
        self.dead = False
        self.frozen = False
        self.held: list[Any] = []
        self._open: dict[asyncio.Future[Any], None] = {}
        self._remains: list[Any] = []

    def clock(self) -> int:
        """Unix milliseconds, as this process sees them."""
        return EPOCH + int(self.loop.time() * 1000) + self.skew

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        context = contextvars.copy_context()
        context.run(PROCESS.set, self)
        return self.loop.create_task(coroutine, context=context)

    async def ask(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """What a request that is carried out by this process gives. Raises ConnectionError if it dies."""
        if self.dead:
            raise ConnectionRefusedError(self.name)
        reply = self.loop.create_future()
        self._open[reply] = None

        async def serve() -> None:
            try:
                result = await work()
            except Exception as error:  # noqa: BLE001 -- it is the client's
                result = error
            if not reply.done():
                reply.set_result(result)

        self.spawn(serve())
        try:
            result = await reply
        finally:
            self._open.pop(reply, None)
        if isinstance(result, Exception):
            raise result
        return result

    # -- what happens to it --

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, and whoever waits for an answer learns that."""
        self.dead = self.frozen = True
        # Kept, so that no coroutine of it is ended by the garbage collector, at any time.
        self._remains = [task for task in asyncio.all_tasks(self.loop) if task.process is self]  # type: ignore[attr-defined]
        for reply in self._open:
            if not reply.done():
                reply.set_result(ConnectionResetError(self.name))
        self._open.clear()

    def stop(self) -> None:
        """SIGSTOP."""
        if not self.dead:
            self.frozen = True

    def wake(self) -> None:
        """SIGCONT: what has become due meanwhile runs now."""
        if not self.dead and self.frozen:
            self.frozen = False
            held, self.held = self.held, []
            self.loop.wake(held)
