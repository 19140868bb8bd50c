"""One line of the log for each failure: a step that is tried again or was given up, a run that failed or was
cancelled. Told from what was committed; runs that go well cost nothing here (see `counts.CommitCounts`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from inngest.core.json.border import UNREADABLE
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Committed, Record, Retry, Transition
from inngest.services.registry import RegistryCache

log = structlog.get_logger("inngest.failures")

LINES = 100
"""A second. Applications choose how often they fail."""
MAX_MESSAGE = 300
"""Characters of an error."""


class Failure(Struct):
    """One thing that went wrong. ``attempt`` counts from 1; it and ``attempts`` are 0 where nothing was
    called.

    ``due`` is when it is tried again, in ms, 0 for never. ``ended`` is the status of a run that is over.
    """

    run: str
    fn: str  # slug
    app: str
    step: str = ""
    attempt: int = 0
    attempts: int = 0
    error: str = ""
    due: int = 0
    at: int = 0  # ms, by the engine store's clock
    ended: str = ""
    reason: str = ""  # for the end, where there is more to it than the error


def failures(transition: Transition, committed: Committed, registry: RegistryCache) -> list[Failure]:
    """What went wrong, in order. The last attempt of a run that fails is told together with its end."""
    due = next((effect.due for effect in transition.effects if isinstance(effect, Retry)), 0)
    found: list[Failure] = []
    for effect, won in zip(transition.effects, committed.won, strict=True):
        if not won or not isinstance(effect, Record):
            continue
        entry = effect.entry
        if entry.what is What.ATTEMPT and entry.outcome in {Outcome.RETRY, Outcome.FAILED}:
            failure = _of(entry, registry)
            failure.attempt = entry.attempt + 1
            failure.due = due if entry.outcome == Outcome.RETRY else 0
            found.append(failure)
        elif entry.what is What.ENDED and entry.outcome in {RunStatus.FAILED, RunStatus.CANCELLED}:
            failure = _of(entry, registry)
            if entry.outcome == RunStatus.FAILED and found and not found[-1].due:
                failure, found[-1].error = found[-1], failure.error
            else:
                found.append(failure)
            failure.ended = entry.outcome
            failure.reason = str((entry.info or {}).get("reason", ""))
    return found


def _of(entry: History, registry: RegistryCache) -> Failure:
    fn = registry.functions.get(entry.fn)
    return Failure(
        run=entry.run,
        fn=fn.slug if fn is not None else entry.fn,
        app=fn.app if fn is not None else "",
        step=entry.name or entry.step,
        attempts=fn.max_attempts if fn is not None and entry.what is What.ATTEMPT else 0,
        error=message(entry.value),
        at=entry.at,
    )


class _Error(msgspec.Struct):
    message: str = ""
    name: str = ""


def message(value: bytes | None) -> str:
    """An error in one line, of what an SDK has sent as such."""
    try:
        error = msgspec.json.decode(value or b"{}", type=_Error)
    except UNREADABLE:
        return (value or b"").decode("utf-8", "replace")[:MAX_MESSAGE]
    text = f"{error.name}: {error.message}" if error.name not in {"", "Error"} else error.message
    return " ".join(text.split())[:MAX_MESSAGE]


class FailureLog:
    """A `runtime.Observer` of transitions in which something went wrong.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, registry: RegistryCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._second = float("-inf")
        self._lines = 0
        self._silent = 0

    def committed(self, transition: Transition, committed: Committed) -> None:
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        if self._lines >= LINES:
            self._silent += 1
            return
        for failure in failures(transition, committed, self._registry):
            self._lines += 1
            self._tell(failure)

    def _tell(self, failure: Failure) -> None:
        facts: dict[str, Any] = {
            "fn": failure.fn,
            "app": failure.app,
            "run": failure.run,
            "step": failure.step,
            "attempt": failure.attempt,
            "attempts": failure.attempts,
            "error": failure.error,
            "reason": failure.reason,
            "not_shown": self._silent,
        }
        self._silent = 0
        facts = {name: fact for name, fact in facts.items() if fact}
        if failure.ended == RunStatus.FAILED:
            log.error("run failed", action="run.failed", **facts)
        elif failure.ended:
            log.warning("run was cancelled", action="run.cancelled", **facts)
        elif failure.due:
            due = datetime.fromtimestamp(failure.due / 1000, UTC)
            log.warning(
                "step failed, it is tried again" if failure.step else "function failed, it is tried again",
                action="step.retry",
                next=due.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                **facts,
            )
        else:
            log.warning("step failed", action="step.failed", **facts)
