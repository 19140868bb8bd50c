"""Identifiers: ULIDs, the deterministic UUIDs of apps and functions, and hashed step ids.

A ULID is 48 bits of Unix milliseconds and 80 random bits, written as 26 characters of Crockford's base32,
so that the order of the texts is the order of time.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from collections.abc import Callable
from itertools import product
from uuid import UUID, uuid5

from inngest.core.policy import MAX_SEED_SKEW

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(a + b for a, b in product(_ALPHABET, repeat=2))  # ten bits each
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}

_MAX_MS = (1 << 48) - 1
_HALF = 40  # the random part is kept as two halves of 40 bits, eight characters each
_HALF_END = 1 << _HALF

_CANONICAL = re.compile(f"[0-7][{_ALPHABET}]{{25}}").fullmatch
_SEED = re.compile(r"([0-9]{1,15}),([A-Za-z0-9+/]{14}==)").fullmatch

_NAMESPACE = UUID("a24bec29-ec2e-457e-b4ed-4aea0bdd026b")


def ulid(ms: int, entropy: bytes) -> str:
    """The ULID of Unix milliseconds ``ms`` and 10 bytes of ``entropy``; ValueError outside those bounds."""
    if len(entropy) != 10:
        raise ValueError(f"a ULID takes 10 bytes of entropy, not {len(entropy)}")
    return _time_part(ms) + _half(int.from_bytes(entropy[:5])) + _half(int.from_bytes(entropy[5:]))


def ulid_time(text: str) -> int:
    """The Unix milliseconds of a ULID; ValueError if ``text`` is not one in canonical, upper-case form."""
    if not _CANONICAL(text):
        raise ValueError(f"not a ULID: {text[:64]!r}")
    ms = 0
    for char in text[:10]:
        ms = ms << 5 | _VALUES[char]
    return ms


def is_ulid(text: str) -> bool:
    """Whether ``text`` is a ULID in canonical, upper-case form."""
    return _CANONICAL(text) is not None


class UlidFactory:
    """Makes ULIDs that only ever increase, also when the clock stands still or steps back.

    ``clock`` answers Unix milliseconds, ``random_bytes`` that many random bytes. One factory a thread.
    """

    __slots__ = ("_clock", "_low", "_ms", "_prefix", "_random_bytes")

    def __init__(self, *, clock: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._ms = -1
        self._prefix = ""
        self._low = _HALF_END

    def new(self) -> str:
        """A ULID of now, greater than every earlier one of this factory."""
        ms = self._clock()
        low = self._low + 1
        if ms > self._ms or low >= _HALF_END:
            low = self._draw(ms if ms > self._ms else self._ms + 1)
        self._low = low
        # _half(low), spelled out: this is the hottest line of the package
        return (
            self._prefix
            + _PAIRS[low >> 30]
            + _PAIRS[low >> 20 & 1023]
            + _PAIRS[low >> 10 & 1023]
            + _PAIRS[low & 1023]
        )

    def at(self, ms: int) -> str:
        """A ULID of the given Unix milliseconds with fresh randomness, in no order to its siblings."""
        return ulid(ms, self._random_bytes(10))

    def _draw(self, ms: int) -> int:
        """Start a millisecond: fixes the prefix and returns the low half to count up from."""
        prefix = _time_part(ms)
        entropy = int.from_bytes(self._random_bytes(10))
        self._prefix = prefix + _half(entropy >> _HALF)
        self._ms = ms
        return entropy & _HALF_END - 1


def seeded(seed_header: str, index: int, now: int) -> str | None:
    """The ULID of the ``index``-th event (from 1) of a request with an ``x-inngest-event-id-seed`` header.

    The header is ``"<millis>,<base64 of 10 bytes>"``; the last four bytes count up by ``index``, so that a
    repeated request yields the same ids (wire protocol section 2.4). None if the header is malformed, or its
    time is more than `MAX_SEED_SKEW` from ``now`` (ms): histories are in the order of ids.
    """
    match = _SEED(seed_header)
    if match is None or abs((ms := int(match[1])) - now) > MAX_SEED_SKEW or ms > _MAX_MS:
        return None
    entropy = b64decode(match[2])  # the pattern admits only what decodes to ten bytes
    counter = (int.from_bytes(entropy[6:]) + index) & 0xFFFFFFFF
    return ulid(ms, entropy[:6] + counter.to_bytes(4))


def app_uuid(name: str) -> str:
    """The UUID of the app of that name: the same on every server, for ever."""
    return str(uuid5(_NAMESPACE, name))


def function_uuid(app_name: str, slug: str) -> str:
    """The UUID of a function, stable over syncs: its identity is the app and the slug."""
    return str(uuid5(uuid5(_NAMESPACE, app_name), slug))


def hashed_step_id(step_id: str, index: int = 0) -> str:
    """The wire id of the ``index``-th use (from 0) of a step id in a run (wire protocol section 3.5)."""
    text = f"{step_id}:{index}" if index else step_id
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _time_part(ms: int) -> str:
    if not 0 <= ms <= _MAX_MS:
        raise ValueError(f"a ULID cannot hold the time {ms} ms: it takes 0 to 2**48-1")
    return _PAIRS[ms >> 40] + _half(ms & _HALF_END - 1)


def _half(bits: int) -> str:
    """40 bits as eight characters."""
    return _PAIRS[bits >> 30] + _PAIRS[bits >> 20 & 1023] + _PAIRS[bits >> 10 & 1023] + _PAIRS[bits & 1023]
