"""Runs any set of services in one process: ordered start, common end, clean stop on a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Protocol

import structlog

log = structlog.get_logger("inngest.supervisor")

START_SECONDS = 30.0
GRACE_SECONDS = 30.0


class Service(Protocol):
    """One service. ``prepare`` returns when it is ready for those that start after it; ``run`` goes on until
    the end.
    """

    name: str

    async def prepare(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self, grace: float) -> None:
        """Take no more work, finish what is in flight within ``grace`` seconds, hand the rest back."""


class Supervisor:
    """Starts services in the given order and stops them in the reverse one.

    When one of them ends, for whatever reason, the others are stopped: half a server is worse than none. A
    signal stops all; a second one
    at once.
    """

    def __init__(self, services: Sequence[Service], *, grace: float = GRACE_SECONDS) -> None:
        self._services = services
        self._grace = grace
        self._stop = asyncio.Event()
        self._now = asyncio.Event()
        self._failed = False

    async def run(self) -> int:
        """Serve until the end. The exit code: 0 after a signal, 1 if a service failed or ended by itself."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        started: list[Service] = []
        tasks: dict[asyncio.Task[None], Service] = {}
        try:
            for service in self._services:
                if self._stop.is_set():
                    break
                if not await self._prepare(service):
                    break
                started.append(service)
                tasks[asyncio.create_task(service.run(), name=service.name)] = service
            if len(started) == len(self._services):
                await self._watch(tasks)
        finally:
            await self._end(started, tasks)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return 1 if self._failed else 0

    def stop(self) -> None:
        """As a first signal would."""
        self._stop.set()

    def _signalled(self, number: int) -> None:
        if self._stop.is_set():
            log.warning("second signal, stopping at once", action="supervisor.signal", signal=number)
            self._now.set()
        else:
            log.info("stopping", action="supervisor.signal", signal=signal.Signals(number).name)
        self._stop.set()

    async def _prepare(self, service: Service) -> bool:
        """Bring a service up, unless a signal or the time limit comes first."""
        preparing = asyncio.create_task(service.prepare())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({preparing, stopping}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not preparing.done():
            preparing.cancel()
            await asyncio.wait({preparing})
            if not self._stop.is_set():
                self._failed = True
                message = f"not ready within {START_SECONDS:.0f} s"
                log.error(
                    "service did not start", action="supervisor.start", service=service.name, error=message
                )
            return False
        if (error := preparing.exception()) is not None:
            self._failed = True
            log.error(
                "service did not start", action="supervisor.start", service=service.name, error=str(error)
            )
            return False
        log.debug("service is ready", action="supervisor.start", service=service.name)
        return True

    async def _watch(self, tasks: dict[asyncio.Task[None], Service]) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task, service in tasks.items():
            if not task.done():
                continue
            self._failed = True
            error = None if task.cancelled() else task.exception()
            log.error(
                "service ended, stopping the others",
                action="supervisor.end",
                service=service.name,
                error=str(error) if error else "it returned",
                exc_info=error,
            )

    async def _end(self, started: list[Service], tasks: dict[asyncio.Task[None], Service]) -> None:
        stopping = asyncio.create_task(self._stop_all(started))
        hurry = asyncio.create_task(self._now.wait())
        await asyncio.wait({stopping, hurry}, timeout=self._grace + 10, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stopping.done():
            self._failed = True
            log.error("services did not stop in time", action="supervisor.stop")
            stopping.cancel()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _stop_all(self, started: list[Service]) -> None:
        for service in reversed(started):
            try:
                await service.stop(self._grace)
            except Exception as error:
                self._failed = True
                log.error(
                    "service did not stop", action="supervisor.stop", service=service.name, exc_info=error
                )
