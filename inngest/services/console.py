"""What `inngest dev` tells the person in front of it: what arrived, what ran, what failed and why.

Lines are collected and written together, and above a rate only counted, so that a load test is not one of the
terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from inngest.core.model.events import RESERVED, Event
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Committed, CreateRun, Record, Transition
from inngest.services.failures import message
from inngest.services.registry import RegistryCache

LINES_PER_SECOND = 200

_DIM, _RED, _GREEN, _YELLOW, _OFF = "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


class Console:
    """Readable lines on ``out``, coloured if that is a terminal."""

    def __init__(self, registry: RegistryCache, out: TextIO | None = None) -> None:
        self._registry = registry
        self._out = out or sys.stdout
        self._colour = self._out.isatty()
        self._second = 0
        self._written = 0
        self._skipped = 0

    def _line(self, colour: str, what: str, text: str) -> None:
        now = time.time()
        second = int(now)
        if second != self._second:
            if self._skipped:
                self._out.write(f"         … and {self._skipped:,} more lines\n")
            self._second, self._written, self._skipped = second, 0, 0
        if self._written >= LINES_PER_SECOND:
            self._skipped += 1
            return
        self._written += 1
        stamp = time.strftime("%H:%M:%S", time.localtime(second))
        if self._colour:
            self._out.write(f"{_DIM}{stamp}{_OFF} {colour}{what:<10}{_OFF} {text}\n")
        else:
            self._out.write(f"{stamp} {what:<10} {text}\n")
        self._out.flush()

    def accepted(self, events: Sequence[Event]) -> None:
        if self._written >= LINES_PER_SECOND and int(time.time()) == self._second:
            self._skipped += len(events)
            return
        for event in events:
            if not event.name.startswith(RESERVED):
                self._line("", "event", f"{event.name}  {event.id}")

    def committed(self, transition: Transition, committed: Committed) -> None:
        if self._written >= LINES_PER_SECOND and int(time.time()) == self._second:
            self._skipped += 1
            return
        for effect, won in zip(transition.effects, committed.won, strict=True):
            if not won:
                continue
            if isinstance(effect, Record):
                self._tell(effect.entry)
            elif isinstance(effect, CreateRun):
                self._line("", "run", f"{effect.run.slug}  {effect.run.id}")

    def _tell(self, entry: History) -> None:
        fn = self._registry.functions.get(entry.fn)
        slug = fn.slug if fn is not None else entry.fn
        label = f"{slug} · {entry.name}" if entry.name else slug
        match entry.what, entry.outcome:
            case What.ATTEMPT, Outcome.OK if entry.step:
                self._line(_DIM, "step", f"{label}  {entry.at - entry.started} ms")
            case What.ATTEMPT, Outcome.RETRY:
                self._line(_YELLOW, "retry", f"{label}  attempt {entry.attempt + 1}: {message(entry.value)}")
            case What.ATTEMPT, Outcome.FAILED:
                self._line(_RED, "failed", f"{label}: {message(entry.value)}")
            case What.WAITING, _:
                self._line(_DIM, "wait", f"{label}  {_waiting(entry)}")
            case What.SKIPPED, _:
                reason = (entry.info or {}).get("reason", "")
                self._line(_YELLOW, "skipped", f"{label}  {entry.run}  {reason}")
            case What.ENDED, RunStatus.COMPLETED:
                self._line(_GREEN, "completed", f"{slug}  {entry.run}")
            case What.ENDED, RunStatus.CANCELLED:
                self._line(_YELLOW, "cancelled", f"{slug}  {entry.run}")
            case What.ENDED, RunStatus.FAILED:
                self._line(_RED, "failed", f"{slug}  {entry.run}: {message(entry.value)}")
            case _:
                pass


def _waiting(entry: History) -> str:
    info = entry.info or {}
    what = info.get("event") or info.get("function") or info.get("signal") or ""
    seconds = (info.get("until", entry.at) - entry.at) / 1000
    limit = f"{seconds:.1f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"
    return f"{entry.op} {what} up to {limit}" if what else f"{entry.op} {limit}"
