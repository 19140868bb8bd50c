"""Multipart forms, which some webhooks send."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp.base_protocol import BaseProtocol

MAX_FIELDS = 1000
"""Of one form."""


async def read_multipart(headers: Mapping[str, Any], body: bytes) -> list[tuple[str, str]]:
    """The fields of a form that has come whole, files as their content. Raises ValueError for what is none,
    or has too many.
    """
    loop = asyncio.get_running_loop()
    content = aiohttp.StreamReader(BaseProtocol(loop), max(1, len(body)), loop=loop)
    content.feed_data(body)
    content.feed_eof()
    fields: list[tuple[str, str]] = []
    try:
        form = aiohttp.MultipartReader(headers, content)
        while (part := await form.next()) is not None:
            if not isinstance(part, aiohttp.BodyPartReader):
                raise ValueError("a form within a form")  # noqa: TRY004 -- of what was sent
            if part.name is None:
                raise ValueError("a field has no name")
            if len(fields) == MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS} fields")
            value = await part.read(decode=True)
            charset = "utf-8" if part.filename else part.get_charset("utf-8")
            fields.append((part.name, value.decode(charset, "replace")))
    except (LookupError, AssertionError, RuntimeError, aiohttp.ClientError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    return fields
