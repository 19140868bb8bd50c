"""Opens the backing systems of a process, waits for those that are down, and watches those that are open.

What refuses for good (`StoreUnusable`: a wrong password, data of a newer release, a file in another process)
ends the process, since waiting would only hide it; and so does a system that cannot go on. What does not
answer is tried again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

import structlog

from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.loops.background import is_own
from inngest.loops.backoff import backoff
from inngest.loops.trouble import described, unexpected
from inngest.services.health import Health
from inngest.services.needs import System

log = structlog.get_logger("inngest.connect")


class Backend(Protocol):
    """What every backing system has."""

    async def open(self) -> None: ...

    async def close(self) -> None:
        """Raises `StoreUnusable` if something that was taken in is lost; it is closed all the same."""

    async def ping(self) -> None: ...


@runtime_checkable
class Warns(Protocol):
    """A backing system that can be set up badly."""

    @property
    def warnings(self) -> Sequence[str]:
        """What should be set otherwise, in words for an operator; no secret, no address."""


@runtime_checkable
class Mortal(Protocol):
    """A backing system that can come to its end while it is open."""

    async def died(self) -> None:
        """Never return. Raises `StoreUnusable` when the system cannot go on, and says why."""


class Connections:
    """The backing systems of a process. All are opened at once; ``required`` ones are waited for."""

    def __init__(self, backends: Mapping[System, Backend], required: set[System], health: Health) -> None:
        self._backends = backends
        self._required = required
        self._health = health
        self._opening: dict[System, asyncio.Task[None]] = {}
        self._open: list[tuple[System, Backend]] = []
        self._opened = {system: asyncio.Event() for system in backends}

    async def opened(self, system: System) -> None:
        """Return when the system is open."""
        await self._opened[system].wait()

    async def prepare(self) -> None:
        """Return when all required systems are open. Raises `StoreUnusable`; then none is open any more."""
        try:
            await self._until_required()
        except BaseException:
            with suppress(Exception):  # it is logged, and what ended the start is told
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
            if task.done():
                task.result()

    async def run(self) -> None:
        """Go on opening what is not open yet, and watch what is. Raises `StoreUnusable`."""
        async with asyncio.TaskGroup() as group:
            for system, backend in self._backends.items():
                group.create_task(self._watch(system, backend), name=f"watch {system}")
            await asyncio.Event().wait()

    async def _watch(self, system: System, backend: Backend) -> None:
        await asyncio.wait({self._opening[system]})
        self._opening[system].result()
        if isinstance(backend, Mortal):
            await backend.died()

    async def stop(self, grace: float) -> None:
        """Close what is open. Raises `StoreUnusable` if one of them has lost something."""
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        errors: list[Exception] = []
        while self._open:
            system, backend = self._open.pop()
            try:
                await backend.close()
            except (Exception, asyncio.CancelledError) as error:
                if is_own(error):
                    raise
                log.error(
                    f"the {system} did not close in order",
                    action="connect.close",
                    backend=system,
                    error=described(error),
                )
                errors.append(error if isinstance(error, Exception) else StoreUnusable(described(error)))
        if errors:
            raise errors[0]

    async def _until_open(self, system: System, backend: Backend) -> None:
        failures = 0
        while True:
            try:
                await backend.open()
            except StoreUnusable:
                raise
            except (Exception, asyncio.CancelledError) as error:
                if is_own(error):
                    raise
                if isinstance(error, StoreUnavailable):
                    if not failures:
                        log.warning(
                            f"waiting for the {system}",
                            action="connect.wait",
                            backend=system,
                            error=str(error),
                        )
                elif system in self._required and isinstance(error, Exception):
                    raise
                else:
                    unexpected("connect.open", error, backend=system)
                failures += 1
                await backoff(failures)
            else:
                break
        self._open.append((system, backend))
        self._health.opened(system, backend.ping)
        if isinstance(backend, Warns):
            self._health.warned(system, lambda: backend.warnings)
        self._opened[system].set()
        log.info(f"the {system} is open", action="connect.open", backend=system)
