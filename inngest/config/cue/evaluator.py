"""Evaluation: settling vertices, reading their values, and choosing among disjuncts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from inngest.config.cue import ast
from inngest.config.cue.ast import Presence, RefKind, display_key, is_definition
from inngest.config.cue.builtins import Builtins
from inngest.config.cue.defaults import Defaults, Status
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.values import (
    TYPES,
    Constraint,
    Kind,
    clashing_bounds,
    format_scalar,
    kind_name,
    kind_of,
    same_scalar,
)
from inngest.config.cue.vertex import (
    Bottom,
    Disjunction,
    Env,
    Leaf,
    Pattern,
    Value,
    Vertex,
)


class Evaluator(Builtins):
    """Evaluates the vertices of one configuration and of the packages it imports.

    A value read while something it depends on is still being worked out is provisional: ``provisional``
    counts such readings, and nothing computed during one is kept.
    """

    def __init__(self, packages: Mapping[str, Vertex]) -> None:
        super().__init__()
        self._packages = packages
        self.provisional = 0

    # What unification needs

    def package(self, path: str) -> Vertex | None:
        return self._packages.get(path)

    def matches(self, pattern: Pattern, label: str) -> bool:
        value = self.value(pattern.matcher)
        if isinstance(value, Bottom):
            raise value.errors[0]
        return _label_matches(value, label)

    # Settling

    def ensure(self, vertex: Vertex) -> None:
        """Expand a vertex and run those of its tasks that can be run."""
        self.expand(vertex)
        if not vertex.tasks or vertex.settling or vertex.settled == self.epoch:
            return
        vertex.settling = True
        before = self.provisional
        try:
            progress = True
            while progress and vertex.tasks:
                tasks, vertex.tasks = vertex.tasks, []
                progress = False
                for task in tasks:
                    try:
                        self.run(vertex, task)
                        progress = True
                    except CueError as error:
                        if error.incomplete:
                            task.error = error
                            vertex.tasks.append(task)
                        else:
                            self.fail(vertex, error)
                            progress = True
        finally:
            vertex.settling = False
        vertex.settled = self.epoch if self.provisional == before else -1

    # Values

    def value(self, vertex: Vertex) -> Value:
        """What a vertex evaluates to; for a struct or a list a vertex that holds its fields or elements."""
        if vertex.epoch == self.epoch and vertex.value is not None:
            return vertex.value
        if vertex.evaluating or vertex.expanding or vertex.settling:
            if vertex.scalars and not vertex.errors:
                return vertex.scalars[0][0]
            self.provisional += 1
            message = f"cycle with field: {'.'.join(vertex.path())}"
            return Bottom([CueError(message, [vertex.pos], reason=Reason.CYCLE, path=vertex.path())])
        if vertex.parent is not None:
            self.ensure(vertex.parent)
        before = self.provisional
        vertex.evaluating = True
        try:
            self.ensure(vertex)
            value = self._compute(vertex)
        finally:
            vertex.evaluating = False
        if self.provisional == before:
            vertex.value, vertex.epoch = value, self.epoch
        return value

    def _compute(self, vertex: Vertex) -> Value:
        vertex.leaf = None
        errors = vertex.errors if vertex.rejected is None else [vertex.rejected, *vertex.errors]
        if errors or (errors := self._contradictions(vertex)):
            return Bottom(list(errors))
        if vertex.disjunctions:
            return self._disjoin(vertex)
        waiting = [task.error for task in vertex.tasks if task.error is not None]
        if waiting:
            if vertex.scalars and all(e.reason is Reason.CYCLE for e in waiting):
                return vertex.scalars[0][0]
            return Bottom([e.at(vertex.path()) for e in waiting])
        if vertex.scalars:
            return vertex.scalars[0][0]
        if vertex.lists:
            return vertex
        if vertex.has_struct and vertex.kinds & Kind.STRUCT:
            return vertex
        bounds = dict.fromkeys(b for b, _ in vertex.bounds)
        return Constraint(vertex.kinds, tuple(bounds))

    def _contradictions(self, vertex: Vertex) -> list[CueError]:
        """Problems among the scalars, bounds, lists and closed structs that meet in a vertex."""
        before = len(vertex.errors)
        if vertex.kinds and not vertex.kinds & vertex.choice_kinds:
            described = [(text, pos) for _, text, pos in vertex.kind_sources[-1:]] or [("_", vertex.pos)]
            text, pos = described[0]
            kinds = kind_name(vertex.choice_kinds)
            self.conflict(vertex, f"conflicting values {text} and a disjunction of type {kinds}", pos)
        if vertex.scalars:
            value, pos = vertex.scalars[0]
            for other, other_pos in vertex.scalars[1:]:
                if not same_scalar(value, other) and kind_of(value) == kind_of(other):
                    text = f"conflicting values {format_scalar(other)} and {format_scalar(value)}"
                    self.conflict(vertex, text, pos, other_pos)
            for item, item_pos in vertex.bounds:
                if not item.admits(value):
                    message = f"invalid value {format_scalar(value)} (out of bound {item})"
                    self.fail(vertex, CueError(message, [pos, item_pos], reason=Reason.BOUND))
        elif vertex.bounds and (error := clashing_bounds(vertex.bounds, vertex.kinds)):
            self.fail(vertex, error)
        if vertex.lists:
            self._check_lengths(vertex)
        if vertex.closers:
            self._check_closed(vertex)
        found, vertex.errors = vertex.errors[before:], vertex.errors[:before]
        return found

    def _check_lengths(self, vertex: Vertex) -> None:
        exact = [s for s in vertex.lists if not s.is_open]
        longest = max(vertex.lists, key=lambda s: s.length)
        for shape in exact:
            if shape.length != longest.length:
                a, b = sorted((shape, longest), key=lambda s: s.pos)
                message = f"incompatible list lengths ({a.length} and {b.length})"
                self.fail(vertex, CueError(message, [a.pos, b.pos], reason=Reason.LENGTH))
                return

    def _check_closed(self, vertex: Vertex) -> None:
        for arc in vertex.arcs.values():
            key = arc.label
            if not isinstance(key, str) or arc.presence is Presence.OPTIONAL or key.startswith("\0"):
                continue
            declared = arc.scopes + vertex.open_scopes
            if not all(closer.admits(declared) for closer in vertex.closers):
                positions = [c.expr.pos for c in arc.conjuncts] or [arc.pos]
                message = f"field not allowed: {display_key(key)}"
                arc.rejected = CueError(
                    message, [arc.pos, *positions][:1], reason=Reason.NOT_ALLOWED, path=arc.path()
                )
                arc.value = None

    # Disjunctions

    def _disjoin(self, vertex: Vertex) -> Value:
        forks, failures = self._forks(vertex)
        distinct: list[Leaf] = []
        for fork, status in forks:
            value = self.value(fork)
            if error := self._failure(value):
                failures.append(error)
                continue
            default = status is Status.DEFAULT
            twin = next((leaf for leaf in distinct if self.same(leaf.value, value)), None)
            if twin is None:
                distinct.append(Leaf(fork, value, default))
            else:
                twin.default = twin.default or default
        if unsupported := [failure for failure in failures if failure.reason is Reason.UNSUPPORTED]:
            return Bottom(unsupported)  # whether the disjunct holds is not known
        if not distinct:
            return _empty_disjunction(vertex, failures)
        if len(distinct) == 1:
            vertex.leaf = distinct[0].vertex
            return distinct[0].value
        return Disjunction(distinct)

    def _forks(self, vertex: Vertex) -> tuple[list[tuple[Vertex, Status]], list[CueError]]:
        """The ways to choose in all disjunctions, and the problems of those given up on the way.

        One disjunction with those nested in it is worked off after the other, since what the defaults are
        depends on which disjuncts are left at each step.
        """
        forks, defaults = [vertex], Defaults()
        failures: list[CueError] = []
        while pending := [f.disjunctions[0].outermost for f in forks if f.disjunctions]:
            outermost = min(pending)
            origins = list(range(len(forks)))
            while any(f.disjunctions and f.disjunctions[0].outermost == outermost for f in forks):
                remaining: list[tuple[Vertex, int]] = []
                for fork, origin in zip(forks, origins, strict=True):
                    if not fork.disjunctions or fork.disjunctions[0].outermost != outermost:
                        remaining.append((fork, origin))
                        continue
                    for number in range(fork.disjunctions[0].size):
                        choice = fork.fork(number)
                        if errors := self._early_failure(choice):
                            failures += errors
                        else:
                            remaining.append((choice, origin))
                forks = [fork for fork, _ in remaining]
                origins = [origin for _, origin in remaining]
            defaults.step(outermost, origins, [fork.decisions for fork in forks])
        return list(zip(forks, defaults.statuses, strict=True)), failures

    def _early_failure(self, vertex: Vertex) -> list[CueError]:
        """Problems of a fork that show without evaluating the values it depends on."""
        vertex.evaluating = True
        try:
            self.ensure(vertex)
            if errors := vertex.errors or self._contradictions(vertex):
                return errors
            return [e for arc in list(vertex.arcs.values()) for e in self._apparent(arc)]
        finally:
            vertex.evaluating = False

    def _apparent(self, vertex: Vertex) -> list[CueError]:
        if vertex.presence is Presence.OPTIONAL or (
            isinstance(vertex.label, str) and is_definition(vertex.label)
        ):
            return []
        if vertex.rejected is not None:
            return [vertex.rejected]
        self.expand(vertex)
        if errors := vertex.errors or self._contradictions(vertex):
            return errors
        if vertex.disjunctions or vertex.tasks:
            return []
        return [e for arc in list(vertex.arcs.values()) for e in self._apparent(arc)]

    def _failure(self, value: Value) -> CueError | None:
        """The first problem in a value or anywhere below it that rules it out as a disjunct."""
        if isinstance(value, Bottom):
            if all(e.reason is Reason.CYCLE for e in value.errors) and self.provisional:
                return None
            return value.errors[0]
        if isinstance(value, Vertex):
            for arc in list(value.arcs.values()):
                if arc.presence is Presence.OPTIONAL or (
                    isinstance(arc.label, str) and is_definition(arc.label)
                ):
                    continue
                if error := self._failure(self.value(arc)):
                    return error
        return None

    def same(self, left: Value, right: Value) -> bool:
        """Whether two disjuncts are the same value, so that one of them is enough."""
        if isinstance(left, Vertex) and isinstance(right, Vertex):
            if left.arcs.keys() != right.arcs.keys() or bool(left.lists) != bool(right.lists):
                return False
            if bool(left.patterns) != bool(right.patterns):
                return False
            return all(
                arc.presence == (other := right.arcs[key]).presence
                and self.same(self.value(arc), self.value(other))
                for key, arc in left.arcs.items()
            )
        if isinstance(left, Disjunction) and isinstance(right, Disjunction):
            return len(left.leaves) == len(right.leaves) and all(
                a.default == b.default and self.same(a.value, b.value)
                for a, b in zip(left.leaves, right.leaves, strict=True)
            )
        if isinstance(left, Constraint) or isinstance(right, Constraint):
            return left == right
        if isinstance(left, Vertex | Disjunction | Bottom) or isinstance(
            right, Vertex | Disjunction | Bottom
        ):
            return False
        return same_scalar(left, right)

    # References

    def resolve(self, expr: ast.Expr, env: Env) -> Vertex:
        match expr:
            case ast.Ident():
                return self._resolve_ident(expr, env)
            case ast.Selector():
                return self.lookup(self.resolve(expr.operand, env), expr.key, expr.pos)
            case ast.Index():
                return self._resolve_index(expr, env)
            case _:
                return self.anonymous(expr, env)

    def _resolve_ident(self, expr: ast.Ident, env: Env) -> Vertex:
        frame = env.frame(expr.depth)
        match expr.kind:
            case RefKind.IMPORT:
                package = self.package(expr.key)
                if package is None:
                    message = f"not supported: package {expr.key} other than calls of its functions"
                    raise CueError(message, [expr.pos], reason=Reason.UNSUPPORTED)
                return package
            case RefKind.BINDING:
                return frame.bindings[expr.key]
            case RefKind.BUILTIN if expr.key in TYPES:
                return self.anonymous(expr, env)
            case RefKind.BUILTIN:
                message = f"builtin {expr.key} is a function, not a value"
                raise CueError(message, [expr.pos], reason=Reason.OPERAND)
            case _:
                pass
        holder = frame.vertex
        assert holder is not None
        arc = holder.arcs.get(expr.key)
        if arc is None or arc.presence is Presence.OPTIONAL:
            self.ensure(holder)
            arc = holder.arcs.get(expr.key)
        if arc is None:
            raise self._undefined(holder, expr.key, expr.pos)
        if arc.presence is Presence.OPTIONAL:
            message = f"cannot reference optional field: {expr.name}"
            self.provisional += holder.busy
            raise CueError(message, [expr.pos], reason=Reason.UNDEFINED)
        return arc

    def _undefined(self, holder: Vertex, key: ast.Scalar, pos: Position) -> CueError:
        if holder.busy:
            self.provisional += 1
        name = display_key(key) if isinstance(key, str) else str(key)
        return CueError(f"undefined field: {name}", [pos], reason=Reason.UNDEFINED)

    def lookup(self, outer: Vertex, key: str | int, pos: Position) -> Vertex:
        """The field or element of the value of ``outer``; raises ``CueError`` if there is none (yet)."""
        if outer.parent is not None:
            self.ensure(outer.parent)
        self.ensure(outer)
        holder = outer
        if outer.disjunctions and not outer.evaluating:
            holder = self.holder(outer, pos)
        arc = holder.arcs.get(key)
        if arc is not None and arc.presence is not Presence.OPTIONAL:
            return arc
        if holder.busy and (holder.kinds & (Kind.STRUCT | Kind.LIST) or not holder.scalars):
            self.provisional += 1
            raise CueError(f"undefined field: {display_key(key)}", [pos], reason=Reason.CYCLE)
        value = self.value(holder)
        if isinstance(value, Bottom):
            raise value.errors[0]
        if isinstance(value, Vertex):
            if arc is not None:
                message = f"cannot reference optional field: {display_key(key)}"
                raise CueError(message, [pos], reason=Reason.UNDEFINED)
            raise CueError(f"undefined field: {display_key(key)}", [pos], reason=Reason.UNDEFINED)
        if isinstance(value, Constraint) and value.kinds & (Kind.STRUCT | Kind.LIST):
            raise CueError(f"undefined field: {display_key(key)}", [pos], reason=Reason.UNDEFINED)
        text = self.describe(value)
        raise CueError(
            f"invalid operand {text} (found {text}, want list or struct)", [pos], reason=Reason.OPERAND
        )

    def holder(self, vertex: Vertex, pos: Position) -> Vertex:
        """The vertex that holds the fields of a value, its default if it is a disjunction."""
        value = self.value(vertex)
        if isinstance(value, Disjunction):
            leaf = value.default()
            if leaf is None:
                raise CueError(
                    f"unresolved disjunction {self.describe(value)}",
                    [pos, vertex.pos],
                    reason=Reason.AMBIGUOUS,
                )
            return leaf.vertex
        return vertex.leaf or vertex

    def _resolve_index(self, expr: ast.Index, env: Env) -> Vertex:
        outer = self.resolve(expr.operand, env)
        index = self.concrete(expr.index, env, "index")
        subject = self.value(outer)
        if isinstance(subject, Disjunction):
            subject = self.value(self.holder(outer, expr.pos))
        if isinstance(subject, Vertex) and subject.lists:
            if isinstance(index, int) and not isinstance(index, bool):
                length = self.length(subject)
                if index < 0:
                    message = f"invalid index {index} (index must be non-negative)"
                    raise CueError(message, [expr.pos], reason=Reason.OPERAND)
                if index >= length:
                    message = f"index out of range [{index}] with length {length}"
                    is_open = all(s.is_open for s in subject.lists)
                    reason = Reason.UNDEFINED if is_open else Reason.EVALUATION
                    raise CueError(message, [expr.pos], reason=reason)
                return subject.arcs[index]
            if isinstance(index, str):
                raise CueError(f"undefined field: {index}", [expr.pos], reason=Reason.UNDEFINED)
        if isinstance(index, Decimal) or (isinstance(index, int) and not isinstance(subject, Bottom)):
            message = f"invalid index {format_scalar(index)} of {self.describe(subject)}"
            raise CueError(message, [expr.pos], reason=Reason.OPERAND)
        if not isinstance(index, str):
            if isinstance(subject, Bottom):
                raise subject.errors[0]
            raise CueError(f"invalid index {format_scalar(index)}", [expr.pos], reason=Reason.OPERAND)
        return self.lookup(outer, ast.quoted_key(index, expr.pos), expr.pos)

    def length(self, vertex: Vertex) -> int:
        """The number of elements of a list, or of regular fields of a struct."""
        if vertex.lists:
            return max(s.length for s in vertex.lists)
        return sum(1 for _ in self.fields(vertex))

    def fields(self, vertex: Vertex) -> list[tuple[str | int, Vertex]]:
        """The regular fields of a struct, or the elements of a list in order."""
        if vertex.lists:
            return [(i, vertex.arcs[i]) for i in range(self.length(vertex))]
        return [
            (key, arc)
            for key, arc in vertex.arcs.items()
            if isinstance(key, str) and not key.startswith("\0") and arc.presence is Presence.REGULAR
        ]


def _label_matches(value: Value, label: str) -> bool:
    match value:
        case Constraint():
            return value.admits(label)
        case Disjunction():
            return any(_label_matches(leaf.value, label) for leaf in value.leaves)
        case str():
            return value == label
        case _:
            return False


def _empty_disjunction(vertex: Vertex, failures: list[CueError]) -> Bottom:
    """All disjuncts failed: one problem, caused by each of the reasons."""
    flat = [cause for failure in failures for cause in failure.causes or [failure.at(vertex.path())]]
    causes = list({str(cause): cause for cause in flat}.values())
    if len(causes) == 1:
        return Bottom(causes)
    reasons = {cause.reason for cause in causes}
    reason = causes[0].reason if len(reasons) == 1 else Reason.CONFLICT
    message = f"no alternative holds ({len(causes)} problems)"
    positions = [cause.positions[0] for cause in causes if cause.positions][:1]
    return Bottom([CueError(message, positions, reason=reason, path=vertex.path(), causes=causes)])
