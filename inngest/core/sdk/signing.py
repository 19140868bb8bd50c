"""Signing keys: the signatures of requests and responses, and the bearer tokens that SDKs make of a key.

A signing key is ``signkey-<env>-<hex>`` or the bare hex (wire protocol sections 1.3 and 1.4). No error shows
a key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

SIGNATURE_TOLERANCE_S = 300

_PREFIX = re.compile(r"signkey-\w+-", re.ASCII).match
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+").fullmatch
_HEADER = re.compile(r"t=([0-9]{1,15})&s=([0-9a-f]{64})").fullmatch
_BEARER = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE).fullmatch


def check_signing_key(key: str) -> None:
    """Raises ValueError, saying why, if ``key`` cannot serve as a signing key."""
    _secret(key)


def normalise_key(key: str) -> str:
    """The key without its ``signkey-<env>-``: the material of signatures, as text."""
    return key[_prefix_length(key) :]


def hashed_key(key: str) -> str:
    """The form of a key that may leave the machine: its prefix and the hex SHA-256 of its bytes.

    Raises ValueError if the key is not hex.
    """
    return key[: _prefix_length(key)] + hashlib.sha256(_secret(key)).hexdigest()


def sign(body: bytes, key: str, now_s: int) -> str:
    """The ``x-inngest-signature`` header of a body, at ``now_s`` in Unix seconds.

    What goes to an SDK is signed in its canonical form (`inngest.core.json.jcs`), what comes from one as it
    is.
    """
    return f"t={now_s}&s={_signature(body, key, str(now_s))}"


def verify(
    body: bytes,
    header: str | None,
    keys: Sequence[str],
    now_s: int,
    tolerance_s: int = SIGNATURE_TOLERANCE_S,
) -> bool:
    """Whether ``header`` signs ``body`` by one of ``keys``, no further than the tolerance from ``now_s``.

    The Go SDK signs a response without the newline that it ends in, so that is tried too.
    """
    match = _HEADER(header or "")
    if match is None or abs(now_s - int(match[1])) > tolerance_s:
        return False
    bodies = (body, body[:-1]) if body.endswith(b"\n") else (body,)
    verified = False
    for key in keys:
        for signed in bodies:
            verified |= hmac.compare_digest(_signature(signed, key, match[1]), match[2])
    return verified


def bearer_matches(authorization_header: str | None, keys: Sequence[str]) -> bool:
    """Whether an ``Authorization`` header carries one of ``keys``, raw or hashed, with or without its prefix.

    Without keys everything is let in. The time taken tells nothing about how much of a token was right.
    Raises ValueError if one of ``keys`` is not hex.
    """
    return not keys or bearer_key(authorization_header, keys) is not None


def bearer_key(authorization_header: str | None, keys: Sequence[str]) -> str | None:
    """Which one of ``keys`` an ``Authorization`` header carries, if any; as of `bearer_matches`."""
    match = _BEARER(authorization_header or "")
    if match is None:
        return None
    token = normalise_key(match[1])
    found = None
    for key in keys:
        for accepted in (normalise_key(key), normalise_key(hashed_key(key))):
            if hmac.compare_digest(token, accepted):
                found = key
    return found


def _signature(body: bytes, key: str, timestamp: str) -> str:
    digest = hmac.new(normalise_key(key).encode(), body, hashlib.sha256)
    digest.update(timestamp.encode())
    return digest.hexdigest()


def _prefix_length(key: str) -> int:
    match = _PREFIX(key)
    return match.end() if match else 0


def _secret(key: str) -> bytes:
    """The bytes that the hex of a key stands for."""
    material = normalise_key(key)
    if not material:
        raise ValueError("the signing key is empty")
    if not _HEX(material):
        stray = re.search(r"[^0-9a-fA-F]", material)
        if stray:
            at = _prefix_length(key) + stray.start() + 1
            raise ValueError(f"the signing key is not hexadecimal: see its character {at}")
        raise ValueError(f"the signing key has an odd number of hexadecimal digits: {len(material)}")
    return bytes.fromhex(material)
