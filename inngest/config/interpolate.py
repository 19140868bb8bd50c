"""Variables and files in a configuration: ``${VAR}``, ``$VAR``, ``${VAR:-default}``, ``${file:/path}``.

Within quotes a value is put into the text that a string stands for, not into the source, so whatever it holds
it cannot change what else is configured. Outside of quotes it can only be a whole number or boolean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from inngest.config.cue import CueError, Position
from inngest.config.cue.lexer import Lexer, Token
from inngest.config.errors import Problem

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(
    rf"\$(?:(?P<dollar>\$)|(?P<bare>{_NAME})|\{{(?:file:(?P<file>[^}}]*)|(?P<name>{_NAME})(?::-(?P<default>[^}}]*))?)\}}"
    r"|(?P<wrong>\{[^}\n]*\}?))"
)
_LITERAL = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false")
_BEFORE_VALUE = frozenset({":", "[", "(", ",", "&", "|", "*", "-", "+"})
_AFTER_VALUE = frozenset({",", "}", "]", ")", "eof", "&", "|"})


class Interpolation:
    """Puts values in, and notes every one that cannot be in ``problems``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[Problem] = []

    def text(self, text: str, position: Position) -> str:
        """What a string literal at ``position`` stands for."""
        if "$" not in text:
            return text
        return _REFERENCE.sub(lambda match: self._value(match, position) or "", text)

    def source(self, source: str, filename: str) -> str:
        """``source`` with the variables outside of its strings put in.

        Only a whole value can be one, as in ``port: ${PORT}``. Lines stay where they are. A text that cannot
        be read as CUE is left as it is: the parser says what is wrong with it.
        """
        if "$" not in source:
            return source
        lexer = Lexer(source, filename)
        try:
            tokens = lexer.tokens()
        except CueError:
            return source
        lines = [0, *(match.end() for match in re.finditer("\n", source))]
        pieces, done = list[str](), 0
        for index, token, match in _outside_strings(tokens, source, lines):
            if match.start() < done:
                continue
            after = next(t for t in tokens[index:] if _offset(t, lines) >= match.end())
            value = self._value(match, token.pos)
            pieces += [
                source[done : match.start()],
                self._literal(value, match, tokens[index - 1 : index], after, token.pos),
            ]
            done = match.end()
        return "".join([*pieces, source[done:]])

    def _literal(
        self,
        value: str | None,
        match: re.Match[str],
        before: list[Token],
        after: Token,
        position: Position,
    ) -> str:
        """A value as CUE source, as wide as the reference where it fits."""
        whole = (not before or before[0].kind in _BEFORE_VALUE) and after.kind in _AFTER_VALUE
        if not whole:
            self._refuse(f"{match[0]} is only a part of a value: write the whole of it in quotes", position)
        elif value is not None and not _LITERAL.fullmatch(value):
            name = match["bare"] or match["name"]
            what = f"the value of {name}" if name else "what it holds"
            self._refuse(
                f"{match[0]} stands outside of quotes and {what} is not a number, true or false: "
                f'write "{match[0]}"',
                position,
            )
        elif value is not None:
            return value.ljust(len(match[0]))
        return "0".ljust(len(match[0]))

    def _value(self, match: re.Match[str], position: Position) -> str | None:
        """What a reference stands for; None, and a problem, where there is nothing."""
        if match["dollar"]:
            return "$"
        if match["wrong"]:
            self._refuse(
                f"{match[0]} is not a reference: write ${{NAME}}, ${{NAME:-default}} or ${{file:/path}}, "
                "and $$ for a dollar",
                position,
            )
            return None
        if match["file"] is not None:
            return self._file(match["file"], position)
        name = match["bare"] or match["name"]
        value = self._environment.get(name)
        if match["default"] is not None and not value:
            return match["default"]
        if value is None:
            self._refuse(
                f"the environment variable {name} is not set: set it, or write ${{{name}:-default}}", position
            )
            return None
        return value

    def _file(self, path: str, position: Position) -> str | None:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            self._refuse(f"the file {path} cannot be read: {error.strerror or error}", position)
            return None
        except UnicodeDecodeError:
            self._refuse(f"the file {path} is not UTF-8", position)
            return None
        return text.removesuffix("\n").removesuffix("\r")

    def _refuse(self, message: str, position: Position) -> None:
        problem = Problem(message, position)
        if problem not in self.problems:
            self.problems.append(problem)


def _offset(token: Token, lines: list[int]) -> int:
    return lines[token.pos.line - 1] + token.pos.column - 1


def _outside_strings(
    tokens: list[Token], source: str, lines: list[int]
) -> Iterator[tuple[int, Token, re.Match[str]]]:
    """The references among tokens. A name with a dollar is CUE's own where the text declares it."""
    following = pairwise(tokens)
    own = {t.text for t, after in following if t.kind == "ident" and after.kind in {":", "=", "?", "!"}}
    for index, token in enumerate(tokens):
        if token.kind == "ident" and token.text.startswith("$") and token.text not in own:
            match = _REFERENCE.match(source, _offset(token, lines))
            if match is not None and not match["dollar"]:
                yield index, token, match
