"""JSON text as senders, SDKs and whoever else may write it: odd numbers, texts, names, depths, and worse."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

NUMBERS = (
    b"0", b"-0", b"-0.0", b"1.0", b"1E2", b"1.5e-9", b"0e999", b"1e-999", b"0." + b"3" * 400,
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809",
    b"18446744073709551616", b"20000000000000000000", b"9" * 32, b"1" + b"0" * 308, b"9" * 308 + b".5",
    b"1.7976931348623157e308", b"1" * 400 + b"e-300",
)  # fmt: skip
TEXTS = (
    b'""', b'"a"', b'"1"', b'"1e400"', b'"\\u0000"', b'"\\ud83d"', b'"\\uDE00x"', b'"\\ud83d\\ude00"',
    '"\U0001f600"'.encode(), '"\u2028\ufffd"'.encode(), b'"\\n\\"\\\\\\/"', b'"\x7f"', b'"{\\"a\\":1}"',
    b'"{\\"a\\":1e400}"', b'"' + b"x" * 1000 + b'"', b'"inngest/function.finished"',
)  # fmt: skip
WORSE = (
    b"1.7976931348623159e308", b"1" + b"0" * 309, b"-" + b"9" * 400, b"7" * 4300, b"7" * 4301, b"1e400",
    b"-1E+999", b"1e99999999999999999999", b'"\xff"', b'"\xed\xa0\x80"', b'"' + b"x" * 3000 + b'"',
)  # fmt: skip
"""What does not pass, or not everywhere."""
NAMES = (
    b'"k"', b'"id"', b'"data"', b'"error"', b'"result"', b'"_inngest"', b'"\\u005finngest"',
    b'"correlation_id"', b'"run_id"', b'"__proto__"', b'"sessions"', b'"fn_id"', b'"a b"', b'"a.b"',
)  # fmt: skip
DEPTHS = (7, 8, 9, 50, 100, 120)
WORSE_DEPTHS = (127, 128, 129, 200, 980, 3000)
SCALARS = (b"null", b"true", b"false", *NUMBERS, *TEXTS)


def as_object(members: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The text of an object of names and values that are text already."""
    return b"{" + b", ".join(name + b":" + value for name, value in members) + b"}"


def as_array(elements: Sequence[bytes]) -> bytes:
    return b"[" + b",\n".join(elements) + b"]"


class Writer:
    """One number decides on a whole text, so that many are drawn in little time; three of four pass."""

    def __init__(self, seed: int) -> None:
        self._random = random = Random(seed)
        worse = random.random() < 0.25
        self._scalars = SCALARS + WORSE if worse else SCALARS
        self._depths = DEPTHS + WORSE_DEPTHS if worse else DEPTHS

    def scalar(self) -> bytes:
        return self._random.choice(self._scalars)

    def text(self) -> bytes:
        return self._random.choice(TEXTS) if self._random.random() < 0.9 else self.scalar()

    def value(self, levels: int = 3) -> bytes:
        match self._random.choice("sssao") if levels else "s":
            case "a":
                return as_array([self.value(levels - 1) for _ in range(self._random.randrange(4))])
            case "o":
                return self.object(levels - 1)
        return self.scalar()

    def object(self, levels: int = 3) -> bytes:
        members = range(self._random.randrange(4))
        return as_object([(self._random.choice(NAMES + TEXTS), self.any(levels)) for _ in members])

    def any(self, levels: int = 3) -> bytes:
        value = self.value(levels)
        if self._random.random() > 0.1:
            return value
        depth = self._random.choice(self._depths)
        if self._random.random() < 0.5:
            return b"[" * depth + value + b"]" * depth
        return b'{"k":' * depth + value + b"}" * depth


_writers = st.integers(0, (1 << 32) - 1).map(Writer)

scalars = _writers.map(Writer.scalar)
texts = _writers.map(Writer.text)
"""Strings, most of the time."""
values = _writers.map(Writer.any)
"""Texts with the grammar of JSON, but for some that are not UTF-8."""
objects = _writers.map(Writer.object)
garbage = st.binary(max_size=20)
