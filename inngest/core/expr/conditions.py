"""Searches: several expressions, one a line, that all have to hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from inngest.core.errors import ExpressionError
from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.expression import MAX_LENGTH, Expression, compile_expression
from inngest.core.expr.fuel import FUEL, left
from inngest.core.expr.lexer import end_of, tokenize

MAX_LINES: Final = 32

_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
# Nothing begins with these, and with `-`, `!` and brackets something may: such a line is one of its own.
_GOES_ON: Final = frozenset({"&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "*", "/", "%", "?", ":", "."})
_WANTS_MORE: Final = _GOES_ON | {"-", "!", ","}


class Conditions:
    """The lines of one search. ``work`` is the fuel (see `fuel`) that they have burnt so far."""

    def __init__(self, expressions: Iterable[Expression]) -> None:
        self._expressions: Final = tuple(expressions)
        self.work = 0

    def refer_to(self, variable: str) -> bool:
        """Whether the value of a variable may count."""
        return any(each.refers_to(variable) for each in self._expressions)

    def hold(self, variables: Mapping[str, Any], now_ms: int) -> bool:
        """Whether each holds, by the rule of triggers; one without a value does not."""
        try:
            return all(self._holds(each, variables, now_ms) for each in self._expressions)
        except EvaluationError:
            return False

    def _holds(self, each: Expression, variables: Mapping[str, Any], now_ms: int) -> bool:
        try:
            return each.truthy(variables, now_ms)
        finally:
            self.work += FUEL - left()


def compile_conditions(source: str, variables: frozenset[str]) -> Conditions | None:
    """The conditions of a search, None if there is none.

    A line break ends a condition unless a bracket or a string is open, the line ends with an operator or a
    comma, or the next one begins with an operator that needs something before it.

    Raises ``ExpressionError``, which names the line if there are several.
    """
    if len(source) > MAX_LENGTH:
        raise ExpressionError(
            f"longer than {MAX_LENGTH} characters", source=f"{source[:100]}…", position=MAX_LENGTH
        )
    lines = list(_lines(source))
    if len(lines) > MAX_LINES:
        raise ExpressionError(
            f"{len(lines)} conditions; {MAX_LINES} are allowed", source=f"{source[:100]}…", position=0
        )
    expressions = []
    for start, text in lines:
        try:
            expressions.append(compile_expression(text, variables=variables))
        except ExpressionError as error:
            if len(lines) == 1:
                raise
            line = source.count("\n", 0, start + error.position) + 1
            raise ExpressionError(
                f"line {line}: {error.message}", source=error.source, position=error.position
            ) from None
    return Conditions(expressions) if expressions else None


def _lines(source: str) -> Iterator[tuple[int, str]]:
    """Where each condition begins, and its text."""
    tokens = tokenize(source)
    depth, start = 0, tokens[0].position
    for token, following in pairwise(tokens):
        operator = token.value if token.kind == "op" else None
        if operator in _OPENING:
            depth += 1
        elif operator in _CLOSING:
            depth = max(0, depth - 1)
        end = end_of(source, token)
        ends = following.kind == "end"
        if not ends:
            more = operator in _WANTS_MORE or _is_in(token) or _is_in(following)
            goes_on = following.kind == "op" and following.value in _GOES_ON
            ends = "\n" in source[end : following.position] and not (depth or more or goes_on)
        if ends:
            yield start, source[start:end]
            start = following.position


def _is_in(token: tuple[str, Any, int]) -> bool:
    return token[:2] == ("name", "in")
