"""Turns a syntax tree into nested Python closures, with shorter ones for what most expressions are made of.

A closure takes the variables by name and returns the raw value, ``UNKNOWN`` included, or raises
``EvaluationError``. One more entry, whose key no name can collide with, carries the present time: ``NOW``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from inngest.core.expr.errors import EvaluationError
from inngest.core.expr.fuel import CHARACTERS, burn
from inngest.core.expr.functions import BOOLEAN, FUNCTIONS, of_unknown
from inngest.core.expr.regex import Pattern, PatternError, compile_pattern
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
    Node,
    Select,
    Unary,
    constant_path,
)
from inngest.core.expr.values import (
    UNKNOWN,
    add,
    contains,
    divide,
    equal,
    has_key,
    invert,
    is_number,
    less,
    less_equal,
    member,
    multiply,
    negate,
    remainder,
    subtract,
    truthy,
    type_name,
)

Scope = Mapping[str, Any]
Run = Callable[[Scope], Any]
Steps = Iterator[tuple[Scope, Any]]

NOW: Final = "now()"
_CALL_PRICE: Final = 8
"""What a call costs more than a node."""

_MISSING: Final = (KeyError, TypeError, AttributeError)

_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": equal,
    "!=": lambda a, b: not equal(a, b),
    "<": less,
    "<=": less_equal,
    ">": lambda a, b: less(b, a),
    ">=": lambda a, b: less_equal(b, a),
    "in": contains,
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}
_NATIVE: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compile_tree(node: Node) -> Run:
    """The closure that evaluates ``node``."""
    if (path := constant_path(node)) is not None:
        return _path(path)
    match node:
        case Literal(value):
            return lambda _: value
        case Select(operand, field):
            return _member(compile_tree(operand), field)
        case Index(operand, key):
            return _index(compile_tree(operand), compile_tree(key))
        case Has(operand, field):
            return _has(compile_tree(operand), field)
        case Call():
            return _call(node)
        case Unary("!", operand):
            return _apply(invert, compile_tree(operand))
        case Unary(_, operand):
            return _apply(negate, compile_tree(operand))
        case Binary(symbol, left, right):
            return _binary(symbol, left, right)
        case Logic(symbol, operands):
            return _logic(symbol, operands)
        case Conditional(condition, then, otherwise):
            return _conditional(*map(compile_tree, (condition, then, otherwise)))
        case ListOf(items):
            return _list([compile_tree(item) for item in items])
        case MapOf(entries):
            return _map([(compile_tree(key), compile_tree(value)) for key, value in entries])
        case Macro():
            return _macro(node)
    raise TypeError(f"unknown node {node!r}")


# -- paths --


def _path(path: tuple[str, ...]) -> Run:
    """A look-up that takes any dead end for unknown. The last step is the one most often missing, hence
    ``get``.
    """
    match path:
        case (first,):
            return lambda scope: scope.get(first, UNKNOWN)
        case (first, second):

            def two(scope: Scope) -> Any:
                try:
                    return scope[first].get(second, UNKNOWN)
                except _MISSING:
                    return UNKNOWN

            return two
        case (first, second, third):

            def three(scope: Scope) -> Any:
                try:
                    return scope[first][second].get(third, UNKNOWN)
                except _MISSING:
                    return UNKNOWN

            return three
        case (first, second, third, fourth):

            def four(scope: Scope) -> Any:
                try:
                    return scope[first][second][third].get(fourth, UNKNOWN)
                except _MISSING:
                    return UNKNOWN

            return four

    steps, last = path[:-1], path[-1]

    def many(scope: Scope) -> Any:
        value: Any = scope
        try:
            for step in steps:
                value = value[step]
            return value.get(last, UNKNOWN)
        except _MISSING:
            return UNKNOWN

    return many


def _member(operand: Run, field: str) -> Run:
    def run(scope: Scope) -> Any:
        return member(operand(scope), field)

    return run


def _index(operand: Run, key: Run) -> Run:
    def run(scope: Scope) -> Any:
        return member(operand(scope), key(scope))

    return run


def _has(operand: Run, field: str) -> Run:
    def run(scope: Scope) -> bool:
        value = operand(scope)
        return isinstance(value, dict) and has_key(value, field)

    return run


# -- operators --


def _apply(function: Callable[[Any], Any], operand: Run) -> Run:
    return lambda scope: function(operand(scope))


def _binary(symbol: str, left: Node, right: Node) -> Run:
    if symbol == "in" and isinstance(right, Literal):
        return _in_constant(compile_tree(left), right.value)
    if symbol in _MIRRORED:
        if isinstance(left, Literal):
            symbol, left, right = _MIRRORED[symbol], right, left
        if isinstance(right, Literal):
            return _compare_constant(symbol, compile_tree(left), right.value)
    apply, a, b = _OPERATORS[symbol], compile_tree(left), compile_tree(right)
    return lambda scope: apply(a(scope), b(scope))


def _compare_constant(symbol: str, get: Run, constant: Any) -> Run:
    if symbol in _NATIVE:
        return _order_constant(symbol, get, constant)
    same = _equals_constant(get, constant)
    if symbol == "==":
        return same
    if isinstance(constant, str):
        return lambda scope: get(scope) != constant
    return lambda scope: not same(scope)


def _equals_constant(get: Run, constant: Any) -> Run:
    if constant is None or constant is UNKNOWN:

        def is_null(scope: Scope) -> bool:
            value = get(scope)
            return value is None or value is UNKNOWN

        return is_null
    if constant.__class__ is bool:
        return lambda scope: get(scope) is constant
    # Python's == is the dialect's for these, but that it takes 0 and 1 for booleans.
    if isinstance(constant, str) or (is_number(constant) and constant not in {0, 1}):
        return lambda scope: bool(get(scope) == constant)
    return lambda scope: equal(get(scope), constant)


def _order_constant(symbol: str, get: Run, constant: Any) -> Run:
    native, general = _NATIVE[symbol], _OPERATORS[symbol]
    if constant.__class__ is int or constant.__class__ is float:

        def run(scope: Scope) -> bool:
            value = get(scope)
            kind = value.__class__
            return bool(native(value, constant) if kind is int or kind is float else general(value, constant))

        return run
    return lambda scope: general(get(scope), constant)


def _in_constant(get: Run, container: Any) -> Run:
    if isinstance(container, list) and all(isinstance(item, str) for item in container):
        strings = frozenset(container)

        def run(scope: Scope) -> bool:
            value = get(scope)
            return value.__class__ is str and value in strings

        return run
    return lambda scope: contains(get(scope), container)


def _logic(symbol: str, operands: tuple[Node, ...]) -> Run:
    runs = [compile_tree(node) for node in operands]
    if not all(boolean(node) and total(node) for node in operands):
        return _and(runs) if symbol == "&&" else _or(runs)
    # Booleans that cannot fail need no more than Python's own operators.
    match symbol, runs:
        case "&&", (a, b):
            return lambda scope: a(scope) and b(scope)
        case "&&", (a, b, c):
            return lambda scope: a(scope) and b(scope) and c(scope)
        case "||", (a, b):
            return lambda scope: a(scope) or b(scope)
    return _and(runs) if symbol == "&&" else _or(runs)


def _and(runs: list[Run]) -> Run:
    """The first falsy value, else the last. An error counts only if no operand is falsy, as in stock CEL."""

    def run(scope: Scope) -> Any:
        failure: EvaluationError | None = None
        value: Any = True
        for operand in runs:
            try:
                value = operand(scope)
            except EvaluationError as error:
                failure = failure or error
                continue
            if not truthy(value):
                return value
        if failure is not None:
            raise failure
        return value

    return run


def _or(runs: list[Run]) -> Run:
    """The first truthy value, else the last. An error is falsy."""
    *others, last = runs

    def run(scope: Scope) -> Any:
        for operand in others:
            try:
                value = operand(scope)
            except EvaluationError:
                continue
            if truthy(value):
                return value
        return last(scope)

    return run


def _conditional(condition: Run, then: Run, otherwise: Run) -> Run:
    def run(scope: Scope) -> Any:
        try:
            chosen = truthy(condition(scope))
        except EvaluationError:
            chosen = False
        return then(scope) if chosen else otherwise(scope)

    return run


def boolean(node: Node) -> bool:
    """Whether a node's value, if it has one, is surely a boolean."""
    match node:
        case Literal(value):
            return value.__class__ is bool
        case Binary(symbol):
            return symbol in _MIRRORED or symbol == "in"
        case Has() | Unary("!"):
            return True
        case Macro(kind):
            return kind not in {"map", "filter"}
        case Call(function):
            return function in BOOLEAN
        case Logic(_, operands):
            return all(map(boolean, operands))
        case Conditional(_, then, otherwise):
            return boolean(then) and boolean(otherwise)
    return False


def total(node: Node) -> bool:
    """Whether evaluating a node surely does not fail."""
    match node:
        case Unary() | Call() | Macro() | MapOf():
            return False
        case Binary("in", _, right):
            return isinstance(right, ListOf | Literal) and all(map(total, node.children()))
        case Binary(symbol):
            return symbol in _MIRRORED and all(map(total, node.children()))
    return all(map(total, node.children()))


# -- literals, calls and comprehensions --


def _known(value: Any) -> Any:
    return None if value is UNKNOWN else value


def _list(items: list[Run]) -> Run:
    return lambda scope: [_known(item(scope)) for item in items]


def _map(entries: list[tuple[Run, Run]]) -> Run:
    def run(scope: Scope) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_of, value_of in entries:
            key = key_of(scope)
            if not isinstance(key, (str, int)):
                raise EvaluationError(f"a map key cannot be {type_name(key)}")
            if key in result:
                raise EvaluationError(f"the map key {key!r} is repeated")
            result[key] = _known(value_of(scope))
        return result

    return run


def _call(node: Call) -> Run:
    function = FUNCTIONS[node.function]
    name, apply = node.function, function.run
    arguments = [compile_tree(argument) for argument in node.arguments]
    absent = of_unknown(name)
    if function.needs_clock:

        def with_clock(scope: Scope) -> Any:
            values = [argument(scope) for argument in arguments]
            return absent if UNKNOWN in values else apply(_now(scope), *values)

        return with_clock
    match node.arguments, arguments:
        case (_, Literal(str(text))), (a, _) if name == "matches" and (pattern := _pattern(text)):

            def search(scope: Scope) -> bool:
                value = a(scope)
                if value.__class__ is str:
                    return pattern.search(value)
                return bool(absent if value is UNKNOWN else apply(value, text))

            return search
        case _, (a,):

            def call_one(scope: Scope) -> Any:
                value = a(scope)
                return absent if value is UNKNOWN else apply(value)

            return call_one
        case _, (a, b):

            def call_two(scope: Scope) -> Any:
                first, second = a(scope), b(scope)
                return absent if first is UNKNOWN or second is UNKNOWN else apply(first, second)

            return call_two
    raise TypeError(f"{name}() has no form with {len(arguments)} arguments")


def _pattern(text: str) -> Pattern | None:
    """A constant pattern compiled ahead; None if it is malformed, which is for the evaluation to say."""
    try:
        return compile_pattern(text)
    except PatternError:
        return None


def _now(scope: Scope) -> datetime:
    now: datetime | None = scope.get(NOW)
    if now is None:
        raise EvaluationError("the present time was not given")
    return now


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value)
    raise EvaluationError(f"cannot iterate over {type_name(value)}")


def _steps(scope: Scope, variable: str, items: list[Any], price: int) -> Steps:
    """Scopes with ``variable`` bound to each item in turn: one dict, as no body keeps a reference to it."""
    inner = dict(scope)
    for item in items:
        burn(price)
        inner[variable] = item
        yield inner, item


def price_of(node: Node) -> int:
    """What evaluating a node once burns at most, comprehensions' steps, which burn themselves, left out.

    Outside comprehensions a node is evaluated once, and there are no more of them than characters.
    """
    match node:
        case Literal(str() | bytes() as text):
            return len(text) // CHARACTERS
        case Literal():
            return 0
        case Call():
            own = 1 + _CALL_PRICE
        case _:
            own = 1
    return own if constant_path(node) is not None else own + sum(map(price_of, node.children()))


def _macro(node: Macro) -> Run:
    range_of, variable = compile_tree(node.range), node.variable
    *conditions, body = [compile_tree(body) for body in node.bodies]

    def quantified(steps: Steps, sought: bool) -> bool:
        """Whether some item gives ``sought``. An error counts only if none does."""
        failure: EvaluationError | None = None
        for scope, _ in steps:
            try:
                if truthy(body(scope)) is sought:
                    return True
            except EvaluationError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return False

    def transformed(steps: Steps) -> list[Any]:
        found: list[Any] = []
        for scope, _ in steps:
            if all(truthy(condition(scope)) for condition in conditions):
                found.append(_known(body(scope)))
        return found

    forms: dict[str, Callable[[Steps], Any]] = {
        "all": lambda steps: not quantified(steps, False),
        "exists": lambda steps: quantified(steps, True),
        "exists_one": lambda steps: sum(truthy(body(scope)) for scope, _ in steps) == 1,
        "filter": lambda steps: [item for scope, item in steps if truthy(body(scope))],
        "map": transformed,
    }
    form = forms[node.kind]
    price = 1 + sum(map(price_of, node.bodies))

    def run(scope: Scope) -> Any:
        value = range_of(scope)
        return False if value is UNKNOWN else form(_steps(scope, variable, _items(value), price))

    return run
