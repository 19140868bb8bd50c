"""Odd values in expressions: there is a value, or an `EvaluationError`; a bound condition, or an
`ExpressionError`. Nothing else is raised, whatever an event holds.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inngest.core.expr import (
    EvaluationError,
    ExpressionError,
    bind,
    compile_bound,
    compile_expression,
    equality_terms,
    term_value,
)
from inngest.core.expr.functions import FUNCTIONS
from inngest.core.policy import MAX_DEPTH

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOW = 1_700_000_000_000


def nested(depth: int, *, keyed: bool = False) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"k": value} if keyed else [value]
    return value


NUMBERS: list[Any] = [
    0, -1, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**20, -(10**20), 10**28, 10**308, 10**400,
    10**4000,
    0.0, -0.0, 0.5, 1e15, 1e17, 2.5e20, 1e28, 1.7e308, -1.7e308, 5e-324, float("inf"), float("nan"),
]  # fmt: skip
TEXTS: list[Any] = [
    "", "a", "\x00", "\ud800", "x" * 9000, "9" * 5000, "9" * 4300, "1e999", "[" * 5000, '{"a":' * 200,
    "(((", "[a-",
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "Mon, 01 Jan 0001 00:00:00 +9999", "999999999w",
    "9" * 400 + "h", "-292y", "../etc/passwd", "Europe/Paris", "+99:99", "/", "/w==", "bm90",
    "inf", "nan", "1_000", "\u0663", "\u0130" * 10,
]  # fmt: skip
COMPOUNDS: list[Any] = [
    [], {}, {"": 1}, {"k" * 1000: {}}, [10**400], {"a": 10**400}, {"a\ud800": 1}, ["\ud800"], nested(63),
    nested(MAX_DEPTH), nested(MAX_DEPTH, keyed=True), nested(2000),
]  # fmt: skip
ODD = [None, True, *NUMBERS, *TEXTS, *COMPOUNDS]

ONE = [
    "event.a", "!event.a", "-event.a", "event.a.x", "event.a[0]", "has(event.a.x)", "event.a ? 1 : 2",
    "[event.a]",
    "{'k': event.a}", "{event.a: 1}", "event.a.map(x, x + x)", "event.a.filter(x, x == x)",
    "event.a.all(x, x > 1)",
    "event.a.exists_one(x, x)", "event.a == event.a", "event.a + event.a", "event.a * 2",
    "event.a in [1, 'a', null]",
    "event.a < 1.5", "string(event.a) + 'x'", "json_parse(string(event.a))", "1e999 * event.a",
    *(f"{name}(event.a)" for name, function in FUNCTIONS.items() if 1 in function.calls),
    *(f"event.a.{name}()" for name, function in FUNCTIONS.items() if 0 in function.methods),
    *(f"date(event.a).{name}('+23:59')" for name in FUNCTIONS if name.startswith("get")),
    *(f"string({name}(event.a))" for name in ("date", "timestamp", "duration")),
]  # fmt: skip
TWO = [
    *(f"event.a {operator} event.b" for operator in ("==", "<", ">=", "in", "+", "-", "*", "/", "%", "&&")),
    "event.a[event.b]", "{event.a: 1, event.b: 2}",
    *(f"{name}(event.a, event.b)" for name, function in FUNCTIONS.items() if 2 in function.calls),
    *(f"event.a.{name}(event.b)" for name, function in FUNCTIONS.items() if 1 in function.methods),
    *(f"{a}(event.a) {operator} {b}(event.b)"
      for a, b, operator in product(("date", "timestamp", "duration"), ("date", "duration"), "+-<")),
]  # fmt: skip


def evaluate(source: str, event: dict[str, Any]) -> None:
    """All that is done with an expression; it raises what it may not raise."""
    expression = compile_expression(source)
    for value in (expression.evaluate, expression.truthy, expression.is_true, expression.key):
        with suppress(EvaluationError):
            value({"event": event}, NOW)
    try:
        bound = bind(source, event)
    except ExpressionError:
        return
    assert bound.constant in {None, True, False}
    terms = equality_terms(bound)
    assert equality_terms(compile_bound(bound.source)) == terms
    with suppress(EvaluationError):
        bound.key({}, NOW)


@pytest.mark.parametrize("source", ONE)
def test_one_odd_value(source: str) -> None:
    for value in ODD:
        evaluate(source, {"a": value})


places = st.integers(0, len(ODD) - 1)  # of values that are too large to be shown


@pytest.mark.parametrize("source", TWO)
@given(a=places, b=places)
@settings(CALM, max_examples=30)
def test_two_odd_values(source: str, a: int, b: int) -> None:
    evaluate(source, {"a": ODD[a], "b": ODD[b]})


@given(places, places)
@CALM
def test_equal_values_have_equal_terms(first: int, second: int) -> None:
    a, b = ODD[first], ODD[second]
    same = compile_expression("event.a == event.b")
    for value in (a, b):
        assert term_value(value) is None or isinstance(term_value(value), str)
    if term_value(a) is not None and term_value(b) is not None:
        assert same.is_true({"event": {"a": a, "b": b}}) == (term_value(a) == term_value(b))


@pytest.mark.parametrize("value", [2**53, 1e28, 2.5e20, 10**300, "9" * 400])
def test_what_has_no_value_keeps_no_other_operand_from_theirs(value: Any) -> None:
    event = {"a": value, "c": True}
    assert compile_expression("date(event.a) == event.b || event.c").is_true({"event": event})
    assert compile_expression("event.d && duration(event.a) == event.b").evaluate({"event": event}) is None


@pytest.mark.parametrize("value", [10**20, -(10**30), 10**308, 1.7e308, "\x00", "x" * 60_000, nested(60)])
def test_a_condition_is_bound_to_odd_values(value: Any) -> None:
    bound = bind("event.data.id == async.data.id", {"data": {"id": value}})
    assert compile_bound(bound.source).is_true({"async": {"data": {"id": value}}})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x" * 1_100_000, "takes too much work"),
        ("x" * 66_000, "longer than 65536 bytes with the event's values"),
        (["\x00" * 20_000], "longer than 65536 bytes with the event's values"),
        (nested(MAX_DEPTH), "a value nests deeper than 64 levels"),
        (nested(MAX_DEPTH, keyed=True), "a value nests deeper than 64 levels"),
        ("\ud800", "not valid Unicode with the event's values"),
        ({"\ud800": 1}, "not valid Unicode with the event's values"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_condition_that_cannot_be_bound_says_why(value: Any, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        bind("event.data.id == async.data.id", {"data": {"id": value}})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":1e400}', "a: the number 1e400 is beyond the range of doubles"),
        ("[" * 200 + "]" * 200, "nested deeper than 128 levels"),
        ("[" * 4000 + "]" * 4000, "nested deeper than 128 levels"),
        ("{", "not JSON"),
    ],
)
def test_json_in_a_text_is_read_within_the_border(text: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        compile_expression("json_parse(event.t)").evaluate({"event": {"t": text}})
    if len(text) < 8000:
        folded = compile_expression(f"json_parse('{text}') == event.x")
        assert folded.constant is None
        with pytest.raises(EvaluationError):
            folded.truthy({"event": {"x": 1}})


@pytest.mark.parametrize("pattern", ["x" * 3_000_000, "(a|b)" * 500_000, "[" * 1_000_000])
def test_a_pattern_that_an_event_brings_has_a_limit(pattern: str) -> None:
    with pytest.raises(EvaluationError, match="the pattern is longer than 8192 characters"):
        compile_expression("event.a.matches(event.b)").evaluate({"event": {"a": "x", "b": pattern}})


@pytest.mark.parametrize("source", ["duration(event.a)", "now_plus(event.a)", "date(event.a)"])
@pytest.mark.parametrize("text", ["1s" * 1_000_000, "9" * 3_000_000, "1 Jan " * 500_000])
def test_a_time_that_an_event_brings_has_a_limit(source: str, text: str) -> None:
    with pytest.raises(EvaluationError, match="is longer than any"):
        compile_expression(source).evaluate({"event": {"a": text}}, NOW)


def test_what_comprehensions_build_has_a_limit() -> None:
    event = {"text": "x" * 1000, "list": list(range(8000))}
    with pytest.raises(EvaluationError, match="takes too much work"):
        compile_expression("event.list.map(x, event.text + string(x))").evaluate({"event": event})
    nested_source = (
        "event.list.filter(x, x < 100).map(x, event.list.filter(y, y < 90).map(y, event.text + 'y'))"
    )
    with pytest.raises(EvaluationError, match="takes too much work"):
        compile_expression(nested_source).evaluate({"event": event})
    assert len(compile_expression("event.list.map(x, [x])").evaluate({"event": event})) == 8000
