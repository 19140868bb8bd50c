from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from inngest.core.model.history import History, Outcome, What
from inngest.core.model.records import RunRecord
from inngest.core.model.runs import RunStatus
from inngest.core.sdk.traces import (
    Span,
    SpanStatus,
    StepOp,
    assemble,
    decode_output_id,
    output_id,
    trace_id,
)

RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
IDS = map(str, count())


def record(status: RunStatus = RunStatus.RUNNING, **fields: Any) -> RunRecord:
    ended = 900 if status.ended else 0
    return RunRecord(
        id=RUN, fn="fn", slug="s", app="a", status=status, queued=1, started=5, ended=ended, **fields
    )


def attempt(
    step: str = "", *, at: int, outcome: Outcome = Outcome.OK, number: int = 0, **fields: Any
) -> History:
    fields.setdefault("name", step and step.upper())
    return History(
        id=next(IDS),
        what=What.ATTEMPT,
        run=RUN,
        fn="fn",
        at=at + 4,
        step=step,
        outcome=outcome,
        attempt=number,
        queued=at - 1,
        started=at,
        **fields,
    )


def waiting(step: str, op: str, *, at: int, **info: Any) -> History:
    return History(
        id=next(IDS),
        what=What.WAITING,
        run=RUN,
        fn="fn",
        at=at,
        step=step,
        name=step.upper(),
        op=op,
        info=info,
    )


def resumed(step: str, *, at: int, value: bytes | None = None, **info: Any) -> History:
    return History(
        id=next(IDS), what=What.RESUMED, run=RUN, fn="fn", at=at, step=step, value=value, info=info or None
    )


def names(span: Span) -> list[tuple[str, str]]:
    return [(child.name, child.status.value) for child in span.children]


def test_a_sequence_of_steps() -> None:
    done = record(RunStatus.COMPLETED, output=b"3")
    root = assemble(
        done,
        [
            attempt("a", at=10, value=b"1", op="steprun", info={"type": "step.sendEvent", "input": "[1]"}),
            attempt("b", at=20, value=b"2", op="steprun"),
            attempt(at=30, value=b"3"),
        ],
    )
    assert (root.name, root.status, root.queued, root.started, root.ended) == (
        "Run",
        SpanStatus.COMPLETED,
        1,
        5,
        900,
    )
    assert (root.parent, root.output, root.error) == ("", b"3", None)
    assert names(root) == [("A", "COMPLETED"), ("B", "COMPLETED"), ("Finalization", "COMPLETED")]
    a, b, final = root.children
    assert (a.queued, a.started, a.ended, a.attempts) == (9, 10, 14, 1)
    assert (a.step, a.op, a.type, a.input, a.output) == ("a", StepOp.RUN, "step.sendEvent", b"[1]", b"1")
    assert (final.op, final.step, final.output) == (None, "", b"3")
    assert {span.parent for span in (a, b, final)} == {root.id}
    assert a.children == b.children == []


def test_spans_are_told_apart_and_stay_the_same() -> None:
    history = [
        attempt("a", at=1, outcome=Outcome.RETRY),
        attempt("a", at=2, number=1),
        attempt(at=3, value=b"1"),
    ]
    first = [span.id for span in assemble(record(), history).walk()]
    assert len(set(first)) == 5
    assert [span.id for span in assemble(record(), history).walk()] == first
    assert {len(identity) for identity in first} == {16}
    assert len(trace_id(RUN)) == 32


def test_a_retried_step_nests_its_attempts() -> None:
    root = assemble(
        record(),
        [
            attempt("a", at=10, outcome=Outcome.RETRY, value=b'{"message":"no"}'),
            attempt("a", at=20, number=1, value=b"1"),
        ],
    )
    (step,) = root.children
    assert (step.name, step.status, step.attempts) == ("A", SpanStatus.COMPLETED, 2)
    assert (step.queued, step.started, step.ended, step.output) == (9, 10, 24, b"1")
    assert names(step) == [("Attempt 0", "FAILED"), ("Attempt 1", "COMPLETED")]
    first, second = step.children
    assert (first.parent, first.error, first.output) == (step.id, b'{"message":"no"}', None)
    assert (second.started, second.ended, second.output) == (20, 24, b"1")


@pytest.mark.parametrize(
    ("status", "shown", "ended"),
    [
        (RunStatus.RUNNING, SpanStatus.RUNNING, 0),
        (RunStatus.CANCELLED, SpanStatus.CANCELLED, 900),
        (RunStatus.FAILED, SpanStatus.FAILED, 900),
    ],
)
def test_a_step_between_attempts_shares_the_fate_of_its_run(
    status: RunStatus, shown: SpanStatus, ended: int
) -> None:
    (step,) = assemble(record(status), [attempt("a", at=10, outcome=Outcome.RETRY)]).children
    assert (step.status, step.ended) == (shown, ended)
    assert names(step) == [("Attempt 0", "FAILED")]


def test_a_step_that_failed_for_good() -> None:
    failed = attempt("a", at=10, outcome=Outcome.FAILED, value=b'{"message":"no"}')
    (step,) = assemble(record(), [failed]).children
    assert (step.status, step.error, step.output, step.children) == (
        SpanStatus.FAILED,
        b'{"message":"no"}',
        None,
        [],
    )


def test_the_functions_own_attempts_are_the_finalization() -> None:
    failed = record(RunStatus.FAILED, output=b'{"message":"no"}')
    root = assemble(
        failed,
        [
            attempt(at=10, outcome=Outcome.RETRY),
            attempt(at=20, number=1, outcome=Outcome.FAILED, value=b'{"message":"no"}'),
        ],
    )
    assert (root.status, root.output, root.error) == (SpanStatus.FAILED, None, b'{"message":"no"}')
    assert names(root) == [("Finalization", "FAILED")]
    assert names(root.children[0]) == [("Attempt 0", "FAILED"), ("Attempt 1", "FAILED")]


@pytest.mark.parametrize(
    "end", [RunStatus.RUNNING, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED]
)
def test_a_call_that_failed_before_a_step_is_an_execution(end: RunStatus) -> None:
    error = b'{"message":"busy"}'
    failed = attempt(at=10, outcome=Outcome.RETRY, value=error)
    root = assemble(record(end), [failed, attempt("a", at=20, number=1), attempt(at=30, value=b"1")])
    assert names(root) == [("Execution", "COMPLETED"), ("A", "COMPLETED"), ("Finalization", "COMPLETED")]
    execution = root.children[0]
    assert (execution.started, execution.ended, execution.attempts) == (10, 20, 1)
    assert [(child.name, child.status, child.error) for child in execution.children] == [
        ("Attempt 0", SpanStatus.FAILED, error)
    ]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (RunStatus.RUNNING, SpanStatus.RUNNING),
        (RunStatus.CANCELLED, SpanStatus.CANCELLED),
        (RunStatus.FAILED, SpanStatus.FAILED),
    ],
)
def test_a_call_that_waits_to_be_tried_again_is_not_over(end: RunStatus, status: SpanStatus) -> None:
    root = assemble(record(end), [attempt("a", at=5), attempt(at=10, outcome=Outcome.RETRY)])
    assert names(root) == [("A", "COMPLETED"), ("Execution", status.value)]


def test_the_finalization_is_last_even_if_its_call_began_first() -> None:
    root = assemble(record(RunStatus.COMPLETED), [attempt("a", at=20), attempt(at=10, value=b"1")])
    assert [span.name for span in root.children] == ["A", "Finalization"]


def test_spans_are_in_the_order_of_their_beginning() -> None:
    root = assemble(record(), [attempt("slow", at=20), attempt("early", at=10)])
    assert [span.name for span in root.children] == ["EARLY", "SLOW"]


def test_a_sleep() -> None:
    began = waiting("z", "sleep", at=10, until=500)
    (asleep,) = assemble(record(), [began]).children
    assert (asleep.op, asleep.status, asleep.ended) == (StepOp.SLEEP, SpanStatus.WAITING, 0)
    assert asleep.wait is not None
    assert (asleep.wait.until, asleep.wait.timed_out) == (500, None)
    (awake,) = assemble(record(), [began, resumed("z", at=500)]).children
    assert (awake.status, awake.started, awake.ended, awake.output) == (SpanStatus.COMPLETED, 10, 500, None)


def test_a_wait_for_an_event() -> None:
    began = waiting("w", "waitforevent", at=10, until=500, event="app/x", expression="async.data.a == 1")
    event = b'{"name":"app/x","data":{"a":1}}'
    (found,) = assemble(record(), [began, resumed("w", at=50, value=event, event="E1")]).children
    assert (found.op, found.status, found.output) == (StepOp.WAIT, SpanStatus.COMPLETED, event)
    assert found.wait is not None
    assert (found.wait.event, found.wait.expression) == ("app/x", "async.data.a == 1")
    assert (found.wait.found, found.wait.timed_out) == ("E1", False)
    (missed,) = assemble(record(), [began, resumed("w", at=500, value=b"null", timed_out=True)]).children
    assert missed.wait is not None
    assert (missed.status, missed.output, missed.wait.timed_out) == (SpanStatus.COMPLETED, b"null", True)


def test_an_invocation() -> None:
    began = waiting("i", "invokefunction", at=10, until=500, function="app-f", event="E1")
    value = b'{"data":{"data":1}}'
    (done,) = assemble(record(), [began, resumed("i", at=50, value=value, event="E2", run="R2")]).children
    assert (done.op, done.status, done.output) == (StepOp.INVOKE, SpanStatus.COMPLETED, b'{"data":1}')
    assert done.wait is not None
    assert (done.wait.function, done.wait.event, done.wait.found, done.wait.run) == (
        "app-f",
        "E1",
        "E2",
        "R2",
    )
    error = b'{"error":{"message":"no"}}'
    (failed,) = assemble(record(), [began, resumed("i", at=50, value=error)]).children
    assert (failed.status, failed.error, failed.output) == (SpanStatus.FAILED, b'{"message":"no"}', None)
    (nothing,) = assemble(record(), [began, resumed("i", at=50, value=b'{"data":null}')]).children
    assert nothing.output == b"null"


def test_a_signal() -> None:
    began = waiting("s", "waitforsignal", at=10, until=500, signal="go")
    value = b'{"data":{"signal":"go","data":1}}'
    (done,) = assemble(record(), [began, resumed("s", at=50, value=value)]).children
    assert (done.op, done.output) == (StepOp.SIGNAL, b'{"signal":"go","data":1}')
    (missed,) = assemble(record(), [began, resumed("s", at=500, value=b"null", timed_out=True)]).children
    assert (missed.status, missed.output) == (SpanStatus.COMPLETED, b"null")


def test_a_wait_ends_with_its_run() -> None:
    (span,) = assemble(record(RunStatus.CANCELLED), [waiting("z", "sleep", at=10, until=5000)]).children
    assert (span.status, span.ended) == (SpanStatus.CANCELLED, 900)


def test_gateways_are_steps_of_a_kind() -> None:
    root = assemble(record(), [attempt("f", at=1, op="gateway"), attempt("m", at=2, op="aigateway")])
    assert [(span.op, span.type) for span in root.children] == [
        (StepOp.RUN, "step.fetch"),
        (StepOp.AI, "step.ai.infer"),
    ]


def test_a_skipped_run_has_no_steps() -> None:
    root = assemble(record(RunStatus.SKIPPED), [])
    assert (root.status, root.children) == (SpanStatus.SKIPPED, [])


def test_an_output_id_leads_back_to_its_span() -> None:
    root = assemble(record(RunStatus.COMPLETED, output=b"3"), [attempt("a", at=10, value=b"1")])
    identity = output_id(RUN, root.children[0])
    assert identity is not None
    assert decode_output_id(identity) == (RUN, root.children[0].id)
    assert output_id(RUN, assemble(record(), [])) is None


@pytest.mark.parametrize("text", ["", "x", "!!!", "AAAA", "w6k=", "Og==", "é"])
def test_what_is_no_output_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an output id"):
        decode_output_id(text)


@pytest.mark.parametrize("value", [b'{"data":', b'{"data":1', b"{\xff}", b"{" * 5000])
def test_a_damaged_value_is_shown_as_it_is(value: bytes) -> None:
    history = [waiting("a", "waitforsignal", at=10), resumed("a", at=20, value=value)]
    (child,) = assemble(record(), history).children
    assert (child.output, child.error) == (value, None)


def test_an_input_that_is_no_text_is_not_shown() -> None:
    (child,) = assemble(record(), [attempt("a", at=1, info={"input": [1]})]).children
    assert child.input is None
