"""What every service of a process is given: the backing systems, time, and identifiers."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from inngest.api.context import Limits
from inngest.backends.memory.clock import wall_clock
from inngest.core.decisions.moment import Moment
from inngest.core.model.ids import UlidFactory
from inngest.core.model.transition import Committed, Transition
from inngest.ports.data import DataStore
from inngest.ports.engine import EngineStore
from inngest.ports.stream import EventStream
from inngest.services.registry import RegistryCache

Observer = Callable[[Transition, Committed], None]
"""Told of each transition that was committed."""

_ENTROPY_BLOCK = 4096


@dataclass
class Runtime:
    engine: EngineStore
    stream: EventStream
    data: DataStore
    registry: RegistryCache
    dev: bool = True
    signing_keys: tuple[str, ...] = ()
    event_keys: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    jitter: Callable[[], float] = random.random
    new_id: Callable[[], str] = field(default_factory=lambda: _ulids().new)
    worker: str = field(default_factory=lambda: _ulids().new())
    """Under which this process leases items. All of its services are one worker: it stands still as a whole,
    and none of them must take up what another has."""

    @property
    def kind(self) -> str:
        """What applications are told in ``X-Inngest-Server-Kind``."""
        return "dev" if self.dev else "cloud"

    @property
    def clock(self) -> Callable[[], int]:
        """The engine store's time in ms: clocks of processes differ."""
        return self.engine.now

    def moment(self, settled: int = 0) -> Moment:
        engine = self.engine
        return Moment(now=engine.now(), new_id=self.new_id, settled=settled, slack=engine.slack())


class Entropy:
    """Random bytes of the system, fetched by the block: each fetch is a system call, and lets go of Python's
    global lock, which another thread may then hold for milliseconds.
    """

    __slots__ = ("_block", "_used")

    def __init__(self) -> None:
        self._block = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """``count`` bytes, none of which was given before."""
        if self._used + count > len(self._block):
            self._block, self._used = os.urandom(max(_ENTROPY_BLOCK, count)), 0
        start, self._used = self._used, self._used + count
        return self._block[start : self._used]


def _ulids() -> UlidFactory:
    return UlidFactory(clock=wall_clock, random_bytes=Entropy().take)
