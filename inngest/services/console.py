"""What `inngest dev` tells the person in front of it: what arrived, what ran, what failed and why.

Every line about a run begins with the end of its id, by which the lines of one run are found. Lines are
only counted above a rate, so that a load test is not one of the terminal. Whatever applications and senders
have named is shown without its control characters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from inngest.core.model.events import RESERVED, Event
from inngest.core.model.functions import App
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Committed, CreateRun, Record, Transition
from inngest.services.failures import Failure, failures
from inngest.services.registry import RegistryCache

LINES_PER_SECOND = 200
SHORT = 6
"""Characters of a run's id: the random end of it."""

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
        text = shown(text)
        if self._colour:
            self._out.write(f"{_DIM}{stamp}{_OFF} {colour}{what:<10}{_OFF} {text}\n")
        else:
            self._out.write(f"{stamp} {what:<10} {text}\n")
        self._out.flush()

    def _busy(self, count: int = 1) -> bool:
        if self._written >= LINES_PER_SECOND and int(time.time()) == self._second:
            self._skipped += count
            return True
        return False

    # -- the server --

    def serving(self, url: str, kept: str) -> None:
        """The server can be used. ``kept`` says where it keeps everything."""
        self._out.write(f"Inngest dev server on {url}, kept {kept}. Ctrl-C stops it.\n")
        self._out.flush()

    def stopping(self, working: int) -> None:
        """The end has come; ``working`` steps are waited for."""
        if working:
            steps = "1 step" if working == 1 else f"{working:,} steps"
            self._out.write(f"Stopping, waiting for {steps}. Ctrl-C once more ends at once.\n")
        else:
            self._out.write("Stopping.\n")
        self._out.flush()

    def registered(self, app: App, functions: int) -> None:
        """An application has told of its functions, and they are other ones than before."""
        count = "1 function" if functions == 1 else f"{functions:,} functions"
        sdk = f"{app.sdk_language} {app.sdk_version}".strip()
        self._line(_GREEN, "app", f"{app.name}: {count} at {app.url}{f' ({sdk})' if sdk else ''}")

    # -- events --

    def accepted(self, events: Sequence[Event]) -> None:
        if self._busy(len(events)):
            return
        for event in events:
            if not event.name.startswith(RESERVED):
                self._line("", "event", f"{event.name}  {event.id}")

    def unused(self, event: Event) -> None:
        """An event started, resumed and cancelled nothing."""
        if not event.name.startswith(RESERVED) and not self._busy():
            self._line(_DIM, "event", f"{event.name}  {event.id}  starts and ends nothing")

    # -- runs --

    def committed(self, transition: Transition, committed: Committed) -> None:
        if self._busy():
            return
        well = True
        for effect, won in zip(transition.effects, committed.won, strict=True):
            if not won:
                continue
            if isinstance(effect, Record):
                well = self._tell(effect.entry) and well
            elif isinstance(effect, CreateRun):
                self._line("", "run", f"{short(effect.run.id)}  {effect.run.slug}  {effect.run.id}")
        if not well:
            for failure in failures(transition, committed, self._registry):
                self._fail(failure)

    def _tell(self, entry: History) -> bool:
        """Tell of what went well; whether it did."""
        fn = self._registry.functions.get(entry.fn)
        slug = f"{short(entry.run)}  {fn.slug if fn is not None else entry.fn}"
        label = f"{slug} · {entry.name}" if entry.name else slug
        match entry.what, entry.outcome:
            case What.ATTEMPT, Outcome.OK if entry.step:
                self._line(_DIM, "step", f"{label}  {entry.at - entry.started} ms")
            case What.WAITING, _:
                self._line(_DIM, "wait", f"{label}  {_waiting(entry)}")
            case What.RESUMED, _ if (entry.info or {}).get("timed_out"):
                self._line(_YELLOW, "timed out", f"{label}  what it waited for did not come")
            case What.SKIPPED, _:
                reason = (entry.info or {}).get("reason", "")
                self._line(_YELLOW, "skipped", f"{label}  {reason}")
            case What.ENDED, RunStatus.COMPLETED:
                self._line(_GREEN, "completed", slug)
            case (What.ATTEMPT, Outcome.RETRY | Outcome.FAILED) | (What.ENDED, _):
                return False
            case _:
                pass
        return True

    def _fail(self, failure: Failure) -> None:
        label = f"{short(failure.run)}  {failure.fn}{f' · {failure.step}' if failure.step else ''}"
        attempt = f"  attempt {failure.attempt}" if failure.attempt else ""
        if attempt and failure.attempts:
            attempt += f" of {failure.attempts}"
        error = f": {failure.error}" if failure.error else ""
        if failure.ended == RunStatus.CANCELLED:
            reason = f": {failure.reason}" if failure.reason else ""
            self._line(_YELLOW, "cancelled", f"{label}{reason}")
        elif failure.ended:
            self._line(_RED, "failed", f"{label}{attempt}, the run is over{error}")
        elif failure.due:
            wait = max(failure.due - failure.at, 0)
            self._line(_YELLOW, "retry", f"{label}{attempt}, next in {_span(wait)}{error}")
        else:
            self._line(_RED, "failed", f"{label}{attempt}, the last one{error}")


def short(run: str) -> str:
    """By what a run is called on the console."""
    return run[-SHORT:]


def shown(text: str) -> str:
    """A text with its control characters as escapes: a terminal would obey them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _span(ms: int) -> str:
    if ms < 9_950:
        return f"{ms / 1000:.1f} s"
    if ms < 120_000:
        return f"{ms / 1000:.0f} s"
    return f"{ms / 60_000:.0f} min" if ms < 2 * 3_600_000 else f"{ms / 3_600_000:.1f} h"


def _waiting(entry: History) -> str:
    info = entry.info or {}
    what = info.get("event") or info.get("function") or info.get("signal") or ""
    seconds = (info.get("until", entry.at) - entry.at) / 1000
    limit = f"{seconds:.1f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"
    return f"{entry.op} {what} up to {limit}" if what else f"{entry.op} {limit}"
