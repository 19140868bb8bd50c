"""Runs the golden corpus, ``corpus.json``: what the dialect says each expression is, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inngest.core.expr import (
    EvaluationError,
    ExpressionError,
    bind,
    compile_bound,
    compile_expression,
    equality_terms,
)

CORPUS: dict[str, Any] = json.loads((Path(__file__).parent / "corpus.json").read_text(encoding="utf-8"))
EVENT: dict[str, Any] = CORPUS["event"]
VARIABLES = {"event": EVENT}
NOW_MS: int = CORPUS["now_ms"]
VALUES = [(source, value) for cases in CORPUS["values"].values() for source, value in cases]
BOTH = frozenset({"event", "async"})


def same(actual: Any, expected: Any) -> bool:
    """Equality of JSON, in which true is not 1; 1 and 1.0 are one number."""
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(same, actual, expected))
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(same(actual[k], expected[k]) for k in actual)
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    return bool(actual == expected)


def test_no_case_is_there_twice() -> None:
    for cases in [VALUES, *(CORPUS[name] for name in ("failures", "errors", "restricted", "keys", "bound"))]:
        sources = [case[0] for case in cases]
        assert len(sources) == len(set(sources))


@pytest.mark.parametrize(("source", "expected"), VALUES, ids=[source for source, _ in VALUES])
def test_value(source: str, expected: Any) -> None:
    value = compile_expression(source).evaluate(VARIABLES, NOW_MS)
    assert same(value, expected), value


@pytest.mark.parametrize(("source", "expected"), VALUES, ids=[source for source, _ in VALUES])
def test_value_when_bound(source: str, expected: Any) -> None:
    bound = bind(compile_expression(source), EVENT)
    assert same(bound.evaluate({}, NOW_MS), expected), bound.source
    assert same(compile_bound(bound.source).evaluate({}, NOW_MS), expected), bound.source


@pytest.mark.parametrize(("source", "message"), CORPUS["failures"])
def test_failure(source: str, message: str) -> None:
    expression = compile_expression(source)
    with pytest.raises(EvaluationError) as caught:
        expression.evaluate(VARIABLES, NOW_MS)
    assert message in caught.value.message
    assert caught.value.source == source
    assert repr(source) in str(caught.value)
    with pytest.raises(EvaluationError):
        compile_bound(bind(expression, EVENT).source).evaluate({}, NOW_MS)


@pytest.mark.parametrize(("source", "position", "message"), CORPUS["errors"])
def test_error(source: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source)
    assert message in caught.value.message
    assert caught.value.position == position
    assert caught.value.source == source


@pytest.mark.parametrize(("source", "position"), CORPUS["restricted"])
def test_restrictive_policy(source: str, position: int | None) -> None:
    assert compile_expression(source, variables=BOTH).source == source
    if position is None:
        compile_expression(source, variables=BOTH, restrictive=True)
    else:
        with pytest.raises(ExpressionError, match="is not allowed here") as caught:
            compile_expression(source, variables=BOTH, restrictive=True)
        assert caught.value.position == position


@pytest.mark.parametrize(("source", "expected"), CORPUS["keys"])
def test_key(source: str, expected: Any) -> None:
    assert same(compile_expression(source).key(VARIABLES), expected)


@pytest.mark.parametrize(("source", "text", "terms"), CORPUS["bound"])
def test_bind(source: str, text: str, terms: list[list[str]]) -> None:
    bound = bind(source, EVENT)
    assert bound.source == text
    assert bound.constant is {"true": True, "false": False, '"hello"': False}.get(text)
    assert [list(term) for term in equality_terms(bound)] == terms
    again = compile_bound(text)
    assert equality_terms(again) == equality_terms(bound)
    assert again.constant is bound.constant
