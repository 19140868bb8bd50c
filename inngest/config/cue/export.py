"""From evaluated vertices to plain data, with every problem there is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from inngest.config.cue.ast import Presence, display_key
from inngest.config.cue.errors import CueError, Position, Reason, combine
from inngest.config.cue.evaluator import Evaluator
from inngest.config.cue.values import Constraint
from inngest.config.cue.vertex import Bottom, Disjunction, Vertex
from inngest.config.cue.vertex import Value as Evaluated

_T = TypeVar("_T")

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


class Value:
    """An evaluated configuration, or a part of one.

    Nothing is checked until ``export``, so that a caller can look at parts of an incomplete configuration.
    """

    def __init__(self, evaluator: Evaluator, vertex: Vertex, filename: str) -> None:
        self._evaluator = evaluator
        self._vertex = vertex
        self._filename = filename

    def __repr__(self) -> str:
        return f"Value({'.'.join(self._vertex.path()) or '.'})"

    def export(self) -> Plain:
        """Plain data: dicts, lists, str, int, float, bool and None; bytes become base64 text as in CUE's
        JSON.

        Hidden fields, definitions and optional fields are left out, defaults are taken. Raises ``CueError``
        with all problems (contradictions anywhere, and values that are not concrete) in ``problems``.
        """
        return _guarded(self._export)

    def _export(self) -> Plain:
        walk = _Walk(self._evaluator)
        plain = walk.export(self._vertex)
        if walk.problems:
            raise combine(walk.problems)
        return plain

    def lookup(self, path: str | tuple[str | int, ...]) -> Value:
        """The value at a path, ``"state.service"`` or ``("list", 0)``; raises ``CueError`` if absent."""
        return Value(self._evaluator, self._find(path), self._filename)

    def has(self, path: str | tuple[str | int, ...]) -> bool:
        """Whether the path leads to a field that is present."""
        try:
            self._find(path)
        except CueError:
            return False
        return True

    def position(self, path: str | tuple[str | int, ...] = ()) -> Position:
        """Where the value at a path was written: in the evaluated text if it says something about it."""
        vertex = self._find(path)
        places = [c.expr.pos for c in vertex.conjuncts]
        return next((p for p in places if p.file == self._filename), places[0] if places else vertex.pos)

    def label_position(self, path: str | tuple[str | int, ...]) -> Position:
        """Where the label of the field at a path was written first."""
        return self._find(path).pos

    def _find(self, path: str | tuple[str | int, ...]) -> Vertex:
        labels = tuple(path.split(".")) if isinstance(path, str) else path
        return _guarded(lambda: self._descend(labels))

    def _descend(self, labels: tuple[str | int, ...]) -> Vertex:
        vertex = self._vertex
        for label in filter(lambda x: x != "", labels):
            key: str | int = label
            if isinstance(label, str):
                if label.startswith(("#", "_#")):
                    key = "\0" + label
                elif (
                    label.isdigit()
                    and isinstance(value := self._evaluator.value(vertex), Vertex)
                    and value.lists
                ):
                    key = int(label)
            try:
                vertex = self._evaluator.lookup(vertex, key, vertex.pos)
            except CueError as error:
                raise error.at((*vertex.path(), display_key(key))) from None
        return vertex


def _guarded(run: Callable[[], _T]) -> _T:
    """Turn a recursion too deep for Python into an error of the configuration."""
    try:
        return run()
    except RecursionError:
        raise CueError("nested too deeply", reason=Reason.STRUCTURAL_CYCLE) from None


class _Walk:
    """Visits everything that takes part in an export, and collects problems on the way."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.problems: list[CueError] = []

    def export(self, vertex: Vertex) -> Plain:
        value = self.evaluator.value(vertex)
        if isinstance(value, Disjunction):
            leaf = value.default()
            if leaf is None:
                self._report(vertex, f"incomplete value {self.evaluator.describe(value)}", Reason.AMBIGUOUS)
                return None
            value = leaf.value
        return self._plain(vertex, value)

    def _report(self, vertex: Vertex, message: str, reason: Reason) -> None:
        places = [c.expr.pos for c in vertex.conjuncts] or [vertex.pos]
        self.problems.append(CueError(message, places, reason=reason, path=vertex.path()))

    def _plain(self, vertex: Vertex, value: Evaluated) -> Plain:
        match value:
            case Bottom():
                self.problems += [e.at(vertex.path()) for e in value.errors]
                return None
            case Constraint():
                self._report(vertex, f"incomplete value {value}", Reason.INCOMPLETE)
                return None
            case Vertex():
                return self._composite(value)
            case Decimal():
                return float(value)
            case bytes():
                return base64.b64encode(value).decode()
            case Disjunction():
                raise AssertionError("a disjunct is never a disjunction")
            case _:
                self._check_rest(vertex.leaf or vertex)
                return value

    def _composite(self, vertex: Vertex) -> Plain:
        if vertex.lists:
            self._check_rest(vertex)
            return [self.export(arc) for _, arc in self.evaluator.fields(vertex)]
        out: dict[str, Plain] = {}
        for key, arc in list(vertex.arcs.items()):
            if not isinstance(key, str):
                continue
            if key.startswith("\0"):
                self._check(arc)
            elif arc.presence is Presence.REGULAR:
                out[key] = self.export(arc)
            elif arc.presence is Presence.REQUIRED:
                message = "field is required but not present"
                self.problems.append(CueError(message, [arc.pos], reason=Reason.REQUIRED, path=arc.path()))
        return out

    def _check_rest(self, vertex: Vertex) -> None:
        """The hidden fields and definitions beside an embedded scalar or list."""
        for key, arc in list(vertex.arcs.items()):
            if isinstance(key, str) and key.startswith("\0"):
                self._check(arc)

    def _check(self, vertex: Vertex) -> None:
        """Contradictions in what is not exported count as well; being incomplete does not."""
        if vertex.presence is Presence.OPTIONAL:
            return
        value = self.evaluator.value(vertex)
        if isinstance(value, Bottom):
            self.problems += [e.at(vertex.path()) for e in value.errors if not e.incomplete]
        elif isinstance(value, Vertex):
            for arc in list(value.arcs.values()):
                self._check(arc)
