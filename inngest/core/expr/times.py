"""Timestamps and durations of expressions: aware UTC ``datetime`` and ``timedelta``, to the microsecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from typing import Final
from zoneinfo import ZoneInfo

from inngest.core.expr.errors import EvaluationError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_LENGTH: Final = 200
"""Of a text that may be a date or a duration: it may come from an event."""
_YEAR_2000_S: Final = 946_684_800

_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_UNIT_US: Final = {
    "ns": 1e-3,
    "us": 1,
    "µs": 1,
    "μs": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)
_LAYOUTS: Final = (
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S UTC %Y",
    "%a %b %d %H:%M:%S GMT %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%A, %d-%b-%y %H:%M:%S GMT",
)


def parse_duration(text: str) -> timedelta:
    """A Go-style duration, days and weeks included: ``1h30m``, ``-1.5s``, ``2d``, ``0``."""
    if len(text) > _MAX_LENGTH:
        raise EvaluationError(f"{_short(text)} is longer than any duration")
    sign = -1 if text.startswith("-") else 1
    body = text[1:] if text[:1] in {"-", "+"} else text
    if body == "0":
        return timedelta()
    end = 0
    total_us = 0.0
    while part := _DURATION_PART.match(body, end):
        total_us += float(part[1]) * _UNIT_US[part[2]]
        end = part.end()
    if not body or end != len(body):
        raise EvaluationError(f"{_short(text)} is not a duration such as '1h30m'")
    try:
        return timedelta(microseconds=sign * total_us)
    except OverflowError:
        raise EvaluationError(f"the duration {_short(text)} is out of range") from None


def format_duration(value: timedelta) -> str:
    """Seconds with as few decimals as it takes: ``90s``, ``-0.5s``."""
    us = value // timedelta(microseconds=1)
    seconds, rest = divmod(abs(us), 1_000_000)
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{'-' if us < 0 else ''}{seconds}{fraction}s"


def parse_timestamp(text: str) -> datetime:
    """An RFC 3339 time; its zone is required."""
    if not _RFC_3339.fullmatch(text):
        raise EvaluationError(f"{_short(text)} is not an RFC 3339 time such as '2024-01-31T12:00:00Z'")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise EvaluationError(f"the time {_short(text)} is out of range") from None


def format_timestamp(value: datetime) -> str:
    """RFC 3339 in UTC, with as few decimals as it takes."""
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat()
    if value.microsecond:
        text = text.rstrip("0")
    return f"{text}Z"


def from_epoch(seconds: float) -> datetime:
    """The time so many seconds after 1970."""
    try:
        return EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise EvaluationError("the time is out of range") from None


def parse_date(value: str | float) -> datetime:
    """``date(x)``: ISO 8601, RFC 822/850/1123/2822, ANSI C and Unix dates (UTC unless they say otherwise),
    or an epoch in seconds, milliseconds or nanoseconds, told apart by size and not before the year 2000.
    """
    if isinstance(value, str):
        return _parse_date_text(value.strip())
    for scale in (1_000_000_000, 1_000, 1):
        if value >= _YEAR_2000_S * scale:
            return from_epoch(value) if scale == 1 else _from_fraction(value, scale)
    raise EvaluationError("date() takes an epoch of the year 2000 or later")


def _from_fraction(value: float, scale: int) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=int(value * 1_000_000) // scale)
    except OverflowError:
        raise EvaluationError("the time is out of range") from None


def _parse_date_text(text: str) -> datetime:
    if len(text) > _MAX_LENGTH:
        raise EvaluationError(f"{_short(text)} is longer than any date")
    parsed: datetime | None = None
    try:
        parsed = datetime.fromisoformat(text.upper() if text[-1:] == "z" else text)
    except ValueError:
        for layout in _LAYOUTS:
            try:
                parsed = datetime.strptime(text, layout)
                break
            except ValueError:
                continue
        else:
            try:
                parsed = parsedate_to_datetime(text)
            except (ValueError, TypeError, IndexError, OverflowError):
                raise EvaluationError(f"{_short(text)} is not a date") from None
    try:
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise EvaluationError(f"the date {_short(text)} is out of range") from None


def zone(name: str) -> tzinfo:
    """A time zone by its IANA name or by its offset, as in ``+02:00``."""
    if match := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset < timedelta(days=1):
            return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise EvaluationError(f"unknown time zone {_short(name)}") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
