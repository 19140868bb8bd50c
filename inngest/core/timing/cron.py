"""Cron expressions of five fields, as robfig/cron's standard parser reads them, and when they are next due.

A field is a comma-separated list of ``*`` (or ``?``), values, ranges ``a-b``, and any of them with a step
``/n``, where ``a/n`` goes on to the end; months and days of the week have their English names of three
letters. When both day fields are restricted, a day has to match only one of them. ``TZ=Area/City`` or
``CRON_TZ=Area/City`` in front says whose clock is meant, UTC otherwise.

The schedule follows that clock's reading (wire protocol section 4.12): a time that a change of the clock
skips does not come that day, one that it repeats comes twice. So it is in robfig/cron too, except where the
clock changes at midnight or by part of an hour: there it loses days or is due on wrong ones, which is not
imitated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from inngest.core.errors import InngestError

SEARCH_YEARS = 5

_DAY = timedelta(days=1)


class InvalidCron(InngestError, ValueError):
    """A text is not a cron expression. ``field`` names the field at fault, or is empty."""

    def __init__(self, reason: str, *, text: str, field: str = "") -> None:
        where = f"{field}: " if field else ""
        super().__init__(f"invalid cron expression {text!r}: {where}{reason}")
        self.reason = reason
        self.text = text
        self.field = field


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression; see `parse_cron`. Days of the week count from Sunday, 0."""

    text: str
    zone: tzinfo
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Whether a day matches by its day of the month *or* its day of the week, not by both."""

    def next_after(self, ms: int) -> int | None:
        """The first due instant after ``ms``, both in Unix milliseconds.

        None if there is none until the end of the fifth year after, as for the 30th of February.
        """
        earliest = ms // 1_000 + 1
        for day in self._days_from(datetime.fromtimestamp(earliest, self.zone).date()):
            due = self._first_on(day, earliest)
            if due is not None:
                return due * 1_000
        return None

    def _days_from(self, day: date) -> Iterator[date]:
        last_year = min(day.year + SEARCH_YEARS, MAXYEAR - 1)
        while day.year <= last_year:
            if day.month in self.months:
                if self._is_on(day):
                    yield day
                day += _DAY
            else:
                day = (day.replace(day=28) + 4 * _DAY).replace(day=1)

    def _is_on(self, day: date) -> bool:
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday if self.either_day else by_day and by_weekday

    def _first_on(self, day: date, earliest: int) -> int | None:
        """The first due second of a day, at or after ``earliest``."""
        midnights = [
            datetime.combine(midnight, time(fold=fold), self.zone)
            for midnight in (day, day + _DAY)
            for fold in (0, 1)
        ]
        seconds = [int(midnight.timestamp()) for midnight in midnights]
        if len({midnight.utcoffset() for midnight in midnights}) > 1:
            return self._first_real(day, max(earliest, min(seconds)), max(seconds))
        start = seconds[0]
        return next(
            (
                due
                for hour in self.hours
                if start + (hour + 1) * 3_600 > earliest
                for minute in self.minutes
                if (due := start + hour * 3_600 + minute * 60) >= earliest
            ),
            None,
        )

    def _first_real(self, day: date, first: int, end: int) -> int | None:
        """The first due second of a day on which the clock changes, by trying each minute that there is."""
        first += -datetime.fromtimestamp(first, self.zone).second % 60
        for second in range(first, end, 60):
            local = datetime.fromtimestamp(second, self.zone)
            if local.minute in self.minutes and local.hour in self.hours and local.date() == day:
                return second
        return None


def parse_cron(text: str) -> Cron:
    """Parse a cron expression. Raises InvalidCron, which names the field and what is wrong with it."""
    zone, expression = _split_zone(text)
    if expression.startswith("@"):
        raise InvalidCron("descriptors such as @daily are not supported", text=text)
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise InvalidCron(f"expected five fields ({names}), found {len(fields)}", text=text)
    try:
        values = [field.parse(part) for field, part in zip(_FIELDS, fields, strict=True)]
    except _FieldError as error:
        raise InvalidCron(error.reason, text=text, field=error.field) from None
    (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = values
    return Cron(
        text=text,
        zone=zone,
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(weekdays),
        either_day=not (any_day or any_weekday),
    )


def jitter_offset(function_id: str, expression: str, scheduled_ms: int, jitter_ms: int) -> int:
    """By how many milliseconds, below ``jitter_ms``, a scheduled time is put off.

    Depends on nothing but the arguments, so that every server comes to the same.
    """
    if jitter_ms <= 0:
        return 0
    seed = f"{function_id}\0{expression}\0{scheduled_ms}".encode()
    return int.from_bytes(hashlib.sha256(seed).digest()[:8]) % jitter_ms


class _FieldError(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    value_names: tuple[str, ...] = ()

    def parse(self, text: str) -> tuple[set[int], bool]:
        """The values of a field, and whether it leaves all open."""
        items = [item for item in text.split(",") if item]
        if not items:
            raise self._error("is empty")
        values: set[int] = set()
        unrestricted = False
        for item in items:
            span, slash, step_text = item.partition("/")
            step = self._number(step_text) if slash else 1
            if step == 0:
                raise self._error(f"the step of {item!r} is zero")
            if span in {"*", "?"}:
                first, last = self.low, self.high
                unrestricted |= step == 1
            else:
                first_text, dash, last_text = span.partition("-")
                first = self._value(first_text)
                last = self._value(last_text) if dash else self.high if slash else first
            if first > last:
                raise self._error(f"the range {span!r} runs backwards")
            values.update(range(first, last + 1, step))
        return values, unrestricted

    def _value(self, text: str) -> int:
        if text.lower() in self.value_names:
            return self.low + self.value_names.index(text.lower())
        value = self._number(text)
        if not self.low <= value <= self.high:
            raise self._error(f"{value} is not within {self.low} to {self.high}")
        return value

    def _number(self, text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text):
            raise self._error(f"{text!r} is not a number" + (" or name" if self.value_names else ""))
        return int(text)

    def _error(self, reason: str) -> _FieldError:
        return _FieldError(self.name, reason)


_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTH_NAMES),
    _Field("day of week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


def _split_zone(text: str) -> tuple[tzinfo, str]:
    expression = text.strip()
    if not expression.startswith(("TZ=", "CRON_TZ=")):
        return ZoneInfo("UTC"), expression
    prefix, _, expression = expression.partition(" ")
    name = prefix.partition("=")[2]
    try:
        return ZoneInfo(name), expression.strip()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidCron(f"unknown time zone {name!r}", text=text, field="time zone") from None
