"""Syntax tree. The resolver fills in what an identifier refers to; evaluation never changes the tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum

from inngest.config.cue.errors import CueError, Position, Reason

Scalar = None | bool | int | Decimal | str | bytes


class Presence(IntEnum):
    """How a field is declared; a field declared several times takes the lowest."""

    REGULAR = 0
    REQUIRED = 1
    OPTIONAL = 2


class RefKind(Enum):
    FIELD = "field"
    BINDING = "binding"
    IMPORT = "import"
    BUILTIN = "builtin"


@dataclass(slots=True)
class Node:
    pos: Position


class Expr(Node):
    """Base of everything that has a value."""

    __slots__ = ()


@dataclass(slots=True)
class Literal(Expr):
    """null, a boolean, a number, a string or bytes without interpolation."""

    value: Scalar


@dataclass(slots=True)
class Bottom(Expr):
    """The literal ``_|_``."""


@dataclass(slots=True)
class Ident(Expr):
    """A reference; ``depth`` counts environment frames outwards, ``key`` is the label or name there."""

    name: str
    kind: RefKind | None = None
    depth: int = 0
    key: str = ""


@dataclass(slots=True)
class Interpolation(Expr):
    """Literal fragments and expressions in turn; fragments are bytes for a bytes literal."""

    parts: list[str | bytes | Expr]
    is_bytes: bool


@dataclass(slots=True)
class Selector(Expr):
    operand: Expr
    key: str


@dataclass(slots=True)
class Index(Expr):
    operand: Expr
    index: Expr


@dataclass(slots=True)
class Slice(Expr):
    operand: Expr
    low: Expr | None
    high: Expr | None


@dataclass(slots=True)
class Call(Expr):
    function: Expr
    arguments: list[Expr]


@dataclass(slots=True)
class Unary(Expr):
    """``+x``, ``-x``, ``!x``."""

    op: str
    operand: Expr


@dataclass(slots=True)
class BoundExpr(Expr):
    """``>x`` and its relatives as a constraint."""

    op: str
    operand: Expr


@dataclass(slots=True)
class Binary(Expr):
    """Arithmetic, comparison or logic."""

    op: str
    left: Expr
    right: Expr


@dataclass(slots=True)
class Unification(Expr):
    left: Expr
    right: Expr


@dataclass(slots=True)
class Disjunct:
    expr: Expr
    default: bool


@dataclass(slots=True)
class DisjunctionExpr(Expr):
    disjuncts: list[Disjunct]


@dataclass(slots=True)
class ValueAlias(Expr):
    """``X=expr`` as a field's value."""

    name: str
    expr: Expr


@dataclass(slots=True)
class Field(Node):
    """A field with a static label; ``key`` is the evaluator's label, ``name`` what a reference may say."""

    key: str
    name: str | None
    presence: Presence
    value: Expr
    alias: str | None = None


@dataclass(slots=True)
class DynamicField(Node):
    """A field whose label is an expression in parentheses or an interpolated string."""

    label: Expr
    presence: Presence
    value: Expr


@dataclass(slots=True)
class PatternField(Node):
    """``[expr]: v`` or ``[X=expr]: v``; a name opens a frame for the value that binds it to the label."""

    pattern: Expr
    name: str | None
    value: Expr


@dataclass(slots=True)
class Embedding(Node):
    expr: Expr


@dataclass(slots=True)
class OpenMark(Node):
    """``...`` in a struct."""


@dataclass(slots=True)
class Let(Node):
    name: str
    expr: Expr


@dataclass(slots=True)
class ForClause(Node):
    key: str | None
    value: str
    source: Expr


@dataclass(slots=True)
class IfClause(Node):
    condition: Expr


@dataclass(slots=True)
class LetClause(Node):
    name: str
    expr: Expr


Clause = ForClause | IfClause | LetClause


@dataclass(slots=True)
class Comprehension(Node):
    """Each ``for`` and ``let`` clause opens one frame."""

    clauses: list[Clause]
    body: StructLit


Declaration = Field | DynamicField | PatternField | Embedding | OpenMark | Let | Comprehension


@dataclass(slots=True)
class StructLit(Expr):
    declarations: list[Declaration]
    fields: list[Field] = field(default_factory=list)
    others: list[Declaration] = field(default_factory=list)
    lets: dict[str, Expr] = field(default_factory=dict)
    embeds: bool = False
    is_struct: bool = True

    def __post_init__(self) -> None:
        regular = False
        for decl in self.declarations:
            if isinstance(decl, Field):
                self.fields.append(decl)
                regular = regular or not decl.key.startswith("\0")
            elif isinstance(decl, Let):
                self.lets[decl.name] = decl.expr
            else:
                self.others.append(decl)
                if isinstance(decl, Embedding | Comprehension):
                    self.embeds = True
                else:
                    regular = True
        # Only embeddings decide the kind of a literal such as {5, #help: "text"}.
        self.is_struct = regular or not self.embeds


@dataclass(slots=True)
class ListLit(Expr):
    elements: list[Expr | Comprehension]
    rest: Expr | None = None
    is_open: bool = False


@dataclass(slots=True)
class Import(Node):
    path: str
    name: str


@dataclass(slots=True)
class File:
    """A parsed text; ``body`` holds the declarations of the file."""

    filename: str
    package: str | None
    imports: list[Import]
    body: StructLit


def hidden_key(name: str) -> str:
    """The evaluator's label of a hidden field or definition, distinct from the quoted label of equal text."""
    return "\0" + name


def quoted_key(text: str, pos: Position) -> str:
    """The evaluator's label of a label that was quoted or computed.

    Raises ``CueError`` for one that starts with NUL, which marks hidden labels here.
    """
    if text.startswith("\0"):
        raise CueError("not supported: a label that starts with NUL", [pos], reason=Reason.UNSUPPORTED)
    return text


def is_hidden(key: str) -> bool:
    return key.startswith("\0_")


def is_definition(key: str) -> bool:
    return key.startswith(("\0#", "\0_#"))


def display_key(key: str | int) -> str:
    """The label as an author writes it."""
    return str(key).removeprefix("\0").partition("\0")[0]
