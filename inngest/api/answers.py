"""JSON in and out of the REST APIs: envelopes, parameters and times (wire protocol section 6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Raw

from inngest.core.json import border
from inngest.core.json.jcs import InvalidJson
from inngest.core.timing.times import rfc3339

T = TypeVar("T")

JSON = "application/json"
RETRY_AFTER = "1"
"""Seconds, with a 503: SDKs and webhooks try again."""
_encode = msgspec.json.Encoder().encode


class ApiError(Exception):
    """Ends a request with an error that the client is told of. ``code`` is for programs."""

    def __init__(self, status: int, message: str, *, code: str = "", data: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.data = data


def answer(value: Any, status: int = 200) -> web.Response:
    """Bare JSON."""
    return web.Response(status=status, body=_encode(value), content_type=JSON)


def raw_answer(body: bytes) -> web.Response:
    """JSON that is text already."""
    return web.Response(body=body, content_type=JSON)


def enveloped(value: Any, now: int, status: int = 200) -> web.Response:
    """The success envelope of v1."""
    metadata = {"fetched_at": rfc3339(now), "cached_until": None}
    return answer({"data": value, "metadata": metadata}, status)


def listed(values: list[Any], now: int, *, cursor: str | None, limit: int) -> web.Response:
    """A page of a list: as `enveloped`, with the ``cursor`` of what follows, None at the end."""
    metadata = {"fetched_at": rfc3339(now), "cached_until": None}
    page = {"cursor": cursor, "has_more": cursor is not None, "limit": limit}
    return answer({"data": values, "metadata": metadata, "page": page})


def error_answer(status: int, message: str, *, code: str = "", data: Any = None) -> web.Response:
    """The error envelope of every API; TypeScript SDKs need both ``error`` and ``status`` in it."""
    body: dict[str, Any] = {"error": message, "data": data, "status": status}
    return answer({"code": code, **body} if code else body, status)


def passed(raw: bytes | Raw, place: str, *, around: int = 0) -> Any:
    """The value of JSON text that may pass, as `border.load` has it. Raises `ApiError` 400 that names what
    cannot, and its place.
    """
    try:
        return border.load(raw, place, around=around)
    except InvalidJson as error:
        raise ApiError(400, f"Invalid request body: {error}") from None


_LAST_TIME = 253_402_300_799_999
"""The end of the year 9999."""


def parse_time(text: str, name: str) -> int:
    """RFC 3339 to Unix milliseconds, from 1 on; without an offset it is UTC. Raises `ApiError` 400."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ApiError(400, f"{name} must be an RFC 3339 time, not {text[:64]!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    # Before 1970 there is nothing, and 0 is no time.
    return min(max(1, int(moment.timestamp() * 1000)), _LAST_TIME)


def time_parameter(request: web.Request, name: str) -> int:
    """A query parameter that is a time; 0 if it is absent."""
    text = request.query.get(name)
    return parse_time(text, name) if text else 0


def limit_parameter(request: web.Request, default: int, most: int) -> int:
    """The query parameter ``limit``, at most ``most``."""
    text = request.query.get("limit")
    if not text:
        return default
    value = whole_number(text)
    if not value:
        raise ApiError(400, f"limit must be an integer from 1 to {most}, not {text[:64]!r}")
    return min(value, most)


def whole_number(text: str) -> int | None:
    """The number that up to 15 digits write; None if they are anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else None


def optional_time(ms: int) -> str | None:
    """A time as it is shown, None for one that is not yet."""
    return rfc3339(ms) if ms else None
