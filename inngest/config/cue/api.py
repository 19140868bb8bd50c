"""Evaluation of one source text."""

from __future__ import annotations

from collections.abc import Mapping

from inngest.config.cue import ast
from inngest.config.cue.ast import hidden_key
from inngest.config.cue.builtins import FUNCTIONS, UNSUPPORTED_PACKAGES
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.evaluator import Evaluator
from inngest.config.cue.export import Value
from inngest.config.cue.parser import TransformString, parse
from inngest.config.cue.resolver import resolve
from inngest.config.cue.vertex import Conjunct, Env, Scope, Vertex, VertexExpr


def evaluate(
    source: str,
    *,
    filename: str = "config.cue",
    packages: Mapping[str, str] | None = None,
    against: tuple[str, str] | None = None,
    transform_string: TransformString | None = None,
) -> Value:
    """Evaluate a configuration.

    ``packages`` maps import paths to the CUE source of packages the text may import. ``against`` names a
    definition, as (import path, name), that the whole text is unified with. ``transform_string`` is called
    with the decoded text and the position of every string literal of ``source`` that is a value, and gives
    the text to use instead; see ``parse``.

    Raises ``CueError`` for what is wrong with the text itself: syntax, unknown names and imports, constructs
    that are not supported. Contradictions and missing values are reported by ``Value.export``.
    """
    file = parse(source, filename, transform_string=transform_string)
    loader = _Loader(packages or {})
    root = loader.load(file)
    if against is not None:
        path, name = against
        schema = loader.package(path, Position(filename, 1, 1))
        definition = schema.arcs.get(hidden_key(name) if name.startswith("#") else name)
        if definition is None:
            raise CueError(f"package {path} has no {name}", reason=Reason.IMPORT)
        expr = VertexExpr(file.body.pos, [definition])
        root.conjuncts.append(Conjunct(expr, Env(None, None), Scope(None, root)))
    return Value(loader.evaluator, root, filename)


class _Loader:
    """Parses the packages a file imports, each once."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._vertices: dict[str, Vertex] = {}
        self._loading: list[str] = []
        self.evaluator = Evaluator(self._vertices)

    def load(self, file: ast.File, package: str = "") -> Vertex:
        for item in file.imports:
            if item.path not in FUNCTIONS:
                self.package(item.path, item.pos)
        resolve(file, package)
        root = Vertex(None, None, file.body.pos)
        root.conjuncts.append(Conjunct(file.body, Env(None, None), Scope(None, root)))
        return root

    def package(self, path: str, pos: Position) -> Vertex:
        known = self._vertices.get(path)
        if known is not None:
            return known
        if path not in self._sources:
            if path in UNSUPPORTED_PACKAGES:
                raise CueError(f'not supported: package "{path}"', [pos], reason=Reason.UNSUPPORTED)
            raise CueError(f'cannot find package "{path}"', [pos], reason=Reason.IMPORT)
        if path in self._loading:
            raise CueError(f'import cycle through "{path}"', [pos], reason=Reason.IMPORT)
        self._loading.append(path)
        root = self.load(parse(self._sources[path], path), path)
        self._loading.pop()
        self.evaluator.expand(root)
        self._vertices[path] = root
        return root
