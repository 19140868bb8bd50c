"""What keeps background work from going on: told of in the log, and counted.

A backing system that is away is told of twice, when that begins and when it is over, however many pieces of
work wait for it and however often they try. An unexpected error is told of each time, with its traceback.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, ParamSpec, Self

import structlog

from inngest.core.errors import InngestError, StoreError, StoreUnavailable
from inngest.loops.backoff import MOST_SECONDS, backoff

log = structlog.get_logger("inngest.loops")

P = ParamSpec("P")

ERRORS: Counter[str] = Counter()
"""Unexpected errors in the background work of this process, by its action."""


class Trouble:
    """The failures of one piece of work, from the first one to the next success.

    To be used as a context manager: work that ends waits for nothing any more.

    Args:
        action: what the log and the metrics call the work.

    """

    def __init__(self, action: str) -> None:
        self.action = action
        self.failures = 0
        """In a row."""
        self._outage: _Outage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(over=False)

    def met(self, error: BaseException) -> None:
        """The work has failed."""
        self.failures += 1
        if not isinstance(error, StoreUnavailable):
            unexpected(self.action, error, failures=self.failures)
            return
        system = error.system or self.action
        if self._outage is None or self._outage.system != system:
            self._leave(over=True)
            self._outage = _outage(system, self.action, error)
            self._outage.waiting += 1

    def over(self) -> None:
        """The work goes on."""
        if self.failures:
            self.failures = 0
            self._leave(over=True)

    async def wait(self, most: float = MOST_SECONDS) -> None:
        """Wait for the next try, the longer the more have failed, up to ``most`` seconds."""
        await backoff(self.failures, most)

    def _leave(self, *, over: bool) -> None:
        outage, self._outage = self._outage, None
        if outage is not None:
            outage.waiting -= 1
            if not outage.waiting:
                del _outages[outage.system]
                if over:
                    outage.end(self.action)


class _Outage:
    """One system that is away, and how many wait for it."""

    __slots__ = ("began", "facts", "system", "waiting")

    def __init__(self, system: str, error: StoreUnavailable) -> None:
        self.system = system
        self.facts = _facts(error)
        self.waiting = 0
        self.began = asyncio.get_running_loop().time()

    def end(self, action: str) -> None:
        seconds = round(asyncio.get_running_loop().time() - self.began, 1)
        with suppress(Exception):
            log.info("backing system answers again", action=action, seconds=seconds, **self.facts)


_outages: dict[str, _Outage] = {}


def _outage(system: str, action: str, error: StoreUnavailable) -> _Outage:
    known = _outages.get(system)
    if known is None:
        known = _outages[system] = _Outage(system, error)
        with suppress(Exception):
            log.warning(
                "backing system does not answer, it is tried again until it does",
                action=action,
                error=str(error),
                **known.facts,
            )
    return known


def _facts(error: BaseException) -> dict[str, Any]:
    """What an error of a store knows, for the log. Its own facts stay together: their names are theirs."""
    if not isinstance(error, StoreError):
        return {}
    known = {"system": error.system, "facts": error.facts}
    return {name: value for name, value in known.items() if value}


def unexpected(action: str, error: BaseException, **more: object) -> None:
    """Count an error that nobody foresaw, and log it with all that it tells."""
    ERRORS[action] += 1
    # A log that cannot be written must not end what goes on behind it.
    with suppress(Exception):
        log.error(
            "unexpected error, the work goes on",
            action=action,
            error=described(error),
            exc_info=error,
            **_facts(error),
            **more,
        )


def guarded(action: str, tell: Callable[P, None]) -> Callable[P, None]:
    """``tell``, whose errors are counted and go no further; every doubling of their number is logged."""

    def safe(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            tell(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- whatever it is, who tells goes on
            count = ERRORS[action] + 1
            if count & (count - 1):
                ERRORS[action] = count
            else:
                unexpected(action, error, failures=count)

    return safe


def described(error: BaseException) -> str:
    """An error in one line: those of a group one by one; what was not written for people, with its type."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(described, error.exceptions)))
    if isinstance(error, asyncio.CancelledError):
        return "what it waited for was cancelled"
    text = str(error)
    if text and isinstance(error, InngestError | OSError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
