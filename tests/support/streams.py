"""Events on their way into streams and out of them, as tests write them."""

from __future__ import annotations

from typing import Any

from inngest.core.model.events import Event, decode_event
from inngest.ports.stream import Delivery, EventStream


async def publish(stream: EventStream, *events: Event) -> None:
    await stream.publish([event.encode() for event in events])


def events_of(delivery: Delivery | None) -> list[Event]:
    """As they were published."""
    assert delivery is not None
    return [decode_event(entry.body) for entry in delivery.entries]


async def take(stream: EventStream, group: str, limit: int = 1000, *, ack: bool = True) -> list[bytes]:
    """The bodies of all that waits for a group, in deliveries of at most ``limit``."""
    bodies: list[bytes] = []
    while (delivery := await stream.fetch(group, limit, 0.01)) is not None:
        bodies += [entry.body for entry in delivery.entries]
        if ack:
            await stream.ack(group, delivery.token)
    return bodies


class Restartable:
    """A stream with a way to restart it, in a place of the conformance suite."""

    def __init__(self, place: Any) -> None:
        self.place = place
        self.stream: EventStream

    async def start(self) -> None:
        self.stream = self.place.store()
        await self.stream.open()

    async def restart(self, *, crash: bool) -> None:
        if crash:
            await self.place.crash()
        else:
            await self.stream.close()
        await self.start()
