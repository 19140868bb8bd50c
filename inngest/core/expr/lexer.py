"""Splits an expression into tokens, by the lexical rules of the CEL language definition."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from inngest.core.errors import ExpressionError


class Token(NamedTuple):
    """``kind`` is int, uint, double, string, bytes, name, quoted (a name in backticks), op or end."""

    kind: str
    value: Any
    position: int


_TOKEN: Final = re.compile(
    r"""
      (?P<space> (?: [ \t\r\n\f]+ | //[^\n]* )+ )
    | (?P<string>
        (?: (?P<raw> [bB]?[rR] | [rR][bB] )
            (?: \"{3} .*? \"{3} | '{3} .*? '{3} | "[^"\r\n]*" | '[^'\r\n]*' )
          | [bB]?
            (?: \"{3} (?: \\. | [^\\] )*? \"{3} | '{3} (?: \\. | [^\\] )*? '{3}
              | "(?: \\. | [^"\\\r\n] )*" | '(?: \\. | [^'\\\r\n] )*' ) ) )
    | (?P<double> [0-9]*\.[0-9]+ (?: [eE][+-]?[0-9]+ )? | [0-9]+[eE][+-]?[0-9]+ )
    | (?P<int> (?: 0[xX][0-9a-fA-F]+ | [0-9]+ ) (?P<unsigned> [uU] )? )
    | (?P<name> [_a-zA-Z][_a-zA-Z0-9]* )
    | (?P<quoted> `[a-zA-Z0-9_.\-/ ]+` )
    | (?P<op> == | != | <= | >= | && | \|\| | [-+*/%!<>?:.,()\[\]{}] )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(
    r"""\\(?: (?P<simple> [abfnrtv\\?"'`] ) | [xX](?P<hex> [0-9a-fA-F]{2} ) | (?P<octal> [0-3][0-7]{2} )
    | u(?P<short> [0-9a-fA-F]{4} ) | U(?P<long> [0-9a-fA-F]{8} ) )""",
    re.VERBOSE,
)
_SIMPLE: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    '"': '"',
    "'": "'",
    "`": "`",
}
_WORD: Final = re.compile(r"[_a-zA-Z0-9]")
_OPEN_STRING: Final = re.compile(r"[bBrR]{0,2}[\"']")


def tokenize(source: str) -> list[Token]:
    """Tokens of ``source``, ending with one of kind ``end``; raises ``ExpressionError``."""
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            if _OPEN_STRING.match(source, position):
                raise ExpressionError("unterminated string", source=source, position=position)
            message = f"unexpected character {source[position]!r}"
            raise ExpressionError(message, source=source, position=position)
        end = match.end()
        if match["string"] is not None:
            tokens.append(_string(source, position, match["string"], raw=match["raw"] is not None))
        elif match["double"] is not None or match["int"] is not None:
            if _WORD.match(source, end):
                raise ExpressionError("malformed number", source=source, position=position)
            tokens.append(_number(match, position))
        elif match["name"] is not None:
            tokens.append(Token("name", match["name"], position))
        elif match["quoted"] is not None:
            tokens.append(Token("quoted", match["quoted"][1:-1], position))
        elif match["op"] is not None:
            tokens.append(Token("op", match["op"], position))
        position = end
    tokens.append(Token("end", "the end", len(source)))
    return tokens


def end_of(source: str, token: Token) -> int:
    """The offset behind a token of ``source``."""
    match = _TOKEN.match(source, token.position)
    return match.end() if match is not None else len(source)


def _number(match: re.Match[str], position: int) -> Token:
    if match["double"] is not None:
        return Token("double", float(match["double"]), position)
    digits = match["int"].rstrip("uU")
    # The parser judges the range. Longer digits cannot be in it, and Python refuses to read very long ones.
    value = int(digits, 16) if digits[:2] in {"0x", "0X"} else int(digits) if len(digits) <= 100 else 1 << 70
    return Token("uint" if match["unsigned"] else "int", value, position)


def _string(source: str, position: int, text: str, *, raw: bool) -> Token:
    start = re.search("[\"']", text).start()  # type: ignore[union-attr]
    binary = "b" in text[:start].lower()
    quote = 3 if text[start : start + 3] in {'"""', "'''"} and len(text) - start >= 6 else 1
    body = text[start + quote : -quote]
    if raw:
        return Token("bytes", body.encode(), position) if binary else Token("string", body, position)
    offset = position + start + quote
    parts: list[str | bytes] = []
    at = 0
    while (slash := body.find("\\", at)) >= 0:
        parts.append(body[at:slash])
        escape = _ESCAPE.match(body, slash)
        if escape is None:
            raise ExpressionError("invalid escape in string", source=source, position=offset + slash)
        parts.append(_unescape(escape, source, offset + slash, binary=binary))
        at = escape.end()
    parts.append(body[at:])
    if binary:
        value = b"".join(p if isinstance(p, bytes) else p.encode() for p in parts)
        return Token("bytes", value, position)
    return Token("string", "".join(p for p in parts if isinstance(p, str)), position)


def _unescape(escape: re.Match[str], source: str, position: int, *, binary: bool) -> str | bytes:
    if escape["simple"]:
        return _SIMPLE[escape["simple"]]
    if escape["hex"] or escape["octal"]:
        code = int(escape["hex"], 16) if escape["hex"] else int(escape["octal"], 8)
        return bytes([code]) if binary else chr(code)
    code = int(escape["short"] or escape["long"], 16)
    if binary or code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ExpressionError("invalid escape in string", source=source, position=position)
    return chr(code)
