"""Traces: the tree of spans that a run's history tells (wire protocol section 6.5).

Below the root, "Run", stands one span for each step; one that took several attempts has a child for each.
Calls that failed or finished the function itself are spans too: the last, "Finalization", ended the run.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Raw, Struct

from inngest.core.json.border import UNREADABLE
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.records import RunRecord
from inngest.core.model.runs import RunStatus, digest
from inngest.core.sdk.responses import Op

ROOT = "Run"
FINALIZATION = "Finalization"
EXECUTION = "Execution"
"""A call of the function's own code that failed, and after which a later one got further."""


class SpanStatus(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


class StepOp(StrEnum):
    RUN = "RUN"
    SLEEP = "SLEEP"
    WAIT = "WAIT_FOR_EVENT"
    INVOKE = "INVOKE"
    SIGNAL = "WAIT_FOR_SIGNAL"
    AI = "AI_GATEWAY"


class Wait(Struct):
    """What a step waited for. ``until`` in ms; ``timed_out`` is None while it waits; ``found`` is the id of
    the event that ended the wait, ``run`` the run that a function was invoked with.
    """

    until: int = 0
    event: str = ""  # its name; of an invocation, the id of the invoking event
    expression: str = ""
    function: str = ""
    signal: str = ""
    timed_out: bool | None = None
    found: str = ""
    run: str = ""


class Span(Struct):
    """A part of a run. Times in ms, 0 for not yet. ``output`` and ``error`` are JSON text."""

    id: str
    name: str
    status: SpanStatus
    queued: int
    started: int = 0
    ended: int = 0
    parent: str = ""
    step: str = ""  # hashed id
    op: StepOp | None = None
    type: str = ""  # the kind of a RUN, as the SDK names it
    attempts: int = 0
    wait: Wait | None = None
    input: bytes | None = None
    output: bytes | None = None
    error: bytes | None = None
    children: list[Span] = []

    def walk(self) -> Iterator[Span]:
        yield self
        for child in self.children:
            yield from child.walk()


_RUN_STATUS = {
    RunStatus.QUEUED: SpanStatus.QUEUED,
    RunStatus.RUNNING: SpanStatus.RUNNING,
    RunStatus.COMPLETED: SpanStatus.COMPLETED,
    RunStatus.FAILED: SpanStatus.FAILED,
    RunStatus.CANCELLED: SpanStatus.CANCELLED,
    RunStatus.SKIPPED: SpanStatus.SKIPPED,
}
_OPS = {
    Op.SLEEP.value: StepOp.SLEEP,
    Op.WAIT.value: StepOp.WAIT,
    Op.INVOKE.value: StepOp.INVOKE,
    Op.SIGNAL.value: StepOp.SIGNAL,
    Op.AI_GATEWAY.value: StepOp.AI,
}
_TYPES = {Op.GATEWAY.value: "step.fetch", Op.AI_GATEWAY.value: "step.ai.infer"}


def trace_id(run: str) -> str:
    """The 32 hex digits of a run's trace."""
    return digest("trace", run)


def span_id(*parts: str) -> str:
    """The 16 hex digits of a span: the same whenever the trace is assembled."""
    return digest("span", *parts)[:16]


def root_span(record: RunRecord) -> Span:
    """The span of the whole run, without those below it."""
    return Span(
        id=span_id(record.id),
        name=ROOT,
        status=_RUN_STATUS[record.status],
        queued=record.queued,
        started=record.started,
        ended=record.ended,
        output=None if record.failed else record.output,
        error=record.output if record.failed else None,
    )


def assemble(record: RunRecord, history: Sequence[History]) -> Span:
    """The trace of a run: its root span with all below it, in the order in which they began."""
    root = root_span(record)
    steps: dict[str, list[History]] = {}
    calls: list[History] = []
    for entry in history:
        if entry.step:
            steps.setdefault(entry.step, []).append(entry)
        elif entry.what is What.ATTEMPT:
            calls.append(entry)
    children = [_step_span(record, entries) for entries in steps.values()]
    executions = [
        _got_further(_attempts_span(record, group, name=EXECUTION, key=f"call {place}"), history)
        for place, group in enumerate(_groups(calls))
    ]
    final = None
    if calls and calls[-1].outcome != Outcome.RETRY:
        final = executions.pop()
        final.name = FINALIZATION
    children += executions
    children.sort(key=lambda span: span.started or span.queued)
    root.children = [*children, final] if final is not None else children
    for span in root.children:
        span.parent = root.id
    return root


def _got_further(execution: Span, history: Sequence[History]) -> Span:
    """A call that failed and was tried again is complete when a later attempt reports its first step."""
    if execution.children:
        last = execution.children[-1].ended
        starts = (e.started or e.at for e in history if e.step and e.what in {What.ATTEMPT, What.WAITING})
        if after := [start for start in starts if start > last]:
            execution.status, execution.ended = SpanStatus.COMPLETED, min(after)
    return execution


def _groups(calls: Sequence[History]) -> Iterator[list[History]]:
    """The attempts of each call; a number that does not rise begins another call."""
    group: list[History] = []
    for call in calls:
        if group and call.attempt <= group[-1].attempt:
            yield group
            group = []
        group.append(call)
    if group:
        yield group


def _step_span(record: RunRecord, entries: Sequence[History]) -> Span:
    first = entries[0]
    attempts = [entry for entry in entries if entry.what is What.ATTEMPT]
    if attempts:
        return _attempts_span(record, attempts, name=_label(entries), key=first.step)
    return _wait_span(record, entries)


def _label(entries: Sequence[History]) -> str:
    return next((entry.name for entry in entries if entry.name), entries[0].step)


def _attempts_span(record: RunRecord, attempts: Sequence[History], *, name: str, key: str) -> Span:
    first, last = attempts[0], attempts[-1]
    span = _attempt_span(record, last, name, span_id(record.id, key))
    span.queued, span.started = first.queued or first.started, first.started
    span.attempts = len(attempts)
    if last.outcome == Outcome.RETRY:
        span.status = _unfinished(record, SpanStatus.RUNNING)
        span.ended = record.ended
    if len(attempts) > 1 or last.outcome == Outcome.RETRY:
        for place, entry in enumerate(attempts):
            identity = span_id(record.id, key, f"attempt {place}")
            child = _attempt_span(record, entry, f"Attempt {entry.attempt}", identity)
            child.parent = span.id
            span.children.append(child)
    return span


def _attempt_span(record: RunRecord, entry: History, name: str, identity: str) -> Span:
    ok = entry.outcome == Outcome.OK
    info = entry.info or {}
    given = info.get("input")
    op = _OPS.get(entry.op, StepOp.RUN) if entry.step else None
    return Span(
        id=identity,
        name=name,
        status=SpanStatus.COMPLETED if ok else SpanStatus.FAILED,
        queued=entry.queued or entry.started,
        started=entry.started,
        ended=entry.at,
        step=entry.step,
        op=op,
        type=info.get("type") or _TYPES.get(entry.op, ""),
        attempts=1,
        input=given.encode() if isinstance(given, str) else None,
        output=entry.value if ok else None,
        error=None if ok else entry.value,
        children=[],
    )


def _unfinished(record: RunRecord, otherwise: SpanStatus) -> SpanStatus:
    """The status of what is under way, or was when the run ended."""
    if not record.ended:
        return otherwise
    return SpanStatus.FAILED if record.failed else SpanStatus.CANCELLED


def _wait_span(record: RunRecord, entries: Sequence[History]) -> Span:
    began = next((entry for entry in entries if entry.what is What.WAITING), entries[0])
    over = next((entry for entry in entries if entry.what is What.RESUMED), None)
    op = _OPS.get(began.op)
    asked: dict[str, Any] = began.info or {}
    wait = Wait(
        until=asked.get("until", 0),
        event=asked.get("event") or "",
        expression=asked.get("expression") or "",
        function=asked.get("function") or "",
        signal=asked.get("signal") or "",
    )
    span = Span(
        id=span_id(record.id, began.step),
        name=_label(entries),
        status=_unfinished(record, SpanStatus.WAITING),
        queued=began.at,
        started=began.at,
        ended=over.at if over is not None else record.ended,
        step=began.step,
        op=op,
        attempts=1,
        wait=wait,
        children=[],
    )
    if over is not None:
        told: dict[str, Any] = over.info or {}
        wait.timed_out = bool(told.get("timed_out"))
        wait.found = told.get("event") or ""
        wait.run = told.get("run") or ""
        span.output, span.error = _result(op, over.value)
        span.status = SpanStatus.COMPLETED if span.error is None else SpanStatus.FAILED
    return span


class _Wrapped(Struct):
    data: Raw = Raw(b"")
    error: Raw = Raw(b"")


_unwrap = msgspec.json.Decoder(_Wrapped).decode


def _result(op: StepOp | None, value: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Output and error of a memoised value (section 3.4): an event is shown as it is, others unwrapped."""
    if value is None or op not in {StepOp.INVOKE, StepOp.SIGNAL}:
        return value, None
    if not value.startswith(b"{"):  # null: timed out
        return value, None
    try:
        wrapped = _unwrap(value)
    except UNREADABLE:  # the data store is not ours alone
        return value, None
    if wrapped.error:
        return None, bytes(wrapped.error)
    return bytes(wrapped.data) or b"null", None


def output_id(run: str, span: Span) -> str | None:
    """What `decode_output_id` reads back; None as long as the span has nothing to show."""
    if span.output is None and span.error is None:
        return None
    return urlsafe_b64encode(f"{run}:{span.id}".encode()).decode()


def decode_output_id(text: str) -> tuple[str, str]:
    """The run and the span id. Raises ValueError if ``text`` is no output id."""
    try:
        run, colon, span = urlsafe_b64decode(text.encode()).decode().partition(":")
    except (ValueError, UnicodeError):
        run = colon = span = ""
    if not (run and colon and span):
        raise ValueError(f"not an output id: {text[:64]!r}")
    return run, span
