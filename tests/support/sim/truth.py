"""What really happened in one seed, as somebody saw who stands beside all processes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from inngest.core.model.events import Event
from inngest.core.model.functions import Function
from inngest.core.model.history import History
from inngest.core.model.runs import Pause, Run, RunStatus


@dataclass(frozen=True)
class Violation:
    """Something that must not be. ``rule`` is the number of the invariant (reference/reliability.md, section
    2; 0: the words of a port), ``code`` a name for its kind.
    """

    rule: int
    code: str
    text: str
    at: int

    def __str__(self) -> str:
        return f"[{self.rule}] {self.code} at {self.at / 1000:.3f} s: {self.text}"


@dataclass
class Accepted:
    """An event that was offered to the stream ``at`` a time, since when it is certainly ``kept`` (0: that is
    not known), as each of its ``entries`` has it, and when each group acknowledged it first.
    """

    event: Event
    at: int
    kept: int = 0
    entries: dict[str, Event] = field(default_factory=dict)  # by the entry's id
    acked: dict[str, int] = field(default_factory=dict)
    delivered: Counter[str] = field(default_factory=Counter)

    def first(self) -> int:
        """When the stream has first accepted it (ms since the Unix epoch)."""
        return min((event.received for event in self.entries.values()), default=0)

    def last(self) -> int:
        return max((event.received for event in self.entries.values()), default=0)

    def stamps(self) -> tuple[int, int]:
        """The least and the greatest time that its sender, or the stream, says it is of."""
        times = [event.ts for event in self.entries.values()] or [self.event.ts]
        return min(times), max(times)


@dataclass
class Started:
    run: Run
    at: int


@dataclass
class Ended:
    status: RunStatus
    at: int
    value: bytes | None = None


@dataclass
class Sent:
    """An event as its sender knows it. ``answer`` is the last status: 0 if none came."""

    name: str
    data: dict[str, Any]
    external_id: str = ""
    answer: int = 0
    ids: list[str] = field(default_factory=list)
    tries: int = 0
    bad: bool = False


@dataclass
class Registry:
    """The live functions by id, of a version that came into force between two times (ms)."""

    version: int
    begun: int
    at: int
    live: dict[str, Function]


@dataclass
class Truth:
    """All times are the store's, in ms since the epoch of the simulation."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    # the stream
    accepted: dict[str, Accepted] = field(default_factory=dict)  # by internal id, in order
    garbage: set[bytes] = field(default_factory=set)  # bodies that are no events

    # the engine
    intended: dict[str, Run] = field(default_factory=dict)  # runs that somebody wanted to create
    ending: dict[str, Ended] = field(default_factory=dict)  # ends that somebody wanted to commit
    created: dict[str, Started] = field(default_factory=dict)
    ended: dict[str, Ended] = field(default_factory=dict)
    saved: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    evicted: dict[str, int] = field(default_factory=dict)
    recalls: dict[str, int] = field(default_factory=dict)  # by run: when it was looked at, 0 for not yet
    pauses: dict[str, tuple[Pause, int]] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    history: list[History] = field(default_factory=list)
    emitted: dict[str, Event] = field(default_factory=dict)
    registered: list[Registry] = field(default_factory=list)
    """In the order of their versions."""
    starts: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # by throttle

    # the applications
    computed: defaultdict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    returned: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    reported: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)  # the first report
    seen: dict[tuple[str, str], str] = field(default_factory=dict)
    mistreated: set[str] = field(default_factory=set)  # runs whose calls went wrong by chance
    calls: Counter[str] = field(default_factory=Counter)
    first_call: dict[str, int] = field(default_factory=dict)  # by run: when it was made

    # people
    sent: list[Sent] = field(default_factory=list)
    cancelled: dict[str, int] = field(default_factory=dict)  # run -> when its cancellation was confirmed
    cancelling: set[str] = field(default_factory=set)  # runs somebody wanted to cancel
    bulk: list[dict[str, Any]] = field(default_factory=list)
    reruns: list[tuple[str, str]] = field(default_factory=list)
    signals: list[tuple[str, str, str]] = field(default_factory=list)  # name, value, run that got it

    def violate(self, rule: int, code: str, text: str, at: int) -> None:
        self.counts[f"violation {code}"] += 1
        if len(self.violations) < 40:
            self.violations.append(Violation(rule, code, text, at))
