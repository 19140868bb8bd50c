"""How a step is called."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Run
from inngest.core.sdk.responses import Answer


class Driver(Protocol):
    """Calls applications. Never raises but for cancellation: what goes wrong is a `Failure`."""

    async def call(self, run: Run, fn: Function, item: Item) -> Answer: ...

    async def close(self) -> None: ...


class GatewayReply(Struct):
    """What a gateway request gave: the JSON of its result, or of an error object."""

    value: bytes | None = None
    error: bytes | None = None


class Gateway(Protocol):
    """Makes the HTTP requests of ``step.fetch`` and ``step.ai.infer``. Never raises but for cancellation."""

    async def fetch(self, item: Item) -> GatewayReply: ...
