"""Expressions: the tasks of a vertex, and the values operators, interpolations and comprehensions give."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from decimal import Decimal

from inngest.config.cue import ast
from inngest.config.cue.ast import RefKind, Scalar
from inngest.config.cue.errors import CueError, Position, Reason, format_path
from inngest.config.cue.operators import binary, interpolate, unary
from inngest.config.cue.unify import Unifier, is_builtin
from inngest.config.cue.values import (
    TYPES,
    Constraint,
    Kind,
    bound,
    equal,
    format_scalar,
    kind_name,
    kind_of,
)
from inngest.config.cue.vertex import (
    Bottom,
    Conjunct,
    Disjunction,
    Env,
    Pattern,
    Task,
    Value,
    Vertex,
    VertexExpr,
)

_REFERENCES = (ast.Ident, ast.Selector, ast.Index)


class Expressions(Unifier):
    """Evaluates expressions to values; whatever is missing raises an incomplete ``CueError``."""

    def __init__(self) -> None:
        super().__init__()
        self.provisional = 0
        #: Set while tasks that wait for nothing but each other get a last run.
        self.lenient = False

    @abstractmethod
    def value(self, vertex: Vertex) -> Value: ...

    @abstractmethod
    def fields(self, vertex: Vertex) -> list[tuple[str | int, Vertex]]: ...

    @abstractmethod
    def length(self, vertex: Vertex) -> int: ...

    @abstractmethod
    def combination(self, expr: ast.Call, env: Env) -> Vertex: ...

    @abstractmethod
    def call(self, expr: ast.Call, env: Env) -> Value: ...

    # Tasks

    def run(self, vertex: Vertex, task: Task) -> None:
        """Do what a vertex was waiting to do; raises an incomplete ``CueError`` if it still has to wait."""
        conjunct, node = task.conjunct, task.node
        match node:
            case Pattern():
                self.apply_pattern(node, conjunct.env.bindings[""])
            case ast.DynamicField():
                label = self.concrete(node.label, conjunct.env, "label")
                if not isinstance(label, str):
                    raise _wrong_type(label, "string", node.pos)
                inner = Conjunct(node.value, conjunct.env, conjunct.scope, (), conjunct.trail)
                self.add_field(vertex, ast.quoted_key(label, node.pos), node.presence, inner, node.pos)
            case ast.Comprehension():
                for env in list(self._iterate(node.clauses, conjunct.env)):
                    self._process(vertex, conjunct.part(node.body, env))
            case ast.ListLit():
                elements: list[tuple[ast.Expr, Env]] = []
                for element in node.elements:
                    if isinstance(element, ast.Comprehension):
                        elements += [(element.body, e) for e in self._iterate(element.clauses, conjunct.env)]
                    else:
                        elements.append((element, conjunct.env))
                self.add_list(vertex, conjunct, elements, node)
            case ast.Ident() | ast.Selector() | ast.Index():
                self.include(vertex, self.resolve(node, conjunct.env), conjunct)
            case ast.Call() if is_builtin(node, "and", "or"):
                self.include(vertex, self.combination(node, conjunct.env), conjunct)
            case ast.Expr():
                self.add_value(vertex, self.evaluate(node, conjunct.env), conjunct, node.pos)

    def _iterate(self, clauses: list[ast.Clause], env: Env) -> Iterator[Env]:
        """The environments a comprehension's body is to be evaluated in."""
        if not clauses:
            yield env
            return
        clause, rest = clauses[0], clauses[1:]
        match clause:
            case ast.IfClause():
                condition = self.concrete(clause.condition, env, "if clause")
                if not isinstance(condition, bool):
                    raise _wrong_type(condition, "bool", clause.condition.pos)
                if condition:
                    yield from self._iterate(rest, env)
            case ast.LetClause():
                inner = Env(env, None, {clause.name: self.anonymous(clause.expr, env)})
                yield from self._iterate(rest, inner)
            case ast.ForClause():
                source = self.evaluate(clause.source, env)
                if isinstance(source, Constraint) and source.kinds & (Kind.STRUCT | Kind.LIST):
                    message = f"cannot range over {source}: incomplete"
                    raise CueError(message, [clause.source.pos], reason=Reason.INCOMPLETE)
                if not isinstance(source, Vertex):
                    message = f"cannot range over {self.describe(source)}, want list or struct"
                    raise CueError(message, [clause.source.pos], reason=Reason.OPERAND)
                for key, item in self.fields(source):
                    bindings = {clause.value: item}
                    if clause.key is not None:
                        bindings[clause.key] = self.anonymous(ast.Literal(clause.pos, key), env)
                    yield from self._iterate(rest, Env(env, None, bindings))

    # Values

    def evaluate(self, expr: ast.Expr, env: Env) -> Value:
        """The value of an expression, defaults taken; raises ``CueError`` where there is none."""
        match expr:
            case ast.Literal():
                return expr.value
            case ast.Ident() if expr.kind is RefKind.BUILTIN:
                if expr.key not in TYPES:
                    message = f"builtin {expr.key} is a function, not a value"
                    raise CueError(message, [expr.pos], reason=Reason.OPERAND)
                return TYPES[expr.key]
            case ast.Ident() | ast.Selector() | ast.Index():
                return self.read(self.resolve(expr, env), expr.pos)
            case ast.Binary():
                return self._binary(expr, env)
            case ast.Unary():
                return unary(expr.op, self.concrete(expr.operand, env, f"operand to {expr.op}"), expr.pos)
            case ast.BoundExpr():
                self._refuse_composite_bound(expr, env)
                operand = self.concrete(expr.operand, env, f"bound {expr.op}")
                item = bound(expr.op, operand, expr.pos)
                return Constraint(item.kinds, (item,))
            case ast.Interpolation():
                return self._interpolation(expr, env)
            case ast.Slice():
                return self._slice(expr, env)
            case ast.Call() if not is_builtin(expr, "close"):
                return self.call(expr, env)
            case _:
                return self.read(self.anonymous(expr, env), expr.pos)

    def read(self, vertex: Vertex, pos: Position) -> Value:
        """The value of a vertex where one value is needed: the default of a disjunction."""
        value = self.value(vertex)
        if isinstance(value, Disjunction):
            leaf = value.default()
            if leaf is None:
                message = f"unresolved disjunction {self.describe(value)}"
                raise CueError(message, [pos, vertex.pos], reason=Reason.AMBIGUOUS)
            value = leaf.value
        if isinstance(value, Bottom):
            raise value.errors[0]
        return value

    def concrete(self, expr: ast.Expr, env: Env, where: str) -> Scalar:
        """The concrete scalar an expression evaluates to; ``where`` names its place in errors."""
        value = self.evaluate(expr, env)
        if isinstance(value, Constraint):
            message = f"non-concrete value {value} in {where}"
            raise CueError(message, [expr.pos], reason=Reason.INCOMPLETE)
        if isinstance(value, Vertex | Disjunction | Bottom):
            message = f"invalid operand {self.describe(value)} in {where}"
            raise CueError(message, [expr.pos], reason=Reason.OPERAND)
        return value

    def _binary(self, expr: ast.Binary, env: Env) -> Value:
        op, left, right = expr.op, expr.left, expr.right
        if op in {"&&", "||"}:
            first = self._boolean(left, env, op)
            return first if first == (op == "||") else self._boolean(right, env, op)
        if op in {"==", "!="}:
            if isinstance(right, ast.Bottom):
                return self._is_bottom(left, env) == (op == "==")
            if isinstance(left, ast.Bottom):
                return self._is_bottom(right, env) == (op == "==")
            a, b = self.evaluate(left, env), self.evaluate(right, env)
            if isinstance(a, Vertex) or isinstance(b, Vertex):
                return self._equal(a, b, expr) == (op == "==")
        elif op in {"+", "*"}:
            self._refuse_lists(expr, env)
        where = f"operand to {op}"
        return binary(
            op, self.concrete(left, env, where), self.concrete(right, env, where), (left.pos, right.pos)
        )

    def _refuse_composite_bound(self, expr: ast.BoundExpr, env: Env) -> None:
        if expr.op == "!=" and isinstance(self.evaluate(expr.operand, env), Vertex):
            message = "not supported: != with a list or a struct"
            raise CueError(message, [expr.pos], reason=Reason.UNSUPPORTED)

    def _refuse_lists(self, expr: ast.Binary, env: Env) -> None:
        for side in (expr.left, expr.right):
            if isinstance(side, ast.Literal):
                continue
            value = self.evaluate(side, env)
            if isinstance(value, Vertex) and value.lists:
                what = "Addition of lists" if expr.op == "+" else "Multiplication of lists"
                function = "list.Concat" if expr.op == "+" else "list.Repeat"
                message = f"{what} is superseded by {function}"
                raise CueError(message, [expr.left.pos], reason=Reason.OPERAND)

    def _boolean(self, expr: ast.Expr, env: Env, op: str) -> bool:
        value = self.concrete(expr, env, f"operand to {op}")
        if not isinstance(value, bool):
            raise _wrong_type(value, "bool", expr.pos)
        return value

    def _is_bottom(self, expr: ast.Expr, env: Env) -> bool:
        """Whether an expression has no value, for comparison with ``_|_``."""
        before = self.provisional
        try:
            if isinstance(expr, _REFERENCES):
                failed = isinstance(self.value(self.resolve(expr, env)), Bottom)
            else:
                self.evaluate(expr, env)
                failed = False
        except CueError as error:
            if self.provisional != before and not self.lenient:
                raise CueError(error.message, error.positions, reason=Reason.CYCLE) from None
            return True
        if failed and self.provisional != before and not self.lenient:
            raise CueError("cycle in comparison with _|_", [expr.pos], reason=Reason.CYCLE)
        return failed

    def _equal(self, left: Value, right: Value, expr: ast.Binary) -> bool:
        """Equality where at least one side is a list or a struct."""
        if left is None or right is None:
            return False
        if isinstance(left, Vertex) and isinstance(right, Vertex) and left.lists and right.lists:
            a, b = self.fields(left), self.fields(right)
            return len(a) == len(b) and all(
                self._equal_elements(self.read(x, expr.pos), self.read(y, expr.pos), expr)
                for (_, x), (_, y) in zip(a, b, strict=True)
            )
        message = f"invalid operands {self.describe(left)} and {self.describe(right)} to '{expr.op}'"
        raise CueError(message, [expr.left.pos, expr.right.pos], reason=Reason.OPERAND)

    def _equal_elements(self, left: Value, right: Value, expr: ast.Binary) -> bool:
        if isinstance(left, Vertex) and isinstance(right, Vertex) and not (left.lists or right.lists):
            a, b = dict(self.fields(left)), dict(self.fields(right))
            return a.keys() == b.keys() and all(
                self._equal_elements(self.read(arc, expr.pos), self.read(b[key], expr.pos), expr)
                for key, arc in a.items()
            )
        if isinstance(left, Vertex) or isinstance(right, Vertex):
            lists = isinstance(left, Vertex) and isinstance(right, Vertex) and left.lists and right.lists
            return self._equal(left, right, expr) if lists else False
        for side, node in ((left, expr.left), (right, expr.right)):
            if isinstance(side, Constraint | Disjunction | Bottom):
                message = f"non-concrete value {self.describe(side)} in operand to {expr.op}"
                raise CueError(message, [node.pos], reason=Reason.INCOMPLETE)
        return equal(left, right)  # type: ignore[arg-type]

    def _interpolation(self, expr: ast.Interpolation, env: Env) -> Scalar:
        parts: list[str | bytes] = []
        for part in expr.parts:
            if isinstance(part, ast.Expr):
                parts.append(interpolate(self.concrete(part, env, "interpolation"), part.pos))
            else:
                parts.append(part)
        if expr.is_bytes:
            return b"".join(p.encode() if isinstance(p, str) else p for p in parts)
        return "".join(p if isinstance(p, str) else p.decode(errors="replace") for p in parts)

    def _slice(self, expr: ast.Slice, env: Env) -> Value:
        subject = self.evaluate(expr.operand, env)
        if not isinstance(subject, Vertex) or not subject.lists:
            message = f"cannot slice {self.describe(subject)}, want list"
            raise CueError(message, [expr.operand.pos], reason=Reason.OPERAND)
        ends: list[int] = []
        length = self.length(subject)
        for end, missing in ((expr.low, 0), (expr.high, length)):
            number = missing if end is None else self.concrete(end, env, "slice")
            if not isinstance(number, int) or isinstance(number, bool):
                raise _wrong_type(number, "int", expr.pos)
            if not 0 <= number <= length:
                message = f"slice bounds out of range [{number}] with length {length}"
                raise CueError(message, [expr.pos], reason=Reason.EVALUATION)
            ends.append(number)
        if ends[0] > ends[1]:
            message = f"invalid slice index: {ends[0]} > {ends[1]}"
            raise CueError(message, [expr.pos], reason=Reason.EVALUATION)
        return self.list_of([arc for _, arc in self.fields(subject)][ends[0] : ends[1]], expr.pos)

    def list_of(self, vertices: list[Vertex], pos: Position) -> Value:
        return self.read(self.anonymous(VertexExpr(pos, vertices, "list"), Env(None, None)), pos)

    def describe(self, value: Value, depth: int = 3) -> str:
        """A value as CUE source, for messages; cut short below ``depth``."""
        match value:
            case Vertex():
                if value.lists:
                    opening, closing = "[", "]"
                    items = [self.describe(self._peek(arc), depth - 1) for _, arc in self.fields(value)]
                else:
                    opening, closing = "{", "}"
                    items = [
                        f"{format_path((str(key),))}:{self.describe(self._peek(arc), depth - 1)}"
                        for key, arc in self.fields(value)
                    ]
                return opening + (",".join(items) if depth else "...") + closing
            case Disjunction():
                marked = any(leaf.default for leaf in value.leaves)
                return " | ".join(
                    ("*" if marked and leaf.default else "") + self.describe(leaf.value, depth - 1)
                    for leaf in value.leaves
                )
            case Constraint():
                return str(value)
            case Bottom():
                return "_|_"
            case _:
                return format_scalar(value)

    def _peek(self, vertex: Vertex) -> Value:
        """The value of a vertex if it is known already, for messages only."""
        if vertex.value is not None:
            return vertex.value
        return vertex.scalars[0][0] if vertex.scalars else Constraint(vertex.kinds)


def _wrong_type(value: Scalar, wanted: str, pos: Position) -> CueError:
    kind = "float" if isinstance(value, Decimal) else kind_name(kind_of(value))
    return CueError(
        f"cannot use {format_scalar(value)} (type {kind}) as type {wanted}", [pos], reason=Reason.OPERAND
    )
