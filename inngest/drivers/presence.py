"""Which applications cannot be called, for the log: one line when that begins, and one when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from msgspec import Struct

from inngest.core.model.functions import Function
from inngest.drivers.http import HttpError, HttpTimeout, HttpUnreachable

log = structlog.get_logger("inngest.apps")

MAX_KNOWN = 1000
"""Applications in trouble that are remembered."""


class _Trouble(Struct):
    why: str
    since: float


class Presence:
    """What became of the latest call of each application.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._troubles: dict[tuple[str, str], _Trouble] = {}

    @property
    def troubled(self) -> bool:
        """Whether there is any application of which an answer would be news."""
        return bool(self._troubles)

    def failed(self, fn: Function, error: HttpError) -> None:
        """There was no answer. Only who cannot be reached at all is away."""
        unreachable = isinstance(error, HttpUnreachable)
        unreachable = unreachable or (isinstance(error, HttpTimeout) and error.phase == "connect")
        if unreachable and self._begins(fn, "away"):
            log.warning(
                "application is away", action="app.away", app=fn.app, url=_base(fn.url), error=str(error)
            )

    def refused(self, fn: Function) -> None:
        """It did not take the signature."""
        if self._begins(fn, "refuses"):
            log.error(
                "application refuses the signature: it needs the signing key of this server",
                action="app.refuses",
                app=fn.app,
                url=_base(fn.url),
            )

    def answered(self, fn: Function) -> None:
        """It took a call."""
        trouble = self._troubles.pop(_key(fn), None)
        if trouble is not None:
            log.info(
                "application is back" if trouble.why == "away" else "application takes the signature again",
                action="app.back",
                app=fn.app,
                url=_base(fn.url),
                seconds=round(self._clock() - trouble.since, 1),
            )

    def _begins(self, fn: Function, why: str) -> bool:
        known = self._troubles.get(_key(fn))
        if known is not None and known.why == why:
            return False
        if len(self._troubles) >= MAX_KNOWN and known is None:
            self._troubles.pop(next(iter(self._troubles)))
        self._troubles[_key(fn)] = _Trouble(why, self._clock())
        return True


def _key(fn: Function) -> tuple[str, str]:
    return fn.app, _base(fn.url)


def _base(url: str) -> str:
    """Without the parameters that name the function."""
    return url.partition("?")[0]
