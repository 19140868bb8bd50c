"""Hiding what is secret in a configuration before anyone is shown it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from inngest.config.cue import Plain

HIDDEN = "***"

_NAMES = frozenset({"password", "token", "nkey", "signingKey"})
# A password may hold anything, also what it should not: it ends with the last @ of its URL.
_USERINFO = re.compile(
    r"""(\b[a-z][a-z0-9+.-]*://)
        (?: ([^\s/?\#@:"]*):(?:(?!,[a-z][a-z0-9+.-]*://)[^\s"])*
          | [^\s/?\#:"]*
        )@""",
    re.IGNORECASE | re.VERBOSE,
)
_PARAMETER = re.compile(r"([?&](?:password|token|secret|key|sslpassword)=)[^&\s\"]*", re.IGNORECASE)


def is_secret(path: Sequence[str]) -> bool:
    """Whether the value at a path is a secret as a whole: a key, a password, a token."""
    return tuple(path[:1]) == ("keys",) or any(name in _NAMES for name in path)


def masked_url(text: str) -> str:
    """A text without the passwords of the URLs in it. The name of a user stays where a password follows."""
    text = _USERINFO.sub(lambda m: f"{m[1]}{m[2] + ':' if m[2] is not None else ''}{HIDDEN}@", text)
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", text)


def masked_text(message: str, path: Sequence[str]) -> str:
    """A message about the value at a path, without texts that may be secret."""
    if is_secret(path):
        message = re.sub(r'"(?:[^"\\]|\\.)*"', f'"{HIDDEN}"', message)
    return masked_url(message)


def masked(plain: Plain, path: tuple[str, ...] = ()) -> Plain:
    """A configuration in which every secret is replaced by ``***``."""
    match plain:
        case dict():
            return {key: masked(value, (*path, key)) for key, value in plain.items()}
        case list():
            return [masked(item, path) for item in plain]
        case str() if plain:
            return HIDDEN if is_secret(path) else masked_url(plain)
        case _:
            return plain
