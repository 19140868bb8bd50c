"""Compiled expressions: the face of this package."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final, Literal

from inngest.core.errors import ExpressionError
from inngest.core.expr import policy, tree
from inngest.core.expr.compiler import NOW, Run, compile_tree
from inngest.core.expr.errors import BEYOND_PYTHON, EvaluationError
from inngest.core.expr.folding import fold
from inngest.core.expr.fuel import refill
from inngest.core.expr.functions import FUNCTIONS
from inngest.core.expr.parser import parse
from inngest.core.expr.printer import print_tree
from inngest.core.expr.terms import find_terms
from inngest.core.expr.times import EPOCH
from inngest.core.expr.values import UNKNOWN, display, truthy
from inngest.core.remembered import Remembered

MAX_LENGTH: Final = 8_192
"""Longest expression that a user may write, in characters."""

MAX_BOUND_LENGTH: Final = 64 << 10
"""Longest expression once an event's values are written into it, in bytes of UTF-8."""

_BYTES_A_CHARACTER: Final = 60
_BYTES_AT_LEAST: Final = 2_000
_KNOWN_BYTES: Final = 16 << 20

EVENT: Final = frozenset({"event"})
ASYNC: Final = frozenset({"async"})
PAUSE: Final = EVENT | ASYNC


class Expression:
    """A compiled expression: immutable, and safe to share between threads.

    Every method that evaluates takes the ``variables`` by name, each a decoded JSON object, and ``now_ms``,
    the present time in Unix milliseconds, which only an expression with ``uses_clock`` looks at. It raises
    ``EvaluationError`` if there is no value, as when dividing by zero; a missing path is no error but
    unknown.

    ``constant`` is what ``is_true`` returns if no variable can change it, else None.
    """

    def __init__(self, source: str, parsed: tree.Node) -> None:
        self.source: Final = source
        self._tree: Final = parsed
        self.uses_clock: Final = _uses_clock(parsed)

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def refers_to(self, variable: str) -> bool:
        """Whether the value of a variable may count."""
        return _refers_to(self._tree, variable)

    @cached_property
    def _folded(self) -> tree.Node:
        refill()
        return fold(self._tree, {})

    @cached_property
    def _run(self) -> Run:
        folded = self._folded
        refill()  # the patterns have a tank of their own, whether the rest was folded just now or before
        run = compile_tree(folded)
        refill()
        return run

    @property
    def size(self) -> int:
        """Bytes of memory, roughly and rather too many."""
        return _BYTES_AT_LEAST + _BYTES_A_CHARACTER * len(self.source)

    @cached_property
    def constant(self) -> bool | None:
        folded = self._folded
        return folded.value is True if isinstance(folded, tree.Literal) else None

    def evaluate(self, variables: Mapping[str, Any], now_ms: int | None = None) -> Any:
        """The value itself: what JSON gives, or bytes, a UTC ``datetime``, a ``timedelta``; unknown is
        None.
        """
        value = self._value(variables, now_ms)
        return None if value is UNKNOWN else value

    def truthy(self, variables: Mapping[str, Any], now_ms: int | None = None) -> bool:
        """The rule of triggers and of ``batchEvents.if``: all but null, unknown, false, "" and 0 hold."""
        value = self._value(variables, now_ms)
        return value if value.__class__ is bool else truthy(value)

    def is_true(self, variables: Mapping[str, Any], now_ms: int | None = None) -> bool:
        """The rule of waits and cancellations: nothing but the boolean ``true`` holds."""
        return self._value(variables, now_ms) is True

    def key(self, variables: Mapping[str, Any], now_ms: int | None = None) -> str | Literal[False]:
        """The value as the text of a key; False, which rate limits and singletons treat apart, if it is
        ``false``.

        Strings are as they are, equal numbers have one text (1.0 is ``1``), lists and maps are JSON with
        sorted keys, timestamps are RFC 3339, durations are seconds; null and unknown are empty.
        """
        value = self._value(variables, now_ms)
        if value is False:
            return False
        try:
            return display(value)
        except BEYOND_PYTHON as error:
            raise self._no_value(error) from None

    def _value(self, variables: Mapping[str, Any], now_ms: int | None) -> Any:
        if self.uses_clock and now_ms is not None:
            variables = {**variables, NOW: _instant(now_ms)}
        refill()
        try:
            return self._run(variables)
        except EvaluationError as error:
            raise EvaluationError(error.message, source=self.source) from None
        except BEYOND_PYTHON as error:
            raise self._no_value(error) from None

    def _no_value(self, error: BaseException) -> EvaluationError:
        reason = "a value nests too deep" if isinstance(error, RecursionError) else str(error)
        return EvaluationError(reason or "a value is too large", source=self.source)

    def bound(self, event: Mapping[str, Any]) -> Expression:
        """See ``bind``."""
        refill()
        folded = fold(self._tree, {"event": event})
        try:
            source = print_tree(folded)
            size = len(source.encode())
        except EvaluationError as error:
            raise ExpressionError(error.message, source=self.source, position=0) from None
        except UnicodeEncodeError:
            message = "not valid Unicode with the event's values"
            raise ExpressionError(message, source=self.source, position=0) from None
        if size > MAX_BOUND_LENGTH:
            message = f"longer than {MAX_BOUND_LENGTH} bytes with the event's values"
            raise ExpressionError(message, source=self.source, position=0)
        return Expression(source, folded)

    def equality_terms(self) -> tuple[tuple[str, str], ...]:
        """See the function of this name."""
        return find_terms(self._folded)


def compile_expression(
    source: str,
    *,
    variables: frozenset[str] = EVENT,
    restrictive: bool = False,
) -> Expression:
    """Compiles ``source``, which may refer to ``variables``.

    Raises ``ExpressionError``, which names the place, if it does not parse, refers to an unknown name or
    function, calls one with a wrong number of arguments, is too long or nests too deep, or, if
    ``restrictive``, uses what conditions of ``cancelOn`` may not (wire protocol section 4.13).
    """
    parsed = parse(source, variables, max_length=MAX_LENGTH)
    refill()
    policy.check_patterns(parsed, source)
    if restrictive:
        policy.check_restrictive(parsed, source)
    return Expression(source, parsed)


def compile_bound(source: str) -> Expression:
    """Compiles the stored text of an expression that ``bind`` has made."""
    return Expression(source, parse(source, ASYNC, max_length=MAX_BOUND_LENGTH))


def bind(source: str | Expression, event: Mapping[str, Any]) -> Expression:
    """A pause's condition with ``event.*`` replaced by the values of ``event``: an expression over
    ``async`` alone.

    For every ``async`` it has the value, or the failure, that the original has for both. Its ``source`` can
    be stored and read back by ``compile_bound``. An unknown path is written ``{}.undefined``. Raises
    ``ExpressionError`` if the source does not compile or the event's values make it too long or too deep.
    """
    expression = _compile_pause(source) if isinstance(source, str) else source
    return expression.bound(event)


_waits: Final = Remembered[str, Expression](_KNOWN_BYTES)


def _compile_pause(source: str) -> Expression:
    known = _waits.get(source)
    if known is None:
        known = compile_expression(source, variables=PAUSE)
        _waits.put(source, known, known.size)
    return known


def equality_terms(expression: Expression) -> tuple[tuple[str, str], ...]:
    """The equalities without which a bound pause expression cannot be true, as distinct (path, text) pairs.

    An event can match only if ``term_value(value_at(event, path)) == text`` for each of them.
    """
    return expression.equality_terms()


def _instant(now_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=now_ms)


def _refers_to(node: tree.Node, variable: str) -> bool:
    if isinstance(node, tree.Name) and node.name == variable:
        return True
    return any(_refers_to(child, variable) for child in node.children())


def _uses_clock(node: tree.Node) -> bool:
    if isinstance(node, tree.Call) and FUNCTIONS[node.function].needs_clock:
        return True
    return any(map(_uses_clock, node.children()))
