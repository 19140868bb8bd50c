"""The functions that expressions may call: CEL's standard library and the dialect's own.

Arguments arrive known: the compiler answers ``false`` itself for a call with an unknown argument.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.fuel import burn, burn_text
from inngest.core.expr.regex import PatternError, compile_pattern
from inngest.core.expr.times import (
    EPOCH,
    format_duration,
    format_timestamp,
    from_epoch,
    parse_date,
    parse_duration,
    parse_timestamp,
    zone,
)
from inngest.core.expr.values import (
    CelType,
    UInt,
    checked_int,
    checked_uint,
    is_number,
    number_text,
    type_name,
)
from inngest.core.json import border

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_DOUBLE: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE
)
_TRUE: Final = frozenset({"1", "t", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "false", "FALSE", "False"})


@dataclass(frozen=True, slots=True)
class Function:
    """``calls`` and ``methods`` are how many arguments it takes as ``f(...)`` and as ``x.f(...)``, x apart.

    A function that ``needs_clock`` gets the present time as a first argument of its own.
    """

    run: Callable[..., Any]
    calls: frozenset[int]
    methods: frozenset[int]
    needs_clock: bool = False


_CASES: Final = 16
"""Characters that change their case for one unit: those beyond ASCII are slow."""


def _refuse(name: str, value: Any) -> EvaluationError:
    return EvaluationError(f"{name}() cannot take {type_name(value)}")


def _string_argument(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(name, value)
    return value


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes, list, dict)):
        return len(value)
    raise _refuse("size", value)


def _contains(text: Any, part: Any) -> bool:
    burn_text(len(_string_argument("contains", part)) + len(_string_argument("contains", text)))
    return part in text


def _starts_with(text: Any, prefix: Any) -> bool:
    _string_argument("startsWith", text)
    burn_text(len(_string_argument("startsWith", prefix)))
    return bool(text.startswith(prefix))


def _ends_with(text: Any, suffix: Any) -> bool:
    _string_argument("endsWith", text)
    burn_text(len(_string_argument("endsWith", suffix)))
    return bool(text.endswith(suffix))


def _matches(text: Any, pattern: Any) -> bool:
    _string_argument("matches", text)
    try:
        return compile_pattern(_string_argument("matches", pattern)).search(text)
    except PatternError as error:
        raise EvaluationError(f"invalid pattern: {error}") from None


def _lowercase(text: Any) -> str:
    burn(1 + len(_string_argument("lowercase", text)) // _CASES)
    return str(text.lower())


def _uppercase(text: Any) -> str:
    burn(1 + len(_string_argument("uppercase", text)) // _CASES)
    return str(text.upper())


def _b64decode(text: Any) -> str:
    burn_text(len(_string_argument("b64decode", text)))
    try:
        return base64.b64decode(_string_argument("b64decode", text), validate=True).decode()
    except (binascii.Error, ValueError):
        raise EvaluationError("b64decode() got a text that is not base64 of UTF-8") from None


def _json_parse(text: Any) -> Any:
    burn(len(_string_argument("json_parse", text)) // 4)  # small objects are the slowest
    try:
        return border.load(_string_argument("json_parse", text).encode(), "")
    except ValueError as error:
        raise EvaluationError(f"json_parse() failed: {error}") from None


def _burn_read(value: Any) -> None:
    if isinstance(value, str | bytes):
        burn_text(len(value))


def _int(value: Any) -> int:
    _burn_read(value)
    if is_number(value):
        if isinstance(value, float) and not math.isfinite(value):
            raise EvaluationError("integer overflow")
        return checked_int(int(value))
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return checked_int(int(value))
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(seconds=1)
    raise _cannot_read("int", value)


def _uint(value: Any) -> UInt:
    _burn_read(value)
    if is_number(value):
        if isinstance(value, float) and not math.isfinite(value):
            raise EvaluationError("unsigned integer overflow")
        return checked_uint(int(value))
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return checked_uint(int(value))
    raise _cannot_read("uint", value)


def _double(value: Any) -> float:
    _burn_read(value)
    if is_number(value) or (isinstance(value, str) and _DOUBLE.fullmatch(value)):
        try:
            return float(value)
        except OverflowError:
            raise EvaluationError("number too large") from None
    raise _cannot_read("double", value)


def _cannot_read(name: str, value: Any) -> EvaluationError:
    if isinstance(value, str):
        return EvaluationError(f"{name}() cannot read {value[:40]!r}")
    return _refuse(name, value)


def _bool(value: Any) -> bool:
    if value.__class__ is bool:
        return bool(value)
    if isinstance(value, str) and value in _TRUE | _FALSE:
        return value in _TRUE
    raise _cannot_read("bool", value)


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    _burn_read(value)
    if value.__class__ is bool:
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EvaluationError("string() got bytes that are not UTF-8") from None
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    raise _refuse("string", value)


def _bytes(value: Any) -> bytes:
    _burn_read(value)
    return value if isinstance(value, bytes) else _string_argument("bytes", value).encode()


def _type(value: Any) -> CelType:
    return CelType(type_name(value))


def _timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    _burn_read(value)
    if isinstance(value, int) and is_number(value):
        return from_epoch(value)
    return parse_timestamp(_string_argument("timestamp", value))


def _duration(value: Any) -> timedelta:
    _burn_read(value)
    return value if isinstance(value, timedelta) else parse_duration(_string_argument("duration", value))


def _date(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    _burn_read(value)
    if isinstance(value, str) or is_number(value):
        return parse_date(value)
    raise _refuse("date", value)


def _now_plus(now: datetime, offset: Any) -> datetime:
    try:
        return now + _duration(offset)
    except OverflowError:
        raise EvaluationError("the time is out of range") from None


def _now_minus(now: datetime, offset: Any) -> datetime:
    try:
        return now - _duration(offset)
    except OverflowError:
        raise EvaluationError("the time is out of range") from None


def _time_part(
    name: str, of_timestamp: Callable[[datetime], int], of_duration: Callable[[timedelta], int] | None = None
) -> Function:
    def run(value: Any, zone_name: Any = None) -> int:
        if isinstance(value, datetime):
            try:
                where = UTC if zone_name is None else zone(_string_argument(name, zone_name))
                return of_timestamp(value.astimezone(where))
            except OverflowError:
                raise EvaluationError("the time is out of range") from None
        if isinstance(value, timedelta) and of_duration is not None and zone_name is None:
            return of_duration(value)
        raise _refuse(name, value)

    return Function(run, frozenset(), frozenset({0, 1}))


def _whole(unit: timedelta) -> Callable[[timedelta], int]:
    return lambda value: int(value / unit) if value >= timedelta() else -(-value // unit)


def _call(
    run: Callable[..., Any], count: int = 1, *, method: bool = False, needs_clock: bool = False
) -> Function:
    return Function(run, frozenset({count}), frozenset({count - 1} if method else ()), needs_clock)


def _method(run: Callable[..., Any]) -> Function:
    return Function(run, frozenset(), frozenset({1}))


FUNCTIONS: Final[dict[str, Function]] = {
    "size": _call(_size, method=True),
    "contains": _method(_contains),
    "startsWith": _method(_starts_with),
    "endsWith": _method(_ends_with),
    "matches": _call(_matches, 2, method=True),
    "int": _call(_int),
    "uint": _call(_uint),
    "double": _call(_double),
    "bool": _call(_bool),
    "string": _call(_string),
    "bytes": _call(_bytes),
    "type": _call(_type),
    "dyn": _call(lambda value: value),
    "timestamp": _call(_timestamp),
    "duration": _call(_duration),
    "getFullYear": _time_part("getFullYear", lambda t: t.year),
    "getMonth": _time_part("getMonth", lambda t: t.month - 1),
    "getDate": _time_part("getDate", lambda t: t.day),
    "getDayOfMonth": _time_part("getDayOfMonth", lambda t: t.day - 1),
    "getDayOfWeek": _time_part("getDayOfWeek", lambda t: t.isoweekday() % 7),
    "getDayOfYear": _time_part("getDayOfYear", lambda t: t.timetuple().tm_yday - 1),
    "getHours": _time_part("getHours", lambda t: t.hour, _whole(timedelta(hours=1))),
    "getMinutes": _time_part("getMinutes", lambda t: t.minute, _whole(timedelta(minutes=1))),
    "getSeconds": _time_part("getSeconds", lambda t: t.second, _whole(timedelta(seconds=1))),
    # Of a duration this is the part below a second, as the CEL language definition has it.
    "getMilliseconds": _time_part(
        "getMilliseconds",
        lambda t: t.microsecond // 1000,
        lambda d: int(
            math.copysign(abs(d) % timedelta(seconds=1) // timedelta(milliseconds=1), d.total_seconds())
        ),
    ),
    "lowercase": _call(_lowercase),
    "uppercase": _call(_uppercase),
    "b64decode": _call(_b64decode),
    "json_parse": _call(_json_parse),
    "date": _call(_date),
    "now": _call(lambda now: now, 0, needs_clock=True),
    "now_plus": _call(_now_plus, needs_clock=True),
    "now_minus": _call(_now_minus, needs_clock=True),
}
MACROS: Final = {
    "all": frozenset({2}),
    "exists": frozenset({2}),
    "exists_one": frozenset({2}),
    "filter": frozenset({2}),
    "map": frozenset({2, 3}),
}
"""The comprehensions, and how many arguments each takes."""

BOOLEAN: Final = frozenset({"contains", "startsWith", "endsWith", "matches", "bool"})
"""Functions that return nothing but booleans (or fail)."""


def of_unknown(name: str) -> Any:
    """What a function makes of an unknown argument: the size is 0, all else is false."""
    return 0 if name == "size" else False


__all__ = ["BOOLEAN", "FUNCTIONS", "MACROS", "Function", "of_unknown"]
