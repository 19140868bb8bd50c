"""An HTTP/1.1 client for calling applications all day: kept connections, one future a call."""

from __future__ import annotations

from inngest.drivers.http.client import HttpClient, Redirects
from inngest.drivers.http.connection import HttpResponse
from inngest.drivers.http.destinations import Destinations, InvalidRule, Rules
from inngest.drivers.http.errors import (
    AnswerLost,
    ForeignRedirect,
    HttpClientClosed,
    HttpError,
    HttpForbidden,
    HttpProtocolError,
    HttpTimeout,
    HttpTooLarge,
    HttpUnreachable,
    InvalidHeader,
    TooManyRedirects,
    UnsupportedUrl,
)
from inngest.drivers.http.head import CLIENT_HEADERS
from inngest.drivers.http.target import Target

__all__ = [
    "CLIENT_HEADERS",
    "AnswerLost",
    "Destinations",
    "ForeignRedirect",
    "HttpClient",
    "HttpClientClosed",
    "HttpError",
    "HttpForbidden",
    "HttpProtocolError",
    "HttpResponse",
    "HttpTimeout",
    "HttpTooLarge",
    "HttpUnreachable",
    "InvalidHeader",
    "InvalidRule",
    "Redirects",
    "Rules",
    "Target",
    "TooManyRedirects",
    "UnsupportedUrl",
]
