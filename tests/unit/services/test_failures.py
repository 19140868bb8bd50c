"""What the log says of failures, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from builders import function
from structlog.testing import capture_logs

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Committed, Complete, EndRun, Record, Retry, Transition
from inngest.services.failures import LINES, FailureLog
from inngest.services.registry import RegistryCache

ERROR = b'{"name":"Declined","message":"card\\n declined","stack":"at charge"}'
SAID = "Declined: card declined"
WHO = {"fn": "app-fn", "app": "app", "run": "r"}


@pytest.fixture
def registry() -> RegistryCache:
    registry = RegistryCache(MemoryEngineStore())
    registry.functions = {"fn": function(retries=3)}
    return registry


def _record(what: What, outcome: str, **fields: Any) -> Record:
    values: dict[str, Any] = {"id": "1", "run": "r", "fn": "fn", "at": 1_700_000_000_000, "value": ERROR}
    return Record(entry=History(what=what, outcome=outcome, **(values | fields)))


def _told(log: FailureLog, *effects: Any, won: bool = True) -> list[dict[str, Any]]:
    transition = Transition(fn="fn", run="r", effects=list(effects))
    with capture_logs() as lines:
        log.committed(transition, Committed(won=[won] * len(effects)))
    return [{name: value for name, value in line.items() if name != "event"} for line in lines]


RETRY = (
    _record(What.ATTEMPT, Outcome.RETRY, step="9f", name="charge"),
    Retry(due=1_700_000_018_250, attempt=1),
)
LAST = (
    _record(What.ATTEMPT, Outcome.FAILED, attempt=3),
    EndRun(status=RunStatus.FAILED),
    _record(What.ENDED, RunStatus.FAILED),
    Complete(),
)


def test_a_step_that_is_tried_again_tells_which_attempt_and_when_the_next_is(registry: RegistryCache) -> None:
    (line,) = _told(FailureLog(registry), *RETRY)
    assert line == WHO | {
        "log_level": "warning",
        "action": "step.retry",
        "step": "charge",
        "attempt": 1,
        "attempts": 4,
        "error": SAID,
        "next": "2023-11-14T22:13:38.250Z",
    }


def test_a_step_that_was_given_up_is_told_though_its_run_goes_on(registry: RegistryCache) -> None:
    (line,) = _told(FailureLog(registry), _record(What.ATTEMPT, Outcome.FAILED, name="charge", attempt=3))
    assert (line["action"], line["attempt"], line["attempts"]) == ("step.failed", 4, 4)


def test_the_last_attempt_and_the_end_of_its_run_are_one_line(registry: RegistryCache) -> None:
    (line,) = _told(FailureLog(registry), *LAST)
    assert line == WHO | {
        "log_level": "error",
        "action": "run.failed",
        "attempt": 4,
        "attempts": 4,
        "error": SAID,
    }


def test_a_cancelled_run_is_told(registry: RegistryCache) -> None:
    (line,) = _told(FailureLog(registry), _record(What.ENDED, RunStatus.CANCELLED, value=None))
    assert line == WHO | {"log_level": "warning", "action": "run.cancelled"}
    late = {"reason": "it had not ended within timeouts.finish"}
    (line,) = _told(FailureLog(registry), _record(What.ENDED, RunStatus.CANCELLED, value=None, info=late))
    assert line == WHO | {"log_level": "warning", "action": "run.cancelled", **late}


def test_a_function_that_nobody_knows_any_more_has_its_id(registry: RegistryCache) -> None:
    registry.functions = {}
    (line,) = _told(FailureLog(registry), *LAST)
    assert (line["fn"], line["attempt"]) == ("fn", 4)
    assert "attempts" not in line


def test_what_went_well_or_did_not_happen_is_not_told(registry: RegistryCache) -> None:
    log = FailureLog(registry)
    fine = (_record(What.ATTEMPT, Outcome.OK), _record(What.ENDED, RunStatus.COMPLETED))
    assert _told(log, *fine) == []
    assert _told(log, *LAST, won=False) == []


def test_a_flood_is_counted_and_not_written(registry: RegistryCache) -> None:
    now = 0.0
    log = FailureLog(registry, clock=lambda: now)
    lines = [line for _ in range(LINES + 7) for line in _told(log, *RETRY)]
    assert len(lines) == LINES
    now = 1.0
    (after,) = _told(log, *RETRY)
    assert after["not_shown"] == 7
    (next_one,) = _told(log, *RETRY)
    assert "not_shown" not in next_one
