"""A helper in a process of its own, asked over a pipe: `Remote` is the asking side, `listen` the other.

Their clocks agree: all of them read ``time.monotonic_ns``, which is one clock for the whole machine.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

START_SECONDS = 30.0


class Remote:
    """Starts ``target(pipe)`` in a fresh interpreter. Leave the context, and it is gone."""

    def __init__(self, target: Callable[[Connection], None]) -> None:
        self._pipe, there = multiprocessing.Pipe()
        # Not as a fork: that would share what this process has open.
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=target, args=(there,), daemon=True)
        self._process.start()
        there.close()

    def ask(self, *question: Any, seconds: float = START_SECONDS) -> Any:
        """The answer to a question; an answer that is an exception is raised.

        Raises TimeoutError if there is none in time, EOFError if there will not be any.
        """
        self._pipe.send(question)
        return self.hear(seconds)

    def hear(self, seconds: float = START_SECONDS) -> Any:
        if not self._pipe.poll(seconds):
            raise TimeoutError(f"{self._process.name} has not answered within {seconds:g} s")
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def listen(pipe: Connection, handle: Callable[..., None]) -> None:
    """Call ``handle`` with each question, in the running loop, until the asking side is gone."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        try:
            question = pipe.recv()
        except EOFError:
            loop.remove_reader(pipe.fileno())
            loop.stop()
            return
        handle(*question)

    loop.add_reader(pipe.fileno(), readable)
