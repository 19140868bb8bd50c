"""The end of a run: the effects of it, and the events that tell of it (wire protocol 2.6 and 3.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct, field
from msgspec.json import Decoder, Encoder

from inngest.core.model.events import CANCELLED, FAILED, FINISHED, Event, internal_event
from inngest.core.model.history import History, What
from inngest.core.model.runs import Run, RunStatus
from inngest.core.model.transition import Effect, Emit, EndRun, Record

_encode = Encoder().encode
_MARK = b'"correlation_id"'
_CANCELLED = b'{"error":"function cancelled","name":"Error","message":"function cancelled"}'


def end(
    run: Run,
    status: RunStatus,
    now: int,
    new_id: Callable[[], str],
    *,
    output: bytes | None = None,
    error: bytes | None = None,
    shown: bytes | None = None,
    reason: str = "",
    place: int,
    when: int = -1,
) -> list[Effect]:
    """The effects that end ``run``. Only the first end of a run wins, and only the winner is told of.

    Args:
        place: how many effects precede these in their transition.
        when: the effect on which the end depends.
        new_id: makes the ids of the events and of the history.
        output: JSON of the return value, for COMPLETED.
        error: JSON of the error object, for FAILED.
        reason: why it is cancelled, for people, where the server decides that by itself.
        shown: JSON of what people see as the run's output in place of the error: what the SDK has sent.

    """
    entry = History(
        id=new_id(),
        what=What.ENDED,
        run=run.id,
        fn=run.fn,
        at=now,
        outcome=status.value,
        value=shown or (error if error is not None else output),
        info={"reason": reason} if reason else None,
    )
    effects: list[Effect] = [EndRun(status=status, when=when), Record(entry=entry, when=place)]
    told = finished(run, now, new_id, output=output, error=error, status=status)
    told += _companion(run, now, status, told)
    effects += [Emit(event=event.encode(), when=place) for event in told]
    return effects


def bare_end(
    run: str, fn: str, status: RunStatus, now: int, entry_id: str, *, error: bytes | None = None
) -> list[Effect]:
    """The end of a run of which no more can be told than that, as it cannot be read, or what else would be
    told is not taken: no event tells of it. To come first in its transition.
    """
    entry = History(id=entry_id, what=What.ENDED, run=run, fn=fn, at=now, outcome=status.value, value=error)
    return [EndRun(status=status), Record(entry=entry, when=0)]


def finished(
    run: Run,
    now: int,
    new_id: Callable[[], str],
    *,
    output: bytes | None = None,
    error: bytes | None = None,
    status: RunStatus,
) -> list[Event]:
    """``inngest/function.finished``: one for the first event, and one for each invocation in a batch.

    A run that such an event started tells nobody, or there would be no end of it.
    """
    about = _about(run.events[0])
    if about.name in {FINISHED, FAILED}:
        return []
    fields = _fields(run, status)
    if error is not None:
        fields["error"] = Raw(error)
    elif status is RunStatus.COMPLETED:
        fields["result"] = Raw(output if output is not None else b"null")
    told = []
    for correlation in _correlations(run):
        data = {**fields, "correlation_id": correlation} if correlation else fields
        told.append(internal_event(new_id(), FINISHED, now, _encode(data), sessions=about.sessions))
    return told


def _companion(run: Run, now: int, status: RunStatus, told: list[Event]) -> list[Event]:
    """``function.failed`` or ``function.cancelled``. Its id is the run's, so that two ends of a run start one
    failure handler.

    The cancellation of a run that a cancellation started is not told of: each would hold the one before it,
    twice, and start the next.
    """
    name = {RunStatus.FAILED: FAILED, RunStatus.CANCELLED: CANCELLED}.get(status)
    if name is None or not told or name == CANCELLED == _about(run.events[0]).name:
        return []
    data = bytes(told[0].data)
    if status is RunStatus.CANCELLED:
        data = data[:-1] + b',"error":' + _CANCELLED + b"}"
    return [internal_event(run.id, name, now, data, sessions=told[0].sessions)]


def _fields(run: Run, status: RunStatus) -> dict[str, Any]:
    return {
        "function_id": run.slug,
        "run_id": run.id,
        "event": Raw(run.events[0]),
        "events": [Raw(event) for event in run.events],
        "_inngest": {"status": status.value},
    }


class _Sessions(Struct):
    sessions: dict[str, str] | None = None


class _Inngest(Struct):
    correlation_id: str | None = None


class _Data(Struct):
    inngest: _Inngest | None = field(default=None, name="_inngest")


class _About(Struct):
    name: str
    meta: _Sessions | None = None

    @property
    def sessions(self) -> dict[str, str] | None:
        return self.meta.sessions if self.meta else None


class _Invoked(Struct):
    data: _Data


_about = Decoder(_About).decode
_invoked = Decoder(_Invoked).decode


def _correlations(run: Run) -> list[str]:
    """Of the first event, empty if it has none, and of all others that have one."""
    found = [_correlation(event) for event in run.events]
    return [found[0], *filter(None, found[1:])]


def _correlation(event: bytes) -> str:
    if _MARK not in event:
        return ""
    inner = _invoked(event).data.inngest
    return (inner.correlation_id or "") if inner is not None else ""
