"""What JSON may come in, and how the rest is refused: with its reason and its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from later_stages import goes_through
from odd_json import garbage, values

from inngest.core.json import border
from inngest.core.json.jcs import InvalidJson
from inngest.core.json.surrogates import whole
from inngest.core.policy import MAX_DEPTH

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused(text: bytes, place: str = "data") -> str:
    with pytest.raises(InvalidJson) as error:
        border.load(text, place)
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        b"null", b"1", b'"x"', b"{}", b' [1.0, {"a":[]}] ', b"9223372036854775808", b"-" + b"9" * 300,
        b"1e308", b"1e-999", b'"\\u0000"', b'{"a":1,"a":2}', b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'{"k":' * (MAX_DEPTH - 1) + b"[" + b"9" * 25 + b"]" + b"}" * (MAX_DEPTH - 1),
    ],
    ids=lambda text: repr(text)[:24],
)  # fmt: skip
def test_what_passes_is_decoded_as_it_is(text: bytes) -> None:
    assert border.load(text, "data") == json.loads(text)
    goes_through(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a":[1,2,3,{"b":1e400}]}', "data.a[3].b: the number 1e400 is beyond the range of doubles"),
        (b'{"a":[-1E+999]}', "data.a[0]: the number -1E+999 is beyond the range of doubles"),
        (b'{"a":%b}' % (b"9" * 309), f"data.a: the number {'9' * 40}… is beyond the range of doubles"),
        (b'{"a":%b}' % (b"9" * 5000), f"data.a: the number {'9' * 40}… is beyond the range of doubles"),
        (b'{"a b":{"":[1e999]}}', 'data["a b"][""][0]: the number 1e999 is beyond the range of doubles'),
        (b'{"a":{"b":"x\xff"}}', "data.a.b: text that is not UTF-8: 'utf-8' codec can't decode byte 0xff in"),
        (b'{"a":{"\xff":1}}', "data.a: text that is not UTF-8"),
        (b'{"a":["\\ud83d"]}', "data: text with half of a surrogate pair"),
        (b'{"a":', "data: not JSON: Input data was truncated"),
        (b"", "data: not JSON"),
        (b"[1,]", "data: not JSON"),
        (b"{}{}", "data: not JSON"),
        (b'{"a":{"b":' + b"[" * 127 + b"]" * 127 + b"}}", "data.a.b[0][0][0]"),
        (b"[" * 900 + b"]" * 900, "nested deeper than 128 levels"),
        (b"[" * 100_000 + b"]" * 100_000, "data: nested deeper than 128 levels"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_does_not_pass_is_refused_with_its_place(text: bytes, said: str) -> None:
    assert said in refused(text)
    assert len(refused(text)) < 300


def test_the_place_of_what_nests_too_deep_is_not_as_long_as_it() -> None:
    said = refused(b'{"long_name":' * 300 + b"1" + b"}" * 300)
    assert said.startswith("data.long_name.long_name")
    assert said.endswith("…: nested deeper than 128 levels")


def test_a_place_may_be_the_whole() -> None:
    assert refused(b'{"a":[1e400]}', "").startswith("a[0]: the number")
    assert refused(b"1e400", "") == "the number 1e400 is beyond the range of doubles"


@pytest.mark.parametrize("depth", [1, 7, 8, 9, 40, MAX_DEPTH])
def test_numbers_are_looked_at_however_deep_they_are(depth: int) -> None:
    opening, closing = b'{"k":' * depth, b"}" * depth
    assert border.load(opening + b"9" * 40 + closing, "data")
    for number in (b"1e400", b"9" * 400):
        assert "beyond the range of doubles" in refused(opening + number + closing)


@given(values | garbage)
@CALM
def test_what_passes_goes_through_everything_later(text: bytes) -> None:
    text = whole(text)
    try:
        border.load(text, "data")
    except InvalidJson:
        return
    goes_through(text)


@given(values | garbage)
@CALM
def test_the_grammar_is_judged_apart(text: bytes) -> None:
    """It tells what is text of another kind from JSON that cannot pass."""
    text = whole(text)
    try:
        json.loads(text.decode("utf-8", "replace"), parse_int=len, parse_float=len)
    except RecursionError:
        return
    except ValueError:
        assert not border.is_json(text)
    else:
        assert border.is_json(text)


@given(st.recursive(st.floats() | st.none() | st.text(), st.lists))
@CALM
def test_nothing_is_written_that_json_cannot_say(value: object) -> None:
    try:
        text = border.dump({"v": value})
    except InvalidJson:
        assert "nan" in repr(value) or "inf" in repr(value)
    else:
        assert border.load(text, "") == {"v": value}
