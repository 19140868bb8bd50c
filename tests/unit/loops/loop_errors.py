"""Work that fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from inngest.core.errors import StoreDefect, StoreRefused, StoreUnavailable


class Work:
    """Raises the errors one after the other (None: a success), and then succeeds, which sets ``done``; the
    round after ``rounds`` of these successes never ends.
    """

    def __init__(self, *errors: BaseException | None, rounds: int = 1) -> None:
        self.errors = list(errors)
        self.tries = 0
        self.done = asyncio.Event()
        self._rounds = rounds

    async def __call__(self) -> str:
        self.tries += 1
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error
            return "result"
        self.done.set()
        if self._rounds == 0:
            await asyncio.Event().wait()
        self._rounds -= 1
        return "result"


def away(system: str = "redis") -> StoreUnavailable:
    return StoreUnavailable(f"{system} refused", system=system)


UNEXPECTED: Sequence[BaseException] = (
    RuntimeError("anything"),
    KeyError("key"),
    AssertionError(),
    RecursionError("deep"),
    MemoryError(),
    StopAsyncIteration(),
    TimeoutError(),
    ExceptionGroup("some", [ValueError("one"), OSError("two")]),
    StoreRefused("never", system="redis", event="an attribute like an argument of the log"),
    StoreDefect("script", system="redis", action="the same"),
    # Out of something that was waited for, whose own task was cancelled.
    asyncio.CancelledError(),
)
