"""Runs any set of services in one process: ordered start, common end, clean stop on a signal.

The exit code of a process is 0 if a signal ended it and all of its services stopped in order. It is 1 in all
other cases: a service did not start, ended by itself or failed, did not stop in time or in order, or was not
let stop, because a second signal came.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from structlog.contextvars import bound_contextvars

from inngest.core.errors import InngestError
from inngest.loops.background import is_own
from inngest.loops.trouble import described, unexpected

log = structlog.get_logger("inngest.supervisor")

START_SECONDS = 30.0
"""How long a service may take to start, unless it says otherwise."""
GRACE_SECONDS = 30.0
LEAST_SECONDS = 5.0
"""What each service has at least to stop, when others have used up the grace period."""
HURRY_SECONDS = 2.0
"""What all services have together once a second signal came: to hand back work, and to close files."""


class Service(Protocol):
    """One service. ``prepare`` returns when it is ready for those that start after it, within
    ``start_seconds`` if that is not None; ``run`` goes on until the end.
    """

    name: str
    start_seconds: float | None

    async def prepare(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self, grace: float) -> None:
        """Take no more work, finish what is in flight within ``grace`` seconds, hand the rest back. Raises
        if something is lost by it.
        """


class Supervisor:
    """Starts services in the given order and stops them in the reverse one.

    When one of them ends, for whatever reason, the others are stopped: half a server is worse than none. A
    signal stops all; a second one at once.

    Args:
        services: in the order of their start.
        grace: seconds for work in flight, once the end has come.
        least: seconds that each service has to stop, when the others have used those up.
        serving: called when all services run.
        stopping: called when the end has come.

    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        grace: float = GRACE_SECONDS,
        least: float = LEAST_SECONDS,
        serving: Callable[[], None] | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> None:
        self.services = tuple(services)
        self._grace = grace
        self._least = least
        self._serving = serving
        self._stopping = stopping
        self._stop = asyncio.Event()
        self._now = asyncio.Event()
        self._failed = False
        self._started: list[Service] = []
        self._tasks: dict[asyncio.Task[None], Service] = {}
        self._blamed: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve until the end; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        loop.set_exception_handler(_unheard)
        try:
            if await self._start():
                log.info("all services run", action="supervisor.serve")
                if self._serving is not None:
                    self._serving()
                await self._watch()
        finally:
            if self._stopping is not None:
                self._stopping()
            await self._end()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            loop.set_exception_handler(None)
        log.info("stopped", action="supervisor.stop", code=1 if self._failed else 0)
        return 1 if self._failed else 0

    def stop(self) -> None:
        """As a first signal would."""
        self._stop.set()

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stop.is_set():
            log.warning("second signal, stopping at once", action="supervisor.signal", signal=name)
            self._now.set()
        else:
            log.info("stopping", action="supervisor.signal", signal=name)
        self._stop.set()

    # -- the start --

    async def _start(self) -> bool:
        """Whether all services run. One that ends while others start ends the start."""
        for service in self.services:
            if self._stop.is_set() or any(task.done() for task in self._tasks):
                self._blame()
                return False
            # What a service does, and the tasks that it creates, log under its name.
            with bound_contextvars(service=service.name):
                if not await self._prepare(service):
                    return False
                self._started.append(service)
                self._tasks[asyncio.create_task(service.run(), name=service.name)] = service
        return True

    async def _prepare(self, service: Service) -> bool:
        """Bring a service up, unless a signal, the end of another one, or the time limit comes first."""
        preparing = asyncio.create_task(service.prepare())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait(
            {preparing, stopping, *self._tasks},
            timeout=service.start_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        stopping.cancel()
        if not preparing.done():
            await self._give_up(service, preparing)
            return False
        if (error := _error(preparing)) is not None:
            self._fail_start(service, error)
            return False
        log.debug("service is ready", action="supervisor.start")
        return True

    async def _give_up(self, service: Service, preparing: asyncio.Task[None]) -> None:
        """End a start that takes too long, or that has become pointless."""
        preparing.cancel()
        await asyncio.wait({preparing}, timeout=HURRY_SECONDS)
        if not self._stop.is_set() and not self._blame():
            self._fail_start(service, f"not ready within {service.start_seconds} s")
        if not preparing.done():
            self._fail_start(service, "its start cannot be cancelled")
        elif preparing.cancelled():
            pass
        elif (error := preparing.exception()) is not None:
            self._fail_start(service, error)
        else:
            self._started.append(service)  # at the last moment: it is to be stopped like the others

    def _fail_start(self, service: Service, error: BaseException | str) -> None:
        self._failed = True
        log.error("service did not start", action="supervisor.start", service=service.name, **_told_of(error))

    # -- in between --

    async def _watch(self) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({*self._tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self._blame()

    def _blame(self) -> bool:
        """Name the services that have ended; whether there are any."""
        ended = [task for task in self._tasks if task.done()]
        for task in ended:
            self._accuse(task, _error(task) or "it returned", "service ended, stopping the others")
        return bool(ended)

    def _accuse(self, task: asyncio.Task[None], error: BaseException | str, what: str) -> None:
        if task not in self._blamed:
            self._blamed.add(task)
            self._failed = True
            log.error(what, action="supervisor.end", service=self._tasks[task].name, **_told_of(error))

    # -- the end --

    async def _end(self) -> None:
        until = asyncio.get_running_loop().time() + self._grace
        stopping = asyncio.create_task(self._stop_all(until, self._least))
        hurry = asyncio.create_task(self._now.wait())
        limit = self._grace + LEAST_SECONDS * 2
        await asyncio.wait({stopping, hurry}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stopping.done():
            self._failed = True
            if not self._now.is_set():
                log.error("services did not stop in time", action="supervisor.stop")
            stopping.cancel()
            await asyncio.wait({stopping}, timeout=HURRY_SECONDS)
            rest = asyncio.create_task(self._stop_all(0, 0))
            await asyncio.wait({rest}, timeout=HURRY_SECONDS)
            rest.cancel()
        elif (error := _error(stopping)) is not None:
            self._failed = True
            log.error("services did not stop", action="supervisor.stop", **_told_of(error))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=HURRY_SECONDS)
        for task in self._tasks:
            if not task.done():
                self._accuse(task, "it goes on although it was cancelled", "service did not end")
            elif not task.cancelled() and (failure := task.exception()) is not None:
                # Those that stop in order return, or are cancelled.
                self._accuse(task, failure, "service failed while it stopped")

    async def _stop_all(self, until: float, least: float) -> None:
        """Stop what has not been stopped, the last one first."""
        loop = asyncio.get_running_loop()
        while self._started:
            service = self._started[-1]
            with bound_contextvars(service=service.name):
                try:
                    await service.stop(max(until - loop.time(), least))
                except (Exception, asyncio.CancelledError) as error:
                    if is_own(error):
                        raise
                    self._failed = True
                    log.error("service did not stop in order", action="supervisor.stop", **_told_of(error))
            self._started.pop()


def _error(task: asyncio.Task[None]) -> BaseException | None:
    """Why a task has ended; None if it returned."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _told_of(error: BaseException | str) -> dict[str, Any]:
    """An error for the log. What was written for people needs no traceback."""
    if isinstance(error, str):
        return {"error": error}
    told: dict[str, Any] = {"error": described(error)}
    if not _is_plain(error):
        told["exc_info"] = error
    return told


def _is_plain(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_plain, error.exceptions))
    return isinstance(error, InngestError | OSError)


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The last net: what failed in a task or a callback that nobody waits for."""
    error = context.get("exception") or RuntimeError("unknown")
    unexpected("unheard", error, message=str(context.get("message", "")))
