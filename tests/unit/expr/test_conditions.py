from __future__ import annotations

from typing import Any

import pytest

from inngest.core.expr import ExpressionError, compile_conditions
from inngest.core.expr.conditions import MAX_LINES

RUN = frozenset({"event", "output"})


def holds(source: str, **variables: Any) -> bool:
    conditions = compile_conditions(source, RUN)
    assert conditions is not None
    return conditions.hold(variables, 0)


def count(source: str) -> int:
    conditions = compile_conditions(source, RUN)
    assert conditions is not None
    return len(conditions._expressions)


def test_each_line_has_to_hold() -> None:
    both = "event.data.n > 1\noutput.ok == true"
    assert holds(both, event={"data": {"n": 2}}, output={"ok": True})
    assert not holds(both, event={"data": {"n": 1}}, output={"ok": True})
    assert not holds(both, event={"data": {"n": 2}}, output={"ok": False})
    assert not holds(both, event={"data": {"n": 2}})


def test_a_line_without_a_value_does_not_hold() -> None:
    assert not holds("1 / event.n == 1\ntrue", event={"n": 0})


@pytest.mark.parametrize(
    "source",
    [
        "event.a == 1 &&\nevent.b == 2",
        "event.a == 1\n&& event.b == 2",
        "event.a\n== 1",
        "event\n.a == 1",
        "event.a in\n[1]",
        "event.a\nin [1]",
        "event.a in [1,\n2\n]",
        "(event.a == 1\n|| event.b == 2)",
        "event.a ? 1\n: 2",
        'event.a == """x\ny"""',
        "!\nevent.a",
        "event.a == 1 // why\n",
        "\n  event.a == 1\n\n",
    ],
)
def test_a_condition_may_take_several_lines(source: str) -> None:
    assert count(source) == 1


@pytest.mark.parametrize(
    "source",
    [
        "event.a\nevent.b",
        "event.a // one\n// nothing\n\nevent.b",
        "event.f\n(event.a == 1)",
        "event.list\n[1] == [1]",
        "event.a == 1\n-event.b == 2",
        "event.a == 1\n!event.b",
        "event.a == 'x'\r\nevent.b == 'y'",
    ],
)
def test_a_line_that_stands_alone_is_a_condition(source: str) -> None:
    assert count(source) == 2


@pytest.mark.parametrize("source", ["", " \n\t\n", "// nothing"])
def test_no_condition_is_none(source: str) -> None:
    assert compile_conditions(source, RUN) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("event.a == 1\nevnt.b", "line 2: unknown name 'evnt'"),
        ("event.a\n\n\nevent.b ==", "line 4: unexpected end"),
        ("event.a ==", "unexpected end"),
        ("event.a)\nevent.b", "line 1: "),
        ("event.a == '\nevent.b", "unterminated string"),
        ("a" * 8193, "longer than 8192 characters"),
        ("true\n" * (MAX_LINES + 1), "33 conditions; 32 are allowed"),
        ("async.data.x == 1", "unknown name 'async'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        compile_conditions(source, RUN)
    assert message in str(refused.value)


def test_work_is_counted() -> None:
    conditions = compile_conditions("event.l.all(x, x > 0)\nevent.l.all(x, x > 1)", RUN)
    assert conditions is not None
    assert conditions.work == 0
    conditions.hold({"event": {"l": [2] * 1000}}, 0)
    both = conditions.work
    assert both >= 2000
    conditions.hold({"event": {"l": [0] * 1000}}, 0)
    assert both < conditions.work < both + both / 2


def test_only_what_is_looked_at_is_referred_to() -> None:
    conditions = compile_conditions("event.output == 1\nevent.data.l.exists(x, x == 2)", RUN)
    assert conditions is not None
    assert (conditions.refer_to("event"), conditions.refer_to("output")) == (True, False)
