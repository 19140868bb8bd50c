"""Reads of the same kind, made as one: a page of fifty runs asks for fifty histories, and reads once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

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
        task.add_done_callback(self._reading.discard)

    async def _answer(self, asked: dict[str, list[asyncio.Future[T | None]]]) -> None:
        keys = list(asked)
        for start in range(0, len(keys), self._most):
            chunk = keys[start : start + self._most]
            waiting = [(key, answer) for key in chunk for answer in asked[key]]
            try:
                found = await self._read(chunk)
            except Exception as error:  # noqa: BLE001 -- it belongs to those who asked
                for _, answer in waiting:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for key, answer in waiting:
                    if not answer.done():
                        answer.set_result(found.get(key))
