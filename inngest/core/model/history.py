"""What happened, for people: the records from which run lists, traces and outputs are read back.

They are written in the same commit as what they tell of, leave through an outbox, and never decide anything.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct


class What(StrEnum):
    # info: app, slug, events (ids), cron, batch, original; value: payloads when no stored event
    # has them
    SCHEDULED = "run.scheduled"
    SKIPPED = "run.skipped"  # info: as scheduled, and reason, existing
    STARTED = "run.started"
    ENDED = "run.ended"  # status, value: output or error; info: reason
    ATTEMPT = "step.attempt"  # one call: step "" for the function's own code; info: type, input, status
    WAITING = "step.waiting"  # a sleep, wait, invoke or signal began; info says for what, until when
    RESUMED = "step.resumed"  # it is over; info.timed_out, info.event, info.run


class Outcome(StrEnum):
    OK = "ok"
    RETRY = "retry"  # failed, and will be tried again
    FAILED = "failed"


class History(Struct, omit_defaults=True, gc=False):
    """One thing that happened to a run. Times in ms; ``value`` is JSON text.

    ``info`` holds texts, integers of 64 bits and lists of these, which every encoding takes; what an SDK may
    fill with any JSON is text of it, as ``input``.

    ``id`` is a ULID that the decision gives: by it alone an entry that is delivered again is known.
    """

    id: str
    what: What
    run: str
    fn: str  # function UUID
    at: int
    step: str = ""  # hashed id
    name: str = ""
    op: str = ""
    attempt: int = 0
    outcome: str = ""  # Outcome of an attempt, RunStatus of an end
    queued: int = 0
    started: int = 0
    value: bytes | None = None
    info: dict[str, Any] | None = None


_DOUBLE = 1023
"""Bits of an integer that is a double for certain."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(History).decode
_decode_fields = msgspec.msgpack.Decoder(dict[str, Any]).decode


def encode_history(entry: History) -> bytes:
    """The form in which an entry is kept: msgpack. Integers in ``info`` that are beyond its 64 bits become
    doubles, or text where those end too.

    Raises:
        OverflowError: another number is beyond 64 bits.
        UnicodeEncodeError: a text has half a surrogate pair.
        RecursionError: ``info`` is nested too deeply.

    """
    try:
        return _encode(entry)
    except OverflowError:
        if entry.info is None:
            raise
        return _encode(msgspec.structs.replace(entry, info=_within_64_bits(entry.info)))


def _within_64_bits(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _within_64_bits(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_within_64_bits(inner) for inner in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return float(value) if value.bit_length() <= _DOUBLE else str(value)
    return value


def decode_history(raw: bytes) -> History:
    """The inverse of `encode_history`. An entry of a time when they had no identity gets that of its bytes.

    Raises ``msgspec.DecodeError``.
    """
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        fields = _decode_fields(raw)
        if "id" in fields:
            raise
        return msgspec.convert({**fields, "id": legacy_id(raw)}, History)


def legacy_id(raw: bytes) -> str:
    """The identity of an entry without one: 32 hex digits, the same for the same bytes."""
    return blake2b(raw, digest_size=16).hexdigest()
