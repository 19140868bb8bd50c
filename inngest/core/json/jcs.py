"""RFC 8785, the JSON Canonicalization Scheme: the bytes that requests to the SDKs are signed over.

Members are sorted by the UTF-16 code units of their names, numbers are written as ECMAScript writes doubles
(integers beyond 2**53 too, so that an SDK that reads them as doubles comes to the same text), strings carry
no escape that is not due.

msgspec's sorted encoding is canonical already but for floats, long integers, and names beyond the Basic
Multilingual Plane. So the text is made first and then looked through for signs of those, by a few scans in C;
only the last two need the writer in Python.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from inngest.core.errors import InngestError
from inngest.core.json.surrogates import lone_surrogate

_MAX_EXACT = 1 << 53


class InvalidJson(InngestError, ValueError):
    """A value or text has no canonical JSON form; the message says what in it, and where."""


def canonical(value: Any) -> bytes:
    """The canonical JSON of a value: of what JSON can hold, of msgspec's structs, and of whatever it encodes.

    A `msgspec.Raw` inside has to be canonical already. Raises InvalidJson for NaN, infinity, lone surrogates,
    names that are not strings and types that JSON does not know.
    """
    text = _encode(value)
    if b"null" in text:  # which is also how msgspec writes NaN
        refuse_non_finite(value, "$")
    shape = text.translate(_SHAPE)
    if b"0.0" in shape or b":0e" in shape or b":-0e" in shape or text[:1] in b"-0123456789":
        return canonicalise(text)
    return _write(_decode(text)) if _needs_writer(text, shape) else text


def canonicalise(raw: bytes) -> bytes:
    """The canonical form of a JSON text. Of members of the same name the last one stays, as in ECMAScript.

    Raises InvalidJson for what is not JSON, for lone surrogates and for numbers beyond the range of doubles.
    """
    value = _decode(raw)
    text = _encode(value)
    return _write(value) if _needs_writer(text, text.translate(_SHAPE)) else text


def format_number(number: float) -> str:
    """A double as ECMAScript's Number::toString writes it. Raises InvalidJson for NaN and infinity."""
    if not math.isfinite(number):
        raise InvalidJson(f"JSON has no number {number}")
    if number == 0:
        return "0"  # also for -0.0
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # the value is 0.digits * 10**point
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


# Digits become 0, what a number may follow becomes a colon, the first bytes of astral characters become F0.
_SHAPE = bytes.maketrans(
    b"123456789" + b"[," + b"\xf1\xf2\xf3\xf4", b"000000000" + b"::" + b"\xf0\xf0\xf0\xf0"
)
_LONG = b"0" * 16
_LONG_INTEGER = re.compile(rb"(?:^|[:,\[])-?[0-9]{16}").search
_ASTRAL_NAME = re.compile(rb'[\xf0-\xf4][^"\\]*(?:\\.[^"\\]*)*":').search


def _needs_writer(text: bytes, shape: bytes) -> bool:
    """Whether a compact text may hold integers that are not exact doubles or names that msgspec missorts."""
    return (_LONG in shape and _LONG_INTEGER(text) is not None) or (
        b"\xf0" in shape and _ASTRAL_NAME(text) is not None
    )


def _write(value: Any) -> bytes:
    """The canonical form of what `_decode` returns."""
    try:
        return _write_value(value)
    except RecursionError:
        raise InvalidJson("nested too deeply") from None


def _write_value(value: Any) -> bytes:
    if isinstance(value, dict):
        members = sorted(value.items(), key=_utf16_of_name)
        return b"{%b}" % b",".join(_ENCODER.encode(k) + b":" + _write_value(v) for k, v in members)
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(_write_value, value))
    if isinstance(value, int) and abs(value) > _MAX_EXACT:
        return _format_integer(value).encode()
    return _ENCODER.encode(value)


def _utf16_of_name(member: tuple[str, Any]) -> bytes:
    return member[0].encode("utf-16-be")


def _format_integer(value: int) -> str:
    try:
        return format_number(float(value))
    except OverflowError:
        raise InvalidJson("a number is beyond the range of doubles") from None


def _read_float(token: str) -> msgspec.Raw:
    number = float(token)
    if math.isinf(number):
        raise InvalidJson(f"the number {token} is beyond the range of doubles")
    return msgspec.Raw(format_number(number).encode())


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(float_hook=_read_float)


def _encode(value: Any) -> bytes:
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError as error:
        raise InvalidJson(
            f"a string holds a lone surrogate at position {error.start + 1}: {error.object[:100]!a}"
        ) from error
    except RecursionError:
        raise InvalidJson("nested too deeply") from None
    except TypeError as error:
        raise InvalidJson(f"not JSON: {error}") from error


def _decode(raw: bytes) -> Any:
    try:
        return _DECODER.decode(raw)
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not JSON: {error}") from error
    except RecursionError:
        raise InvalidJson("nested too deeply") from None
    except msgspec.MsgspecError as error:
        offset = lone_surrogate(raw)
        reason = str(error) if offset is None else f"a lone surrogate is escaped (byte {offset})"
        raise InvalidJson(f"not JSON: {reason}") from error


def refuse_non_finite(value: Any, path: str) -> None:
    """Raises InvalidJson for NaN and infinity, which msgspec writes as null."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidJson(f"{path}: JSON has no number {value}")
    elif isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(member, str):
                refuse_non_finite(member, f"{path}.{name}")
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            if not isinstance(item, str):
                refuse_non_finite(item, f"{path}[{index}]")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            refuse_non_finite(getattr(value, name), f"{path}.{name}")
