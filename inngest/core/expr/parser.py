"""Parses an expression and resolves its names: what comes out refers only to things that exist.

Precedence climbing over the CEL grammar. Nesting and height are limited, so that neither this parser nor
any later walk of the tree can exhaust the stack.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from inngest.core.errors import ExpressionError
from inngest.core.expr.functions import FUNCTIONS, MACROS
from inngest.core.expr.lexer import Token, tokenize
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
    flatten,
)
from inngest.core.expr.values import TYPES, UInt

MAX_DEPTH: Final = 64
"""How deep an expression may nest; ``&&`` and ``||`` chains count as one level."""

PRECEDENCE: Final = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 3),
    **dict.fromkeys("+-", 4),
    **dict.fromkeys("*/%", 5),
}
_LITERALS: Final = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "package",
        "return",
        "var",
        "void",
        "while",
    ]
)
_INT_LIMIT: Final = 1 << 63
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def parse(source: str, variables: frozenset[str], *, max_length: int) -> Node:
    """The tree of ``source``, whose free names are among ``variables``; raises ``ExpressionError``."""
    if len(source) > max_length:
        shown = f"{source[:100]}…"
        raise ExpressionError(f"longer than {max_length} characters", source=shown, position=max_length)
    if found := _SURROGATE.search(source):
        raise ExpressionError("not valid Unicode", source=source, position=found.start())
    return _Parser(source, variables).parse()


class _Parser:
    def __init__(self, source: str, variables: frozenset[str]) -> None:
        self._source = source
        self._variables = variables
        self._scope: list[str] = []
        self._tokens = tokenize(source)
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._expression()
        if self._current.kind != "end":
            self._unexpected()
        return node

    @property
    def _current(self) -> Token:
        return self._tokens[self._at]

    def _is(self, op: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "op" and token.value == op

    def _take(self, op: str) -> bool:
        if self._is(op):
            self._at += 1
            return True
        return False

    def _expect(self, op: str) -> None:
        if not self._take(op):
            self._unexpected(f"expected {op!r}, ")

    def _fail(self, message: str, position: int) -> NoReturn:
        raise ExpressionError(message, source=self._source, position=position)

    def _unexpected(self, prefix: str = "") -> NoReturn:
        token = self._current
        found = f"unexpected {token.value!r}" if token.kind != "end" else "unexpected end"
        self._fail(prefix + found, token.position)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH} levels", self._current.position)

    def _made(self, node: Node) -> Node:
        if node.height > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH} levels", node.position)
        return node

    def _expression(self) -> Node:
        node = self._binary(1)
        if self._take("?"):
            then = self._binary(1)
            self._expect(":")
            self._enter()
            node = self._made(Conditional(node, then, self._expression(), position=node.position))
            self._depth -= 1
        return node

    def _binary(self, lowest: int) -> Node:
        self._enter()
        left = self._unary()
        while True:
            token = self._current
            operator: str = token.value if token.kind == "op" or token[:2] == ("name", "in") else ""
            precedence = PRECEDENCE.get(operator, 0)
            if precedence < lowest:
                break
            if precedence <= 2:
                operands = [left]
                while self._take(operator):
                    operands.append(self._binary(precedence + 1))
                left = Logic(operator, flatten(operator, operands), position=left.position)
            else:
                self._at += 1
                left = Binary(operator, left, self._binary(precedence + 1), position=token.position)
            self._made(left)
        self._depth -= 1
        return left

    def _unary(self) -> Node:
        token = self._current
        if token.kind == "op" and token.value in {"!", "-"}:
            self._at += 1
            if token.value == "-" and self._current.kind in {"int", "double"}:
                return self._postfix(self._number(negative=True))
            self._enter()
            node = self._made(Unary(token.value, self._unary(), position=token.position))
            self._depth -= 1
            return node
        return self._postfix(self._primary())

    def _number(self, *, negative: bool = False) -> Node:
        token = self._current
        self._at += 1
        value = -token.value if negative else token.value
        if token.kind == "int" and not -_INT_LIMIT <= value < _INT_LIMIT:
            self._fail("integer does not fit in 64 bits", token.position)
        if token.kind == "uint":
            if value >= 2 * _INT_LIMIT:
                self._fail("unsigned integer does not fit in 64 bits", token.position)
            value = UInt(value)
        return Literal(value, position=token.position)

    def _primary(self) -> Node:
        token = self._current
        match token.kind:
            case "int" | "uint" | "double":
                return self._number()
            case "string" | "bytes":
                self._at += 1
                return Literal(token.value, position=token.position)
            case "name":
                return self._name()
        if self._take("("):
            node = self._expression()
            self._expect(")")
            return node
        if self._take("["):
            return self._made(ListOf(tuple(self._sequence("]")), position=token.position))
        if self._take("{"):
            return self._map(token.position)
        if self._take("."):  # a name from the root, which here is the only scope there is
            if self._current.kind != "name":
                self._unexpected("expected a name, ")
            return self._name()
        return self._unexpected()

    def _name(self) -> Node:
        token = self._current
        name = token.value
        if name in _RESERVED:
            self._unexpected()
        self._at += 1
        if name in _LITERALS:
            return Literal(_LITERALS[name], position=token.position)
        if self._take("("):
            return self._call(token)
        if name in self._scope or name in self._variables:
            return Name(name, position=token.position)
        if name in TYPES:
            return Literal(TYPES[name], position=token.position)
        if name == "google":
            for full in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
                steps = full.replace(".", " . ").split()[1:]
                if [t.value for t in self._tokens[self._at : self._at + 4]] == steps:
                    self._at += 4
                    return Literal(TYPES[full], position=token.position)
        known = ", ".join(sorted({*self._variables, *self._scope}))
        return self._fail(f"unknown name {name!r} (there is {known})", token.position)

    def _sequence(self, close: str) -> list[Node]:
        """Items up to a bracket, with an optional comma at the end."""
        items: list[Node] = []
        while not self._take(close):
            items.append(self._expression())
            if not self._take(","):
                self._expect(close)
                break
        return items

    def _map(self, position: int) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._take("}"):
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression()))
            if not self._take(","):
                self._expect("}")
                break
        return self._made(MapOf(tuple(entries), position=position))

    def _postfix(self, node: Node) -> Node:
        while True:
            position = self._current.position
            if self._take("["):
                node = Index(node, self._expression(), position=position)
                self._expect("]")
            elif self._take("."):
                token = self._current
                if token.kind not in {"name", "quoted"}:
                    self._unexpected("expected a field name, ")
                self._at += 1
                if token.kind == "name" and self._take("("):
                    node = self._method(node, token)
                else:
                    node = Select(node, token.value, position=token.position)
            elif self._is("{"):
                self._fail("messages cannot be built", position)
            else:
                return node
            self._made(node)

    def _arguments(self) -> list[Node]:
        if self._take(")"):
            return []
        arguments = [self._expression()]
        while self._take(","):
            arguments.append(self._expression())
        self._expect(")")
        return arguments

    def _call(self, token: Token) -> Node:
        name = token.value
        if name == "has":
            return self._has(token)
        function = FUNCTIONS.get(name)
        if function is None or not function.calls:
            if function or name in MACROS:
                self._fail(f"{name}() is a method: write x.{name}(...)", token.position)
            self._fail(f"unknown function {name!r}", token.position)
        return self._checked(token, self._arguments(), function.calls, method=False)

    def _method(self, operand: Node, token: Token) -> Node:
        name = token.value
        if name in MACROS:
            return self._macro(operand, token)
        function = FUNCTIONS.get(name)
        if function is None or not function.methods:
            if function:
                self._fail(f"{name}() is not a method: write {name}(x)", token.position)
            self._fail(f"unknown method {name!r}", token.position)
        return self._checked(token, [operand, *self._arguments()], function.methods, method=True)

    def _checked(self, token: Token, arguments: list[Node], counts: frozenset[int], *, method: bool) -> Node:
        self._check_count(token, len(arguments) - method, counts)
        return self._made(Call(token.value, tuple(arguments), method, position=token.position))

    def _check_count(self, token: Token, count: int, counts: frozenset[int]) -> None:
        if count not in counts:
            wanted = " or ".join(map(str, sorted(counts)))
            plural = "" if wanted == "1" else "s"
            self._fail(f"{token.value}() takes {wanted} argument{plural}, got {count}", token.position)

    def _has(self, token: Token) -> Node:
        arguments = self._arguments()
        self._check_count(token, len(arguments), frozenset({1}))
        field = arguments[0]
        if not isinstance(field, Select):
            self._fail("has() takes a field, as in has(event.data.x)", field.position)
        return self._made(Has(field.operand, field.field, position=token.position))

    def _macro(self, operand: Node, token: Token) -> Node:
        variable = self._current
        if variable.kind != "name" or variable.value in _RESERVED | set(_LITERALS):
            self._fail(f"the first argument of {token.value}() must be a name", variable.position)
        self._at += 1
        if variable.value in self._variables:
            self._fail(f"the name {variable.value!r} is taken", variable.position)
        bodies: list[Node] = []
        self._scope.append(variable.value)
        while self._take(","):
            bodies.append(self._expression())
        self._scope.pop()
        self._expect(")")
        self._check_count(token, len(bodies) + 1, MACROS[token.value])
        return self._made(Macro(token.value, operand, variable.value, tuple(bodies), position=token.position))
