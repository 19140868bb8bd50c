"""Reads of the same kind, made as one: a page of fifty runs asks for fifty histories, and reads once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from inngest.core.errors import StoreUnavailable
from inngest.loops.background import is_own

T = TypeVar("T")


class Loader(Generic[T]):
    """Reads by id. What is asked for in one turn of the event loop is read together, up to ``most`` ids at
    once; nothing is remembered when it is answered.
    """

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]], *, most: int) -> None:
        self._read = read
        self._most = most
        self._asked: dict[str, list[asyncio.Future[T | None]]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> T | None:
        """None if there is no such thing. Raises what the read raises."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._start)
        answer: asyncio.Future[T | None] = loop.create_future()
        self._asked.setdefault(key, []).append(answer)
        return await answer

    def _start(self) -> None:
        asked, self._asked = self._asked, {}
        task = asyncio.create_task(self._answer(asked))
        self._reading.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._reading.discard(task)
            # It may have been cancelled, even before it began: nobody waits for ever.
            _fail([answer for answers in asked.values() for answer in answers], _cut_short())

        task.add_done_callback(ended)

    async def _answer(self, asked: Mapping[str, Sequence[asyncio.Future[T | None]]]) -> None:
        keys = list(asked)
        for start in range(0, len(keys), self._most):
            await self._answer_some({key: asked[key] for key in keys[start : start + self._most]})

    async def _answer_some(self, asked: Mapping[str, Sequence[asyncio.Future[T | None]]]) -> None:
        try:
            found = await self._read([*asked])
        except (Exception, asyncio.CancelledError) as error:
            if is_own(error):
                raise
            belongs = error if isinstance(error, Exception) else _cut_short()
            _fail([answer for answers in asked.values() for answer in answers], belongs)
        else:
            for key, answers in asked.items():
                for answer in answers:
                    if not answer.done():
                        answer.set_result(found.get(key))


def _fail(waiting: Iterable[asyncio.Future[T]], error: Exception) -> None:
    for answer in waiting:
        if not answer.done():
            answer.set_exception(error)


def _cut_short() -> StoreUnavailable:
    """A cancellation of the read is none of those who wait for it; they may ask again."""
    return StoreUnavailable("the read was cut short")
