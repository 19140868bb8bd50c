"""The values of the dialect, and the operators that differ from stock CEL (wire protocol section 4.13).

A value is what JSON gives (``dict``, ``list``, ``str``, ``int``, ``float``, ``bool``, ``None``) or one of
``UInt``, ``bytes``, ``CelType``, an aware UTC ``datetime`` (timestamp), a ``timedelta`` (duration) and
``UNKNOWN``.

JSON spells one number both ``1`` and ``1.0``, so ints and doubles mix freely in arithmetic as they do in
comparisons.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.fuel import CHARACTERS, burn, burn_text
from inngest.core.expr.times import format_duration, format_timestamp

MAX_SIZE: Final = 1 << 20
"""Longest string or list that an expression may build."""

_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 63) - 1
_UINT_MAX: Final = (1 << 64) - 1


class _Unknown:
    """The value of a path that leads nowhere."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()


class UInt(int):
    """CEL's unsigned 64-bit integer."""


@dataclass(frozen=True, slots=True)
class CelType:
    """What ``type(x)`` returns."""

    name: str


_TYPE_NAMES: Final[dict[type, str]] = {
    type(None): "null_type",
    _Unknown: "null_type",
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
    CelType: "type",
}
TYPES: Final = {name: CelType(name) for name in _TYPE_NAMES.values()}

_ZEROS: Final[dict[type, Any]] = {
    bool: False,
    int: 0,
    UInt: 0,
    float: 0.0,
    str: "",
    bytes: b"",
    datetime: datetime.min.replace(tzinfo=UTC),
    timedelta: timedelta(),
}


def type_name(value: Any) -> str:
    """The CEL name of a value's type."""
    return _TYPE_NAMES.get(value.__class__) or value.__class__.__name__


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value.__class__ is not bool


def truthy(value: Any) -> bool:
    """JavaScript truthiness: unknown, null, false, "" and 0 are false; empty lists and maps are true."""
    if value is None or value is UNKNOWN:
        return False
    return not isinstance(value, (bool, int, float, str)) or bool(value)


def equal(a: Any, b: Any) -> bool:
    """``a == b``: null equals unknown, numbers compare by value, any other mix of types is unequal."""
    if a is None or a is UNKNOWN:
        return b is None or b is UNKNOWN
    if isinstance(a, list):
        if not isinstance(b, list) or len(a) != len(b):
            return False
        burn(1 + len(a))
        return all(map(equal, a, b))
    if isinstance(a, dict):
        burn(1 + len(a))
        return (
            isinstance(b, dict)
            and len(a) == len(b)
            and all(has_key(b, key) and equal(value, member(b, key)) for key, value in a.items())
        )
    if a.__class__ is b.__class__:
        if isinstance(a, str | bytes) and len(a) == len(b) > CHARACTERS:
            burn_text(len(a))
        return bool(a == b)
    return bool(a == b) if is_number(a) and is_number(b) else False


def _ordering(compare: Callable[[Any, Any], bool], *, when_both_null: bool) -> Callable[[Any, Any], bool]:
    def ordered(a: Any, b: Any) -> bool:
        if a is None or a is UNKNOWN:
            if b is None or b is UNKNOWN:
                return when_both_null
            if a is UNKNOWN:
                return True
            a = _ZEROS.get(b.__class__)
        elif b is UNKNOWN:
            return False
        elif b is None:
            b = _ZEROS.get(a.__class__)
        if (is_number(a) and is_number(b)) or (a.__class__ is b.__class__ and a.__class__ in _ZEROS):
            if isinstance(a, str | bytes):
                burn_text(min(len(a), len(b)))
            return compare(a, b)
        return False

    return ordered


less: Final = _ordering(operator.lt, when_both_null=False)
"""``a < b``; false for types that have no order between them. ``a > b`` is ``less(b, a)``."""

less_equal: Final = _ordering(operator.le, when_both_null=True)
"""``a <= b``; ``a >= b`` is ``less_equal(b, a)``."""


def has_key(mapping: dict[Any, Any], key: Any) -> bool:
    """Whether a map holds a key; unlike Python's, ``true`` is not the key ``1``."""
    if key.__class__ is str:
        return key in mapping
    burn(1 + len(mapping))
    return any(equal(key, other) for other in mapping)


def member(container: Any, key: Any) -> Any:
    """``container[key]``, unknown if there is no such thing."""
    if isinstance(container, dict):
        if key.__class__ is str:
            return container.get(key, UNKNOWN)
        burn(1 + len(container))
        return next((value for other, value in container.items() if equal(key, other)), UNKNOWN)
    if isinstance(container, list) and is_number(key) and 0 <= key < len(container) and key == int(key):
        return container[int(key)]
    return UNKNOWN


def contains(item: Any, container: Any) -> bool:
    """``item in container``, for lists and the keys of maps."""
    if item is UNKNOWN or container is UNKNOWN or container is None:
        return False
    if isinstance(container, list):
        burn(1 + len(container))
        return any(equal(item, other) for other in container)
    if isinstance(container, dict):
        return has_key(container, item)
    raise EvaluationError(f"'in' needs a list or a map on its right, got {type_name(container)}")


def checked_int(value: int) -> int:
    """``value`` if it fits in 64 bits."""
    if not _INT_MIN <= value <= _INT_MAX:
        raise EvaluationError("integer overflow")
    return value


def checked_uint(value: int) -> UInt:
    """``value`` as an unsigned integer if it fits in 64 bits."""
    if not 0 <= value <= _UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def _divide(a: float, b: float) -> float:
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            raise EvaluationError("division by zero")
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def _remainder(a: float, b: float) -> float:
    if not isinstance(a, int) or not isinstance(b, int):
        raise EvaluationError("% needs integers")
    if b == 0:
        raise EvaluationError("modulus by zero")
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def _arithmetic(symbol: str, compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def run(a: Any, b: Any) -> Any:
        if a is UNKNOWN or b is UNKNOWN:
            return False
        if is_number(a) and is_number(b):
            return _number(compute, a, b)
        if symbol == "-" and isinstance(a, (datetime, timedelta)) and isinstance(b, (datetime, timedelta)):
            return _time(compute, a, b)
        raise EvaluationError(f"'{symbol}' cannot take {type_name(a)} and {type_name(b)}")

    return run


def _number(compute: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    try:
        result = compute(a, b)
    except OverflowError:
        raise EvaluationError("number too large") from None
    if isinstance(result, float):
        return result
    return checked_uint(result) if isinstance(a, UInt) and isinstance(b, UInt) else checked_int(result)


def _time(compute: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    try:
        return compute(a, b)
    except (OverflowError, TypeError):
        raise EvaluationError(f"cannot combine {type_name(a)} and {type_name(b)}") from None


subtract: Final = _arithmetic("-", operator.sub)
multiply: Final = _arithmetic("*", operator.mul)
divide: Final = _arithmetic("/", _divide)
remainder: Final = _arithmetic("%", _remainder)


def add(a: Any, b: Any) -> Any:
    """``a + b``: null and unknown add nothing; types that do not add are joined as strings."""
    if a is None or a is UNKNOWN:
        return b
    if b is None or b is UNKNOWN:
        return a
    if is_number(a) and is_number(b):
        return _number(operator.add, a, b)
    if isinstance(a, (datetime, timedelta)) and isinstance(b, (datetime, timedelta)):
        return _time(operator.add, a, b)
    if a.__class__ is not b.__class__ or not isinstance(a, (str, bytes, list)):
        a, b = display(a), display(b)
    if len(a) + len(b) > MAX_SIZE:
        raise EvaluationError(f"the result of '+' is longer than {MAX_SIZE}")
    burn_text(len(a) + len(b))
    return a + b


def negate(value: Any) -> Any:
    """``-value``."""
    if value is UNKNOWN:
        return False
    if isinstance(value, UInt) or not is_number(value):
        raise EvaluationError(f"'-' cannot take {type_name(value)}")
    return -value if isinstance(value, float) else checked_int(-value)


def invert(value: Any) -> bool:
    """``!value``: stock CEL, so only for booleans; false for unknown, as every function is."""
    if value is UNKNOWN:
        return False
    if value.__class__ is not bool:
        raise EvaluationError(f"'!' needs a bool, got {type_name(value)}")
    return not value


def number_text(value: float) -> str:
    """The shortest text of a number; equal numbers have one text."""
    if isinstance(value, float):
        if value.is_integer():
            value = int(value)
        else:
            return repr(value)
    return int.__repr__(value)


def display(value: Any) -> str:
    """A value as text: strings as they are, numbers in their shortest form, lists and maps as JSON with
    sorted keys, timestamps in RFC 3339, durations in seconds, null and unknown as nothing.
    """
    if value is None or value is UNKNOWN:
        return ""
    if isinstance(value, str):
        return value
    if value.__class__ is bool:
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, bytes):
        burn_text(len(value))
        return value.decode(errors="replace")
    if isinstance(value, CelType):
        return value.name
    return msgspec.json.encode(_plain(value), order="sorted").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        burn(1 + len(value))
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        burn(1 + len(value))
        return {display(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value) if abs(value) < 1e21 else value
    if isinstance(value, str):
        burn_text(len(value))
    if value is None or isinstance(value, (str, int, float)):
        return value
    return display(value)
