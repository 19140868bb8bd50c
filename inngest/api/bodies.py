"""Bodies of requests: read when a handler asks for one, and not before.

What holds, whoever sends (`front.SERVER_OPTIONS` have the listener leave bodies alone):

- Nothing is read of a body, and nothing inflated, until the sender has been let in and the route takes one.
- A body costs at most the limit of its route, however it is coded, and at most the time in which an honest
  sender has it through.
- A client that asks first (``Expect: 100-continue``) is told to go on only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from aiohttp import web

from inngest.api.answers import ApiError, passed
from inngest.api.budget import BUDGET, SMALL
from inngest.core.content import DecodingError, decoder_for
from inngest.core.json import border
from inngest.core.json.surrogates import whole

T = TypeVar("T")

BODY_SECONDS = 20.0
"""Until a body has come, and a second more for each `BODY_RATE` bytes that have."""
BODY_RATE = 16 * 1024


async def read_body(request: web.Request, most: int = 0) -> bytes:
    """The body, its content coding undone.

    Args:
        request: that has been authorised.
        most: bytes that it may have, coded or not; 0 is what the listener allows.

    Raises HTTPRequestEntityTooLarge, and `ApiError`: 415 for a coding that is not known here, 400 for a body
    that is not coded so or is cut short, 408 for one that comes too slowly, 503 while there is no room
    for it.
    """
    most = most or request.client_max_size
    if (request.content_length or 0) > most:
        raise web.HTTPRequestEntityTooLarge(most)
    coding = request.headers.get("Content-Encoding", "")
    try:
        decoder = decoder_for(coding)
    except DecodingError:
        message = f"Content-Encoding {coding[:64]!r} is not known here; gzip, deflate and br are"
        raise ApiError(415, message, code="unsupported_content_encoding") from None
    if decoder is None and request.content.is_eof():
        body = request.content.read_nowait()
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(most)
        if len(body) > SMALL:
            request.app[BUDGET].hold(request, len(body))
        return body
    budget = request.app[BUDGET]
    if decoder is None:
        budget.hold(request, request.content_length or 0)
    read = bytearray()
    raw = 0
    try:
        async for chunk in _chunks(request):
            raw += len(chunk)
            read += chunk if decoder is None else decoder.feed(chunk, most - len(read))
            if len(read) > most or raw > most:
                raise web.HTTPRequestEntityTooLarge(most)
            budget.hold(request, len(read))
        if decoder is not None:
            decoder.finish()
    except DecodingError as error:
        raise ApiError(400, f"Invalid request body: {error}") from None
    return bytes(read)


async def read_json(request: web.Request, of: type[T]) -> T:
    """The body, decoded. Raises `ApiError` 400 that names what is wrong and where.

    What is decoded as `msgspec.Raw` is for `passed` to look through.
    """
    body = whole(await read_body(request))
    try:
        return msgspec.json.decode(body, type=of)
    except border.UNREADABLE as error:
        passed(body, "")  # knows the place of more
        raise ApiError(400, f"Invalid request body: {border.reason(error)}") from None


async def skip_body(request: web.Request, most: int) -> None:
    """Let go of a body that nobody uses, as it is coded. Raises as `read_body` does."""
    size = request.content_length or 0
    if size <= most:
        size = 0
        async for chunk in _chunks(request):
            size += len(chunk)
            if size > most:
                break
    if size > most:
        raise web.HTTPRequestEntityTooLarge(most)


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    content = request.content
    if not content.is_eof() and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer
    clock = asyncio.get_running_loop().time
    start, size = clock(), 0
    try:
        while True:
            async with asyncio.timeout_at(start + BODY_SECONDS + size / BODY_RATE):
                chunk = await content.readany()
            if not chunk:
                return
            size += len(chunk)
            yield chunk
    except TimeoutError:
        raise ApiError(408, f"The request's body has not come in time: {size} bytes have") from None
    except (ConnectionError, web.RequestPayloadError):
        raise ApiError(400, f"The request's body is cut short or framed wrongly: {size} bytes came") from None
