"""The options of an op, as far as the engine reads them: of the types that it takes them for.

Each function raises InvalidJson, which names the option.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inngest.core.json.jcs import InvalidJson

Options = Mapping[str, Any]


def check_texts(opts: Options, names: Iterable[str], place: str) -> None:
    """Each of the named ones is text, or absent."""
    for name in names:
        _expect(opts.get(name), str, "a string", f"{place}.{name}")


def check_payload(opts: Options, place: str) -> None:
    """What a function is invoked with has the form of an event. How deep it nests the border has seen: two
    levels of the options are its envelope.
    """
    payload, where = opts.get("payload"), f"{place}.payload"
    _expect(payload, dict, "an object", where)
    for name in ("data", "user"):
        _expect((payload or {}).get(name), dict, "an object", f"{where}.{name}")
    check_texts(payload or {}, ("v",), where)


def check_headers(opts: Options, place: str) -> None:
    """What goes into the head of a request is text, or a number."""
    headers, where = opts.get("headers"), f"{place}.headers"
    _expect(headers, dict, "an object", where)
    for name, value in (headers or {}).items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidJson(f"{where}.{name[:64]}: must be a string, not {kind(value)}")


def kind(value: Any) -> str:
    """What a JSON value is, in an error's words."""
    if isinstance(value, str):
        return "a string"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list):
        return "an array"
    return "null" if value is None else "an object"


def _expect(value: Any, of: type, name: str, place: str) -> None:
    if value is not None and not isinstance(value, of):
        raise InvalidJson(f"{place}: must be {name}, not {kind(value)}")
