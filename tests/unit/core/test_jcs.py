from __future__ import annotations

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inngest.core.json.jcs import InvalidJson, canonical, canonicalise, format_number

RFC_8785_APPENDIX_B = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), RFC_8785_APPENDIX_B)
def test_the_numbers_of_the_rfc(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert format_number(number) == text
    for value, expected in [(number, text), ([number], f"[{text}]"), ({"a": number}, f'{{"a":{text}}}')]:
        assert canonical(value).decode() == expected
        assert canonicalise(json.dumps(value).encode()).decode() == expected


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_refuses_what_is_not_a_number(number: float) -> None:
    with pytest.raises(InvalidJson, match="JSON has no number"):
        format_number(number)
    with pytest.raises(InvalidJson, match=r"^\$\.steps\[1\]\.price: JSON has no number -?(nan|inf)$"):
        canonical({"steps": [None, {"price": number}]})


def test_the_sorting_of_the_rfc() -> None:
    names = ["€", "\r", "\ufb33", "1", "\U0001f600", "\x80", "ö"]
    raw = json.dumps({name: index for index, name in enumerate(names)}).encode()
    assert list(json.loads(canonicalise(raw))) == ["\r", "1", "\x80", "ö", "€", "\U0001f600", "\ufb33"]


def test_the_example_of_the_rfc() -> None:
    raw = rb"""{
       "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
       "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
       "literals": [null, true, false]
    }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonicalise(raw).decode() == expected


def test_escapes_only_what_is_due() -> None:
    assert canonical('\x00\x1f\x7f\b\t\n\f\r"\\/\u2028é😀').decode() == (
        '"\\u0000\\u001f\x7f\\b\\t\\n\\f\\r\\"\\\\/\u2028é😀"'
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"9007199254740992", b"9007199254740992"),
        (b"9007199254740993", b"9007199254740992"),
        (b'{"a":-9007199254740993}', b'{"a":-9007199254740992}'),
        (b"[1,12345678901234567890]", b"[1,12345678901234567000]"),
        (b"[1000000000000000000000]", b"[1e+21]"),
        (b"[1.0,-0,-0.0,1E2,1e-7]", b"[1,0,0,100,1e-7]"),
        (b'{"b":1, "a":2, "b":3}', b'{"a":2,"b":3}'),
        (b' {"a" : [ ] , "A":{ } } ', b'{"A":{},"a":[]}'),
        (b'["1234567890123456789.5",":1e5"]', b'["1234567890123456789.5",":1e5"]'),
        (b'{"a":1e2,"b":12345678901234567890}', b'{"a":100,"b":12345678901234567000}'),
    ],
)
def test_numbers_read_as_doubles(raw: bytes, expected: bytes) -> None:
    assert canonicalise(raw) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[NaN]", "byte 1"),
        (b"[1e400]", "the number 1e400 is beyond the range of doubles"),
        (b"[" + b"9" * 400 + b"]", "beyond the range of doubles"),
        (b'"\xff"', "can't decode byte 0xff in position 0"),
        (b'["\\ud800"]', r"a lone surrogate is escaped (byte 2)"),
        (b'["x\\udc00"]', r"a lone surrogate is escaped (byte 3)"),
        (b'["\\ud83d\\ude00\\ud83d","\\ude00"]', r"a lone surrogate is escaped (byte 14)"),
        (b'["\\\\ud800', "truncated"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_names_what_is_wrong_with_a_text(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidJson) as caught:
        canonicalise(raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": "x\ud800"}, "a string holds a lone surrogate at position 2: 'x\\ud800'"),
        ({"\udc00": 1}, "a string holds a lone surrogate at position 1"),
        ({1: 2}, "str keys"),
        ([object()], "objects of type object"),
        ([10**400], "beyond the range of doubles"),
    ],
)
def test_names_what_is_wrong_with_a_value(value: object, message: str) -> None:
    with pytest.raises(InvalidJson) as caught:
        canonical(value)
    assert message in str(caught.value)


def test_a_structure_too_deep_for_the_writer() -> None:
    value: Any = 2**60
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidJson, match="nested too deeply"):
        canonical(value)
    # free it level by level
    while isinstance(value, list):
        value = value.pop()


class Context(msgspec.Struct):
    run_id: str
    attempt: int
    state: msgspec.Raw
    weight: float | None = None


def test_structs_and_raw_parts() -> None:
    context = Context("01", 0, msgspec.Raw(b'{"\xf0\x9f\x98\x80":1.5,"\xef\xac\xb3":null}'))
    assert canonical(context) == (
        b'{"attempt":0,"run_id":"01","state":{"\xf0\x9f\x98\x80":1.5,"\xef\xac\xb3":null},"weight":null}'
    )
    context.weight = math.nan
    with pytest.raises(InvalidJson, match=r"^\$\.weight: "):
        canonical(context)


def by_definition(value: Any) -> str:
    """RFC 8785 said as plainly as can be, for what the json module reads."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return "{" + ",".join(f"{by_definition(k)}:{by_definition(v)}" for k, v in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(by_definition, value)) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format_number(float(value))
    return json.dumps(value, ensure_ascii=False)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", "a", "\ue000", "\uffff", "\U00010000", "\U0010ffff", '"', "\\", ':1.5,"', "[12345678901234567"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5)
)


@given(VALUES)
@example({"\uffff": 1, "\U00010000": 2})
@example(["1.5", "12345678901234567", "😀"])
@example({"😀": [{"\\": -1e-7}]})
def test_agrees_with_the_definition(value: Any) -> None:
    expected = by_definition(value).encode()
    assert canonical(value) == expected
    assert canonicalise(json.dumps(value, indent=1).encode()) == expected
    assert canonicalise(expected) == expected
    assert canonical(msgspec.Raw(expected)) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back(number: float) -> None:
    assert float(format_number(number)) == number
    assert canonical([number]) == b"[%b]" % format_number(number).encode()
