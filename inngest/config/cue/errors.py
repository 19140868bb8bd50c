from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple


class Position(NamedTuple):
    """A place in a source text; line and column count from 1, the column in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Reason(StrEnum):
    """The class of a problem, independent of its wording."""

    SYNTAX = "syntax"
    UNSUPPORTED = "unsupported"
    IMPORT = "import"
    REFERENCE = "reference"
    UNUSED = "unused"
    CONFLICT = "conflict"
    BOUND = "bound"
    NOT_ALLOWED = "not-allowed"
    REQUIRED = "required"
    INCOMPLETE = "incomplete"
    AMBIGUOUS = "ambiguous"
    UNDEFINED = "undefined"
    CYCLE = "cycle"
    STRUCTURAL_CYCLE = "structural-cycle"
    EXPLICIT = "explicit"
    OPERAND = "operand"
    EVALUATION = "evaluation"
    LENGTH = "length"


#: Problems that more information could still resolve (CUE: incomplete errors).
_INCOMPLETE = frozenset(
    {Reason.INCOMPLETE, Reason.AMBIGUOUS, Reason.UNDEFINED, Reason.CYCLE, Reason.REQUIRED}
)


class CueError(Exception):
    """One problem in a CUE text, or several found together (then ``problems`` has more than one entry).

    ``path`` is the tuple of labels of the value the problem is about (empty for a problem of the text),
    ``positions`` the places that take part in it, the most telling one first.
    """

    def __init__(
        self,
        message: str,
        positions: Iterable[Position] = (),
        *,
        reason: Reason,
        path: tuple[str, ...] | None = None,
        problems: Sequence[CueError] = (),
        causes: Sequence[CueError] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.positions = tuple(dict.fromkeys(positions))
        self.reason = reason
        self.located = path is not None
        self.path: tuple[str, ...] = path or ()
        self._problems = tuple(problems)
        #: Where none of several alternatives holds: what is wrong with each.
        self.causes = tuple(causes)

    @property
    def problems(self) -> tuple[CueError, ...]:
        return self._problems or (self,)

    @property
    def incomplete(self) -> bool:
        return self.reason in _INCOMPLETE

    def at(self, path: tuple[str, ...]) -> CueError:
        """This problem, with ``path`` unless it already has one."""
        if not self.located:
            self.path, self.located = path, True
        return self

    def __str__(self) -> str:
        if self._problems:
            return "\n".join(map(str, self._problems))
        parts = [str(self.positions[0])] if self.positions else []
        if self.path:
            parts.append(format_path(self.path))
        text = ": ".join([*parts, self.message])
        if len(self.positions) > 1:
            text += f" (see {', '.join(map(str, self.positions[1:]))})"
        return "\n    ".join([text, *map(str, self.causes)])


def combine(problems: Iterable[CueError]) -> CueError:
    """One error for all of ``problems``, without repetitions, in the order found."""
    unique = list({(p.message, p.path, p.positions): p for q in problems for p in q.problems}.values())
    if len(unique) == 1:
        return unique[0]
    first = unique[0]
    return CueError(first.message, first.positions, reason=first.reason, path=first.path, problems=unique)


def is_identifier(text: str) -> bool:
    """Whether ``text`` can be written as a label without quotes."""
    bare = text.removeprefix("_").removeprefix("#") if text.startswith(("_#", "#")) else text
    return bare.replace("$", "_").isidentifier()


def format_path(path: tuple[str, ...]) -> str:
    return ".".join(p if is_identifier(p) or p.isdigit() else f'"{p}"' for p in path)
