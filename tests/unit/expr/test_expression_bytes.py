"""Bound conditions, and what is remembered of conditions and patterns, have a bound of bytes."""

from __future__ import annotations

import pytest

from inngest.core.decisions.meeting import Conditions
from inngest.core.errors import ExpressionError
from inngest.core.expr import bind, regex
from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.expression import MAX_BOUND_LENGTH, compile_bound
from inngest.core.expr.fuel import refill


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
