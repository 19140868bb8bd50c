"""Expansion: what each kind of conjunct adds to the vertex it meets in.

Expansion alone reads no values. Whatever needs one (an expression, a comprehension, a selector into
something not expanded yet) becomes a task of the vertex, run when the vertex is settled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from inngest.config.cue import ast
from inngest.config.cue.ast import Presence, RefKind, Scalar, is_definition
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.values import TYPES, Bound, Constraint, Kind, format_scalar, kind_name, kind_of
from inngest.config.cue.vertex import (
    Bottom,
    Closes,
    Conjunct,
    Decision,
    Disjunction,
    Env,
    Inclusion,
    Label,
    ListShape,
    OpenChoice,
    Pattern,
    Scope,
    Task,
    Value,
    Vertex,
    VertexExpr,
)

#: A reference that keeps leading to itself is cut off after so many rounds without anything new.
_MAX_ROUNDS = 2
_MAX_DEPTH = 250


class Unifier(ABC):
    """Conjuncts into vertices. ``epoch`` advances when something already evaluated learns more."""

    def __init__(self) -> None:
        self.epoch = 0
        self._handlers: dict[type, Callable[[Vertex, Conjunct], None]] = {
            ast.StructLit: self._struct,
            ast.ListLit: self._list,
            ast.Literal: self._literal,
            ast.Ident: self._ident,
            ast.Selector: self._selector,
            ast.Unification: self._unification,
            ast.DisjunctionExpr: self._disjunction,
            ast.ValueAlias: self._alias,
            ast.Call: self._call,
            ast.Bottom: self._bottom,
            VertexExpr: self._vertices,
        }

    @abstractmethod
    def resolve(self, expr: ast.Expr, env: Env) -> Vertex:
        """The vertex a reference is about."""

    @abstractmethod
    def matches(self, pattern: Pattern, label: str) -> bool:
        """Whether a pattern applies to a label; raises an incomplete ``CueError`` if that is unknown yet."""

    @abstractmethod
    def package(self, path: str) -> Vertex | None:
        """The package of an import path; none for a standard package, whose functions are built in."""

    # Vertices and conjuncts

    def anonymous(self, expr: ast.Expr, env: Env, parent: Vertex | None = None) -> Vertex:
        """A vertex for an expression that is not a field."""
        vertex = Vertex(parent, None, expr.pos)
        vertex.conjuncts.append(Conjunct(expr, env, Scope(None, vertex)))
        return vertex

    def add(self, vertex: Vertex, conjunct: Conjunct) -> None:
        """Give a vertex another conjunct, and also everything that refers to the vertex."""
        vertex.conjuncts.append(conjunct)
        if vertex.done:
            self._learned(vertex)
            self.expand(vertex)
        for listener, inclusion in vertex.listeners:
            self._learned(listener)
            self._process(listener, inclusion.adapt(conjunct))

    def _learned(self, vertex: Vertex) -> None:
        if vertex.value is not None:
            vertex.value = None
            self.epoch += 1

    def expand(self, vertex: Vertex) -> None:
        if vertex.expanding or vertex.done == len(vertex.conjuncts):
            return
        vertex.expanding = True
        try:
            while vertex.done < len(vertex.conjuncts):
                vertex.done += 1
                self._process(vertex, vertex.conjuncts[vertex.done - 1])
        finally:
            vertex.expanding = False

    def _process(self, vertex: Vertex, conjunct: Conjunct) -> None:
        handler = self._handlers.get(type(conjunct.expr))
        if handler is None:
            vertex.tasks.append(Task(conjunct.expr, conjunct))
        else:
            handler(vertex, conjunct)

    def fail(self, vertex: Vertex, error: CueError) -> None:
        vertex.errors.append(error.at(vertex.path()))

    def conflict(self, vertex: Vertex, message: str, *positions: Position) -> None:
        self.fail(vertex, CueError(message, positions, reason=Reason.CONFLICT))

    # Simple values

    def add_value(self, vertex: Vertex, value: Value, conjunct: Conjunct, pos: Position) -> None:
        """Unify an evaluated value into a vertex."""
        if isinstance(value, Vertex):
            self.include(vertex, value, conjunct)
        elif isinstance(value, Constraint):
            for item in value.bounds:
                self.add_bound(vertex, item, pos)
            self.restrict(vertex, value.kinds, str(value), pos)
        elif not isinstance(value, Disjunction | Bottom):
            self.add_scalar(vertex, value, pos)

    def add_scalar(self, vertex: Vertex, value: Scalar, pos: Position) -> None:
        vertex.scalars.append((value, pos))
        self.restrict(vertex, kind_of(value), format_scalar(value), pos)

    def add_bound(self, vertex: Vertex, item: Bound, pos: Position) -> None:
        vertex.bounds.append((item, pos))
        self.restrict(vertex, item.kinds, str(item), pos)

    def restrict(self, vertex: Vertex, kinds: Kind, text: str, pos: Position) -> None:
        """Leave only ``kinds`` as possible kinds of the value; ``text`` describes what says so."""
        if kinds == Kind.TOP:
            return
        remaining = vertex.kinds & kinds
        if not remaining and vertex.kinds:
            clashing = (source for source in vertex.kind_sources if not source[0] & kinds)
            earlier, other, other_pos = next(clashing, vertex.kind_sources[-1])
            types = f"(mismatched types {kind_name(earlier)} and {kind_name(kinds)})"
            self.conflict(vertex, f"conflicting values {other} and {text} {types}", other_pos, pos)
        vertex.kinds = remaining
        vertex.kind_sources.append((kinds, text, pos))

    def _literal(self, vertex: Vertex, conjunct: Conjunct) -> None:
        assert isinstance(conjunct.expr, ast.Literal)
        self.add_scalar(vertex, conjunct.expr.value, conjunct.expr.pos)

    def _bottom(self, vertex: Vertex, conjunct: Conjunct) -> None:
        message = "explicit error (_|_ literal) in source"
        self.fail(vertex, CueError(message, [conjunct.expr.pos], reason=Reason.EXPLICIT))

    # References

    def _ident(self, vertex: Vertex, conjunct: Conjunct) -> None:
        expr = conjunct.expr
        assert isinstance(expr, ast.Ident)
        if expr.kind is RefKind.BUILTIN and expr.key in TYPES:
            self.add_value(vertex, TYPES[expr.key], conjunct, expr.pos)
            return
        target = self._known(expr, conjunct.env)
        if target is None:
            vertex.tasks.append(Task(expr, conjunct))
        else:
            self.include(vertex, target, conjunct)

    def _selector(self, vertex: Vertex, conjunct: Conjunct) -> None:
        target = self._known(conjunct.expr, conjunct.env)
        if target is None:
            vertex.tasks.append(Task(conjunct.expr, conjunct))
        else:
            self.include(vertex, target, conjunct)

    def _known(self, expr: ast.Expr, env: Env) -> Vertex | None:
        """The vertex a reference is about, if that is settled without reading any value."""
        target: Vertex | None = None
        match expr:
            case ast.Ident():
                if expr.kind is RefKind.IMPORT:
                    return self.package(expr.key)
                if expr.kind is RefKind.BINDING:
                    return env.frame(expr.depth).bindings[expr.key]
                if expr.kind is RefKind.FIELD:
                    holder = env.frame(expr.depth).vertex
                    assert holder is not None
                    target = holder.arcs.get(expr.key)
            case ast.Selector():
                outer = self._known(expr.operand, env)
                if outer is None:
                    return None
                self.expand(outer)
                if not outer.disjunctions:
                    target = outer.arcs.get(expr.key)
            case _:
                return None
        return None if target is None or target.presence is Presence.OPTIONAL else target

    def include(self, vertex: Vertex, source: Vertex, conjunct: Conjunct) -> None:
        """Unify what ``source`` is made of into ``vertex``: a reference takes on conjuncts, not a value."""
        if source.base is vertex.base or source in vertex.including:
            return  # a reference cycle adds nothing new
        trail = conjunct.trail
        lineage = list(vertex.lineage())
        if any(source.base not in c.trail for c in vertex.conjuncts):
            trail = tuple(v for v in trail if v is not source.base)  # something new: no cycle so far
        looping = trail.count(source.base) >= _MAX_ROUNDS
        if source.base in lineage or looping or len(lineage) > _MAX_DEPTH:
            self.fail(
                vertex, CueError("structural cycle", [conjunct.expr.pos], reason=Reason.STRUCTURAL_CYCLE)
            )
            return
        closes = Closes.BELOW if _inside_definition(source, lineage) else None
        scope = Scope(conjunct.scope, vertex, closes=closes)
        whole = len(vertex.conjuncts) == 1 and vertex.conjuncts[0].expr is conjunct.expr
        inclusion = Inclusion(source, scope, conjunct.within, (*trail, source.base), whole)
        vertex.including.append(source)
        try:
            for other in list(source.conjuncts):
                self._process(vertex, inclusion.adapt(other))
        finally:
            vertex.including.pop()
        source.listeners.append((vertex, inclusion))

    def _vertices(self, vertex: Vertex, conjunct: Conjunct) -> None:
        expr = conjunct.expr
        assert isinstance(expr, VertexExpr)
        match expr.form:
            case "one" | "and":
                for source in expr.vertices:
                    self.include(vertex, source, conjunct)
            case "list":
                elements: list[ast.Expr] = [VertexExpr(expr.pos, [item]) for item in expr.vertices]
                self.add_list(
                    vertex, conjunct, [(e, conjunct.env) for e in elements], ast.ListLit(expr.pos, [])
                )
            case _:
                alternatives: list[tuple[ast.Expr, bool]] = [
                    (VertexExpr(expr.pos, [item]), False) for item in expr.vertices
                ]
                self._choose(vertex, alternatives, conjunct)

    def _unification(self, vertex: Vertex, conjunct: Conjunct) -> None:
        assert isinstance(conjunct.expr, ast.Unification)
        self._process(vertex, conjunct.part(conjunct.expr.left))
        self._process(vertex, conjunct.part(conjunct.expr.right))

    def _alias(self, vertex: Vertex, conjunct: Conjunct) -> None:
        assert isinstance(conjunct.expr, ast.ValueAlias)
        env = Env(conjunct.env, None, {conjunct.expr.name: vertex})
        self._process(vertex, conjunct.part(conjunct.expr.expr, env))

    def _call(self, vertex: Vertex, conjunct: Conjunct) -> None:
        """``close`` shapes its argument; every other call is evaluated."""
        expr = conjunct.expr
        assert isinstance(expr, ast.Call)
        if is_builtin(expr, "close") and len(expr.arguments) == 1:
            scope = Scope(conjunct.scope, vertex, closes=Closes.HERE)
            self._process(vertex, conjunct.part(expr.arguments[0], scope=scope))
        else:
            vertex.tasks.append(Task(expr, conjunct))

    # Disjunctions

    def _disjunction(self, vertex: Vertex, conjunct: Conjunct) -> None:
        assert isinstance(conjunct.expr, ast.DisjunctionExpr)
        self._choose(vertex, [(d.expr, d.default) for d in conjunct.expr.disjuncts], conjunct)

    def _choose(self, vertex: Vertex, alternatives: list[tuple[ast.Expr, bool]], conjunct: Conjunct) -> None:
        """Take the disjunct this vertex was forked for, or note that there is a choice to make.

        Conjuncts are expanded depth first and in the same order in every fork, so the n-th disjunction met is
        the one the n-th choice is about.
        """
        number, vertex.seen = vertex.seen, vertex.seen + 1
        within = conjunct.within
        ordinal = vertex.counts.get(within, 0)
        vertex.counts[within] = ordinal + 1
        vertex.choice_kinds &= _possible_kinds(alternatives)
        if number >= len(vertex.choices):
            outermost = within[0][0] if within else ordinal
            vertex.disjunctions.append(OpenChoice(len(alternatives), outermost))
            return
        choice = vertex.choices[number]
        expr, marked = alternatives[choice]
        disjunct = (*within, (ordinal, choice))
        any_marked = any(default for _, default in alternatives)
        vertex.decisions.append(Decision(disjunct, marked if any_marked else None))
        chosen = conjunct.part(expr)
        chosen.within = disjunct
        self._process(vertex, chosen)

    # Structs

    def _struct(self, vertex: Vertex, conjunct: Conjunct) -> None:
        literal = conjunct.expr
        assert isinstance(literal, ast.StructLit)
        env = Env(conjunct.env, vertex)
        for name, expr in literal.lets.items():
            env.bindings[name] = self.anonymous(expr, env, vertex)
        scope = Scope(conjunct.scope, vertex) if literal.embeds else conjunct.scope
        vertex.has_struct = True
        for outer in scope.chain():
            if outer.closes is Closes.BELOW or (outer.closes and outer.origin.base is vertex.base):
                vertex.closers[outer] = None
        self._learned(vertex)
        if literal.is_struct:
            self.restrict(vertex, Kind.STRUCT, "{...}" if literal.declarations else "{}", literal.pos)
        trail = conjunct.trail
        for item in literal.fields:
            self.add_field(
                vertex, item.key, item.presence, Conjunct(item.value, env, scope, (), trail), item.pos
            )
        for declaration in literal.others:
            match declaration:
                case ast.Embedding():
                    inner = Scope(scope, vertex, embeds=True)
                    self._process(vertex, conjunct.part(declaration.expr, env, inner))
                case ast.OpenMark():
                    vertex.open_scopes.append(scope)
                case ast.PatternField():
                    value = Conjunct(declaration.value, env, scope, (), trail)
                    matcher = self.anonymous(declaration.pattern, env, vertex)
                    self._pattern(vertex, Pattern(matcher, value, declaration.name))
                case ast.DynamicField():
                    vertex.tasks.append(Task(declaration, conjunct.part(literal, env, scope)))
                case ast.Comprehension():
                    inner = Scope(scope, vertex, embeds=True)
                    vertex.tasks.append(Task(declaration, conjunct.part(literal, env, inner)))

    def add_field(
        self, vertex: Vertex, key: Label, presence: Presence, conjunct: Conjunct, pos: Position
    ) -> Vertex:
        arc = vertex.arcs.get(key)
        if arc is None:
            arc = Vertex(vertex, key, pos)
            arc.presence = presence
            vertex.arcs[key] = arc
            arc.scopes.append(conjunct.scope)
            self.add(arc, conjunct)
            if isinstance(key, str) and not key.startswith("\0"):
                for pattern in vertex.patterns:
                    self._apply_or_wait(vertex, pattern, arc)
            self._learned(vertex)
            return arc
        if presence < arc.presence:
            arc.presence = presence
            self._learned(vertex)
        arc.scopes.append(conjunct.scope)
        self.add(arc, conjunct)
        return arc

    def _pattern(self, vertex: Vertex, pattern: Pattern) -> None:
        vertex.patterns.append(pattern)
        for arc in list(vertex.arcs.values()):
            if isinstance(arc.label, str) and not arc.label.startswith("\0"):
                self._apply_or_wait(vertex, pattern, arc)

    def _apply_or_wait(self, vertex: Vertex, pattern: Pattern, arc: Vertex) -> None:
        try:
            self.apply_pattern(pattern, arc)
        except CueError as error:
            if not error.incomplete:
                self.fail(vertex, error)
                return
            bindings = {"": arc}
            vertex.tasks.append(
                Task(pattern, Conjunct(pattern.conjunct.expr, Env(None, None, bindings), Scope(None, vertex)))
            )

    def apply_pattern(self, pattern: Pattern, arc: Vertex) -> None:
        """Give a field what a pattern constraint asks of it."""
        assert isinstance(arc.label, str)
        if not self.matches(pattern, arc.label):
            return
        arc.scopes.append(pattern.conjunct.scope)
        conjunct = pattern.conjunct
        if pattern.name is not None:
            label = ast.Literal(arc.pos, arc.label)
            env = Env(conjunct.env, None, {pattern.name: self.anonymous(label, conjunct.env)})
            conjunct = conjunct.part(conjunct.expr, env)
        self.add(arc, conjunct)

    # Lists

    def _list(self, vertex: Vertex, conjunct: Conjunct) -> None:
        literal = conjunct.expr
        assert isinstance(literal, ast.ListLit)
        if any(isinstance(e, ast.Comprehension) for e in literal.elements):
            self.restrict(vertex, Kind.LIST, "[...]", literal.pos)
            vertex.tasks.append(Task(literal, conjunct))
            return
        elements = [(e, conjunct.env) for e in literal.elements if isinstance(e, ast.Expr)]
        self.add_list(vertex, conjunct, elements, literal)

    def add_list(
        self, vertex: Vertex, conjunct: Conjunct, elements: list[tuple[ast.Expr, Env]], literal: ast.ListLit
    ) -> None:
        """Unify a list of known length into a vertex."""
        self.restrict(vertex, Kind.LIST, "[...]" if elements or literal.is_open else "[]", literal.pos)
        self._learned(vertex)
        rest = None
        if literal.is_open and literal.rest is not None:
            rest = Conjunct(literal.rest, conjunct.env, conjunct.scope, (), conjunct.trail)
        shape = ListShape(len(elements), literal.is_open, literal.pos, rest)
        known = max((s.length for s in vertex.lists), default=0)
        for number, (expr, env) in enumerate(elements):
            item = Conjunct(expr, env, conjunct.scope, (), conjunct.trail)
            self.add_field(vertex, number, Presence.REGULAR, item, expr.pos)
        for number in range(known, len(elements)):
            for other in vertex.lists:
                if other.rest is not None:
                    self.add(vertex.arcs[number], other.rest)
        if rest is not None:
            for number in range(len(elements), known):
                self.add(vertex.arcs[number], rest)
        vertex.lists.append(shape)


def _inside_definition(source: Vertex, lineage: list[Vertex]) -> bool:
    """Whether a reference to ``source`` closes: it is a definition, or part of one seen from outside."""
    return any(
        isinstance(vertex.label, str)
        and is_definition(vertex.label)
        and (vertex is source.base or vertex not in lineage)
        for vertex in source.lineage()
    )


def is_builtin(call: ast.Call, *names: str) -> bool:
    """Whether a call is one of the predeclared functions ``names``."""
    function = call.function
    return isinstance(function, ast.Ident) and function.kind is RefKind.BUILTIN and function.key in names


def _possible_kinds(alternatives: Iterable[tuple[ast.Expr, bool]]) -> Kind:
    """The kinds that the disjuncts can have, as far as their syntax tells.

    What this rules out is gone before any choice is made, and so has no say in what the default is.
    """
    kinds = Kind(0)
    for expr, _ in alternatives:
        kinds |= _kinds_of(expr)
    return kinds


def _kinds_of(expr: ast.Expr) -> Kind:
    match expr:
        case ast.Literal():
            return kind_of(expr.value)
        case ast.StructLit() if expr.is_struct:
            return Kind.STRUCT
        case ast.ListLit():
            return Kind.LIST
        case ast.Ident() if expr.kind is RefKind.BUILTIN and expr.key in TYPES:
            return TYPES[expr.key].kinds
        case ast.Unification():
            return _kinds_of(expr.left) & _kinds_of(expr.right)
        case ast.DisjunctionExpr():
            return _possible_kinds((d.expr, d.default) for d in expr.disjuncts)
        case _:
            return Kind.TOP
