"""The event stream as its server knows it: what was accepted, who was given what, and what is given again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from random import Random
from typing import Any

from inngest.ports.stream import Delivery, Entry
from sim import ports
from sim.loop import SimLoop
from sim.process import Process
from sim.truth import Accepted, Truth

DEAD_AFTER = 10.0
"""Seconds after which the deliveries of a process that gives no sign of life go to others."""


class _Given:
    __slots__ = ("at", "entries", "group", "owner", "token")

    def __init__(self, group: str, token: Any, entries: Sequence[Entry], owner: Process, at: float) -> None:
        self.group = group
        self.token = token
        self.entries = entries
        self.owner = owner
        self.at = at


class Broker:
    """One stream for all processes.

    Args:
        stream: the real one.
        again: whether what a dead process leaves behind is given to others by this broker; an embedded
            stream finds it by itself when it is opened again.
        late: draws the seconds after which something is given again.

    """

    def __init__(
        self, loop: SimLoop, random: Random, truth: Truth, *, again: bool, late: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._random = random
        self._truth = truth
        self._again = again
        self._late = late
        self._given: dict[tuple[str, Any], _Given] = {}
        self.returning = 0
        """Deliveries that will be given again."""

    def of(self, process: Process, stream: Any) -> BrokerStream:
        return BrokerStream(self, process, stream)

    def now(self) -> int:
        return int(self._loop.time() * 1000)

    # -- what consumers do --

    def offered(self, bodies: Sequence[bytes]) -> None:
        accepted = self._truth.accepted
        for event in filter(None, map(ports.read, bodies)):
            if event.id not in accepted:
                accepted[event.id] = Accepted(event, self.now())

    def published(self, bodies: Sequence[bytes]) -> None:
        for event in filter(None, map(ports.read, bodies)):
            known = self._truth.accepted[event.id]
            known.kept = known.kept or self.now()

    def given(self, group: str, token: Any, entries: Sequence[Entry], owner: Process) -> None:
        self._given[group, token] = _Given(group, token, entries, owner, self._loop.time())
        for entry in entries:
            event = ports.received(entry)
            if event is None:
                if entry.body not in self._truth.garbage:
                    self._truth.violate(0, "stream-invented", f"{entry.body[:200]!r}", self.now())
                continue
            known = self._truth.accepted.get(event.id)
            if known is None:
                self._truth.violate(0, "stream-invented", f"{event.id} was never accepted", self.now())
                continue
            known.delivered[group] += 1
            before = known.entries.setdefault(entry.id, event)
            if self._again and before.received != event.received:
                self._truth.violate(
                    0, "time-changed", f"{event.id}: {before.received}, {event.received}", self.now()
                )

    def acked(self, group: str, token: Any) -> None:
        given = self._given.pop((group, token), None)
        if given is not None:
            for event in filter(None, map(ports.received, given.entries)):
                if (known := self._truth.accepted.get(event.id)) is not None:
                    known.acked.setdefault(group, self.now())

    # -- what goes wrong --

    def lost(self, result: Any, stream: Any) -> None:
        """A reply did not arrive, maybe one with a delivery; its reader lives."""
        if not isinstance(result, Delivery):
            return
        for key, given in list(self._given.items()):
            if given.entries is result.entries:
                self._return(key, stream, 0.5 + self._random.random() * 10)

    def gone(self, owner: Process, stream: Any) -> None:
        """A process gives no sign of life any more; it may wake and go on all the same."""
        for key, given in list(self._given.items()):
            if given.owner is owner:
                self._return(key, stream, self._late())

    def _return(self, key: tuple[str, Any], stream: Any, seconds: float) -> None:
        given = self._given.pop(key)
        if not self._again:
            return
        self.returning += 1
        self._truth.counts["redelivered"] += len(given.entries)

        def again() -> None:
            self.returning -= 1
            stream.deliver_again(given.group, given.token)

        self._loop.call_later(seconds, again, context=Context())  # of no process


class BrokerStream:
    """The stream of one process."""

    def __init__(self, broker: Broker, process: Process, stream: Any) -> None:
        self._broker = broker
        self._process = process
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def publish(self, bodies: Sequence[bytes]) -> None:
        self._broker.offered(bodies)
        await self._stream.publish(bodies)
        self._broker.published(bodies)

    async def fetch(self, group: str, limit: int, seconds: float) -> Any:
        delivery = await self._stream.fetch(group, limit, seconds)
        if delivery is not None:
            self._broker.given(group, delivery.token, delivery.entries, self._process)
        return delivery

    async def ack(self, group: str, token: Any) -> None:
        await self._stream.ack(group, token)
        self._broker.acked(group, token)
