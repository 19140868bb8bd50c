"""Properties of the expression language over generated expressions, events and texts."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from inngest.core.expr import (
    EvaluationError,
    ExpressionError,
    bind,
    compile_bound,
    compile_expression,
    equality_terms,
    term_value,
    value_at,
)
from inngest.core.expr.compiler import compile_tree
from inngest.core.expr.folding import fold
from inngest.core.expr.parser import parse
from inngest.core.expr.printer import literal, print_tree
from inngest.core.expr.regex import Pattern, PatternError
from inngest.core.expr.values import UNKNOWN, equal, less, less_equal, truthy

CALM = settings(deadline=None)
BOTH = frozenset({"event", "async"})
KEYS = st.sampled_from(["a", "b", "c", "x-y"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, -1, 0.0, 1.0, 1.5, "", "a", "b", "1", "true"]),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"data": st.dictionaries(KEYS, JSON, max_size=4)}, optional={"name": st.just("n")}
)


def paths(roots: list[str]) -> st.SearchStrategy[str]:
    steps = st.sampled_from([".a", ".b", ".c", '["x-y"]', "[0]", ".a.b"])
    return st.builds("{}.data{}".format, st.sampled_from(roots), steps)


def expressions(roots: list[str]) -> st.SearchStrategy[str]:
    """Source texts over the named variables, most of them with a value."""
    leaves = st.one_of(paths(roots), paths(roots), SCALARS.map(literal))
    operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "in", "&&", "||"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds("({}) {} ({})".format, inner, operators, inner),
            st.builds("{} {} {}".format, leaves, st.sampled_from(["==", "!=", "<", ">"]), leaves),
            st.builds("({}) && ({})".format, inner, inner),
            st.builds("({}) || ({})".format, inner, inner),
            st.builds("({}) ? ({}) : ({})".format, inner, inner, inner),
            st.builds(
                "{}({})".format, st.sampled_from(["!", "-", "size", "string", "lowercase", "type"]), inner
            ),
            st.builds("[{}, {}]".format, inner, inner),
            st.builds('{{"a": {}}}.{}'.format, inner, st.sampled_from(["a", "b"])),
            st.builds("({})[{}]".format, inner, inner),
            st.builds(
                "[{}, {}].{}(v, {})".format,
                inner,
                inner,
                st.sampled_from(["all", "exists", "exists_one", "map", "filter"]),
                st.one_of(st.just("v"), st.builds("v == ({})".format, inner), inner),
            ),
            st.builds("has({})".format, paths(roots).filter(lambda p: not p.endswith("]"))),
        )

    return st.recursive(leaves, grow, max_leaves=6)


FEW = st.sampled_from([None, True, False, 0, 1, 1.0, "1", "a"])
SMALL_EVENTS = st.fixed_dictionaries({"data": st.dictionaries(st.sampled_from(["a", "b"]), FEW)})


def conditions() -> st.SearchStrategy[str]:
    """Pause expressions over small events, rich in equalities, so that many of them hold."""
    incoming = st.sampled_from(["async.data.a", "async.data.b", 'async.data["a"]'])
    value = st.one_of(st.sampled_from(["event.data.a", "event.data.b"]), FEW.map(literal))
    equality = st.one_of(
        st.builds("{} == {}".format, incoming, value), st.builds("{} == {}".format, value, incoming)
    )
    other = st.builds("{} {} {}".format, incoming, st.sampled_from(["!=", "<", ">="]), value)
    nested = st.recursive(
        st.one_of(equality, other, incoming),
        lambda inner: st.one_of(
            st.builds("({} && {})".format, inner, inner),
            st.builds("({} || {})".format, inner, inner),
            st.builds("({} ? {} : {})".format, inner, inner, inner),
            st.builds("({}) == ({})".format, inner, inner),
            st.builds("!({})".format, equality),
        ),
        max_leaves=4,
    )
    return st.builds(" && ".join, st.lists(st.one_of(equality, equality, nested), min_size=1, max_size=2))


def outcome(evaluate: Any) -> Any:
    """A value, or the class of the failure; comparable even if there is a NaN in it."""
    try:
        return repr(evaluate())
    except EvaluationError:
        return EvaluationError


@CALM
@given(expressions(["event", "async"]))
def test_printed_source_parses_to_the_same_tree(source: str) -> None:
    tree = parse(source, BOTH, max_length=10_000)
    printed = print_tree(tree)
    assert repr(without_positions(parse(printed, BOTH, max_length=100_000))) == repr(without_positions(tree))


def without_positions(tree: Any) -> str:
    return re.sub(r"position=\d+", "", repr(tree))


@CALM
@given(expressions(["event"]), EVENTS)
def test_folding_keeps_value_and_failure(source: str, event: dict[str, Any]) -> None:
    tree = parse(source, BOTH, max_length=10_000)
    variables = {"event": event}
    expected = outcome(lambda: compile_tree(tree)(variables))
    assert outcome(lambda: compile_tree(fold(tree, {}))(variables)) == expected
    assert outcome(lambda: compile_tree(fold(tree, variables))({})) == expected


@settings(CALM, max_examples=300)
@given(expressions(["event", "async"]), EVENTS, EVENTS)
@example("event.data.a == 1 && async.data.a == 1", {"data": {"a": 1}}, {"data": {}})
@example("event.data.a < async.data.a", {"data": {}}, {"data": {"a": -1}})
@example("event.data.a < async.data.a", {"data": {"a": None}}, {"data": {"a": -1}})
def test_bound_expression_equals_the_original(
    source: str, event: dict[str, Any], incoming: dict[str, Any]
) -> None:
    original = compile_expression(source, variables=BOTH)
    both = {"event": event, "async": incoming}
    bound = bind(source, event)
    stored = compile_bound(bound.source)
    for method in ("evaluate", "truthy", "is_true", "key"):
        expected = outcome(lambda m=method: getattr(original, m)(both))
        assert outcome(lambda m=method: getattr(bound, m)({"async": incoming})) == expected
        assert outcome(lambda m=method: getattr(stored, m)({"async": incoming})) == expected
    assert stored.source == bound.source
    if bound.constant is not None:
        assert bound.is_true({"async": incoming}) is bound.constant
    assert stored.constant is bound.constant


@settings(CALM, max_examples=300)
@given(conditions(), SMALL_EVENTS, SMALL_EVENTS)
@example("async.data.a == 1.0", {"data": {}}, {"data": {"a": 1}})
@example("async.data.a == true", {"data": {}}, {"data": {"a": 1}})
@example("async.data.a == event.data.a", {"data": {"a": None}}, {"data": {}})
def test_equality_terms_hold_for_every_match(
    source: str, event: dict[str, Any], incoming: dict[str, Any]
) -> None:
    bound = bind(source, event)
    terms = equality_terms(bound)
    assert equality_terms(compile_bound(bound.source)) == terms
    with contextlib.suppress(EvaluationError):
        if bound.is_true({"async": incoming}):
            assert all(term_value(value_at(incoming, path)) == text for path, text in terms)


@CALM
@given(SCALARS, SCALARS)
@example(1, 1.0)
@example(1, True)
@example(0, -0.0)
@example(9007199254740993, 9007199254740992.0)
@example("1", 1)
def test_equal_scalars_have_equal_term_values(a: Any, b: Any) -> None:
    if a is not None and b is not None:
        assert (term_value(a) == term_value(b)) is equal(a, b)


@CALM
@given(JSON, JSON)
def test_comparisons_agree_with_each_other(a: Any, b: Any) -> None:
    for left, right in ((a, b), (a, UNKNOWN), (UNKNOWN, b)):
        variables = {"event": {"l": left, "r": right} if right is not UNKNOWN else {"l": left}}
        if left is UNKNOWN:
            variables = {"event": {"r": right}}
        for operator, expected in (
            ("==", equal(left, right)),
            ("!=", not equal(left, right)),
            ("<", less(left, right)),
            ("<=", less_equal(left, right)),
            (">", less(right, left)),
            (">=", less_equal(right, left)),
        ):
            for source in (
                f"event.l {operator} event.r",
                f"event.l {operator} {literal(right)}",
                f"{literal(left)} {operator} event.r",
            ):
                assert compile_expression(source).evaluate(variables) is expected, source


@CALM
@given(JSON)
def test_literal_reads_back(value: Any) -> None:
    expression = compile_expression(literal(value))
    assert repr(expression.evaluate({})) == repr(value)


@CALM
@given(JSON)
def test_truthiness(value: Any) -> None:
    expected = value not in (None, "") and not (isinstance(value, (bool, int, float)) and not value)
    assert truthy(value) is expected
    assert compile_expression("event.v").truthy({"event": {"v": value}}) is expected


WORDS = "&& || == in event async data all has map matches x size 1 1u 0x 1.5 'a' r' true null // google now()"
TOKENS = st.sampled_from([*"()[]{}.,:?!-+*/%<>'\"`\\ \n", 'b"', '"""', *WORDS.split()])


@settings(CALM, max_examples=500)
@given(st.one_of(st.text(), st.lists(TOKENS, max_size=30).map("".join)))
@example("\ud800")
@example("'" + "(" * 3000)
def test_any_text_compiles_or_is_refused(source: str) -> None:
    with contextlib.suppress(ExpressionError, EvaluationError):
        compile_expression(source, variables=BOTH).truthy({"event": {"data": {"a": 1}}, "async": {}}, 0)


PIECES = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "a*",
        "b+",
        "a?",
        "(a|b)",
        "(ab)*",
        "^",
        "$",
        r"\b",
        r"\d",
        r"\w",
        "[ab]",
        "[^a]",
        "a{2}",
        "(?:a|)",
    ]
)


@CALM
@given(st.lists(PIECES, max_size=6).map("".join), st.text("ab1 _-", max_size=8))
def test_patterns_agree_with_python(pattern: str, text: str) -> None:
    """Within the syntax that both share; Python's ``$`` alone also matches before a final newline."""
    with contextlib.suppress(re.error):
        expected = re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
        assert Pattern(pattern).search(text) is expected


@CALM
@given(
    st.one_of(st.text(max_size=20), st.text("ab()[]{}|*+?^$\\.-:!<>=,0123dwpLx", max_size=20)),
    st.text(max_size=20),
)
def test_any_pattern_compiles_or_is_refused(pattern: str, text: str) -> None:
    with contextlib.suppress(PatternError):
        assert Pattern(pattern).search(text) in {True, False}
