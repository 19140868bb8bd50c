"""Scalars, types and bounds: the values that are neither structs nor lists."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntFlag

from inngest.config.cue.ast import Scalar
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.regex import compile_regex


class Kind(IntFlag):
    """The sorts of value; a type is a set of them."""

    NULL = 1
    BOOL = 2
    INT = 4
    FLOAT = 8
    STRING = 16
    BYTES = 32
    LIST = 64
    STRUCT = 128
    NUMBER = 12
    TOP = 255


_KIND_OF: dict[type, Kind] = {
    type(None): Kind.NULL,
    bool: Kind.BOOL,
    int: Kind.INT,
    Decimal: Kind.FLOAT,
    str: Kind.STRING,
    bytes: Kind.BYTES,
}
_KIND_NAMES = (
    (Kind.NULL, "null"), (Kind.BOOL, "bool"), (Kind.NUMBER, "number"), (Kind.INT, "int"),
    (Kind.FLOAT, "float"), (Kind.STRING, "string"), (Kind.BYTES, "bytes"),
    (Kind.LIST, "list"), (Kind.STRUCT, "struct"),
)  # fmt: skip


def kind_of(value: Scalar) -> Kind:
    return _KIND_OF[type(value)]


def kind_name(kind: Kind) -> str:
    """``int``, or ``(string|int)`` for more than one."""
    if kind == Kind.TOP:
        return "_"
    names, rest = [], kind
    for member, name in _KIND_NAMES:
        if rest & member == member:
            names.append(name)
            rest &= ~member
    if not names:
        return "_|_"
    return names[0] if len(names) == 1 else f"({'|'.join(names)})"


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"} | {
    chr(c): f"\\u{c:04x}" for c in (*range(9), 11, 12, *range(14, 32), 127, 0x2028, 0x2029, 0xFEFF)
})  # fmt: skip


def quote(text: str) -> str:
    """``text`` as a CUE string literal."""
    return f'"{text.translate(_ESCAPES)}"'


def format_scalar(value: Scalar) -> str:
    """``value`` as CUE source."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quote(value)
        case bytes():
            return (
                "'"
                + "".join(chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in value)
                + "'"
            )
        case Decimal():
            return format_decimal(value)
        case _:
            return str(value)


def format_decimal(value: Decimal) -> str:
    return str(value).replace("E+0", "") if value.is_finite() else "null"


def same_scalar(left: Scalar, right: Scalar) -> bool:
    """Whether two scalars unify: equal value and equal kind (``1`` and ``1.0`` do not)."""
    return type(left) is type(right) and left == right


@dataclass(frozen=True, slots=True)
class Bound:
    """``op`` with its operand, such as ``>= 5`` or ``=~ "^a"``."""

    op: str
    operand: Scalar

    def __str__(self) -> str:
        return self.op + format_scalar(self.operand)

    @property
    def kinds(self) -> Kind:
        """The kinds of value that may satisfy the bound."""
        if self.operand is None:
            return Kind.TOP & ~Kind.NULL
        kind = kind_of(self.operand)
        return Kind.NUMBER if kind & Kind.NUMBER else kind

    def admits(self, value: Scalar) -> bool:
        if self.op == "!=":
            return not equal(value, self.operand)
        return bool(compare(self.op, value, self.operand))


def bound(op: str, operand: Scalar, pos: Position) -> Bound:
    """The bound, checked: raises ``CueError`` for an operand the operator has no meaning for."""
    kind = kind_of(operand)
    if op in {"=~", "!~"}:
        if not isinstance(operand, str | bytes):
            raise operand_error(
                f"cannot use {format_scalar(operand)} (type {kind_name(kind)}) for bound {op}", pos
            )
        compile_regex(operand if isinstance(operand, str) else operand.decode("latin-1"), pos)
    elif kind == Kind.BOOL or (kind == Kind.NULL and op != "!="):
        raise operand_error(
            f"invalid value {format_scalar(operand)} (type {kind_name(kind)}) for bound {op}", pos
        )
    return Bound(op, operand)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A type and bounds a concrete value still has to meet."""

    kinds: Kind
    bounds: tuple[Bound, ...] = ()

    def __str__(self) -> str:
        parts = [str(b) for b in self.bounds]
        implied = Kind.TOP
        for item in self.bounds:
            implied &= item.kinds
        if self.kinds != implied or not parts:
            parts.append(kind_name(self.kinds))
        return " & ".join(parts)

    def admits(self, value: Scalar) -> bool:
        return bool(kind_of(value) & self.kinds) and all(b.admits(value) for b in self.bounds)


def operand_error(message: str, *positions: Position) -> CueError:
    return CueError(message, positions, reason=Reason.OPERAND)


def equal(left: Scalar, right: Scalar) -> bool:
    """Equality of ``==``: numbers by value, everything else only within its kind."""
    if kind_of(left) & Kind.NUMBER and kind_of(right) & Kind.NUMBER:
        return left == right
    return same_scalar(left, right)


def compare(op: str, left: Scalar, right: Scalar) -> bool | None:
    """The result of an ordering or a match; ``None`` if the operands are not comparable."""
    numbers = kind_of(left) & Kind.NUMBER and kind_of(right) & Kind.NUMBER
    if op in {"=~", "!~"}:
        if isinstance(left, bytes) and isinstance(right, bytes | str):
            left = left.decode("latin-1")
        pattern = right.decode("latin-1") if isinstance(right, bytes) else right
        if not isinstance(left, str) or not isinstance(pattern, str):
            return None
        return (compile_regex(pattern).search(left) is not None) == (op == "=~")
    if not numbers and (type(left) is not type(right) or not isinstance(left, str | bytes)):
        return None
    if isinstance(left, str) and isinstance(right, str):
        left, right = left.encode(), right.encode()  # CUE orders strings by their bytes
    match op:
        case "<":
            return left < right  # type: ignore[operator]
        case "<=":
            return left <= right  # type: ignore[operator]
        case ">":
            return left > right  # type: ignore[operator]
        case _:
            return left >= right  # type: ignore[operator]


def clashing_bounds(bounds: list[tuple[Bound, Position]], kinds: Kind) -> CueError | None:
    """The error for a lower and an upper bound no value can meet both, if there are such."""
    lower = [(b, p) for b, p in bounds if b.op in {">", ">="}]
    upper = [(b, p) for b, p in bounds if b.op in {"<", "<="}]
    for low, low_pos in lower:
        for high, high_pos in upper:
            strict = low.op == ">" or high.op == "<"
            if compare(">=" if strict else ">", low.operand, high.operand):
                word = "number" if low.kinds & Kind.NUMBER else kind_name(low.kinds)
                return CueError(
                    f"incompatible {word} bounds {high} and {low}", [high_pos, low_pos], reason=Reason.BOUND
                )
            if kinds & Kind.NUMBER == Kind.INT and _no_integer_between(low, high):
                return CueError(
                    f"incompatible integer bounds {high} and {low}", [high_pos, low_pos], reason=Reason.BOUND
                )
    return None


def _no_integer_between(low: Bound, high: Bound) -> bool:
    if not isinstance(low.operand, int | Decimal) or not isinstance(high.operand, int | Decimal):
        return False
    floor = (
        low.operand // 1
        if isinstance(low.operand, int)
        else int(low.operand.to_integral_value("ROUND_CEILING"))
    )
    first = floor + 1 if low.op == ">" and floor == low.operand else floor
    return not high.admits(first)


def _integers(low: int | None, high: int | None) -> Constraint:
    ends = [("<=", high), (">=", low)]
    return Constraint(Kind.INT, tuple(Bound(op, end) for op, end in reversed(ends) if end is not None))


_FLOAT32 = Decimal("3.40282346638528859811704183484516925440e+38")
_FLOAT64 = Decimal("1.797693134862315708145274237317043567981e+308")

#: The predeclared types.
TYPES: dict[str, Constraint] = {
    "_": Constraint(Kind.TOP),
    "null": Constraint(Kind.NULL),
    "bool": Constraint(Kind.BOOL),
    "int": Constraint(Kind.INT),
    "float": Constraint(Kind.FLOAT),
    "number": Constraint(Kind.NUMBER),
    "string": Constraint(Kind.STRING),
    "bytes": Constraint(Kind.BYTES),
    "uint": _integers(0, None),
    "rune": _integers(0, 0x10FFFF),
    "float32": Constraint(Kind.NUMBER, (Bound(">=", -_FLOAT32), Bound("<=", _FLOAT32))),
    "float64": Constraint(Kind.NUMBER, (Bound(">=", -_FLOAT64), Bound("<=", _FLOAT64))),
} | {
    name: limits
    for bits in (8, 16, 32, 64, 128)
    for name, limits in (
        (f"int{bits}", _integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)),
        (f"uint{bits}", _integers(0, 2**bits - 1)),
    )
}
