"""What number, string and bytes literals mean."""

from __future__ import annotations

import re
from decimal import Context, Decimal

#: Decimal arithmetic as CUE does it: 34 digits, exponents without practical limit.
DECIMAL = Context(prec=34, Emax=999_999, Emin=-999_999)

_INTEGER = re.compile(r"0|[1-9](?:_?\d)*")
_BASED = {"0x": (16, re.compile(r"0[xX](?:_?[0-9a-fA-F])+")), "0o": (8, re.compile(r"0o(?:_?[0-7])+"))}
_BASED["0b"] = (2, re.compile(r"0b(?:_?[01])+"))
_DIGITS = r"\d(?:_?\d)*"
_FLOAT = re.compile(rf"(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS}|{_DIGITS}(?=[eE]))(?:[eE][+-]?{_DIGITS})?")
_MULTIPLIED = re.compile(rf"((?:{_DIGITS})?(?:\.(?:{_DIGITS}))?)([KMGTP])(i?)")
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "/": "/", "\\": "\\",
}  # fmt: skip


def parse_number(text: str) -> int | Decimal:
    """The value of a number literal; ``ValueError`` says what is wrong with it.

    A multiplier makes an integer: ``1.5Ki`` is 1536.
    """
    if text[:2].lower() in _BASED:
        base, shape = _BASED[text[:2].lower()]
        if not shape.fullmatch(text):
            raise ValueError(f"illegal number {text}")
        return int(text[2:].replace("_", ""), base)
    if match := _MULTIPLIED.fullmatch(text):
        digits, letter, binary = match.groups()
        factor = (1024 if binary else 1000) ** ("KMGTP".index(letter) + 1)
        product = Decimal(digits.replace("_", "")) * factor
        if product != int(product):
            raise ValueError(f"number {text} cannot be represented as int")
        return int(product)
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return Decimal(text.replace("_", ""))
    if re.fullmatch(r"[\d_]+", text):
        raise ValueError(f"illegal integer number {text}")
    raise ValueError(f"illegal number {text}")


def decode_fragment(text: str, escape: str, quote: str, *, multiline: bool) -> str | bytes:
    """Resolve the escapes of a literal's text; ``escape`` is the backslash with the literal's ``#`` signs."""
    is_bytes = quote == "'"
    if escape not in text:
        return text.encode() if is_bytes else text
    out: list[bytes] = []
    at = 0
    while (found := text.find(escape, at)) >= 0:
        out.append(text[at:found].encode())
        at = found + len(escape)
        chunk, at = _escape(text, at, quote, multiline=multiline)
        out.append(chunk)
    out.append(text[at:].encode())
    data = b"".join(out)
    return data if is_bytes else data.decode()


def _escape(text: str, at: int, quote: str, *, multiline: bool) -> tuple[bytes, int]:
    letter = text[at : at + 1]
    if letter in _SIMPLE and letter:
        return _SIMPLE[letter].encode(), at + 1
    if letter == quote and letter:
        return letter.encode(), at + 1
    if letter == "\n" and multiline:
        raise ValueError("unknown escape sequence: backslash at the end of a line")
    if letter in {"u", "U"} and letter:
        width = 4 if letter == "u" else 8
        digits = text[at + 1 : at + 1 + width]
        if not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
            raise ValueError(f"illegal character in escape sequence \\{letter}{digits}")
        code = int(digits, 16)
        if code > 0x10FFFF:
            raise ValueError("escape sequence is invalid Unicode code point")
        if 0xD800 <= code < 0xDC00:
            low = re.match(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})", text[at + 1 + width :])
            if low:
                code = 0x10000 + ((code - 0xD800) << 10) + (int(low.group(1), 16) - 0xDC00)
                return chr(code).encode(), at + 1 + width + 6
        if 0xD800 <= code < 0xE000:
            raise ValueError("escape sequence is invalid Unicode code point")
        return chr(code).encode(), at + 1 + width
    if quote == "'":
        if match := re.compile(r"x([0-9a-fA-F]{2})").match(text, at):
            return bytes([int(match.group(1), 16)]), match.end()
        if match := re.compile(r"[0-3][0-7]{2}").match(text, at):
            return bytes([int(match.group(), 8)]), match.end()
    raise ValueError(f"unknown escape sequence \\{letter}")
