"""Which connections a process has, how long each may be silent, and who goes when there are too many.

What holds:

- Connections are bounded, of one address and of all, far below what the process may have open: files and the
  connections to backing systems and applications are never short because of clients.
- A connection on which no request is answered costs its place only for so long: a newcomer takes that of the
  longest silent one (of its own address, if that has its share), and one that says nothing is closed after
  a while.
- When all places are taken by requests that are being answered, newcomers come in by a few spare places, one
  request each: probes of health are answered, all else is told to come again.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Protocol

import structlog

log = structlog.get_logger("inngest.web")

MAX_CONNECTIONS = 8192
MAX_FILES = 65_536
"""What the process asks for at its start, if it may have that many."""

SWEEP_SECONDS = 1.0
CALM_SECONDS = 30.0
"""There is room again when nobody was refused for so long."""


@dataclass(frozen=True)
class Bounds:
    """How many connections there may be, and how long (s) one may be silent.

    Attributes:
        total: of all addresses.
        each: of one address; of IPv6 one network of 64 bits.
        spare: beyond these, for probes.
        head_seconds: until the head of a request has come: from the connection's begin, or the first byte.
        idle_seconds: between a request and the next.
        stalled_seconds: while a client takes nothing of an answer.
        spare_seconds: in place of ``head_seconds`` on a spare place.
    """

    total: int
    each: int
    spare: int
    head_seconds: float = 20.0
    idle_seconds: float = 75.0
    stalled_seconds: float = 60.0
    spare_seconds: float = 5.0


def bounds_for(files: int) -> Bounds:
    """For a process that may have so many files open: clients get half of them."""
    total = max(2, min(MAX_CONNECTIONS, files // 2))
    return Bounds(total=total, each=max(1, total // 2), spare=max(4, total // 64))


def raise_file_limit() -> int:
    """Let this process open more files, where it may. Returns how many that are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_FILES
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


class Guest(Protocol):
    """A connection, as `Admission` sees it. What is no property is `Admission`'s to change."""

    address: str
    answering: bool
    """A request is being answered."""
    begun: bool
    """The connection is new, or a head has begun to come."""
    since: float
    """When it fell silent, or began to speak."""
    spare: bool
    pending: int
    """What was unsent of an answer when somebody looked."""

    @property
    def unsent(self) -> int: ...
    def drop(self) -> None:
        """Close it at once."""
        ...


class Admission:
    """The connections of one process, on all of its listeners.

    Args:
        bounds: what there may be.
        clock: seconds, monotonic; None is that of the running loop.
    """

    def __init__(self, bounds: Bounds, *, clock: Callable[[], float] | None = None) -> None:
        self.bounds = bounds
        self.refused = 0
        """Connections that found no place, or lost it to another one."""
        self._clock = clock
        self._guests: set[Guest] = set()
        self._silent: OrderedDict[Guest, None] = OrderedDict()  # the longest silent first
        self._crowds: dict[str, _Crowd] = {}
        self._spares: OrderedDict[Guest, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._full = 0  # connections refused since there were too many
        self._refused_at = 0.0

    @property
    def count(self) -> int:
        """Of the connections that there are."""
        return len(self._guests) + len(self._spares)

    def now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def enter(self, guest: Guest) -> bool:
        """A connection has been made. False: there is no place at all, and it is to be closed."""
        guest.since, guest.begun, guest.answering, guest.spare = self.now(), True, False, False
        if self._clock is None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._tick)
        crowd = self._crowds.get(guest.address)
        if crowd is not None and crowd.size >= self.bounds.each:
            room = self._evict(crowd.silent)
        else:
            room = len(self._guests) < self.bounds.total or self._evict(self._silent)
        if not room:
            return self._enter_spare(guest)
        if guest.address not in self._crowds:
            self._crowds[guest.address] = _Crowd()
        crowd = self._crowds[guest.address]
        crowd.size += 1
        crowd.silent[guest] = None
        self._guests.add(guest)
        self._silent[guest] = None
        return True

    def leave(self, guest: Guest) -> None:
        """A connection is gone. To leave twice is nothing."""
        self._spares.pop(guest, None)
        if guest not in self._guests:
            return
        self._guests.discard(guest)
        self._silent.pop(guest, None)
        crowd = self._crowds[guest.address]
        crowd.silent.pop(guest, None)
        crowd.size -= 1
        if not crowd.size:
            del self._crowds[guest.address]

    def answer(self, guest: Guest) -> None:
        """A request has come, and is being answered."""
        guest.answering = True
        self._silent.pop(guest, None)
        if (crowd := self._crowds.get(guest.address)) is not None:
            crowd.silent.pop(guest, None)

    def answered(self, guest: Guest) -> None:
        guest.answering, guest.begun, guest.since, guest.pending = False, False, self.now(), 0
        if guest in self._guests:
            self._silent[guest] = None
            self._crowds[guest.address].silent[guest] = None

    def sweep(self) -> None:
        """Close what has been silent for too long, or takes nothing of its answer."""
        now = self.now()
        for guest in [*self._silent, *self._spares]:
            if not guest.answering and self._over(guest, now):
                self.leave(guest)
                guest.drop()
        if self._full and now - self._refused_at >= CALM_SECONDS:
            log.warning("there is room for connections again", action="web.full", refused=self._full)
            self._full = 0

    def _over(self, guest: Guest, now: float) -> bool:
        bounds = self.bounds
        if unsent := guest.unsent:
            if not guest.pending or unsent < guest.pending:
                guest.pending, guest.since = unsent, now
            return now - guest.since >= bounds.stalled_seconds
        if guest.spare:
            return now - guest.since >= bounds.spare_seconds
        return now - guest.since >= (bounds.head_seconds if guest.begun else bounds.idle_seconds)

    def _tick(self) -> None:
        self._timer = None
        self.sweep()
        if self.count or self._full:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._tick)

    def _evict(self, silent: OrderedDict[Guest, None]) -> bool:
        """Close the longest silent one, if there is one that has all of its answers."""
        victim = next((each for each in silent if not each.unsent), None)
        if victim is None:
            return False
        self._refuse(victim)
        self.leave(victim)
        victim.drop()
        return True

    def _enter_spare(self, guest: Guest) -> bool:
        self._refuse(guest)
        if len(self._spares) >= self.bounds.spare:
            victim = next((each for each in self._spares if not each.answering), None)
            if victim is None:
                return False
            self.leave(victim)
            victim.drop()
        guest.spare = True
        self._spares[guest] = None
        return True

    def _refuse(self, guest: Guest) -> None:
        """One line when it begins, however many there are."""
        self.refused += 1
        self._refused_at = self.now()
        if not self._full:
            log.warning(
                "there are too many connections: the longest silent ones are closed",
                action="web.full",
                connections=len(self._guests),
                address=guest.address,
                total=self.bounds.total,
                each=self.bounds.each,
            )
        self._full += 1


class _Crowd:
    """The connections of one address."""

    def __init__(self) -> None:
        self.size = 0
        self.silent: OrderedDict[Guest, None] = OrderedDict()


def origin_of(peer: object) -> str:
    """Whom a connection counts for: an IPv4 address, or an IPv6 network, since whoever has one address of it
    has them all. Empty for what is no IP.
    """
    if not isinstance(peer, tuple) or not peer:
        return ""
    try:
        address = ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)
