from __future__ import annotations

import hashlib
import uuid
from base64 import b64encode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.model.ids import (
    UlidFactory,
    app_uuid,
    function_uuid,
    hashed_step_id,
    is_ulid,
    seeded,
    ulid,
    ulid_time,
)
from inngest.core.timing.times import DAY

MS = st.integers(0, 2**48 - 1)
ENTROPY = st.binary(min_size=10, max_size=10)


def decode(text: str) -> int:
    """The 128 bits of a ULID, by the definition of Crockford's base32."""
    value = 0
    for char in text:
        value = value * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(char)
    return value


class Clock:
    def __init__(self, *times: int) -> None:
        self.times = list(times)

    def __call__(self) -> int:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def test_known_ulids() -> None:
    # the example of the ULID specification's time part, and the two ends
    assert ulid(1469918176385, bytes(10)) == "01ARYZ6S410000000000000000"
    assert ulid(0, bytes(10)) == "0" * 26
    assert ulid(2**48 - 1, b"\xff" * 10) == "7" + "Z" * 25


@given(MS, ENTROPY)
def test_a_ulid_holds_its_bits(ms: int, entropy: bytes) -> None:
    text = ulid(ms, entropy)
    assert decode(text) == (ms << 80) + int.from_bytes(entropy)
    assert is_ulid(text)
    assert ulid_time(text) == ms


@given(st.tuples(MS, ENTROPY), st.tuples(MS, ENTROPY))
def test_texts_order_as_time_and_entropy(a: tuple[int, bytes], b: tuple[int, bytes]) -> None:
    assert (a < b) == (ulid(*a) < ulid(*b))


@pytest.mark.parametrize(("ms", "entropy"), [(-1, 10), (2**48, 10), (0, 9), (0, 11)])
def test_refuses_what_does_not_fit(ms: int, entropy: int) -> None:
    with pytest.raises(ValueError, match="ULID"):
        ulid(ms, bytes(entropy))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01ARYZ6S4100000000000000",
        "01ARYZ6S4100000000000000000",
        "81ARYZ6S410000000000000000",
        "01ARYZ6S41000000000000000U",
        "01aryz6s410000000000000000",
        "01ARYZ6S41000000000000000\n",
        "01ARYZ6S4100000000000000\u0661",
    ],
)
def test_refuses_what_is_not_a_ulid(text: str) -> None:
    assert not is_ulid(text)
    with pytest.raises(ValueError, match="not a ULID: '"):
        ulid_time(text)


@given(st.lists(st.integers(1_700_000_000_000, 1_700_000_000_003), min_size=1), st.data())
def test_the_factory_only_increases(times: list[int], data: st.DataObject) -> None:
    near_the_end = st.sampled_from([b"\xff" * 10, b"\x00" * 10, b"\x12" * 5 + b"\xff" * 4 + b"\xfe"])
    factory = UlidFactory(
        clock=Clock(*times),
        random_bytes=lambda n: data.draw(near_the_end | st.binary(min_size=n, max_size=n)),
    )
    made = [factory.new() for _ in range(len(times) + 3)]
    assert all(is_ulid(text) for text in made)
    assert all(earlier < later for earlier, later in pairwise(made))


def test_the_factory_counts_up_within_a_millisecond() -> None:
    factory = UlidFactory(clock=Clock(7, 7, 6, 8), random_bytes=lambda n: b"\x01" * n)
    first, second, stepped_back, later = (factory.new() for _ in range(4))
    assert decode(second) == decode(first) + 1
    assert decode(stepped_back) == decode(first) + 2
    assert [ulid_time(x) for x in (first, second, stepped_back, later)] == [7, 7, 7, 8]
    assert later == ulid(8, b"\x01" * 10)


def test_an_exhausted_counter_moves_to_the_next_millisecond() -> None:
    factory = UlidFactory(clock=Clock(7), random_bytes=lambda n: b"\xff" * n)
    assert [ulid_time(factory.new()) for _ in range(3)] == [7, 8, 9]


def test_a_ulid_at_a_time() -> None:
    factory = UlidFactory(clock=Clock(7), random_bytes=lambda n: bytes(range(n)))
    assert factory.at(99) == ulid(99, bytes(range(10)))


SEED = "1743130137367,eii2YKXRVTJPuA=="


def test_seeded_ids_count_up_in_the_last_four_bytes() -> None:
    entropy = bytes.fromhex("7a28b660a5d1") + (0x55324FB8 + 3).to_bytes(4)
    assert seeded(SEED, 3, 1743130137367) == ulid(1743130137367, entropy)


def test_a_seeded_counter_wraps_within_its_four_bytes() -> None:
    header = "5," + b64encode(b"\x01" * 6 + b"\xff" * 4).decode()
    assert seeded(header, 1, 5) == ulid(5, b"\x01" * 6 + bytes(4))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "1743130137367",
        "1743130137367,",
        ",eii2YKXRVTJPuA==",
        "x,eii2YKXRVTJPuA==",
        "-5,eii2YKXRVTJPuA==",
        "1_0,eii2YKXRVTJPuA==",
        "281474976710656,eii2YKXRVTJPuA==",
        "1743130137367,eii2YKXRVTJPuA",
        "1743130137367,eii2YKXRVTJPuAAA",
        "1743130137367,eii2YKXRVTJP!A==",
        "1743130137367,eii2YKXRVTJPuA==,",
        "1743130137367,eii2YKXRVTJPuA==\n",
    ],
)
def test_a_malformed_seed_is_ignored(header: str) -> None:
    assert seeded(header, 1, 1743130137367) is None


@pytest.mark.parametrize(
    ("skew", "taken"), [(0, True), (DAY, True), (-DAY, True), (DAY + 1, False), (-DAY - 1, False)]
)
def test_a_seed_from_far_away_is_ignored(skew: int, taken: bool) -> None:
    """Otherwise a sender chooses where in history its events stand, and when they are forgotten."""
    assert (seeded(SEED, 1, 1743130137367 - skew) is not None) == taken


def test_uuids_are_stable_and_distinct() -> None:
    assert app_uuid("shop") == "c19e4f53-a888-5d2c-a731-a02f5c341320"
    assert function_uuid("shop", "shop-pay") == "c553dae3-16c4-5024-90b0-491dde579312"
    assert uuid.UUID(app_uuid("shop")).version == 5
    assert len({function_uuid(a, s) for a, s in [("a", "b-c"), ("a-b", "c"), ("a", "b"), ("", "a")]}) == 4


def test_hashed_step_ids() -> None:
    assert hashed_step_id("a") == "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"
    assert hashed_step_id("a", 2) == hashlib.sha1(b"a:2").hexdigest()
    assert hashed_step_id("ü") == hashlib.sha1("ü".encode()).hexdigest()
