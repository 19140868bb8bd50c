"""What a user may write, beyond what parses: well-formed patterns, and the restrictive policy."""

from __future__ import annotations

from typing import Final

from inngest.core.errors import ExpressionError
from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.regex import PatternError, compile_pattern
from inngest.core.expr.tree import Binary, Call, Has, Literal, Macro, Node, Unary

_OPERATORS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_CONVERSIONS: Final = frozenset({"int", "uint", "double"})


def check_patterns(tree: Node, source: str) -> None:
    """Raises ``ExpressionError`` for a constant pattern that is malformed, or too large with those before."""
    match tree:
        case Call("matches", (_, Literal(str(pattern), position=position))):
            try:
                compile_pattern(pattern)
            except PatternError as error:
                raise ExpressionError(f"invalid pattern: {error}", source=source, position=position) from None
            except EvaluationError:
                message = "the patterns are too large together"
                raise ExpressionError(message, source=source, position=position) from None
    for child in tree.children():
        check_patterns(child, source)


def check_restrictive(tree: Node, source: str) -> None:
    """Raises ``ExpressionError`` for what is not comparison, logic, field, ``in`` or number conversion.

    This is the policy for conditions of ``cancelOn`` and ``waitForEvent`` (wire protocol section 4.13).
    """
    refused: str | None = None
    match tree:
        case Macro(kind):
            refused = f"{kind}()"
        case Has():
            refused = "has()"
        case Call(function) if function not in _CONVERSIONS:
            refused = f"{function}()"
        case Unary("-"):
            refused = "'-'"
        case Binary(operator) if operator not in _OPERATORS:
            refused = f"{operator!r}"
    if refused is not None:
        raise ExpressionError(f"{refused} is not allowed here", source=source, position=tree.position)
    for child in tree.children():
        check_restrictive(child, source)
