"""The request head: few string operations, and no way to smuggle a line into it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from inngest.drivers.http.errors import InvalidHeader
from inngest.drivers.http.target import Target

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

CLIENT_HEADERS = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Lower-cased names of the headers that frame messages or manage connections: callers may not set them."""

# All that is sent to another origin than the one that was meant.
_HARMLESS = frozenset({"accept", "accept-language", "content-type", "user-agent", "x-inngest-server-kind"})

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""Names of headers and methods (RFC 9110 5.6.2)."""
_FORBIDDEN_IN_VALUE = re.compile(r"[\r\n\0]")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_BODY_EXPECTED = frozenset(("POST", "PUT", "PATCH"))
_KNOWN_NAMES = 1024


class _Names(dict[str, str]):
    """Header name -> the text that opens its line, checked once a name."""

    def __missing__(self, name: str) -> str:
        if not TOKEN.fullmatch(name):
            raise InvalidHeader(f"{name!r} is not a header name")
        if name.lower() in CLIENT_HEADERS:
            raise InvalidHeader(f"the header {name} is set by the client itself")
        opening = f"\r\n{name}: "
        if len(self) < _KNOWN_NAMES:
            self[name] = opening
        return opening


_names = _Names()


def pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    """The headers as (name, value) pairs."""
    return headers.items() if isinstance(headers, (dict, Mapping)) else headers


def encode_head(method: str, target: Target, headers: Headers, body_size: int) -> bytes:
    """The request head up to and with the empty line.

    Raises InvalidHeader when the method or a header name is not a token, a header belongs to the client, or a
    value has a line end, a NUL or a character outside Latin-1.
    """
    if method not in _METHODS and not TOKEN.fullmatch(method):
        raise InvalidHeader(f"{method!r} is not a request method")
    lines = [_names[name] + value for name, value in pairs(headers)]
    text = "".join(lines)
    # Each line brought one CR and one LF of ours; more of them are somebody else's.
    if text.count("\r") != len(lines) or text.count("\n") != len(lines) or "\0" in text:
        raise InvalidHeader(f"the value of the header {_culprit(headers)} holds a line end or a NUL")
    if target.authorization is not None and not any(
        name.lower() == "authorization" for name, _ in pairs(headers)
    ):
        text += f"\r\nauthorization: {target.authorization}"
    if body_size or method in _BODY_EXPECTED:
        text = f"{method}{target.head}{text}\r\ncontent-length: {body_size}\r\n\r\n"
    else:
        text = f"{method}{target.head}{text}\r\n\r\n"
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise InvalidHeader(
            f"a header value holds {text[error.start]!r}, which is outside Latin-1"
        ) from error


def harmless(headers: Headers) -> Headers:
    """The headers that may follow a redirect to another origin. Any other one may let somebody in."""
    return [(name, value) for name, value in pairs(headers) if name.lower() in _HARMLESS]


def _culprit(headers: Headers) -> str:
    return next(name for name, value in pairs(headers) if _FORBIDDEN_IN_VALUE.search(value))
