"""The syntax tree of an expression. Every node knows its offset in the source and the height of its
subtree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Node:
    position: int = field(default=0, compare=False, kw_only=True)
    height: int = field(default=1, init=False, compare=False)

    def __post_init__(self) -> None:
        self.height = 1 + max((child.height for child in self.children()), default=0)

    def children(self) -> tuple[Node, ...]:
        return ()

    def rebuild(self, children: list[Node]) -> Node:
        """The same node over other children, given in the order of ``children()``."""
        if children:
            raise ValueError("a leaf has no children")
        return self


@dataclass(slots=True)
class Literal(Node):
    value: Any


@dataclass(slots=True)
class Name(Node):
    name: str


@dataclass(slots=True)
class Select(Node):
    operand: Node
    field: str

    def children(self) -> tuple[Node, ...]:
        return (self.operand,)

    def rebuild(self, children: list[Node]) -> Node:
        return Select(children[0], self.field, position=self.position)


@dataclass(slots=True)
class Has(Node):
    """``has(operand.field)``."""

    operand: Node
    field: str

    def children(self) -> tuple[Node, ...]:
        return (self.operand,)

    def rebuild(self, children: list[Node]) -> Node:
        return Has(children[0], self.field, position=self.position)


@dataclass(slots=True)
class Index(Node):
    operand: Node
    key: Node

    def children(self) -> tuple[Node, ...]:
        return (self.operand, self.key)

    def rebuild(self, children: list[Node]) -> Node:
        return Index(*children, position=self.position)


@dataclass(slots=True)
class Call(Node):
    """``function(*arguments)``; with ``method``, ``arguments[0].function(*arguments[1:])``."""

    function: str
    arguments: tuple[Node, ...]
    method: bool

    def children(self) -> tuple[Node, ...]:
        return self.arguments

    def rebuild(self, children: list[Node]) -> Node:
        return Call(self.function, tuple(children), self.method, position=self.position)


@dataclass(slots=True)
class Unary(Node):
    operator: str
    operand: Node

    def children(self) -> tuple[Node, ...]:
        return (self.operand,)

    def rebuild(self, children: list[Node]) -> Node:
        return Unary(self.operator, children[0], position=self.position)


@dataclass(slots=True)
class Binary(Node):
    operator: str
    left: Node
    right: Node

    def children(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def rebuild(self, children: list[Node]) -> Node:
        return Binary(self.operator, *children, position=self.position)


@dataclass(slots=True)
class Logic(Node):
    """``&&`` or ``||`` over two operands or more; nested ones of the same operator are always flattened."""

    operator: str
    operands: tuple[Node, ...]

    def children(self) -> tuple[Node, ...]:
        return self.operands

    def rebuild(self, children: list[Node]) -> Node:
        return Logic(self.operator, flatten(self.operator, children), position=self.position)


@dataclass(slots=True)
class Conditional(Node):
    condition: Node
    then: Node
    otherwise: Node

    def children(self) -> tuple[Node, ...]:
        return (self.condition, self.then, self.otherwise)

    def rebuild(self, children: list[Node]) -> Node:
        return Conditional(*children, position=self.position)


@dataclass(slots=True)
class ListOf(Node):
    items: tuple[Node, ...]

    def children(self) -> tuple[Node, ...]:
        return self.items

    def rebuild(self, children: list[Node]) -> Node:
        return ListOf(tuple(children), position=self.position)


@dataclass(slots=True)
class MapOf(Node):
    entries: tuple[tuple[Node, Node], ...]

    def children(self) -> tuple[Node, ...]:
        return tuple(node for entry in self.entries for node in entry)

    def rebuild(self, children: list[Node]) -> Node:
        return MapOf(tuple(zip(children[::2], children[1::2], strict=True)), position=self.position)


@dataclass(slots=True)
class Macro(Node):
    """``range.kind(variable, *bodies)``: all, exists, exists_one, filter, or map (which may have a
    condition first).
    """

    kind: str
    range: Node
    variable: str
    bodies: tuple[Node, ...]

    def children(self) -> tuple[Node, ...]:
        return (self.range, *self.bodies)

    def rebuild(self, children: list[Node]) -> Node:
        return Macro(self.kind, children[0], self.variable, tuple(children[1:]), position=self.position)


def flatten(operator: str, operands: list[Node]) -> tuple[Node, ...]:
    """Operands with nested uses of the same operator spliced in; ``&&`` and ``||`` are associative."""
    flat: list[Node] = []
    for node in operands:
        if isinstance(node, Logic) and node.operator == operator:
            flat.extend(node.operands)
        else:
            flat.append(node)
    return tuple(flat)


def constant_path(node: Node) -> tuple[str, ...] | None:
    """``("event", "data", "a")`` for ``event.data.a`` and ``event["data"].a``; None if a step is computed."""
    steps: list[str] = []
    while True:
        match node:
            case Name(name):
                return (name, *reversed(steps))
            case Select(operand, step):
                steps.append(step)
                node = operand
            case Index(operand, Literal(str(step))):
                steps.append(step)
                node = operand
            case _:
                return None
