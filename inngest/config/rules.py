"""What a single value of the configuration may be, read from the schema and put into words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from inngest.config.cue import ast
from inngest.config.cue.values import format_scalar

Given = None | bool | int | float | str

_TYPES = {"string": (str,), "int": (int,), "number": (int, float), "bool": (bool,)}
_WORDS = {"string": "a text", "int": "a whole number", "number": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class Alternative:
    """One of the things a value may be. ``words`` is what the author of the schema calls it."""

    type: str | None = None
    literal: str | int | bool | None = None
    low: int | None = None
    high: int | None = None
    pattern: str | None = None
    unequal: str | None = None
    words: str = ""

    def admits(self, value: Given) -> bool:
        if self.literal is not None:
            return type(value) is type(self.literal) and value == self.literal
        if self.type and (
            not isinstance(value, _TYPES[self.type]) or isinstance(value, bool) != (self.type == "bool")
        ):
            return False
        if isinstance(value, str):
            return value != self.unequal and (not self.pattern or re.search(self.pattern, value) is not None)
        if isinstance(value, int | float):
            return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return False

    def describe(self) -> str:
        if self.words:
            return self.words
        if self.pattern:
            return f"a text that matches {self.pattern}"
        text = _WORDS[self.type or "string"]
        if self.low is not None and self.high is not None:
            return f"{text} from {self.low} to {self.high}"
        if self.low is not None:
            return f"{text}, at least {self.low}"
        return f"{text}, at most {self.high}" if self.high is not None else text

    def meet(self, other: Alternative) -> Alternative:
        """What both ask for."""
        return Alternative(
            type=self.type or other.type,
            low=self.low if other.low is None else other.low,
            high=self.high if other.high is None else other.high,
            pattern=self.pattern or other.pattern,
            unequal=self.unequal if other.unequal is None else other.unequal,
            words=self.words or other.words,
        )


@dataclass(frozen=True)
class Rule:
    """All that a value may be. ``default`` is CUE text, ``type`` the name of the value's type."""

    alternatives: tuple[Alternative, ...]
    default: str | None = None

    def admits(self, value: Given) -> bool:
        return any(alternative.admits(value) for alternative in self.alternatives)

    @property
    def type(self) -> str:
        known = [a.type or _type_of(a.literal) for a in self.alternatives if a.type or a.literal is not None]
        return known[0] if known else "string"

    @property
    def allowed(self) -> str:
        """What is allowed, in words: ``one of "json", "console"``."""
        general = [a for a in self.alternatives if a.literal is None]
        literals = [
            format_scalar(a.literal)
            for a in self.alternatives
            if a.literal is not None and not any(g.admits(a.literal) for g in general)
        ]
        parts = [general_one.describe() for general_one in general]
        if literals:
            parts.insert(0, f"one of {', '.join(literals)}" if len(literals) > 1 else literals[0])
        return " or ".join(dict.fromkeys(parts))


def _type_of(literal: object) -> str:
    return {bool: "bool", int: "int"}.get(type(literal), "string")


def rule(expr: ast.Expr, named: Mapping[str, tuple[ast.Expr, str]]) -> Rule:
    """The rule that an expression of the schema stands for.

    ``named`` holds the definitions it may refer to, each with its comment. Raises TypeError for what the
    schema is not to contain.
    """
    if not isinstance(expr, ast.DisjunctionExpr):
        return Rule((_alternative(expr, named),))
    default = None
    alternatives: list[Alternative] = []
    for disjunct in expr.disjuncts:
        if disjunct.default:
            default = _source(disjunct.expr)
        if not isinstance(disjunct.expr, ast.Selector):
            alternatives.append(_alternative(disjunct.expr, named))
    return Rule(tuple(alternatives), default)


def _alternative(expr: ast.Expr, named: Mapping[str, tuple[ast.Expr, str]]) -> Alternative:
    match expr:
        case ast.Literal(value=bool() | int() | str() as value):
            return Alternative(literal=value)
        case ast.Ident(name=name) if name in named:
            definition, words = named[name]
            return replace(_alternative(definition, named), words=words[:1].lower() + words[1:])
        case ast.Ident(name=name) if name in _TYPES:
            return Alternative(type=name)
        case ast.Unification():
            return _alternative(expr.left, named).meet(_alternative(expr.right, named))
        case ast.BoundExpr(operand=ast.Literal(value=str() as text)):
            if expr.op == "!=":
                return Alternative(type="string", unequal=text)
            return Alternative(type="string", pattern=text)
        case ast.BoundExpr(op=">=" | "<=" as op, operand=operand):
            number = _number(operand)
            return Alternative(low=number) if op == ">=" else Alternative(high=number)
        case _:
            raise TypeError(f"{expr.pos}: the schema is not to contain {type(expr).__name__} here")


def _number(expr: ast.Expr) -> int:
    match expr:
        case ast.Literal(value=int() as number):
            return number
        case ast.Unary(op="-", operand=operand):
            return -_number(operand)
        case _:
            raise TypeError(f"{expr.pos}: a bound of the schema is a whole number")


def _source(expr: ast.Expr) -> str:
    match expr:
        case ast.Literal():
            return format_scalar(expr.value)
        case ast.Ident():
            return expr.name
        case ast.Selector():
            return f"{_source(expr.operand)}.{expr.key}"
        case _:
            raise TypeError(f"{expr.pos}: a default of the schema is a value or a key")
