"""What happened, for people: the records from which run lists, traces and outputs are read back.

They are written in the same commit as what they tell of, leave through an outbox, and never decide anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class What(StrEnum):
    # info: app, slug, events (ids), key, cron, batch, original; value: payloads when no stored event
    # has them
    SCHEDULED = "run.scheduled"
    SKIPPED = "run.skipped"  # info: as scheduled, and reason, existing
    STARTED = "run.started"
    ENDED = "run.ended"  # status, value: output or error
    ATTEMPT = "step.attempt"  # one call: step "" for the function's own code; info: type, input, status
    WAITING = "step.waiting"  # a sleep, wait, invoke or signal began; info says for what, until when
    RESUMED = "step.resumed"  # it is over; info.timed_out, info.event, info.run


class Outcome(StrEnum):
    OK = "ok"
    RETRY = "retry"  # failed, and will be tried again
    FAILED = "failed"


class History(Struct, omit_defaults=True, gc=False):
    """One thing that happened to a run. Times in ms; ``value`` is JSON text.

    ``info`` holds texts, integers of 64 bits and lists of these, which every encoding takes; what an SDK may
    fill with any JSON is text of it, as ``input``.
    """

    what: What
    run: str
    fn: str  # function UUID
    at: int
    step: str = ""  # hashed id
    name: str = ""
    op: str = ""
    attempt: int = 0
    outcome: str = ""  # Outcome of an attempt, RunStatus of an end
    queued: int = 0
    started: int = 0
    value: bytes | None = None
    info: dict[str, Any] | None = None
