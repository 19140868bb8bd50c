"""The expression language: CEL in upstream's dialect (wire protocol section 4.13).

``compile_expression`` checks a text and makes an ``Expression``; ``bind`` prepares the condition of a wait
or a cancellation for storage, and ``equality_terms``, ``term_value`` and ``value_at`` let a store index it.
"""

from __future__ import annotations

from inngest.core.errors import ExpressionError
from inngest.core.expr.conditions import Conditions, compile_conditions
from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.expression import (
    Expression,
    bind,
    compile_bound,
    compile_expression,
    equality_terms,
)
from inngest.core.expr.terms import term_value, value_at

__all__ = [
    "Conditions",
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "bind",
    "compile_bound",
    "compile_conditions",
    "compile_expression",
    "equality_terms",
    "term_value",
    "value_at",
]
