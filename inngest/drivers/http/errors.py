"""Why a call over HTTP gave no response. Messages name ``host:port``, never a credential or a header
value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from inngest.core.errors import InngestError


class HttpError(InngestError):
    """Base of every error that :class:`~inngest.drivers.http.HttpClient` raises."""


class HttpUnreachable(HttpError):
    """No connection: the name does not resolve, nobody listens, or TLS could not be agreed."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"cannot connect to {where}: {reason}")
        self.where = where
        self.reason = reason


class HttpTimeout(HttpError):
    """Time ran out: by ``phase``, the client's limit to ``connect`` or the caller's in ``total``."""

    def __init__(self, where: str, *, phase: Literal["connect", "total"], seconds: float, doing: str) -> None:
        super().__init__(f"{phase} timeout of {seconds:g} s passed while {doing} {where}")
        self.where = where
        self.phase = phase
        self.seconds = seconds


class HttpProtocolError(HttpError):
    """The peer did not speak HTTP, or stopped before the end of its response."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class AnswerLost(HttpProtocolError):
    """The connection ended after the request had been written and before its answer came in full: the peer
    may have done what it was asked for.
    """


class StaleConnection(HttpProtocolError):
    """The connection ended before the peer accepted anything of the request: it can be sent again."""


class HttpTooLarge(HttpError):
    """The response's ``head`` or ``body`` (decompressed), by ``part``, is larger than ``limit`` bytes."""

    def __init__(self, where: str, *, part: Literal["head", "body"], limit: int) -> None:
        super().__init__(f"{where}: the response {part} is larger than {limit} bytes")
        self.where = where
        self.part = part
        self.limit = limit


class TooManyRedirects(HttpError):
    """The chain of redirects is longer than ``limit``; ``url`` is where it stood."""

    def __init__(self, url: str, *, limit: int) -> None:
        super().__init__(f"more than {limit} redirects, the last one from {url}")
        self.url = url
        self.limit = limit


class ForeignRedirect(HttpError):
    """``where`` redirects to another ``origin``, which is not to have what was sent."""

    def __init__(self, where: str, *, origin: str) -> None:
        super().__init__(f"{where} redirects to another origin, {origin}: the URL that answers is to be used")
        self.where = where
        self.origin = origin


class HttpForbidden(HttpError):
    """No address of ``where`` may be called; ``reasons`` says of each why."""

    def __init__(self, where: str, reasons: Mapping[str, str]) -> None:
        texts = "; ".join(f"{address}: {why}" for address, why in reasons.items())
        super().__init__(f"{where} may not be called at {texts}")
        self.where = where
        self.reasons = dict(reasons)


class UnsupportedUrl(HttpError):
    """A URL that cannot be called: its scheme, host, port or characters, or a redirect from https to http."""


class InvalidHeader(HttpError):
    """A request method, header name or header value that cannot be put on the wire."""


class HttpClientClosed(HttpError):
    """The client was closed before or during the call."""

    def __init__(self) -> None:
        super().__init__("the HTTP client is closed")
