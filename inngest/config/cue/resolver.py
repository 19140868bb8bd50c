"""Lexical scoping: what every identifier refers to, settled once before evaluation.

One frame of the evaluation's environment corresponds to each struct literal, each ``for`` and ``let`` clause,
each value alias and each named pattern; an identifier's ``depth`` counts frames outwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inngest.config.cue import ast
from inngest.config.cue.ast import RefKind
from inngest.config.cue.errors import CueError, Position, Reason

#: Names the language declares itself, with what they are described by in ``values`` and ``builtins``.
PREDECLARED = frozenset(
    [
        "_",
        "null",
        "bool",
        "int",
        "float",
        "string",
        "bytes",
        "number",
        "uint",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "uint128",
        "int8",
        "int16",
        "int32",
        "int64",
        "int128",
        "rune",
        "float32",
        "float64",
        "len",
        "close",
        "and",
        "or",
        "div",
        "mod",
        "quo",
        "rem",
    ]
)
_UNSUPPORTED = frozenset({"error", "matchN", "matchIf", "self", "__reclose", "__no_reclose"})


@dataclass(slots=True)
class _Scope:
    fields: dict[str, str] = field(default_factory=dict)
    bindings: dict[str, Position] = field(default_factory=dict)
    #: Names that have to be used somewhere, and whether they are.
    pending: dict[str, Position] = field(default_factory=dict)


def resolve(file: ast.File, package: str = "") -> None:
    """Set ``kind``, ``depth`` and ``key`` of every identifier of ``file``.

    ``package`` is the import path of the package the file belongs to: hidden fields are its own.
    Raises ``CueError`` for unknown names, unused imports, lets and aliases, and names declared twice.
    """
    _Resolver(file, package).run()


class _Resolver:
    def __init__(self, file: ast.File, package: str) -> None:
        self.file = file
        self.suffix = f"\0{package}" if package else ""
        self.scopes: list[_Scope] = []
        self.imports: dict[str, ast.Import] = {}
        self.used_imports: set[str] = set()
        self.problems: list[CueError] = []

    def run(self) -> None:
        for item in self.file.imports:
            if item.name in self.imports:
                self.fail(f"{item.name} redeclared as imported package name", item.pos, Reason.SYNTAX)
            self.imports[item.name] = item
        self.expr(self.file.body)
        for name, item in self.imports.items():
            if name not in self.used_imports:
                self.fail(f'imported and not used: "{item.path}"', item.pos, Reason.UNUSED)
        if self.problems:
            first = self.problems[0]
            if len(self.problems) == 1:
                raise first
            raise CueError(first.message, first.positions, reason=first.reason, problems=self.problems)

    def fail(self, message: str, pos: Position, reason: Reason) -> None:
        self.problems.append(CueError(message, [pos], reason=reason))

    def leave(self) -> None:
        for name, pos in self.scopes.pop().pending.items():
            self.fail(f"unreferenced alias or let clause {name}", pos, Reason.UNUSED)

    def bind(self, name: str | None, pos: Position) -> None:
        self.scopes.append(_Scope(bindings={} if name is None else {name: pos}))

    # Expressions

    def expr(self, node: ast.Expr | None) -> None:
        match node:
            case None | ast.Literal() | ast.Bottom():
                pass
            case ast.Ident():
                self.ident(node)
            case ast.Interpolation():
                for part in node.parts:
                    if isinstance(part, ast.Expr):
                        self.expr(part)
            case ast.Selector():
                node.key = self.own(node.key)
                self.expr(node.operand)
            case ast.Unary() | ast.BoundExpr():
                self.expr(node.operand)
            case ast.Index():
                self.expr(node.operand)
                self.expr(node.index)
            case ast.Slice():
                self.expr(node.operand)
                self.expr(node.low)
                self.expr(node.high)
            case ast.Call():
                self.expr(node.function)
                for argument in node.arguments:
                    self.expr(argument)
            case ast.Binary() | ast.Unification():
                self.expr(node.left)
                self.expr(node.right)
            case ast.DisjunctionExpr():
                for disjunct in node.disjuncts:
                    self.expr(disjunct.expr)
            case ast.ValueAlias():
                self.bind(node.name, node.pos)
                self.scopes[-1].pending[node.name] = node.pos
                self.expr(node.expr)
                self.leave()
            case ast.StructLit():
                self.struct(node)
            case ast.ListLit():
                for element in node.elements:
                    if isinstance(element, ast.Comprehension):
                        self.comprehension(element)
                    else:
                        self.expr(element)
                self.expr(node.rest)
            case _:
                raise AssertionError(node)

    def ident(self, node: ast.Ident) -> None:
        for depth, scope in enumerate(reversed(self.scopes)):
            outermost = depth == len(self.scopes) - 1
            if outermost and node.name in self.imports and node.name not in scope.bindings:
                # An import is declared in the file's block, inside the package's block of fields.
                self.used_imports.add(node.name)
                node.kind, node.key = RefKind.IMPORT, self.imports[node.name].path
                return
            scope.pending.pop(node.name, None)
            if node.name in scope.bindings:
                node.kind, node.depth, node.key = RefKind.BINDING, depth, node.name
                return
            if node.name in scope.fields:
                node.kind, node.depth, node.key = RefKind.FIELD, depth, scope.fields[node.name]
                return
        if node.name in PREDECLARED:
            node.kind, node.key = RefKind.BUILTIN, node.name
        elif node.name in _UNSUPPORTED:
            self.fail(f"not supported: {node.name}", node.pos, Reason.UNSUPPORTED)
        else:
            self.fail(f'reference "{node.name}" not found', node.pos, Reason.REFERENCE)

    def struct(self, node: ast.StructLit) -> None:
        scope = _Scope()
        for item in node.declarations:
            if isinstance(item, ast.Field):
                item.key = self.own(item.key)
                if item.name is not None:
                    scope.fields[item.name] = item.key
                if item.alias is not None:
                    self.declare(scope, item.alias, item.pos)
                    scope.fields[item.alias] = item.key
            elif isinstance(item, ast.Let):
                self.declare(scope, item.name, item.pos)
                scope.bindings[item.name] = item.pos
        for item in node.fields:
            if item.name in scope.bindings:
                self.fail(
                    f'cannot have both alias and field with name "{item.name}" in same scope',
                    item.pos,
                    Reason.SYNTAX,
                )
        self.scopes.append(scope)
        for declaration in node.declarations:
            self.declaration(declaration)
        self.leave()

    def own(self, key: str) -> str:
        """The evaluator's label of a field: a hidden one carries the package that it is hidden in."""
        return key + self.suffix if ast.is_hidden(key) else key

    def declare(self, scope: _Scope, name: str, pos: Position) -> None:
        if name in scope.pending:
            self.fail(f"multiple declarations of {name} in the same scope", pos, Reason.SYNTAX)
        scope.pending[name] = pos

    def declaration(self, node: ast.Declaration) -> None:
        match node:
            case ast.Field():
                self.expr(node.value)
            case ast.DynamicField():
                self.expr(node.label)
                self.expr(node.value)
            case ast.PatternField():
                self.expr(node.pattern)
                if node.name is None:
                    self.expr(node.value)
                else:
                    self.bind(node.name, node.pos)
                    self.scopes[-1].pending[node.name] = node.pos
                    self.expr(node.value)
                    self.leave()
            case ast.Embedding() | ast.Let():
                self.expr(node.expr)
            case ast.Comprehension():
                self.comprehension(node)

    def comprehension(self, node: ast.Comprehension) -> None:
        opened = 0
        for clause in node.clauses:
            match clause:
                case ast.IfClause():
                    self.expr(clause.condition)
                case ast.ForClause():
                    self.expr(clause.source)
                    self.scopes.append(_Scope())
                    for name in filter(None, (clause.key, clause.value)):
                        self.scopes[-1].bindings[name] = clause.pos
                    opened += 1
                case ast.LetClause():
                    self.expr(clause.expr)
                    self.bind(clause.name, clause.pos)
                    self.scopes[-1].pending[clause.name] = clause.pos
                    opened += 1
        self.expr(node.body)
        for _ in range(opened):
            self.leave()
