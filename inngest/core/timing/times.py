"""Units of time in milliseconds, and the one format in which times are written."""

from __future__ import annotations

from datetime import UTC, datetime

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR = 365 * DAY

_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999."""


def rfc3339(ms: int) -> str:
    """``2026-11-23T05:55:46.783Z``; without a fraction when there is none. A time that cannot be written so
    is told as the nearest that can: one of an application's own making must not fail a list.
    """
    seconds, rest = divmod(min(max(ms, _FIRST), _LAST), SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:03d}Z" if rest else f"{text}Z"
