"""What JSON text may come in: from senders, from applications, from whoever uses the APIs.

Text that passes here can be decoded, encoded, canonicalised, evaluated and stored by everything that comes
after it, also inside of our own envelopes and under any Python; all else is refused, with its place. What
JSON can say and this refuses: numbers beyond the range of doubles, nesting deeper than `MAX_DEPTH`, strings
that are not UTF-8, halves of surrogate pairs (which `surrogates.whole` replaces first).

Most text is *ordinary*: shallow, its integers of 64 bits. One typed decoding in C proves that of it, for the
price of any decoding; only what is not gets a second look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from types import GenericAlias
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from inngest.core.json.jcs import InvalidJson, refuse_non_finite
from inngest.core.json.surrogates import lone_surrogate
from inngest.core.policy import MAX_DEPTH

_ORDINARY_DEPTH = 8
"""Of a type that bounds its own depth: each level more doubles what msgspec keeps of it."""
_SHOWN_STEPS = 16
_SHOWN_CHARACTERS = 40
_SEARCHED_BYTES = 1 << 16


def _ordinary_type(depth: int) -> Any:
    scalar: Any = None | bool | Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | float | str
    kind = scalar
    for _ in range(depth):
        kind = scalar | GenericAlias(list, (kind,)) | GenericAlias(dict, (str, kind))
    return kind


_decode_ordinary = msgspec.json.Decoder(_ordinary_type(_ORDINARY_DEPTH)).decode
_decode_any = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON text that it cannot decode."""


ENVELOPE = 2
"""Levels that SDKs and clients put around a value of their user's: ``{"payload":{"data":...}}``."""


def load(text: bytes | Raw, place: str, *, around: int = 0) -> Any:
    """The value of JSON text that may pass.

    Args:
        place: what the text is called; it may be empty.
        around: levels of it that are an envelope, and do not count.

    Raises InvalidJson, which says what cannot pass and where, as in ``data.a[3].b: ...`` if the place is
    ``data``.
    """
    try:
        return _decode_ordinary(text)
    except UNREADABLE:
        pass
    try:
        value = _decode_any(text)
    except UNREADABLE:
        raise _unreadable(bytes(text), place) from None
    _look_through(value, place, MAX_DEPTH + around)
    return value


def reason(error: Exception) -> str:
    """What is wrong with a text, by what msgspec raised."""
    return _TOO_DEEP if isinstance(error, RecursionError) else str(error)


def dump(value: Any) -> bytes:
    """JSON text of a value. Raises InvalidJson for what JSON cannot say, NaN and infinity too."""
    try:
        text = msgspec.json.encode(value)
        if b"null" in text:
            refuse_non_finite(value, "$")
    except (UnicodeEncodeError, RecursionError, TypeError) as error:
        raise InvalidJson(f"not JSON: {error}") from None
    return text


def is_json(text: bytes) -> bool:
    """Whether the text has JSON's grammar; it may still be what cannot pass."""
    try:
        msgspec.json.decode(text, type=Raw)
    except RecursionError:
        return True
    except msgspec.MsgspecError:
        return False
    return True


def step(place: str, key: str | int) -> str:
    """The place of a member, or of an element, of what is at ``place``."""
    if isinstance(key, int):
        return f"{place}[{key}]"
    if key.isidentifier() and len(key) <= _SHOWN_CHARACTERS:
        return f"{place}.{key}" if place else key
    return f"{place}[{msgspec.json.encode(key[:_SHOWN_CHARACTERS]).decode()}]"


def _refusal(place: str, reason: str) -> InvalidJson:
    return InvalidJson(f"{place}: {reason}" if place else reason)


# -- what cannot be decoded --


def _unreadable(text: bytes, place: str) -> InvalidJson:
    """The reason why msgspec does not decode the text, at the smallest part of it that has it."""
    for _ in range(_SHOWN_STEPS):
        found = _first_unreadable(text)
        if found is None:
            break
        key, text = found
        place = step(place, key)
    return _refusal(place, _reason(text))


def _first_unreadable(text: bytes) -> tuple[str | int, bytes] | None:
    members: Iterable[tuple[str | int, Raw]]
    try:
        opening = text.lstrip()[:1]
        if opening == b"{":
            members = _decode_object(text).items()
        elif opening == b"[":
            members = enumerate(_decode_array(text))
        else:
            return None
    except UNREADABLE:
        return None
    for key, raw in members:
        try:
            _decode_any(raw)
        except UNREADABLE:
            return key, bytes(raw)
    return None


def _reason(text: bytes) -> str:
    try:
        _decode_any(text)
    except UnicodeDecodeError as error:
        return f"text that is not UTF-8: {error}"
    except RecursionError:
        return _TOO_DEEP
    except msgspec.ValidationError:
        return _too_large(text.strip().decode("ascii", "replace"))
    except msgspec.MsgspecError as error:
        if len(text) <= _SEARCHED_BYTES and lone_surrogate(text) is not None:
            return "text with half of a surrogate pair"
        return f"not JSON: {error}"
    return "not JSON"


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def _too_large(number: str) -> str:
    if number[:1] in {"{", "["}:
        return "a number in it is beyond the range of doubles"
    shown = number if len(number) <= _SHOWN_CHARACTERS else f"{number[:_SHOWN_CHARACTERS]}…"
    return f"the number {shown} is beyond the range of doubles"


# -- what can be, and is not ordinary --


def _look_through(value: Any, place: str, depth: int) -> None:
    """Raises InvalidJson for what, in a decoded value, cannot pass: numbers, and levels beyond ``depth``."""
    # Level by level, without recursion: the value may nest deeper than what recurses could go.
    level = [value]
    for _ in range(depth + 1):
        integers = [each for each in level if each.__class__ is int]
        if integers and not (_is_double(max(integers)) and _is_double(min(integers))):
            break
        arrays = [each for each in level if each.__class__ is list]
        objects = [each for each in level if each.__class__ is dict]
        if not arrays and not objects:
            return
        level = [*chain.from_iterable(arrays), *chain.from_iterable(map(dict.values, objects))]
    raise _misfit(value, place, depth)


_CONTAINERS: frozenset[type] = frozenset({dict, list})


def _members(container: Any) -> Iterator[tuple[str | int, Any]]:
    return iter(container.items() if container.__class__ is dict else enumerate(container))


def _is_double(number: int) -> bool:
    try:
        float(number)
    except OverflowError:
        return False
    return True


def _misfit(value: Any, place: str, depth: int) -> InvalidJson:
    """The first number beyond doubles, or the first container beyond the depth, in the order of the text."""
    path: list[str | int] = []
    stack: list[Iterator[tuple[str | int, Any]]] = [iter([("", value)])]
    while stack:
        for key, each in stack[-1]:
            if each.__class__ is int and not _is_double(each):
                return _refusal(_shown(place, [*path, key]), _too_large(str(each)))
            if each.__class__ in _CONTAINERS:
                if len(stack) > depth:
                    return _refusal(_shown(place, [*path, key]), _TOO_DEEP)
                path.append(key)
                stack.append(_members(each))
                break
        else:
            stack.pop()
            if path:
                path.pop()
    return _refusal(place, "not JSON")


def _shown(place: str, path: Sequence[str | int]) -> str:
    for key in path[1 : _SHOWN_STEPS + 1]:  # the first is the value as a whole
        place = step(place, key)
    return place if len(path) <= _SHOWN_STEPS + 1 else f"{place}…"
