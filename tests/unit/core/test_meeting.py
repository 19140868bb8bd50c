"""Whether an event ends a wait: see `inngest.core.decisions.meeting`."""

from __future__ import annotations

import pytest
from builders import NOW
from engine_rig import FN, event

from inngest.core.decisions.meeting import may_meet
from inngest.core.model.runs import Pause, PauseKind
from inngest.core.policy import FUDGE

WAIT = Pause(
    id="wait",
    kind=PauseKind.EVENT,
    fn=FN,
    run="run",
    event="app/go",
    created=NOW,
    expires=NOW + 60_000,
    ignore="own",
)


@pytest.mark.parametrize(
    ("accepted", "meets"),
    [
        (NOW - FUDGE - 1, False),
        (NOW - FUDGE, True),
        (NOW + 60_000 + FUDGE, True),
        (NOW + 60_000 + FUDGE + 1, False),
    ],
)
def test_what_counts_is_when_an_event_was_accepted(accepted: int, meets: bool) -> None:
    """And not when somebody comes to look at it, which may be after the wait should have ended."""
    assert may_meet(WAIT, event(received=accepted)) is meets


def test_a_run_does_not_meet_its_own_event() -> None:
    assert not may_meet(WAIT, event(id="own", received=NOW + 1))
