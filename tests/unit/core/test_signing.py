from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.sdk.signing import (
    bearer_matches,
    check_signing_key,
    hashed_key,
    normalise_key,
    sign,
    verify,
)

RAW = "0123456789abcdef0123456789abcdef"
HASH = hashlib.sha256(bytes.fromhex(RAW)).hexdigest()
KEY = f"signkey-test-{RAW}"
OTHER = "signkey-prod-beef"
NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("key", "material"),
    [
        (KEY, RAW),
        (RAW, RAW),
        ("signkey-prod-12", "12"),
        ("signkey-branch-ab", "ab"),
        ("signkey-my_env2-ab", "ab"),
        ("signkey-ab", "signkey-ab"),
        ("xsignkey-test-ab", "xsignkey-test-ab"),
        ("signkey-test-signkey-test-ab", "signkey-test-ab"),
    ],
)
def test_the_material_of_a_key(key: str, material: str) -> None:
    assert normalise_key(key) == material


def test_a_signature_is_made_over_body_and_time() -> None:
    body = '{"ü":1}'.encode()
    expected = hmac.new(RAW.encode(), body + b"1700000000", hashlib.sha256).hexdigest()
    assert sign(body, KEY, NOW) == f"t=1700000000&s={expected}"
    assert sign(body, RAW, NOW) == sign(body, KEY, NOW)


def test_a_signature_known_from_elsewhere() -> None:
    # printf '%s' '{}1700000000' | openssl dgst -sha256 -hmac beef
    assert (
        sign(b"{}", OTHER, NOW)
        == "t=1700000000&s=46fd8045ae3b3a0372ab990d683a5fe089b752b0259e01dc716edd7b517cd59b"
    )


@given(st.binary(max_size=50), st.sampled_from([KEY, OTHER]), st.integers(0, 2**40))
def test_verifies_what_was_signed(body: bytes, key: str, now: int) -> None:
    header = sign(body, key, now)
    assert verify(body, header, [KEY, OTHER], now)
    assert verify(body + b"\n", header, [OTHER, KEY], now)
    assert not verify(body + b"x", header, [KEY, OTHER], now)
    assert not verify(body, header, [KEY if key == OTHER else OTHER], now)
    assert not verify(body, header, [], now)


@pytest.mark.parametrize(
    ("skew", "accepted"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)]
)
def test_a_signature_ages(skew: int, accepted: bool) -> None:
    assert verify(b"{}", sign(b"{}", KEY, NOW), [KEY], NOW + skew) is accepted


def test_the_tolerance_is_the_callers() -> None:
    header = sign(b"{}", KEY, NOW)
    assert verify(b"{}", header, [KEY], NOW + 10, tolerance_s=10)
    assert not verify(b"{}", header, [KEY], NOW + 11, tolerance_s=10)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: None,
        lambda header: "",
        lambda header: "t=&s=",
        lambda header: header[:-1],
        lambda header: header + "0",
        lambda header: header.replace("t=", "t= "),
        lambda header: header.replace("t=", "t=+"),
        lambda header: header.replace("&s=", "&v=1&s="),
        lambda header: header.replace("1700000000", "1700000001"),
        lambda header: header + "\n",
        lambda header: header[:-1] + "é",
        lambda header: "t=" + "9" * 5_000 + header[12:],
    ],
)
def test_a_changed_header_is_refused(change: object) -> None:
    assert callable(change)
    assert not verify(b"{}", change(sign(b"{}", KEY, NOW)), [KEY], NOW)


def test_the_hashed_key_keeps_its_prefix() -> None:
    assert hashed_key(KEY) == f"signkey-test-{HASH}"
    assert hashed_key(RAW) == HASH
    # observed of the TypeScript SDK
    assert hashed_key(KEY).startswith("signkey-test-223e0a16")


@pytest.mark.parametrize("key", [KEY, RAW])
@pytest.mark.parametrize(
    "token", [RAW, KEY, f"signkey-other-{RAW}", HASH, f"signkey-test-{HASH}", f"signkey-prod-{HASH}"]
)
def test_every_form_of_a_key_is_let_in(token: str, key: str) -> None:
    assert bearer_matches(f"Bearer {token}", [key])
    assert bearer_matches(f"bearer  {token} ", [OTHER, key])
    assert not bearer_matches(f"Bearer {token}", [OTHER])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer undefined",
        "Bearer signkey-test-",
        RAW,
        f"Basic {RAW}",
        f"Bearer {RAW}0",
        f"Bearer {RAW[:-1]}",
        f"Bearer {RAW} {RAW}",
        f"Bearer {RAW}é",
        "Bearer é",
        "Bearer " + hashlib.sha256(RAW.encode()).hexdigest(),
    ],
)
def test_nothing_else_is_let_in_where_there_is_a_key(header: str | None) -> None:
    assert not bearer_matches(header, [KEY])
    assert bearer_matches(header, [])


@pytest.mark.parametrize("key", ["ab", "AB12", KEY, OTHER, "signkey-test-00"])
def test_good_keys(key: str) -> None:
    check_signing_key(key)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "the signing key is empty"),
        ("signkey-test-", "the signing key is empty"),
        ("abc", "an odd number of hexadecimal digits: 3"),
        ("signkey-test-abc", "an odd number of hexadecimal digits: 3"),
        ("signkey-test-abxy", "not hexadecimal: see its character 16"),
        ("my secret", "not hexadecimal: see its character 1"),
        ("ab\n", "not hexadecimal: see its character 3"),
        ("ab cd", "not hexadecimal: see its character 3"),
    ],
)
def test_bad_keys_are_named_but_not_shown(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_signing_key(key)
    assert len(key) < 4 or key not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        hashed_key(key)
    with pytest.raises(ValueError, match=message):
        bearer_matches("Bearer x", [key])
