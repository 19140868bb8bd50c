"""The event stream: what the event API accepts, and the runner and the indexer read, each for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from inngest.core.model.events import Event


class Delivery(Struct):
    """Events in the order of acceptance, to be acknowledged as a whole by ``token``."""

    events: list[Event]
    token: int


class EventStream(Protocol):
    async def open(self) -> None:
        """Connect, and create or check what is stored. Raises `StoreUnavailable`, and of its kind
        `StoreUnusable` for what does not pass by itself.
        """

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Ask the backing system, cheaply, whether it would take a write. Raises `StoreUnavailable`."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Returns when the stream has acknowledged all of them, durably. Raises `StoreUnavailable`, and then
        any part may have been taken.
        """

    async def fetch(self, group: str, limit: int, seconds: float) -> Delivery | None:
        """The next events for a consumer group; each goes to one consumer of it. None if there is none within
        ``seconds``.

        What is not acknowledged is delivered again, at the latest after a restart.
        """

    async def ack(self, group: str, token: int) -> None: ...

    async def backlog(self, group: str) -> int:
        """How many events wait for the group, delivered and unacknowledged ones included."""
