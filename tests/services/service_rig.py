"""What the tests of processes share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from processes import ALL, Redis, Server

PATIENCE_SECONDS = 90


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition, which may be a coroutine function."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        holds = condition()
        if asyncio.iscoroutine(holds):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.03)


class Launch(Protocol):
    def __call__(
        self,
        name: str = "server",
        redis: Redis | None = None,
        services: Sequence[str] = ALL,
        config: Mapping[str, Any] | None = None,
    ) -> Server: ...
