"""Durations and dates as the SDKs write them, read into integer milliseconds.

A *duration string* is Go's notation with days and weeks, ``1w2d3h4m5s``; a *timeout string* is a duration
string or an absolute date (wire protocol, conventions). All instants are Unix milliseconds. What is finer
than a millisecond is rounded up, so that nothing comes early.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from inngest.core.errors import InngestError
from inngest.core.timing.times import DAY, HOUR, MINUTE, SECOND, WEEK

_RETRY_AFTER_MIN = SECOND
_RETRY_AFTER_MAX = DAY

_NS_PER_MS = 1_000_000
_MAX_NS = (1 << 63) - 1  # what Go's durations hold: about 292 years
_MAX_LENGTH = 100
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek mu
    "ms": _NS_PER_MS,
    "s": SECOND * _NS_PER_MS,
    "m": MINUTE * _NS_PER_MS,
    "h": HOUR * _NS_PER_MS,
    "d": DAY * _NS_PER_MS,
    "w": WEEK * _NS_PER_MS,
}
_PRINTED_UNITS = (
    ("w", WEEK),
    ("d", DAY),
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", 1),
)

_SIGN = re.compile(r"[+-]?").match
_NUMBER = re.compile(r"([0-9]*)(?:\.([0-9]*))?").match
_UNIT = re.compile(r"[^0-9.]*").match

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: month for month, name in enumerate(_MONTH_NAMES, start=1)}
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,18}))?)?"
_ZONE = r"(?P<zone>Z|GMT|UTC|UT|[+-]\d\d(?::?\d\d)?)"
_DATES = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE).fullmatch
    for pattern in (
        # RFC 3339 and its ISO 8601 relatives: 2026-11-23T05:55:46.783Z, 2026-11-23 05:55, 2026-11-23
        rf"(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)(?:[T ]{_TIME} ?{_ZONE}?)?",
        # RFC 1123: Mon, 23 Nov 2026 05:55:46 GMT
        rf"(?:[a-z]{{3}}, ?)?(?P<day>\d{{1,2}}) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} {_ZONE}",
        # RFC 850: Monday, 23-Nov-26 05:55:46 GMT
        rf"[a-z]{{6,9}}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} {_ZONE}",
        # asctime: Mon Nov 23 05:55:46 2026
        rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


class InvalidDuration(InngestError, ValueError):
    """A text is not a duration. ``position`` is a 0-based offset into ``text``."""

    def __init__(self, reason: str, *, text: str, position: int) -> None:
        shown = text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "..."
        super().__init__(f"invalid duration {shown!r}: {reason} at position {position + 1}")
        self.reason = reason
        self.text = text
        self.position = position


def parse_duration(text: str) -> int:
    """The milliseconds of a duration string such as ``1m30s``, ``1.5h`` or ``-2d``.

    Raises InvalidDuration, also for an empty text: whether that may stand for zero is the caller's to say.
    """
    if not text:
        raise InvalidDuration("a number is missing", text=text, position=0)
    if len(text) > _MAX_LENGTH:
        raise InvalidDuration("longer than any duration", text=text, position=_MAX_LENGTH)
    position = _end(_SIGN(text))
    if text[position:] == "0":
        return 0
    total_ns = 0
    while True:
        number = _NUMBER(text, position)
        assert number is not None  # the pattern matches the empty text
        whole, fraction = number[1], number[2] or ""
        if not whole and not fraction:
            raise InvalidDuration("a number is missing", text=text, position=position)
        unit_end = _end(_UNIT(text, number.end()))
        unit = text[number.end() : unit_end]
        unit_ns = _UNITS_NS.get(unit)
        if unit_ns is None:
            reason = f"unknown unit {unit!r}" if unit else "a unit (w d h m s ms us ns) is missing"
            raise InvalidDuration(reason, text=text, position=number.end())
        total_ns += _ceil_div(int(whole + fraction) * unit_ns, 10 ** len(fraction))
        if total_ns > _MAX_NS:
            raise InvalidDuration("more than 292 years", text=text, position=position)
        position = unit_end
        if position == len(text):
            break
    return _ceil_div(-total_ns if text[0] == "-" else total_ns, _NS_PER_MS)


def format_duration(ms: int) -> str:
    """A duration string that `parse_duration` reads back as ``ms``: ``1d12h``, ``90ms``, ``0s``."""
    if ms == 0:
        return "0s"
    parts = ["-"] if ms < 0 else []
    rest = abs(ms)
    for unit, size in _PRINTED_UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_date(text: str) -> int | None:
    """The instant of an absolute date; None if ``text`` is not one.

    Reads RFC 3339 and ISO 8601 dates with or without time and zone, and the three date formats of HTTP.
    A date without a zone is in UTC.
    """
    for matches in _DATES:
        if match := matches(text):
            return _instant(match)
    return None


def parse_timeout(text: str, now_ms: int) -> int:
    """When a timeout string is due. An empty text, a past date or a negative duration is due now.

    Raises InvalidDuration if ``text`` is neither a date nor a duration string.
    """
    if not text:
        return now_ms
    date_ms = parse_date(text)
    return max(now_ms, now_ms + parse_duration(text) if date_ms is None else date_ms)


def parse_sleep(text: str, now_ms: int) -> int:
    """When a sleep ends: as `parse_timeout`, but a date ahead is rounded up to a whole second.

    Wire protocol section 3.7, "Sleep". The upper limit of a sleep is the caller's to check.
    """
    date_ms = parse_date(text)
    if date_ms is None:
        return parse_timeout(text, now_ms)
    return now_ms if date_ms <= now_ms else _ceil_div(date_ms, SECOND) * SECOND


def parse_http_retry_after(value: str, now_ms: int) -> int | None:
    """When a ``Retry-After`` header asks to be called again, held within 1 s and 24 h of now.

    The value is a positive number of seconds of up to seven characters, or a date (wire protocol section 3.2,
    rule 3). None if it is neither.
    """
    value = value.strip()
    if len(value) <= 7 and value.isascii() and value.isdigit() and int(value) > 0:
        due_ms = now_ms + int(value) * SECOND
    elif (date_ms := parse_date(value)) is not None:
        due_ms = date_ms
    else:
        return None
    return min(max(due_ms, now_ms + _RETRY_AFTER_MIN), now_ms + _RETRY_AFTER_MAX)


def _instant(match: re.Match[str]) -> int | None:
    """The instant of a matched date, or None if the calendar has no such day or the clock no such time."""
    part = match.groupdict()
    month, year = part["month"], int(part["year"])
    if len(part["year"]) == 2:
        year += 1900 if year >= 69 else 2000  # the pivot of POSIX
    try:
        local = datetime(
            year,
            int(month) if month.isdigit() else _MONTHS[month.lower()],
            int(part["day"]),
            int(part["hour"] or 0),
            int(part["minute"] or 0),
            int(part["second"] or 0),
            tzinfo=_zone(part.get("zone")),
        )
    except (KeyError, ValueError):
        return None
    fraction = part["fraction"] or ""
    fraction_ms = _ceil_div(int(fraction or 0) * SECOND, 10 ** len(fraction))
    return (local - _EPOCH) // timedelta(seconds=1) * SECOND + fraction_ms


def _zone(text: str | None) -> timezone:
    if text is None or text[0] not in "+-":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:].lstrip(":") or 0))
    return timezone(-offset if text[0] == "-" else offset)


def _end(match: re.Match[str] | None) -> int:
    assert match is not None  # for patterns that match the empty text
    return match.end()


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
