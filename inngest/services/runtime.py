"""What every service of a process is given: the backing systems, time, and identifiers."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from inngest.api.context import Limits
from inngest.core.ids import UlidFactory
from inngest.core.schedule import Moment
from inngest.core.transition import Committed, Transition
from inngest.ports.data import DataStore
from inngest.ports.engine import EngineStore
from inngest.ports.stream import EventStream
from inngest.services.registry import RegistryCache

Observer = Callable[[Transition, Committed], None]
"""Told of each transition that was committed."""


def wall_clock() -> int:
    """Unix epoch milliseconds."""
    return time.time_ns() // 1_000_000


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
    clock: Callable[[], int] = wall_clock
    jitter: Callable[[], float] = random.random
    new_id: Callable[[], str] = field(default_factory=lambda: _ulids().new)

    @property
    def kind(self) -> str:
        """What applications are told in ``X-Inngest-Server-Kind``."""
        return "dev" if self.dev else "cloud"

    def moment(self) -> Moment:
        return Moment(now=self.clock(), new_id=self.new_id)


def _ulids() -> UlidFactory:
    return UlidFactory(clock=wall_clock, random_bytes=os.urandom)
