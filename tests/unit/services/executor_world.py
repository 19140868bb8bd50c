"""An executor on memory, whose application answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import builders
from builders import FN, function

from inngest.core.decisions.schedule import schedule
from inngest.core.model.functions import Function
from inngest.core.model.history import History
from inngest.core.model.runs import Item, Run
from inngest.core.sdk.responses import Answer
from inngest.ports.driver import GatewayReply
from inngest.ports.engine import EngineStore
from inngest.services.executor import Executor

PATIENCE = 60


class Application:
    """Gives ``answer`` to each call. ``calls``: the (attempt, epoch) of each."""

    def __init__(self, answer: Callable[[Run, Item], Awaitable[Answer]]) -> None:
        self._answer = answer
        self.calls: list[tuple[int, int]] = []

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        self.calls.append((item.attempt, item.epoch))
        return await self._answer(run, item)

    async def fetch(self, item: Item) -> GatewayReply:
        raise AssertionError("no step asks for it")


class World:
    def __init__(
        self,
        engine: EngineStore | None = None,
        answer: Callable[[Run, Item], Awaitable[Answer]] | None = None,
        **fields: Any,
    ) -> None:
        self.runtime = builders.memory_runtime(engine, **fields)
        self.engine = self.runtime.engine
        self.application = Application(answer or self.answer)
        self.executor = Executor(self.runtime, self.application, self.application)

    async def answer(self, run: Run, item: Item) -> Answer:
        raise AssertionError(f"a call for {item.job} was not expected")

    async def start(self, fn: Function | None = None) -> str:
        """A run, whose first call is due."""
        fn = fn or function()
        await builders.register(self.runtime, fn)
        event = builders.event(id=self.runtime.new_id(), at=self.runtime.clock())
        transition = schedule(fn, event, self.runtime.moment())
        await self.engine.commit([transition])
        return transition.run

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.executor.run())
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        finally:
            await self.executor.drain(PATIENCE)
            await task

    async def ended(self, run: str, fn: str = FN) -> None:
        while await self.engine.run(fn, run) is not None:
            await asyncio.sleep(0.001)

    async def history(self) -> list[History]:
        return (await self.engine.history.take(1000)).entries
