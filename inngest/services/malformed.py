"""What the log says of requests that are none: one short line each, and some a second at the most."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp.http import HttpProcessingError

log = structlog.get_logger("inngest.web")

LINES = 5
"""A second. Who sends nonsense chooses how often."""
MAX_REASON = 80
"""Characters."""


class RequestLog(logging.Logger):
    """What the HTTP parser's protocol logs to.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("inngest.web", logging.WARNING)
        self.parent = logging.getLogger()  # whose handlers have the rest
        self._clock = clock
        self._second = float("-inf")
        self._lines = 0
        self._silent = 0

    def exception(self, msg: object, *args: Any, exc_info: Any = None, **_: Any) -> None:
        if not isinstance(exc_info, HttpProcessingError):
            log.error("request failed", action="web.failed", exc_info=exc_info or True)
            return
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES:
            self._silent += 1
            return
        more = {"not_shown": self._silent} if self._silent else {}
        self._silent = 0
        log.warning(
            "malformed request",
            action="web.malformed",
            address=str(args[0])[:MAX_REASON] if args else "",
            error=reason(exc_info),
            **more,
        )


def reason(error: HttpProcessingError) -> str:
    """What is wrong with a request, in one line, without what was sent."""
    line = next((line.strip() for line in error.message.splitlines() if line.strip()), type(error).__name__)
    text = line.partition("b'")[0].partition('b"')[0].rstrip(" :")
    return "".join(char if char.isprintable() else "·" for char in text)[:MAX_REASON] or type(error).__name__
