"""Arithmetic, comparison, logic and interpolation on concrete scalars."""

from __future__ import annotations

from decimal import Decimal, DivisionByZero, InvalidOperation

from inngest.config.cue.ast import Scalar
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.literals import DECIMAL
from inngest.config.cue.values import (
    Kind,
    compare,
    equal,
    format_decimal,
    format_scalar,
    kind_name,
    kind_of,
    operand_error,
)

_MAX_REPEAT = 10_000_000


def binary(op: str, left: Scalar, right: Scalar, places: tuple[Position, Position]) -> Scalar:
    """``left op right``; raises ``CueError`` for operands the operator is not defined on."""
    if op in {"==", "!="}:
        comparable = kind_of(left) == kind_of(right) or left is None or right is None
        if not comparable and not (kind_of(left) | kind_of(right)) & ~Kind.NUMBER == Kind(0):
            raise _mismatch(op, left, right, places)
        return equal(left, right) == (op == "==")
    if op in {"<", "<=", ">", ">=", "=~", "!~"}:
        result = compare(op, left, right)
        if result is None:
            raise _mismatch(op, left, right, places)
        return result
    if op in {"div", "mod", "quo", "rem"}:
        return integer_division(op, left, right, places)
    return _arithmetic(op, left, right, places)


def _mismatch(op: str, left: Scalar, right: Scalar, places: tuple[Position, Position]) -> CueError:
    return operand_error(
        f"invalid operands {format_scalar(left)} and {format_scalar(right)} to '{op}' "
        f"(type {kind_name(kind_of(left))} and {kind_name(kind_of(right))})",
        *places,
    )


def _arithmetic(op: str, left: Scalar, right: Scalar, places: tuple[Position, Position]) -> Scalar:
    if _is_number(left) and _is_number(right):
        assert isinstance(left, int | Decimal)
        assert isinstance(right, int | Decimal)
        if op == "/":
            return _divide(left, right, places)
        if isinstance(left, int) and isinstance(right, int):
            return left + right if op == "+" else left - right if op == "-" else left * right
        a, b = Decimal(left), Decimal(right)
        return (
            DECIMAL.add(a, b)
            if op == "+"
            else DECIMAL.subtract(a, b)
            if op == "-"
            else DECIMAL.multiply(a, b)
        )
    if op == "+":
        if isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(left, bytes) and isinstance(right, bytes):
            return left + right
    if op == "*":
        for text, count in ((left, right), (right, left)):
            if isinstance(text, str | bytes) and isinstance(count, int) and not isinstance(count, bool):
                if count < 0 or count * len(text) > _MAX_REPEAT:
                    raise _evaluation(f"cannot convert {count} to a repeat count", *places)
                return text * count
    raise _mismatch(op, left, right, places)


def _divide(left: int | Decimal, right: int | Decimal, places: tuple[Position, Position]) -> Decimal:
    try:
        result = DECIMAL.divide(Decimal(left), Decimal(right))
    except (DivisionByZero, InvalidOperation):
        raise _evaluation("failed arithmetic: division by zero", *places) from None
    return result if result.as_tuple().exponent else result.quantize(Decimal("1.0"), context=DECIMAL)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _evaluation(message: str, *positions: Position) -> CueError:
    return CueError(message, positions, reason=Reason.EVALUATION)


def integer_division(op: str, left: Scalar, right: Scalar, places: tuple[Position, Position]) -> int:
    """``div`` and ``mod`` (Euclidean), ``quo`` and ``rem`` (truncated)."""
    for operand in (left, right):
        if not isinstance(operand, int) or isinstance(operand, bool):
            raise operand_error(
                f"cannot use {format_scalar(operand)} (type {kind_name(kind_of(operand))}) as int in {op}",
                *places,
            )
    assert isinstance(left, int)
    assert isinstance(right, int)
    if right == 0:
        raise _evaluation("division by zero", *places)
    remainder = left % abs(right)
    if op == "mod":
        return remainder
    if op == "div":
        return (left - remainder) // right
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if op == "quo" else left - quotient * right


def unary(op: str, value: Scalar, pos: Position) -> Scalar:
    """``+x``, ``-x`` on numbers and ``!x`` on booleans."""
    if op == "!" and isinstance(value, bool):
        return not value
    if op != "!" and _is_number(value):
        assert isinstance(value, int | Decimal)
        return value if op == "+" else -value
    raise operand_error(
        f"invalid operation {op}{format_scalar(value)} ({op} {kind_name(kind_of(value))})", pos
    )


def interpolate(value: Scalar, pos: Position) -> str | bytes:
    """How a value appears within a string."""
    match value:
        case str() | bytes():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return format_decimal(value)
        case _:
            raise operand_error(
                "invalid interpolation: cannot use null (type null) as type (bool|string|bytes|number)", pos
            )
