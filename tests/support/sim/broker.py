"""The event stream as its server knows it: what was accepted, who was given what, and what is given again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from random import Random
from typing import Any

from sim import ports
from sim.loop import SimLoop
from sim.process import Process
from sim.truth import Accepted, Truth

DEAD_AFTER = 10.0
"""Seconds after which the deliveries of a process that gives no sign of life go to others."""


class _Given:
    __slots__ = ("at", "events", "group", "owner", "token")

    def __init__(self, group: str, token: Any, events: Sequence[Any], owner: Process, at: float) -> None:
        self.group = group
        self.token = token
        self.events = events
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

    def offered(self, events: Sequence[Any]) -> None:
        accepted = self._truth.accepted
        for event in events:
            known = accepted.get(event.id)
            if known is None:
                accepted[event.id] = Accepted(event, self.now(), event.ts)
            else:
                known.ts = max(known.ts, event.ts)

    def published(self, events: Sequence[Any]) -> None:
        for event in events:
            known = self._truth.accepted[event.id]
            known.kept = known.kept or self.now()

    def given(self, group: str, token: Any, events: Sequence[Any], owner: Process) -> None:
        self._given[group, token] = _Given(group, token, events, owner, self._loop.time())
        accepted = self._truth.accepted
        for event in events:
            known = accepted.get(event.id)
            if known is None:
                self._truth.violate(0, "stream-invented", f"{event.id} was never accepted", self.now())
            else:
                known.delivered[group] += 1

    def acked(self, group: str, token: Any) -> None:
        given = self._given.pop((group, token), None)
        if given is not None:
            for event in given.events:
                if (known := self._truth.accepted.get(event.id)) is not None:
                    known.acked.setdefault(group, self.now())

    # -- what goes wrong --

    def lost(self, delivery: Any, stream: Any) -> None:
        """A delivery did not arrive; its reader lives."""
        for key, given in list(self._given.items()):
            if given.token == ports.token_of(delivery) and given.events is ports.events_of(delivery):
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
        self._truth.counts["redelivered"] += len(given.events)

        def again() -> None:
            self.returning -= 1
            ports.deliver_again(stream, given.group, given.token, given.events)

        self._loop.call_later(seconds, again, context=Context())  # of no process


class BrokerStream:
    """The stream of one process."""

    def __init__(self, broker: Broker, process: Process, stream: Any) -> None:
        self._broker = broker
        self._process = process
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def publish(self, events: Sequence[Any]) -> None:
        self._broker.offered(events)
        await self._stream.publish(events)
        self._broker.published(events)

    async def fetch(self, group: str, limit: int, seconds: float) -> Any:
        delivery = await self._stream.fetch(group, limit, seconds)
        if delivery is not None:
            self._broker.given(group, delivery.token, delivery.events, self._process)
        return delivery

    async def ack(self, group: str, token: Any) -> None:
        await self._stream.ack(group, token)
        self._broker.acked(group, token)
