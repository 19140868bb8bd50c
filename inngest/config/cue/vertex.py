"""The graph that evaluation builds: vertices, the conjuncts that meet in them, and what surrounds those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from inngest.config.cue import ast
from inngest.config.cue.ast import Presence, Scalar, display_key
from inngest.config.cue.errors import CueError, Position
from inngest.config.cue.values import Bound, Constraint, Kind

Label = str | int

#: A disjunct among those of one vertex: the way to it through nested disjunctions, as pairs of the number of
#: the disjunction (counted within the disjunct it is in) and of the disjunct.
DisjunctId = tuple[tuple[int, int], ...]


class Closes(Enum):
    """What a scope closes: the struct it is in (``close``), or that and all below it (a definition)."""

    HERE = "here"
    BELOW = "below"


class Scope:
    """Where a conjunct comes from, as far as closedness is concerned.

    Scopes form a tree by ``parent``. A closed scope admits the fields that its own subtree declares and,
    where the way up passes an embedding (``embeds``), also those of the struct literal it is embedded in.
    """

    __slots__ = ("closes", "embeds", "origin", "parent")

    def __init__(
        self, parent: Scope | None, origin: Vertex, *, embeds: bool = False, closes: Closes | None = None
    ) -> None:
        self.parent = parent
        self.origin = origin
        self.embeds = embeds
        self.closes = closes

    def chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def under(self, other: Scope) -> bool:
        return any(scope is other for scope in self.chain())

    def admits(self, declared: list[Scope]) -> bool:
        """Whether this closed scope admits a field that the scopes ``declared`` declare."""
        if any(d.under(self) for d in declared):
            return True
        scope = self
        while scope.parent is not None:
            if scope.embeds:
                literal = scope.parent
                if any(d.under(literal) and not d.under(scope) for d in declared):
                    return True
            scope = scope.parent
        return False


class Env:
    """One frame: the vertex of a struct literal, or names bound by a clause or an alias."""

    __slots__ = ("bindings", "up", "vertex")

    def __init__(
        self, up: Env | None, vertex: Vertex | None, bindings: dict[str, Vertex] | None = None
    ) -> None:
        self.up = up
        self.vertex = vertex
        self.bindings = bindings if bindings is not None else {}

    def frame(self, depth: int) -> Env:
        env = self
        for _ in range(depth):
            assert env.up is not None
            env = env.up
        return env


@dataclass(slots=True)
class VertexExpr(ast.Expr):
    """An expression that stands for vertices made during evaluation.

    ``form`` is one, and (all of them unified), or (a disjunction) or list.
    """

    vertices: list[Vertex]
    form: str = "one"


@dataclass(slots=True)
class Conjunct:
    """An expression with its environment.

    ``within`` is the disjunct of this vertex the conjunct came out of, if it did; ``trail`` lists the
    vertices whose references led here, for the detection of structural cycles.
    """

    expr: ast.Expr
    env: Env
    scope: Scope
    within: DisjunctId = ()
    trail: tuple[Vertex, ...] = ()

    def part(self, expr: ast.Expr, env: Env | None = None, scope: Scope | None = None) -> Conjunct:
        return Conjunct(expr, env or self.env, scope or self.scope, self.within, self.trail)


@dataclass(slots=True)
class Pattern:
    """A pattern constraint: ``matcher`` decides on labels, ``conjunct`` is what matching fields take on."""

    matcher: Vertex
    conjunct: Conjunct
    name: str | None


@dataclass(slots=True)
class Task:
    """Work that needs other values and may have to wait for them."""

    node: ast.Expr | ast.Comprehension | ast.DynamicField | Pattern
    conjunct: Conjunct
    error: CueError | None = None


@dataclass(slots=True, frozen=True)
class Decision:
    """A disjunct chosen in a fork of a vertex; ``marked`` is None if no disjunct beside it is marked."""

    disjunct: DisjunctId
    marked: bool | None


@dataclass(slots=True, frozen=True)
class OpenChoice:
    """A disjunction not chosen from yet: how many disjuncts it has, and the number of its outermost one."""

    size: int
    outermost: int


@dataclass(slots=True)
class Bottom:
    """No value: the problems why."""

    errors: list[CueError]

    @property
    def incomplete(self) -> bool:
        return all(e.incomplete for e in self.errors)


@dataclass(slots=True)
class Leaf:
    """One way to choose in all disjunctions of a vertex."""

    vertex: Vertex
    value: Value
    default: bool = False


@dataclass(slots=True)
class Disjunction:
    leaves: list[Leaf]

    def default(self) -> Leaf | None:
        defaults = [leaf for leaf in self.leaves if leaf.default]
        return defaults[0] if len(defaults) == 1 else None


@dataclass(slots=True)
class ListShape:
    """One list literal met in a vertex: its length, whether more may follow, and what those have to be."""

    length: int
    is_open: bool
    pos: Position
    rest: Conjunct | None


class Vertex:
    """A place for a value; everything known about it accumulates here as its conjuncts are expanded."""

    __slots__ = (
        "arcs", "base", "bounds", "choice_kinds", "choices", "closers", "conjuncts", "counts", "decisions",
        "disjunctions", "done", "epoch", "errors", "evaluating", "expanding", "has_struct", "including",
        "kind_sources", "kinds", "label", "leaf", "listeners", "lists", "open_scopes", "parent", "patterns",
        "pos", "presence", "rejected", "scalars", "scopes", "seen", "settled", "settling", "tasks", "value",
    )  # fmt: skip

    def __init__(self, parent: Vertex | None, label: Label | None, pos: Position) -> None:
        self.parent = parent
        self.label = label
        self.pos = pos
        self.presence = Presence.REGULAR
        self.scopes: list[Scope] = []
        self.rejected: CueError | None = None
        self.conjuncts: list[Conjunct] = []
        self.listeners: list[tuple[Vertex, Inclusion]] = []
        self.base: Vertex = self
        self.choices: tuple[int, ...] = ()
        # What expansion finds
        self.done = 0
        self.arcs: dict[Label, Vertex] = {}
        self.patterns: list[Pattern] = []
        self.open_scopes: list[Scope] = []
        self.closers: dict[Scope, None] = {}
        self.has_struct = False
        self.kinds = Kind.TOP
        self.choice_kinds = Kind.TOP
        self.kind_sources: list[tuple[Kind, str, Position]] = []
        self.scalars: list[tuple[Scalar, Position]] = []
        self.bounds: list[tuple[Bound, Position]] = []
        self.lists: list[ListShape] = []
        self.errors: list[CueError] = []
        self.tasks: list[Task] = []
        self.disjunctions: list[OpenChoice] = []
        self.seen = 0
        self.counts: dict[DisjunctId, int] = {}
        self.decisions: list[Decision] = []
        self.including: list[Vertex] = []
        # State of evaluation
        self.expanding = False
        self.settling = False
        self.settled = -1
        self.evaluating = False
        self.value: Value | None = None
        self.epoch = -1
        self.leaf: Vertex | None = None

    def fork(self, choice: int) -> Vertex:
        """The same vertex with one more choice made among its disjuncts."""
        out = Vertex(self.parent, self.label, self.pos)
        out.presence = self.presence
        out.base = self.base
        out.conjuncts = self.conjuncts
        out.choices = (*self.choices, choice)
        return out

    @property
    def busy(self) -> bool:
        return self.expanding or self.settling or self.evaluating

    def path(self) -> tuple[str, ...]:
        out: list[str] = []
        vertex: Vertex | None = self
        while vertex is not None:
            if vertex.label is not None:
                out.append(display_key(vertex.label))
            vertex = vertex.parent
        return tuple(reversed(out))

    def lineage(self) -> Iterator[Vertex]:
        """This vertex and those around it, each as its base."""
        vertex: Vertex | None = self
        while vertex is not None:
            yield vertex.base
            vertex = vertex.parent


Value = Scalar | Constraint | Vertex | Disjunction | Bottom


@dataclass(slots=True)
class Inclusion:
    """How one vertex takes on the conjuncts of another it refers to."""

    source: Vertex
    scope: Scope
    within: DisjunctId
    trail: tuple[Vertex, ...]
    whole: bool
    copies: dict[Scope, Scope] = field(default_factory=dict)

    def adapt(self, conjunct: Conjunct) -> Conjunct:
        trail = self.trail if not conjunct.trail else (*conjunct.trail, *self.trail)
        return Conjunct(conjunct.expr, conjunct.env, self._rebase(conjunct.scope), self.within, trail)

    def _rebase(self, scope: Scope) -> Scope:
        """A copy of the scopes within the source, below the place of the reference.

        What closes the structs around the source stays behind, unless the reference is all there is in its
        place (``whole``): then the two are one and the same value.
        """
        here = scope.origin.base is self.source.base
        if not here and not self.whole:
            return self.scope
        known = self.copies.get(scope)
        if known is None:
            parent = self.scope if scope.parent is None else self._rebase(scope.parent)
            closes = scope.closes if here or scope.closes is Closes.BELOW else None
            known = Scope(parent, self.scope.origin, embeds=scope.embeds, closes=closes)
            self.copies[scope] = known
        return known
