"""An event loop whose time is simulated and whose order is drawn from a seed.

Nothing is read and nothing is waited for. Time stands still while anything can run, and then jumps to the
next timer. Of what can run, the seed chooses what comes first, so that two tasks meet in every order.

What runs belongs to a process (see `process`): that of a killed or stopped one does not run.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import TimerHandle
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from sim.process import PROCESS, Process

LIVELOCK = 200_000
"""Callbacks without any time passing that are taken for a loop that turns without rest."""


class Stuck(Exception):
    """The simulation cannot go on: nothing is left to run, or something runs without end."""


class SimTask(asyncio.Task[Any]):
    """A task that knows its process, and whose place in a set does not depend on its address."""

    def __init__(self, coro: Any, number: int, process: Process | None, **more: Any) -> None:
        self.number = number
        self.process = process
        super().__init__(coro, **more)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """See above.

    Args:
        random: what the order is drawn from.
        in_order: callbacks run in the order in which they were asked for, as in a real loop.

    """

    def __init__(self, random: Random, *, in_order: bool = False) -> None:
        super().__init__()
        self._random = random
        self._in_order = in_order
        self._now = 0.0
        self._ready: list[Any] = []  # type: ignore[assignment]  # a deque, in the real loop
        self._numbers = 0
        self.steps = 0
        self.most_steps = 0
        """Callbacks that may run in all; 0: any number."""
        self.everything = False
        """Also what belongs to killed and stopped processes runs: they are being cleared away."""
        self.unhandled: list[dict[str, Any]] = []
        self.set_task_factory(self._task)
        self.set_exception_handler(lambda _, context: self.unhandled.append(context))

    def _task(self, _: Any, coro: Coroutine[Any, Any, Any], **more: Any) -> SimTask:
        context = more.get("context")
        self._numbers += 1
        process = context.get(PROCESS) if context is not None else PROCESS.get()
        return SimTask(coro, self._numbers, process, loop=self, context=context)

    def time(self) -> float:
        return self._now

    # -- running --

    def _run_once(self) -> None:
        self._drop_cancelled()
        scheduled, ready = self._scheduled, self._ready
        if not ready and not self._stopping:
            if not scheduled:
                raise Stuck("nothing is left to run")
            self._now = max(self._now, scheduled[0]._when)
        now = self._now
        while scheduled and scheduled[0]._when <= now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        random, in_order = self._random.random, self._in_order
        steps = 0
        while ready and not self._stopping:
            if in_order:
                handle = ready.pop(0)
            else:
                place = int(random() * len(ready))
                handle = ready[place]
                last = ready.pop()
                if last is not handle:
                    ready[place] = last
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None and process.frozen and not self.everything:
                process.held.append(handle)
                continue
            handle._run()
            steps += 1
            if steps > LIVELOCK:
                raise Stuck(f"no time passes any more: {handle!r}")
        self.steps += steps
        if self.most_steps and self.steps > self.most_steps:
            raise Stuck(f"more than {self.most_steps} callbacks")

    def _drop_cancelled(self) -> None:
        scheduled = self._scheduled
        if self._timer_cancelled_count > 100 and self._timer_cancelled_count * 2 > len(scheduled):
            for handle in scheduled:
                if handle._cancelled:
                    handle._scheduled = False
            scheduled[:] = [handle for handle in scheduled if not handle._cancelled]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            self._timer_cancelled_count -= 1

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        if handle._scheduled:
            self._timer_cancelled_count += 1

    def wake(self, held: list[Any]) -> None:
        """Let callbacks run that were held back."""
        self._ready.extend(held)

    # -- what a real loop does with the system --

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """``func`` runs in this thread, a moment later; not at all if its process is killed before."""
        future = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 -- it belongs to whoever waits
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(self._random.random() * 0.002, run)
        return future

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
