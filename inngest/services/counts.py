"""What services count while they work: plain numbers, read by `metrics` when somebody asks.

The hot path pays an addition, or the search for a bucket; nothing has labels before it is exported.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import perf_counter

from inngest.core.model.history import Outcome, What
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Committed, CreateRun, EndRun, Record, Transition

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Upper bounds of buckets: from the time of a local call to the longest one that is allowed."""


class Distribution:
    """How often a value fell between two bounds, and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        # A clock that was set back between the two ends of a span must not make less than nothing of it.
        if value < 0.0:  # noqa: PLR1730 -- a call of max takes as long as all the rest
            value = 0.0
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


_ATTEMPT, _OK, _COMPLETED = What.ATTEMPT, Outcome.OK, RunStatus.COMPLETED
"""Looking them up at their class is slow."""

MAX_FUNCTIONS = 1000
"""That have numbers of their own; the others are counted together."""
OTHERS = "others"


class CommitCounts:
    """What transitions have changed, by function: an `inngest.services.runtime.Observer`.

    ``trouble`` is told of those in which an attempt failed, or a run ended otherwise than well.
    """

    __slots__ = ("ended", "started", "steps", "trouble")

    def __init__(self, trouble: Callable[[Transition, Committed], None] | None = None) -> None:
        self.trouble = trouble
        self.started: dict[str, int] = {}
        self.ended: dict[str, dict[str, int]] = {
            status.value: {} for status in RunStatus if status.ended and status is not RunStatus.SKIPPED
        }
        self.steps: dict[str, dict[str, int]] = {outcome.value: {} for outcome in Outcome}

    def observe(self, transition: Transition, committed: Committed) -> None:
        fn, well = transition.fn, True
        # Effects have no subclasses, and `isinstance` takes several times as long.
        for effect, won in zip(transition.effects, committed.won, strict=True):
            if type(effect) is Record:
                if won and effect.entry.what is _ATTEMPT:
                    outcome = effect.entry.outcome
                    _count(self.steps[outcome], fn)
                    well = well and outcome == _OK
            elif type(effect) is CreateRun:
                if won:
                    _count(self.started, fn)
            elif type(effect) is EndRun and won:
                _count(self.ended[effect.status], fn)
                well = well and effect.status is _COMPLETED
        if not well and self.trouble is not None:
            self.trouble(transition, committed)


def _count(counts: dict[str, int], fn: str) -> None:
    if fn in counts:
        counts[fn] += 1
    else:
        fn = fn if len(counts) < MAX_FUNCTIONS else OTHERS
        counts[fn] = counts.get(fn, 0) + 1


class ExecutorCounts:
    """Calls, and the leases under which they are made."""

    __slots__ = ("calls", "duration", "lateness", "lost", "stale")

    def __init__(self) -> None:
        self.calls = 0  # in flight
        self.duration = Distribution()
        self.lateness = Distribution()
        self.lost = 0
        self.stale = 0

    def called(self) -> float:
        """A call begins; the result is for `answered`."""
        self.calls += 1
        return perf_counter()

    def answered(self, began: float) -> None:
        self.calls -= 1
        self.duration.add(perf_counter() - began)


class ReaderCounts:
    """Events that a reader of the stream could do nothing with."""

    __slots__ = ("lost", "refused", "undecodable")

    def __init__(self) -> None:
        self.undecodable = 0
        self.refused = 0
        self.lost = 0  # of either: they could not be kept as dead letters


class RunnerCounts:
    """Events on their way into the engine."""

    __slots__ = ("lag", "letters", "orphans", "reader", "refused", "undecided")

    def __init__(self, reader: ReaderCounts | None = None) -> None:
        self.lag = Distribution()
        self.orphans = 0
        self.reader = reader or ReaderCounts()
        self.undecided = 0  # parts of events
        self.refused = 0  # by the engine store
        self.letters = 0  # items that nobody could process


class IndexerCounts:
    """Events and history on their way into the data store."""

    __slots__ = ("lag", "reader", "refused_history")

    def __init__(self, reader: ReaderCounts | None = None) -> None:
        self.lag = Distribution()
        self.reader = reader or ReaderCounts()
        self.refused_history = 0
