"""Hostile input: what is too long, too deep or too costly is refused with an error that says so."""

from __future__ import annotations

import pytest

from inngest.core.expr import (
    EvaluationError,
    ExpressionError,
    bind,
    compile_bound,
    compile_expression,
    term_value,
    value_at,
)
from inngest.core.expr.expression import MAX_BOUND_LENGTH, MAX_LENGTH
from inngest.core.expr.fuel import refill
from inngest.core.expr.regex import Pattern

DEEP_SOURCES = {
    "parentheses": "(" * 2000 + "1" + ")" * 2000,
    "lists": "[" * 2000 + "]" * 2000,
    "negations": "!" * 4000 + "true",
    "minuses": "-" * 4000 + "event.n",
    "sums": " + ".join(["1"] * 2000),
    "fields": "event" + ".a" * 3000,
    "indices": "event" + "[0]" * 2000,
    "methods": "event" + ".size()" * 1000,
    "conditionals": "true ? 1 : " * 500 + "1",
    "nested indices": "event[" * 1000 + "0" + "]" * 1000,
    "calls": "size(" * 1000 + "1" + ")" * 1000,
    "maps": "{1: " * 1000 + "1" + "}" * 1000,
    "macros": "[1].map(x, " * 500 + "x" + ")" * 500,
    "mixed operators": "1 || 1 && 1 == 1 + 1 * (" * 300 + "1" + ")" * 300,
}


@pytest.mark.parametrize("source", DEEP_SOURCES.values(), ids=DEEP_SOURCES)
def test_deep_sources_are_refused(source: str) -> None:
    with pytest.raises(ExpressionError, match="nested deeper than 64 levels"):
        compile_expression(source)


def test_long_chains_of_clauses_are_not_deep() -> None:
    conjunction = compile_expression(" && ".join(f"event.n != {n}" for n in range(400)))
    assert conjunction.is_true({"event": {"n": 400}})
    assert not conjunction.is_true({"event": {"n": 7}})
    disjunction = compile_expression(" || ".join(f"event.n == {n}" for n in range(400)))
    assert disjunction.is_true({"event": {"n": 399}})


def test_length_limit() -> None:
    literal = '"' + "a" * (MAX_LENGTH - 2) + '"'
    assert compile_expression(literal).evaluate({}) == literal[1:-1]
    with pytest.raises(ExpressionError, match=f"longer than {MAX_LENGTH} characters") as caught:
        compile_expression(literal + " ")
    assert len(str(caught.value)) < 300


def test_bound_length_limit() -> None:
    condition = "event.data.s == async.data.s"
    long = "a" * (MAX_LENGTH * 2)
    bound = bind(condition, {"data": {"s": long}})
    assert compile_bound(bound.source).is_true({"async": {"data": {"s": long}}})
    with pytest.raises(ExpressionError, match="with the event's values"):
        bind(condition, {"data": {"s": "a" * MAX_BOUND_LENGTH}})


def test_bound_values_may_nest_as_deep_as_can_be_read_back() -> None:
    value: object = 1
    for _ in range(60):
        value = [value]
    bound = bind("event.data.v == async.data.v", {"data": {"v": value}})
    assert compile_bound(bound.source).is_true({"async": {"data": {"v": value}}})
    for _ in range(4):
        value = {"v": value}
    with pytest.raises(ExpressionError, match="a value nests deeper than 64 levels"):
        bind("event.data.v == async.data.v", {"data": {"v": value}})
    assert bind("event.data.v == async.data.v && false", {"data": {"v": value}}).constant is False


def test_deep_values_fail_cleanly() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    variables = {"event": {"data": {"a": deep, "b": [deep]}}}
    for source in ("event.data.a == event.data.b", "event.data.a in [event.data.a]", "'' + event.data.a"):
        with pytest.raises(EvaluationError, match="nests too deep"):
            compile_expression(source).evaluate(variables)
    with pytest.raises(EvaluationError, match="nests too deep"):
        compile_expression("event.data.a").key(variables)
    with pytest.raises(EvaluationError):
        compile_expression("json_parse(event.data.j)").evaluate(
            {"event": {"data": {"j": "[" * 9000 + "]" * 9000}}}
        )


def test_comprehensions_share_a_budget() -> None:
    event = {"data": {"l": list(range(1000))}}
    assert compile_expression("event.data.l.all(x, x >= 0)").is_true({"event": event})
    nested = "event.data.l.all(x, event.data.l.all(y, event.data.l.all(z, true)))"
    with pytest.raises(EvaluationError, match="takes too much work"):
        compile_expression(nested).is_true({"event": event})


def test_strings_cannot_double_without_end() -> None:
    source = "['ab']" + ".map(x, x + x)" * 40 + " != event.x"
    with pytest.raises(EvaluationError, match="the result of '\\+' is longer than"):
        compile_expression(source).is_true({"event": {}})


def test_failures_are_evaluated_once_however_deep() -> None:
    """An operator that tried a failing operand again would take time exponential in the depth."""
    source = "1 / event.zero"
    for _ in range(28):
        source = f"({source} == 1 || false) && true"
    assert compile_expression(source).is_true({"event": {"zero": 0}}) is False


def test_patterns_take_linear_time() -> None:
    text = "a" * 20_000 + "!"
    for pattern in ("^(a+)+$", "^(a|aa)+$", "(a*)*b", "^(.*.*.*)*x$", "(a?){50}a{50}$"):
        assert Pattern(pattern).search(text) is False


def test_patterns_forget_transitions_past_their_limit() -> None:
    pattern = Pattern("[^a]b$")
    for start in range(0x4E00, 0x4E00 + 20_500, 1_000):
        text = "".join(map(chr, range(start, start + 1_000)))
        for end, found in [("b", True), ("ab", False), ("", False)]:
            refill()
            assert pattern.search(text + end) is found
    assert pattern.learnt < 20_500


def test_clock_must_be_given_when_used() -> None:
    expression = compile_expression("event.data.t == 1 || now() > timestamp(0)")
    assert expression.uses_clock
    assert expression.truthy({"event": {}}, 1) is True
    with pytest.raises(EvaluationError, match="the present time was not given"):
        expression.truthy({"event": {}})
    assert not compile_expression("event.data.now").uses_clock
    assert compile_expression("[1].all(x, now() == timestamp(0))").uses_clock


def test_clock_is_read_when_a_bound_expression_is_evaluated() -> None:
    bound = bind("now() > date(event.ts)", {"ts": 1_700_000_000_000})
    assert bound.constant is None
    assert bound.is_true({"async": {}}, 1_700_000_000_001)
    assert not compile_bound(bound.source).is_true({"async": {}}, 1_700_000_000_000)


def test_is_true_is_strict_and_truthy_is_not() -> None:
    expression = compile_expression("event.data.s")
    variables = {"event": {"data": {"s": "yes"}}}
    assert expression.truthy(variables) is True
    assert expression.is_true(variables) is False


def test_variables_may_be_absent_or_others() -> None:
    assert compile_expression("event.a.b == null").is_true({})
    assert compile_expression("vars.a == 1", variables=frozenset({"vars"})).is_true({"vars": {"a": 1}})


def test_bound_expressions_know_only_the_incoming_event() -> None:
    with pytest.raises(ExpressionError, match="unknown name 'event'"):
        compile_bound("event.data.a == 1")
    with pytest.raises(ExpressionError, match="unknown name 'steps'"):
        bind("steps.a == async.data.a", {})


@pytest.mark.parametrize("value", [None, [], {}, [1], {"a": 1}, float("nan")])
def test_no_term_value(value: object) -> None:
    assert term_value(value) is None


def test_value_at() -> None:
    event = {"name": "n", "data": {"a": {"b": 1}, "l": [1]}}
    assert value_at(event, "name") == "n"
    assert value_at(event, "data.a.b") == 1
    assert value_at(event, "data.a.b.c") is None
    assert value_at(event, "data.l.0") is None
    assert value_at(event, "data.none") is None


def test_integers_beyond_64_bits_survive_binding() -> None:
    huge = 1 << 80
    bound = bind("event.data.n == async.data.n", {"data": {"n": huge}})
    assert compile_bound(bound.source).is_true({"async": {"data": {"n": huge}}})
    assert not compile_bound(bound.source).is_true({"async": {"data": {"n": huge + 1}}})
