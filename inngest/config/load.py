"""From the text of a configuration to a checked `Config`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from inngest.config import lookup
from inngest.config.catalogue import (
    DEFINITION,
    FIELD_DEFINITION,
    IMPORT_PATH,
    catalogue,
    children,
    nearest,
    packages,
)
from inngest.config.check import Check
from inngest.config.cue import CueError, Plain, Position, Reason, Value, ast, evaluate, parse
from inngest.config.errors import ConfigError, Problem, from_cue
from inngest.config.interpolate import Interpolation
from inngest.config.lookup import Source
from inngest.config.model import Config

_FUNCTION_IMPORT = "inngest.com/defs/v1"


@dataclass(frozen=True)
class Loaded:
    """A configuration that the schema allows.

    ``plain`` is all of it with the defaults, ``given`` what its author wrote, and ``notes`` what else there
    is to say about where it came from.
    """

    config: Config = field(repr=False)
    plain: dict[str, Plain] = field(repr=False)
    source: Source
    given: dict[str, Plain] = field(repr=False)
    notes: tuple[str, ...] = ()
    value: Value | None = field(default=None, repr=False)

    def gives(self, *path: str) -> bool:
        """Whether the author wrote something at a path."""
        at: Plain = self.given
        for name in path:
            if not isinstance(at, dict) or name not in at:
                return False
            at = at[name]
        return True

    def position(self, *path: str) -> Position | None:
        """Where the value at a path was written, or what it is a part of; None if nothing was."""
        if self.value is None or not self.value.has(path):
            return None
        places = (self.value.position(path[:length]) for length in range(len(path), 0, -1))
        return next((place for place in places if place.file == self.source.name), None)


def load(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stems: Sequence[Path] = lookup.STEMS,
) -> Loaded:
    """Find and read the configuration: the file at ``path``, or the first one in the usual order.

    The definition of a function, which of old has the name of a configuration too, is passed by with a note
    where it was only found, and refused where it was named. Raises ConfigError with all problems.
    """
    variables = os.environ if environment is None else environment
    if path is not None:
        return read(lookup.named(path), variables)
    notes: list[str] = []
    for source in lookup.candidates(variables, stems):
        if not source.named and (function := function_name(source)):
            notes.append(f"{source.name} is the definition of {function}, not a configuration: passed by")
            continue
        return replace(read(source, variables), notes=tuple(notes))
    raise AssertionError("the defaults are always there")


def read(source: Source, environment: Mapping[str, str]) -> Loaded:
    """Evaluate and check one text. Raises ConfigError with all problems."""
    interpolation = Interpolation(environment)
    text = interpolation.source(source.text, source.name)
    try:
        file = parse(text, source.name, transform_string=interpolation.text)
    except CueError as error:
        # What cannot be put in is the likely cause of what cannot be read.
        raise ConfigError(interpolation.problems or from_cue(error).problems) from None
    if function := _function(file):
        message = f"this is the definition of {function}, not a configuration: name one with -c"
        raise ConfigError([Problem(message, Position(source.name, 1, 1))])
    if interpolation.problems:
        raise ConfigError(interpolation.problems)
    prefix = ("config",) if "config" in _fields(file) else ()
    reader = _Reader(text, source.name, interpolation, prefix)
    given, written = reader.given()
    value = reader.evaluate(loose=False)
    try:
        plain = value.export()
    except CueError as error:
        raise ConfigError([_explained(problem, prefix) for problem in error.problems]) from None
    assert isinstance(plain, dict)
    config = msgspec.convert(plain, Config)
    return Loaded(config, plain, source, plain if given is None else given, (), written)


def function_name(source: Source) -> str | None:
    """Which function a text defines, if it is the definition of one and not a configuration."""
    try:
        return _function(parse(source.text, source.name))
    except CueError:
        return None


class _Reader:
    """Evaluates one text, against the schema or without it."""

    def __init__(self, text: str, name: str, interpolation: Interpolation, prefix: tuple[str, ...]) -> None:
        self._text = text
        self._name = name
        self._interpolation = interpolation
        self._prefix = prefix

    def evaluate(self, *, loose: bool) -> Value:
        definition = FIELD_DEFINITION if self._prefix else DEFINITION
        try:
            value = evaluate(
                self._text,
                filename=self._name,
                packages=packages(loose=loose),
                against=None if loose else (IMPORT_PATH, definition),
                transform_string=self._interpolation.text,
            )
            return value.lookup(self._prefix) if self._prefix else value
        except CueError as error:
            raise from_cue(error, self._prefix) from None

    def given(self) -> tuple[dict[str, Plain] | None, Value]:
        """What the author wrote, where that is concrete by itself.

        Raises ConfigError for what is wrong with it.
        """
        value = self.evaluate(loose=True)
        try:
            plain = value.export()
        except CueError as error:
            problems = [problem for problem in error.problems if not problem.incomplete]
            if problems:
                raise ConfigError(
                    [p for item in problems for p in from_cue(item, self._prefix).problems]
                ) from None
            return None, value
        problems_found = list(Check(value).problems(plain, catalogue().root))
        if problems_found:
            raise ConfigError(problems_found)
        assert isinstance(plain, dict)
        return plain, value


def _explained(error: CueError, prefix: tuple[str, ...]) -> Problem:
    """A problem that the evaluator found against the schema."""
    problem = from_cue(error, prefix).problems[0]
    if error.reason is not Reason.NOT_ALLOWED:
        return problem
    *above, name = error.path[len(prefix) :]
    known = dict(children(catalogue().find(above).node))
    return replace(problem, message=f"unknown key; {nearest(name, known)}")


def _fields(file: ast.File) -> dict[str, ast.Field]:
    """The fields at the top of a file, also of one that is a single struct in braces."""
    body = file.body
    if len(body.declarations) == 1 and isinstance(only := body.declarations[0], ast.Embedding):
        body = only.expr if isinstance(only.expr, ast.StructLit) else body
    return {item.key: item for item in body.fields}


def _function(file: ast.File) -> str | None:
    """A description of the function that a file defines: by its import, its field or its keys."""
    fields = _fields(file)
    imports = any(
        item.path == _FUNCTION_IMPORT or item.path.startswith(_FUNCTION_IMPORT + ":") for item in file.imports
    )
    if not (
        imports or "function" in fields or ("triggers" in fields and fields.keys() & {"id", "name", "steps"})
    ):
        return None
    inner = fields.get("function")
    return (
        _named(fields) or (_named(_struct_fields(inner.value)) if inner is not None else None) or "a function"
    )


def _struct_fields(expr: ast.Expr) -> dict[str, ast.Field]:
    if isinstance(expr, ast.Unification):
        return _struct_fields(expr.left) | _struct_fields(expr.right)
    return {item.key: item for item in expr.fields} if isinstance(expr, ast.StructLit) else {}


def _named(fields: Mapping[str, ast.Field]) -> str | None:
    for key in ("id", "name"):
        if (
            key in fields
            and isinstance(value := fields[key].value, ast.Literal)
            and isinstance(value.value, str)
        ):
            return f"the function {value.value!r}"
    return None
