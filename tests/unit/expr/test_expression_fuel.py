"""What an evaluation may do, measured by what it burns and not by time."""

from __future__ import annotations

from typing import Any

import pytest

from inngest.core.errors import ExpressionError
from inngest.core.expr import EvaluationError, bind, compile_expression, fuel
from inngest.core.expr.fuel import FUEL
from inngest.core.expr.regex import Pattern

DOUBLED = "[1]" + ".map(x,[x,x])" * 40
SPENT = "the expression takes too much work"


def burnt(source: str, data: dict[str, Any]) -> int:
    """By one evaluation."""
    expression = compile_expression(source)
    expression.truthy({"event": {"data": data}}, 0)
    return FUEL - fuel.left()


@pytest.mark.parametrize(
    ("source", "data"),
    [
        (f"{DOUBLED} == {DOUBLED}", {}),
        (f"{DOUBLED} + 'x'", {}),
        ("event.data.a.exists(x, x in event.data.b)", {"a": list(range(3000)), "b": [-1] * 3000}),
        (
            "event.data.a.exists(x, event.data.m[x] == 1)",
            {"a": list(range(3000)), "m": {"a": 1} | {str(i): 0 for i in range(3000)}},
        ),
        ("event.data.a.exists(x, event.data.t.contains(x))", {"a": ["z"] * 3000, "t": "y" * 1_000_000}),
        ("event.data.a.all(x, event.data.t.matches('^y*$'))", {"a": [1] * 3000, "t": "y" * 100_000}),
        ("event.data.t.matches('(a|b)*a(a|b){1000}c')", {"t": "abaabbabab" * 200}),
        ("event.data.a.all(x, lowercase(event.data.t) != '')", {"a": [1] * 3000, "t": "Y" * 1_000_000}),
    ],
)
def test_work_without_a_bound_ends_with_its_reason(source: str, data: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match=SPENT):
        burnt(source, data)
    assert fuel.left() > -2 * FUEL, "what burns is known before it is done"


def test_a_key_that_doubles_ends() -> None:
    with pytest.raises(EvaluationError, match=SPENT):
        compile_expression(DOUBLED).key({"event": {}}, 0)


def test_a_wait_that_doubles_is_refused() -> None:
    with pytest.raises(ExpressionError, match=SPENT):
        bind(f"async.data.a == {DOUBLED}", {"data": {}})


@pytest.mark.parametrize(
    ("source", "data", "most"),
    [
        ("event.data.a == 1", {"a": 1}, 0),
        ("event.data.a == event.data.b", {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}, 10),
        ("event.data.a.exists(x, x.id == 7)", {"a": [{"id": number} for number in range(1000)]}, 1000),
        ("'x' in event.data.a", {"a": ["y"] * 10_000}, 11_000),
        ("event.data.t.matches('^[a-z]+@[a-z]+$')", {"t": "somebody@example"}, 1000),
        ("event.data.t.contains('needle')", {"t": "hay" * 100_000}, 5_000),
    ],
)
def test_an_honest_expression_burns_little(source: str, data: dict[str, Any], most: int) -> None:
    assert burnt(source, data) <= most


def test_each_evaluation_has_its_own() -> None:
    expression = compile_expression("event.data.a.all(x, x in event.data.a)")
    event = {"event": {"data": {"a": list(range(200))}}}
    for _ in range(5):
        assert expression.truthy(event, 0)


def test_what_a_pattern_remembers_is_bounded() -> None:
    from inngest.core.expr import regex

    pattern = Pattern("(a|b)*a(a|b){900}c")
    text = format(0xF1234567_89ABCDEF_13579BDF, "b").replace("0", "a").replace("1", "b") * 20
    for _ in range(3):
        fuel.refill()
        with pytest.raises(EvaluationError, match=SPENT):
            pattern.search(text)
    assert pattern._held <= regex._MAX_HELD + 2 * fuel.FUEL
