"""Halves of surrogate pairs are replaced, and nothing else is touched."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.json.surrogates import whole


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00x"', rb'"\ufffdx"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"'),
        (rb'"\ud83d\n"', rb'"\ufffd\n"'),
        (rb'{"\uD83D":"\uD83D\uDE00"}', rb'{"\ufffd":"\uD83D\uDE00"}'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\u00e9 \\ \" \ue000"', rb'"\u00e9 \\ \" \ue000"'),
        (b'"\\ud8', b'"\\ud8'),
    ],
)
def test_halves(text: bytes, repaired: bytes) -> None:
    assert whole(text) == repaired
    assert whole(repaired) == repaired


@given(st.text(alphabet=st.characters() | st.characters(categories=["Cs"]) | st.sampled_from('\\"ud8')))
def test_what_is_repaired_can_be_read(text: str) -> None:
    written = json.dumps(text).encode()
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert whole(written) == written
        assert msgspec.json.decode(whole(written)) == expected
    else:
        assert "�" in msgspec.json.decode(whole(written))
