"""Secrets do not appear in logs, wherever they come from: fields, messages, tracebacks, libraries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

from structlog.typing import EventDict, WrappedLogger

from inngest.core.sdk.signing import hashed_key, normalise_key
from inngest.services.settings import RedisServer, Settings

HIDDEN = "***"

_SHORT = 8
"""A shorter secret is hidden only where it stands as a word, lest it tear others apart."""
_OWN = frozenset({"level", "timestamp", "service", "action", "logger"})
"""Fields whose values this program gives. An event key may well be called "test" or "runner"."""
_URL_PASSWORD = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#:@]*):[^\s/?#@]+@")


class Mask:
    """A structlog processor that hides known secrets, and the passwords of all URLs, in every value."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._known: re.Pattern[str] | None = None

    def hide(self, secrets: Iterable[str]) -> None:
        """From now on."""
        self._secrets |= {secret for secret in secrets if secret}
        if self._secrets:
            # Of two that begin alike, the longer one.
            ordered = sorted(self._secrets, key=len, reverse=True)
            self._known = re.compile("|".join(map(_pattern, ordered)))

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text) if "://" in text else text

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {key: value if key in _OWN else self._value(value) for key, value in event.items()}

    def _value(self, value: object) -> object:
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case Mapping():
                return {self.text(str(key)): self._value(each) for key, each in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._value(each) for each in value]
            case bytes():
                return self.text(value.decode("utf-8", "replace"))
            case _:
                return self.text(str(value))


def _pattern(secret: str) -> str:
    text = re.escape(secret)
    return rf"(?<![\w-]){text}(?![\w-])" if len(secret) < _SHORT else text


def secrets_of(settings: Settings) -> Iterable[str]:
    """All that is secret in settings, in every form in which it is sent or could be logged."""
    for key in settings.signing_keys:
        yield from (key, normalise_key(key), normalise_key(hashed_key(key)))
    for key in settings.event_keys:
        yield from (key, quote(key, safe=""))
    if settings.metrics_token:
        yield settings.metrics_token
    for backend in (settings.engine, settings.stream):
        if isinstance(backend, RedisServer) and (password := _password(backend.url)):
            yield from (password, unquote(password))


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
