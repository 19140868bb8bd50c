"""What goes wrong between a process and the systems behind it, by the chance of a seed."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from inngest.core.errors import StoreUnavailable
from sim.process import Process

_PARTS = ("events", "history")
"""Outboxes of the engine store, reached over the same network."""


@dataclass
class Rates:
    """Chances of one call: that it fails before it happens, that it happens and its reply is lost, that it or
    its reply takes up to ``delay`` seconds.
    """

    fail: float = 0.0
    lost: float = 0.0
    slow: float = 0.3
    delay: float = 0.02


@dataclass
class Faults:
    """The faults of one seed, until `heal`. ``counts`` tells how many there were of each kind."""

    random: Random
    rates: dict[str, Rates]
    counts: Counter[str] = field(default_factory=Counter)
    die: float = 0.0
    """The chance of a call that its process is killed just before or after it happened."""
    kill: Callable[[Process], None] = lambda _: None
    away: set[str] = field(default_factory=set)
    """Systems that answer nobody just now."""
    healed: bool = False

    def heal(self) -> None:
        self.healed = True
        self.die = 0.0
        self.away.clear()
        self.rates = {system: Rates(slow=0.2, delay=0.005) for system in self.rates}


class Timed:
    """An engine store whose time its client knows as one does over a network: late, and by how much at most.

    Args:
        engine: what answers all else.
        clock: the store's time.
        behind: how many ms the client's idea of it is behind, at most ``slack``.

    """

    def __init__(self, engine: Any, clock: Callable[[], int], behind: int, slack: int) -> None:
        self._engine = engine
        self._clock = clock
        self._behind = behind
        self._slack = slack

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def now(self) -> int:
        return self._clock() - self._behind

    def slack(self) -> int:
        return self._slack


def client(
    target: Any,
    process: Process,
    system: str,
    faults: Faults,
    *,
    lost: Callable[[Any], None] = lambda _: None,
    never_lost: frozenset[str] = frozenset(),
) -> Any:
    """``target`` as ``process`` sees it: over a network that fails.

    ``lost`` is told of results that did not arrive, which may be that of any method but ``never_lost``.
    """
    return _Client(target, process, system, faults, lost, never_lost)


class _Client:
    def __init__(
        self,
        target: Any,
        process: Process,
        system: str,
        faults: Faults,
        lost: Callable[[Any], None],
        never_lost: frozenset[str],
    ) -> None:
        self._sim = (target, process, system, faults, lost)
        self._never_lost = never_lost

    def __getattr__(self, name: str) -> Any:
        target, process, system, faults, lost = self._sim
        method = getattr(target, name)
        if name in _PARTS:
            part = _Client(method, process, system, faults, lost, self._never_lost)
            setattr(self, name, part)
            return part
        if not inspect.iscoroutinefunction(method):
            return method
        wrapped = _faulty(method, name, process, system, faults, None if name in self._never_lost else lost)
        setattr(self, name, wrapped)
        return wrapped


def _faulty(
    method: Callable[..., Any],
    name: str,
    process: Process,
    system: str,
    faults: Faults,
    lost: Callable[[Any], None] | None,
) -> Callable[..., Any]:
    random = faults.random.random
    # Between a commit and the acknowledgement of what it was made of is where a death costs most.
    weight = 10 if name == "ack" else 1

    async def die() -> None:
        faults.kill(process)
        await asyncio.get_running_loop().create_future()

    async def call(*args: Any, **named: Any) -> Any:
        if process.dead:
            raise asyncio.CancelledError
        rates = faults.rates[system]
        if random() < rates.slow:
            await asyncio.sleep(random() * rates.delay)
        if system in faults.away:
            faults.counts["away"] += 1
            await asyncio.sleep(random() * 0.05)
            raise StoreUnavailable(f"simulated: {system} is away", system=system)
        dies = random() < faults.die * weight
        if dies and random() < 0.5:
            await die()
        fate = random()
        if fate < rates.fail:
            faults.counts["failed"] += 1
            raise StoreUnavailable(f"simulated: {name} failed", system=system)
        result = await method(*args, **named)
        if dies and not faults.healed:
            await die()
        if fate >= 1 - rates.lost and not faults.healed and lost is not None:
            faults.counts["lost"] += 1
            lost(result)
            raise StoreUnavailable(f"simulated: the reply to {name} was lost", system=system)
        if random() < rates.slow:
            await asyncio.sleep(random() * rates.delay)
        return result

    return call
