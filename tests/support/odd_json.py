"""JSON text as senders, SDKs and whoever else may write it: odd numbers, texts, names, depths, and worse."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

NUMBERS = (
    b"0", b"-0", b"-0.0", b"1.0", b"1E2", b"1.5e-9", b"0e999", b"1e-999", b"0." + b"3" * 400,
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809",
    b"18446744073709551616", b"20000000000000000000", b"9" * 32, b"1" + b"0" * 308, b"9" * 308 + b".5",
    b"1.7976931348623157e308", b"1.7976931348623159e308", b"1" + b"0" * 309, b"-" + b"9" * 400,
    b"1" * 400 + b"e-300", b"7" * 4300, b"7" * 4301, b"1e400", b"-1E+999", b"1e99999999999999999999",
)  # fmt: skip
TEXTS = (
    b'""', b'"a"', b'"1"', b'"1e400"', b'"\\u0000"', b'"\\ud83d"', b'"\\uDE00x"', b'"\\ud83d\\ude00"',
    '"\U0001f600"'.encode(), '"\u2028\ufffd"'.encode(), b'"\xff"', b'"\xed\xa0\x80"', b'"\\n\\"\\\\\\/"',
    b'"\x7f"', b'"{\\"a\\":1}"', b'"{\\"a\\":1e400}"', b'"' + b"x" * 3000 + b'"',
    b'"inngest/function.finished"',
)  # fmt: skip
NAMES = (
    b'"k"', b'"id"', b'"data"', b'"error"', b'"result"', b'"_inngest"', b'"\\u005finngest"',
    b'"correlation_id"', b'"run_id"', b'"__proto__"', b'"sessions"', b'"fn_id"', b'"a b"', b'"a.b"',
)  # fmt: skip
DEPTHS = (7, 8, 9, 100, 125, 126, 127, 128, 129, 200, 980, 3000)

SCALARS = (b"null", b"true", b"false", *NUMBERS, *TEXTS)


def as_object(members: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The text of an object of names and values that are text already."""
    return b"{" + b", ".join(name + b":" + value for name, value in members) + b"}"


def as_array(elements: Sequence[bytes]) -> bytes:
    return b"[" + b",\n".join(elements) + b"]"


def _value(random: Random, levels: int = 3) -> bytes:
    match random.choice("sssao") if levels else "s":
        case "a":
            return as_array([_value(random, levels - 1) for _ in range(random.randrange(4))])
        case "o":
            return _object(random, levels - 1)
    return random.choice(SCALARS)


def _object(random: Random, levels: int = 3) -> bytes:
    members = range(random.randrange(4))
    return as_object([(random.choice(NAMES + TEXTS), _any(random, levels)) for _ in members])


def _any(random: Random, levels: int = 3) -> bytes:
    value = _value(random, levels)
    if random.random() < 0.15:
        depth = random.choice(DEPTHS)
        return b"[" * depth + value + b"]" * depth if random.random() < 0.5 else _in_objects(value, depth)
    return value


def _in_objects(value: bytes, depth: int) -> bytes:
    return b'{"k":' * depth + value + b"}" * depth


# One number decides on the whole text: many are drawn in little time.
_seeds = st.integers(0, (1 << 32) - 1).map(Random)

scalars = st.sampled_from(SCALARS)
values = _seeds.map(_any)
"""Texts with the grammar of JSON, but for some that are not UTF-8."""
objects = _seeds.map(_object)
garbage = st.binary(max_size=20)
