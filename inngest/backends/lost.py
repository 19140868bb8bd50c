"""The end of runs whose records cannot be read any more: people see that they ended, and why."""

from __future__ import annotations

import os

from inngest.core.decisions.draft import error_json
from inngest.core.decisions.finish import bare_end
from inngest.core.model.history import History
from inngest.core.model.ids import UlidFactory
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Effect, Record

REASON = "What the server has kept of this run is damaged, and it cannot go on"
_ERROR = error_json("Error", REASON)


def lost_run(run: str, fn: str, now: int) -> list[Effect]:
    """The end of such a run, at ``now`` (Unix ms). No event tells of it: what started it is lost too."""
    new_id = UlidFactory(clock=lambda: now, random_bytes=os.urandom).new
    return bare_end(run, fn, RunStatus.FAILED, now, new_id(), error=_ERROR)


def lost_run_entry(run: str, fn: str, now: int) -> History:
    """What history has of it, where the run itself is gone already."""
    (entry,) = (effect.entry for effect in lost_run(run, fn, now) if isinstance(effect, Record))
    return entry
