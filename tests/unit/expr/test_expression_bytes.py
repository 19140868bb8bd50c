"""Bound conditions, and what is remembered of conditions and patterns, have a bound of bytes."""

from __future__ import annotations

import pytest

from inngest.core.decisions.meeting import Conditions
from inngest.core.errors import ExpressionError
from inngest.core.expr import bind, compile_expression, regex
from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.expression import MAX_BOUND_LENGTH, compile_bound
from inngest.core.expr.fuel import FUEL, left, refill
from inngest.core.remembered import Remembered


def test_a_bound_condition_counts_bytes_and_not_characters() -> None:
    source = "async.data.id == event.data.id"
    short = "é" * (MAX_BOUND_LENGTH // 2 - 100)
    assert bind(source, {"data": {"id": short}}).is_true({"async": {"data": {"id": short}}}, 0)
    with pytest.raises(ExpressionError, match=f"longer than {MAX_BOUND_LENGTH} bytes"):
        bind(source, {"data": {"id": "é" * (MAX_BOUND_LENGTH // 2)}})


def test_a_list_that_an_honest_application_waits_for_is_bound() -> None:
    ids = list(range(100_000, 105_000))
    bound = bind("async.data.id in event.data.ids", {"data": {"ids": ids}})
    assert compile_bound(bound.source).is_true({"async": {"data": {"id": ids[-1]}}}, 0)
    assert not compile_bound(bound.source).is_true({"async": {"data": {"id": 5}}}, 0)


def test_compiled_conditions_are_let_go_by_their_bytes() -> None:
    conditions = Conditions(most=100_000)
    for number in range(100):
        conditions._known.put(f"c{number}", compile_bound("true"), 10_000)
    assert conditions._known.held <= 100_000


def test_patterns_are_let_go_by_their_bytes_and_making_one_burns() -> None:
    for number in range(200):
        refill()
        regex.compile_pattern(f"{number}" + "a{100}")
    assert regex._patterns.held <= 8 << 20
    refill()
    with pytest.raises(EvaluationError, match="too much work"):
        _make_many()
    refill()


def _make_many() -> None:
    for number in range(10_000):
        regex.compile_pattern(f"x{number}" + "[a-z]{200}")


PATTERNS = ["a+b", "(a|b)*c", "[a-f]{3}x", "a+b"]
SOURCES = [
    "event.a.matches('a+b')",
    "event.p.exists(x, event.a.matches(x))",
    "event.a.matches('a+b') || event.p.all(x, event.t.exists(y, y.matches(x)))",
    "event.t.exists(y, y.matches(event.p[0]) && y.matches('[a-f]{3}x'))",
]


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_remembered_changes_nothing_of_what_is_burnt(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process would fail where another does not."""
    event = {"a": "aaxabcdef", "p": PATTERNS, "t": ["zzz", "abcabc" * 20, "xyz"]}

    def spent() -> int:
        try:
            compiled.evaluate({"event": event})
        except EvaluationError as error:
            raise AssertionError(error) from None
        return left()

    monkeypatch.setattr(regex, "_patterns", Remembered[str, regex.Pattern](8 << 20))
    compiled = compile_expression(source)
    first = spent()
    assert first < FUEL - 10
    assert spent() == first
    for other in SOURCES:
        compile_expression(other).evaluate({"event": event})
    assert spent() == first
    # Nothing is kept from one to the next, not even within an evaluation.
    monkeypatch.setattr(regex, "_patterns", Remembered[str, regex.Pattern](0))
    assert spent() == first
    compiled = compile_expression(source)
    assert spent() == first
    monkeypatch.setattr(regex, "_MAX_TRANSITIONS", 1)
    assert [spent(), spent()] == [first, first]
    monkeypatch.setattr(regex, "_MAX_LEARNT", 1)
    assert [spent(), spent()] == [first, first]
