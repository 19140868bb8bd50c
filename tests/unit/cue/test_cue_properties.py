"""Laws of the evaluator on generated values."""

from __future__ import annotations

from typing import Any

import pytest
from cue_grammar import admitting, configurations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inngest.config.cue import CueError, dumps, evaluate

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
labels = st.text(max_size=6).filter(lambda text: not text.startswith("\0"))
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(labels, inner, max_size=4)),
    max_leaves=12,
)
values = st.sampled_from([0, 1, 2.5, "x", "xy", True, None, [1, "x"], {"a": 1, "b": {"c": "x"}}, []])
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def outcome(source: str) -> Any:
    """What ``source`` exports, or that it is refused."""
    try:
        return evaluate(source).export()
    except CueError:
        return CueError


@given(plain)
@relaxed
def test_dumped_data_evaluates_to_itself(data: object) -> None:
    text = dumps({"v": data})
    exported = evaluate(text).export()
    assert exported == {"v": data}
    assert dumps(exported) == text


@given(plain)
@relaxed
def test_any_data_can_stand_at_the_top(data: object) -> None:
    assert evaluate(dumps(data)).export() == data


@pytest.mark.parametrize("data", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_cannot_be_dumped(data: float) -> None:
    with pytest.raises(ValueError, match="CUE has no number"):
        dumps(data)


@given(values.flatmap(lambda v: st.tuples(admitting(v, marks=False), admitting(v, marks=False))))
@relaxed
def test_unification_is_commutative(pair: tuple[str, str]) -> None:
    left, right = pair
    assert outcome(f"x: {left} & {right}") == outcome(f"x: {right} & {left}")


@given(st.tuples(*[values.flatmap(lambda v: admitting(v, marks=False))] * 3))
@relaxed
def test_unification_is_associative(parts: tuple[str, str, str]) -> None:
    a, b, c = parts
    assert outcome(f"x: ({a} & {b}) & {c}") == outcome(f"x: {a} & ({b} & {c})")


@given(values.flatmap(admitting))
@relaxed
def test_unification_is_idempotent(text: str) -> None:
    assert outcome(f"x: {text} & {text}") == outcome(f"x: {text}")


@given(values.flatmap(lambda v: st.tuples(st.just(v), admitting(v))))
@relaxed
def test_a_value_meets_what_admits_it(case: tuple[Any, str]) -> None:
    value, text = case
    exported = outcome(f"{dumps({'x': value})}\nx: {text}")
    assert exported is CueError or exported["x"] == value or isinstance(value, dict | list)


@given(configurations(), st.randoms())
@relaxed
def test_the_order_of_declarations_does_not_matter(source: str, random: Any) -> None:
    lines = source.splitlines()
    random.shuffle(lines)
    assert outcome(source) == outcome("\n".join(lines))


@given(st.text(alphabet="ab1:{}[]()\"\\|&*#_.,?!=<>~ \n'", max_size=30))
@relaxed
def test_any_text_is_evaluated_or_refused(source: str) -> None:
    outcome(source)
