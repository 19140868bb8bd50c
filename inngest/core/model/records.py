"""The record of a run: what lists and lookups show of it, folded from its history.

`opened` and `update` define what a record says; a data store that writes SQL says the same in SQL.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from inngest.core.model.history import History, What
from inngest.core.model.runs import Run, RunStatus


class RunRecord(Struct, omit_defaults=True, gc=False):
    """A run, for people. Times in ms, 0 for not yet; ``output`` is JSON: the return value, or the error if
    ``failed``.
    """

    id: str
    fn: str  # function UUID
    slug: str
    app: str
    status: RunStatus
    queued: int
    started: int = 0
    ended: int = 0
    events: list[str] = []  # internal ids
    version: int = 1
    cron: str = ""
    batch: str = ""
    original: str = ""  # the run this one repeats
    payload: bytes | None = None  # the event, where no stored one has it (a cron's)
    output: bytes | None = None
    reason: str = ""  # why it was skipped
    existing: str = ""  # the run in favour of which it was skipped

    @property
    def failed(self) -> bool:
        return self.status is RunStatus.FAILED


class _Opening(Struct):
    """``info`` of an entry that begins a record."""

    slug: str = ""
    app: str = ""
    events: list[str] = []
    version: Annotated[int, Meta(le=1 << 53)] = 1
    cron: str = ""
    batch: str = ""
    original: str = ""
    reason: str = ""
    existing: str = ""


def opened(entry: History) -> RunRecord | None:
    """The record that an entry begins; None if it is of a kind that tells of a known run.

    Raises ``msgspec.ValidationError`` for an ``info`` that says something else than it should.
    """
    if entry.what is What.SCHEDULED:
        status, ended = RunStatus.QUEUED, 0
    elif entry.what is What.SKIPPED:
        status, ended = RunStatus.SKIPPED, entry.at
    else:
        return None
    info = msgspec.convert(entry.info or {}, _Opening)
    return RunRecord(
        id=entry.run,
        fn=entry.fn,
        slug=info.slug,
        app=info.app,
        status=status,
        queued=entry.at,
        ended=ended,
        events=info.events,
        version=info.version,
        cron=info.cron,
        batch=info.batch,
        original=info.original,
        payload=entry.value,
        reason=info.reason,
        existing=info.existing,
    )


def record_of(run: Run) -> RunRecord:
    """The record of a run of which no history has arrived yet."""
    return RunRecord(
        id=run.id,
        fn=run.fn,
        slug=run.slug,
        app=run.app,
        status=RunStatus.RUNNING if run.started else RunStatus.QUEUED,
        queued=run.created,
        started=run.started,
        events=list(run.event_ids),
        version=run.function_version,
        cron=run.cron,
        batch=run.batch,
        original=run.original,
        payload=run.events[0] if run.cron else None,
    )
