"""Opens the backing systems of a process, and waits for those that are down.

What refuses for good (`StoreUnusable`: a wrong password, data of a newer release, a file in another process)
ends the process, since waiting would only hide it. What does not answer is tried again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import structlog

from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.services.backoff import backoff
from inngest.services.health import Health
from inngest.services.needs import System

log = structlog.get_logger("inngest.connect")


class Backend(Protocol):
    """What every backing system has."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...


@runtime_checkable
class Warns(Protocol):
    """A backing system that can be set up badly."""

    @property
    def warnings(self) -> Sequence[str]:
        """What should be set otherwise, in words for an operator; no secret, no address."""


class Connections:
    """The backing systems of a process. All are opened at once; ``required`` ones are waited for."""

    def __init__(self, backends: Mapping[System, Backend], required: set[System], health: Health) -> None:
        self._backends = backends
        self._required = required
        self._health = health
        self._opening: dict[System, asyncio.Task[None]] = {}
        self._open: list[Backend] = []
        self._opened = {system: asyncio.Event() for system in backends}

    async def opened(self, system: System) -> None:
        """Return when the system is open."""
        await self._opened[system].wait()

    async def prepare(self) -> None:
        """Return when all required systems are open. Raises `StoreUnusable`; then none is open any more."""
        try:
            await self._until_required()
        except BaseException:
            await self.stop(0)
            raise

    async def _until_required(self) -> None:
        self._opening = {
            system: asyncio.create_task(self._until_open(system, backend), name=f"open {system}")
            for system, backend in self._backends.items()
        }
        waiting = {self._opening[system] for system in self._required}
        # What is only wanted is not waited for, but may end the start too.
        while any(not task.done() for task in waiting):
            pending = [task for task in self._opening.values() if not task.done()]
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            self._check()
        self._check()

    def _check(self) -> None:
        for task in self._opening.values():
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def run(self) -> None:
        """Go on opening what is not open yet, and stay. Raises `StoreUnusable`."""
        await asyncio.gather(*self._opening.values())
        await asyncio.Event().wait()

    async def stop(self, grace: float) -> None:
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        while self._open:
            await self._open.pop().close()

    async def _until_open(self, system: System, backend: Backend) -> None:
        failures = 0
        while True:
            try:
                await backend.open()
            except StoreUnusable:
                raise
            except StoreUnavailable as error:
                failures += 1
                log.warning(
                    f"waiting for the {system}",
                    action="connect.wait",
                    backend=system,
                    attempt=failures,
                    error=str(error),
                )
                await backoff(failures)
            else:
                break
        self._open.append(backend)
        self._health.opened(system, backend.ping)
        if isinstance(backend, Warns):
            self._health.warned(system, lambda: backend.warnings)
        self._opened[system].set()
        log.info(f"the {system} is open", action="connect.open", backend=system)
