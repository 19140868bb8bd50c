"""Dead letters, for operators: what they are, back to the stream with them, or away."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from msgspec import Struct

from inngest.api.answers import ApiError, enveloped, limit_parameter
from inngest.api.bodies import read_json
from inngest.api.context import ApiContext
from inngest.core.errors import StoreRefused
from inngest.core.policy import MAX_LETTER_IDS, MAX_LETTER_SHOWN, MAX_LETTERS_PAGE
from inngest.core.timing.times import rfc3339
from inngest.ports.stream import Letter

_LIMIT = 20


class _Chosen(Struct):
    ids: list[str]


class DeadLettersApi:
    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/dead-letters", self.list_letters),
            web.get("/v1/dead-letters/{id}", self.get_letter),
            web.post("/v1/dead-letters/requeue", self.requeue),
            web.delete("/v1/dead-letters", self.discard),
        ]

    def _enveloped(self, value: Any) -> web.Response:
        return enveloped(value, self._ctx.clock())

    async def list_letters(self, request: web.Request) -> web.Response:
        """Oldest first, with the beginning of each body."""
        limit = limit_parameter(request, _LIMIT, MAX_LETTERS_PAGE)
        try:
            found = await self._ctx.stream.letters(request.query.get("after", ""), limit=limit)
        except StoreRefused as error:
            raise ApiError(400, f"Invalid after: {error}") from None
        return self._enveloped([_view(letter, MAX_LETTER_SHOWN) for letter in found])

    async def get_letter(self, request: web.Request) -> web.Response:
        letter = await self._ctx.stream.letter(request.match_info["id"])
        if letter is None:
            raise ApiError(404, "Dead letter not found")
        return self._enveloped(_view(letter, len(letter.body)))

    async def requeue(self, request: web.Request) -> web.Response:
        """Back to the stream, for the group that could not use them; the others stay as they are."""
        ids = await _ids(request)
        done = set(await self._ctx.stream.revive(ids))
        return self._enveloped(
            {
                "requeued": [letter for letter in ids if letter in done],
                "left": [letter for letter in ids if letter not in done],
            }
        )

    async def discard(self, request: web.Request) -> web.Response:
        ids = await _ids(request)
        done = set(await self._ctx.stream.discard(ids))
        return self._enveloped(
            {
                "discarded": [letter for letter in ids if letter in done],
                "unknown": [letter for letter in ids if letter not in done],
            }
        )


async def _ids(request: web.Request) -> list[str]:
    """Of the letters that are meant, each once."""
    ids = list(dict.fromkeys((await read_json(request, _Chosen)).ids))
    if not 1 <= len(ids) <= MAX_LETTER_IDS:
        raise ApiError(400, f"ids must name 1 to {MAX_LETTER_IDS} dead letters, not {len(ids)}")
    return ids


def _view(letter: Letter, most: int) -> dict[str, Any]:
    """``body`` is text as far as it is UTF-8, and escapes where it is not."""
    return {
        "id": letter.id,
        "kind": letter.kind,
        "group": letter.group,
        "reason": letter.reason,
        "buried_at": rfc3339(letter.at),
        "bytes": len(letter.body),
        "body": letter.body[:most].decode("utf-8", "backslashreplace"),
        "truncated": len(letter.body) > most,
    }
