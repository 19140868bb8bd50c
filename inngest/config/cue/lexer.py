"""Tokens, with CUE's rule that a line's end closes a declaration (specification, "Commas")."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.literals import decode_fragment, parse_number

KEYWORDS = frozenset({"true", "false", "null", "for", "in", "if", "let"})

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\ufeff]+)
    | (?P<newline>\n)
    | (?P<comment>//[^\n]*)
    | (?P<bottom>_\|_)
    | (?P<string>\#*(?:\"\"\"|'''|"|'))
    | (?P<ident>_\#(?![\w$"'\#])|(?:_?\#)?(?:[^\W\d]|\$)[\w$]*|_?\#)
    | (?P<number>0[xXbBoO]\w*|(?:\d[\d_]*(?:\.(?!\.)[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?[\d_]*)?(?:[KMGTP]i?)?)
    | (?P<attribute>@[^\W\d][\w$]*\()
    | (?P<op>&&|\|\||==|!=|=~|!~|<=|>=|\.\.\.|[-+*/&|!<>=(){}\[\],:.?])
    """,
    re.VERBOSE,
)
_ENDS_LINE = frozenset(
    {"ident", "keyword", "number", "string", "bottom", "attribute", ")", "]", "}", "?", "..."}
)


@dataclass(slots=True)
class StringParts:
    """A string or bytes literal: decoded fragments and the tokens of each interpolated expression."""

    parts: list[str | bytes | list[Token]]
    is_bytes: bool
    multiline: bool


@dataclass(slots=True)
class Token:
    """``kind`` names a class or is the operator itself; ``automatic`` marks a comma a line's end put in."""

    kind: str
    text: str
    pos: Position
    value: StringParts | int | object = None
    automatic: bool = False


class Lexer:
    """Splits one source text; raises ``CueError`` with the place of what it cannot read."""

    def __init__(self, source: str, filename: str) -> None:
        self.source = source
        self.filename = filename
        self._offset = 0
        self._lines = [0, *(m.end() for m in re.finditer("\n", source))]

    def position(self, offset: int) -> Position:
        line = bisect_right(self._lines, offset)
        return Position(self.filename, line, offset - self._lines[line - 1] + 1)

    def fail(self, message: str, offset: int) -> CueError:
        return CueError(message, [self.position(offset)], reason=Reason.SYNTAX)

    def tokens(self) -> list[Token]:
        return self._run(nested=False)

    def _run(self, *, nested: bool) -> list[Token]:
        """All tokens up to the end, or (``nested``) up to the parenthesis that closes an interpolation."""
        source, out, depth = self.source, list[Token](), 0
        while self._offset < len(source):
            start = self._offset
            match = _TOKEN.match(source, start)
            if match is None:
                raise self.fail(f"illegal character {source[start]!r}", start)
            self._offset = match.end()
            kind, text = match.lastgroup or "", match.group()
            if kind in {"space", "comment"}:
                continue
            if kind == "newline":
                if not nested:
                    self._automatic_comma(out, start)
                continue
            if kind == "op":
                if nested and text == ")" and depth == 0:
                    out.append(Token("eof", "", self.position(start)))
                    return out
                depth += (text == "(") - (text == ")")
                kind = text
                if text == "," and out and out[-1].automatic:
                    out.pop()  # a comma may also stand at the start of the next line
            out.append(self._token(kind, text, start))
        if nested:
            raise self.fail("interpolation not terminated", len(source))
        self._automatic_comma(out, len(source))
        out.append(Token("eof", "", self.position(len(source))))
        return out

    def _automatic_comma(self, out: list[Token], offset: int) -> None:
        if out and out[-1].kind in _ENDS_LINE:
            out.append(Token(",", "\n", self.position(offset), automatic=True))

    def _token(self, kind: str, text: str, start: int) -> Token:
        pos = self.position(start)
        if kind == "ident":
            if text.startswith("__"):
                raise self.fail(f'identifiers starting with "__" are reserved: {text}', start)
            return Token("keyword" if text in KEYWORDS else "ident", text, pos)
        if kind == "number":
            try:
                return Token(kind, text, pos, parse_number(text))
            except ValueError as error:
                raise self.fail(str(error), start) from None
        if kind == "string":
            return Token(kind, text, pos, self._string(text, start))
        if kind == "attribute":
            self._skip_attribute(start)
        return Token(kind, text, pos)

    def _skip_attribute(self, start: int) -> None:
        """Attributes carry no meaning here: their text only has to be balanced."""
        closing = [")"]
        while closing:
            if self._offset >= len(self.source):
                raise self.fail("attribute missing ')'", start)
            char = self.source[self._offset]
            match = _TOKEN.match(self.source, self._offset)
            if match is not None and match.lastgroup == "string":
                self._offset = match.end()
                self._string(match.group(), match.start())
                continue
            self._offset += 1
            if char in "([{":
                closing.append({"(": ")", "[": "]", "{": "}"}[char])
            elif char in ")]}" and char != closing.pop():
                raise self.fail(f"unexpected {char!r} in attribute", self._offset - 1)

    def _string(self, opening: str, start: int) -> StringParts:
        """The literal that starts at ``start``; the offset is just after its opening quotes."""
        quote = opening.lstrip("#")
        hashes = opening[: len(opening) - len(quote)]
        multiline = len(quote) == 3
        escape, closing = "\\" + hashes, quote + hashes
        if multiline:
            self._offset = self._after_opening_line(quote)
        raw: list[str | list[Token]] = []
        offsets: list[int] = []
        begin = self._offset
        while True:
            at = self._offset
            if at >= len(self.source) or (not multiline and self.source[at] == "\n"):
                raise self.fail("string literal not terminated", start)
            if self.source.startswith(closing, at):
                raw.append(self.source[begin:at])
                offsets.append(begin)
                self._offset = at + len(closing)
                break
            if not self.source.startswith(escape, at):
                self._offset += 1
                continue
            self._offset += len(escape)
            if self.source.startswith("(", self._offset):
                raw.append(self.source[begin:at])
                offsets.append(begin)
                self._offset += 1
                raw.append(self._run(nested=True))
                offsets.append(at)
                begin = self._offset
            else:
                self._offset += 1
        if multiline:
            raw = self._unindent(raw, start)
        is_bytes = quote[0] == "'"
        parts: list[str | bytes | list[Token]] = []
        for piece, offset in zip(raw, offsets, strict=True):
            if isinstance(piece, str):
                try:
                    parts.append(decode_fragment(piece, escape, quote[0], multiline=multiline))
                except ValueError as error:
                    raise self.fail(str(error), start if multiline else offset) from None
            else:
                parts.append(piece)
        return StringParts(parts, is_bytes, multiline)

    def _after_opening_line(self, quote: str) -> int:
        end = self._offset
        if self.source.startswith("\r", end):
            end += 1
        if not self.source.startswith("\n", end):
            raise self.fail(f"expected newline after multiline quote {quote}", self._offset)
        return end + 1

    def _unindent(self, raw: list[str | list[Token]], start: int) -> list[str | list[Token]]:
        """Take the closing line's white space off every line, and the newline before it off the text."""
        last = raw[-1]
        assert isinstance(last, str)
        head, newline, indent = last.rpartition("\n")
        if indent.strip(" \t"):
            head, newline, indent = last, "\n", ""  # the closing quotes stand at the end of a line of text
        out: list[str | list[Token]] = []
        pieces: list[str | list[Token]] = [*raw[:-1], head if newline else ""]
        for i, piece in enumerate(pieces):
            if not isinstance(piece, str):
                out.append(piece)
                continue
            lines = piece.replace("\r\n", "\n").split("\n")
            first_whole = 0 if i == 0 else 1  # what follows an interpolation continues its line
            for n in range(first_whole, len(lines)):
                if lines[n].startswith(indent):
                    lines[n] = lines[n][len(indent) :]
                elif lines[n] or (n == len(lines) - 1 and i < len(pieces) - 1):
                    raise self.fail("invalid string: invalid whitespace", start)
            out.append("\n".join(lines))
        return out
