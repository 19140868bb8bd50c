"""Writes a syntax tree back as source text that parses to an equal tree."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Any, Final

from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.fuel import burn, burn_text
from inngest.core.expr.parser import MAX_DEPTH, PRECEDENCE
from inngest.core.expr.times import format_duration, format_timestamp
from inngest.core.expr.tree import (
    Binary,
    Call,
    Conditional,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    Macro,
    MapOf,
    Name,
    Node,
    Select,
    Unary,
)
from inngest.core.expr.values import UNKNOWN, CelType, UInt

UNKNOWN_TEXT: Final = "{}.undefined"
"""How an unknown value is written: it needs no literal of its own."""

_CONDITIONAL: Final = 0
_UNARY: Final = 6
_PRIMARY: Final = 7
_IDENTIFIER: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_ESCAPED: Final = re.compile(r'[\\"\x00-\x1f\x7f\u2028\u2029]')
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INT_RANGE: Final = range(-(1 << 63), 1 << 63)


def print_tree(node: Node) -> str:
    """The source text of ``node``; raises ``EvaluationError`` if literals in it nest too deep to be read
    back.
    """
    return _print(node, _CONDITIONAL, 1)


def _print(node: Node, lowest: int, depth: int) -> str:
    """The text of a node, in parentheses if it binds less tightly than ``lowest``."""
    text, binding = _form(node, depth)
    return text if binding >= lowest else f"({text})"


def _form(node: Node, depth: int) -> tuple[str, int]:
    deeper = depth + 1
    match node:
        case Literal(value):
            return literal(value, depth), _PRIMARY
        case Name(name):
            return name, _PRIMARY
        case Select(operand, field):
            return f"{_print(operand, _PRIMARY, deeper)}.{_field(field)}", _PRIMARY
        case Has(operand, field):
            return f"has({_print(operand, _PRIMARY, deeper)}.{_field(field)})", _PRIMARY
        case Index(operand, key):
            return f"{_print(operand, _PRIMARY, deeper)}[{_print(key, _CONDITIONAL, deeper)}]", _PRIMARY
        case Call(function, arguments, method):
            texts = [_print(argument, _CONDITIONAL, deeper) for argument in arguments[method:]]
            target = f"{_print(arguments[0], _PRIMARY, deeper)}." if method else ""
            return f"{target}{function}({', '.join(texts)})", _PRIMARY
        case Unary(operator, operand):
            text = _print(operand, _UNARY, deeper)
            # "-5" is a literal, so the negation of 5 has to look different.
            return f"{operator}({text})" if operator == "-" and text[0].isdigit() else operator + text, _UNARY
        case Binary(operator, left, right):
            binding = PRECEDENCE[operator]
            return f"{_print(left, binding, deeper)} {operator} {_print(right, binding + 1, deeper)}", binding
        case Logic(operator, operands):
            binding = PRECEDENCE[operator]
            return f" {operator} ".join(_print(item, binding + 1, deeper) for item in operands), binding
        case Conditional(condition, then, otherwise):
            texts = [_print(condition, 1, deeper), _print(then, 1, deeper), _print(otherwise, 0, deeper)]
            return f"{texts[0]} ? {texts[1]} : {texts[2]}", _CONDITIONAL
        case ListOf(items):
            return f"[{', '.join(_print(item, _CONDITIONAL, deeper) for item in items)}]", _PRIMARY
        case MapOf(entries):
            pairs = (
                f"{_print(k, _CONDITIONAL, deeper)}: {_print(v, _CONDITIONAL, deeper)}" for k, v in entries
            )
            return f"{{{', '.join(pairs)}}}", _PRIMARY
        case Macro(kind, range_, variable, bodies):
            texts = [variable, *(_print(body, _CONDITIONAL, deeper) for body in bodies)]
            return f"{_print(range_, _PRIMARY, deeper)}.{kind}({', '.join(texts)})", _PRIMARY
    raise TypeError(f"unknown node {node!r}")


def _field(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else f"`{name}`"


def literal(value: Any, depth: int = 1) -> str:
    """A value as source text; ``depth`` is how deep it stands in the tree."""
    compound = value is UNKNOWN or isinstance(value, (int, float, datetime, timedelta))  # may take two nodes
    if depth + compound > MAX_DEPTH:
        raise EvaluationError(f"a value nests deeper than {MAX_DEPTH} levels")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            burn_text(4 * len(value))
            return f'"{_ESCAPED.sub(_escape, value)}"'
        case UInt():
            return f"{int(value)}u"
        case int():
            # JSON may hold integers that CEL cannot spell.
            return int.__repr__(value) if value in _INT_RANGE else f'json_parse("{int(value)}")'
        case float():
            return repr(value) if math.isfinite(value) else f'double("{value}")'
        case bytes():
            burn_text(32 * len(value))
            return 'b"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'
        case list():
            burn(4 + 4 * len(value))
            return f"[{', '.join(literal(item, depth + 1) for item in value)}]"
        case dict():
            burn(4 + 4 * len(value))
            pairs = (f"{literal(key, depth + 1)}: {literal(item, depth + 1)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        case datetime():
            return f'timestamp("{format_timestamp(value)}")'
        case timedelta():
            return f'duration("{format_duration(value)}")'
        case CelType(name):
            return name
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    raise EvaluationError(f"a {value.__class__.__name__} cannot stand in an expression")


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return _ESCAPES.get(char) or f"\\u{ord(char):04x}"
