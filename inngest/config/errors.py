"""What is wrong with a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inngest.config.cue import CueError, Position
from inngest.config.mask import masked_text
from inngest.core.errors import InngestError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it was written, the key it is about, and what it is."""

    message: str
    position: Position | None = None
    path: str = ""

    def __str__(self) -> str:
        parts = [str(self.position)] if self.position else []
        return ": ".join([*parts, *([self.path] if self.path else []), self.message])


class ConfigError(InngestError):
    """A configuration cannot be used; ``problems`` lists all that is known to be wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def from_cue(error: CueError, prefix: tuple[str, ...] = ()) -> ConfigError:
    """The evaluator's problems. ``prefix`` is left out of paths that start with it."""
    return ConfigError([_problem(item, prefix) for item in error.problems])


def _problem(error: CueError, prefix: tuple[str, ...]) -> Problem:
    path = error.path[len(prefix) :] if error.path[: len(prefix)] == prefix else error.path
    # The most telling place is one in the text of the author, not in the schema.
    places = [*error.positions, *(place for cause in error.causes for place in cause.positions)]
    places.sort(key=lambda place: place.file.startswith("inngest.com/"))
    message = error.message
    if error.causes:
        message += ": " + "; ".join(dict.fromkeys(cause.message for cause in error.causes))
    return Problem(masked_text(message, path), places[0] if places else None, ".".join(path))
