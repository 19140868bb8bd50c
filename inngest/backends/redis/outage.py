"""Outages: one line when one begins, one when it ends, however many requests fail in between."""

from __future__ import annotations

import time
from weakref import WeakValueDictionary

import structlog

log = structlog.get_logger("inngest.redis")


class Outage:
    """What is not to be had for a while. Nothing is logged of single failures.

    Args:
        system: what has the outage.
        began, ended: what the lines say, beside the reason or the numbers.

    """

    def __init__(self, system: str, began: str, ended: str) -> None:
        self.system = system
        self._began = began
        self._ended = ended
        self._since: float | None = None
        self._writes = False
        self._failed = 0

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def failed(self, reason: str, requests: int, *, writes: bool = False) -> None:
        """So many requests have failed. ``writes``: the server answers, but takes no writes."""
        if self._since is None:
            self._since, self._failed, self._writes = time.monotonic(), 0, writes
            log.warning(self._began, action="redis.outage", system=self.system, reason=reason)
        self._writes = writes
        self._failed += requests

    def answered(self, *, writes: bool) -> None:
        """Requests were answered, with writes among them or not. A server that takes no writes answers reads
        all the while.
        """
        if self._since is None or (self._writes and not writes):
            return
        seconds, self._since = time.monotonic() - self._since, None
        log.warning(
            self._ended,
            action="redis.outage",
            system=self.system,
            seconds=round(seconds, 3),
            failed=self._failed,
        )


_known: WeakValueDictionary[str, Outage] = WeakValueDictionary()


def outage_of(system: str) -> Outage:
    """That of a server: one for all that this process has to do with it."""
    found = _known.get(system)
    if found is None:
        found = _known[system] = Outage(
            system,
            "Redis does not do what it is asked; it is tried again until it does",
            "Redis does what it is asked again",
        )
    return found
