"""The bytes of request bodies that a process holds: bounded, whoever sends them and however many they are."""

from __future__ import annotations

from aiohttp import web

from inngest.api.answers import ApiError

SMALL = 64 * 1024
"""A body up to this size costs nothing: connections are bounded, too."""


class Budget:
    """What is taken for a request is given back when it has been answered.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._by_request: dict[int, int] = {}

    def hold(self, request: web.BaseRequest, size: int) -> None:
        """Let a request have ``size`` bytes in all. Raises `ApiError` 503 if there are not so many."""
        before = self._by_request.get(id(request), 0)
        if size <= max(before, SMALL):
            return
        if self.taken + size - before > self.most:
            raise ApiError(503, "The server holds too many large requests; try again", code="too_busy")
        self.taken += size - before
        self._by_request[id(request)] = size

    def release(self, request: web.BaseRequest) -> None:
        self.taken -= self._by_request.pop(id(request), 0)


BUDGET: web.AppKey[Budget] = web.AppKey("budget", Budget)
