"""Events: what is accepted from outside, and the form that functions see (wire protocol section 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Raw, Struct

from inngest.core.errors import InvalidEvent
from inngest.core.json import border
from inngest.core.json.jcs import InvalidJson
from inngest.core.json.surrogates import whole
from inngest.core.policy import (
    MAX_EVENTS,
    MAX_ID,
    MAX_NAME,
    MAX_SESSION_ID,
    MAX_SESSION_KEY,
    MAX_SESSIONS,
)

TS_MIN = 315_532_800_000  # 1980-01-01
TS_MAX = 4_102_444_800_000  # 2100-01-01
RESERVED = "inngest/"

INVOKED = "inngest/function.invoked"
FINISHED = "inngest/function.finished"
FAILED = "inngest/function.failed"
CANCELLED = "inngest/function.cancelled"
SCHEDULED = "inngest/scheduled.timer"

_EMPTY = Raw(b"{}")


class Event(Struct, dict=True, omit_defaults=True):
    """An accepted event. ``id`` is the internal ULID; ``external_id`` the sender's own, for deduplication, if
    there was one.
    """

    id: str
    name: str
    ts: int
    received: int
    data: Raw = _EMPTY
    external_id: str = ""
    v: str | None = None
    user: Raw = _EMPTY
    sessions: dict[str, str] | None = None

    @cached_property
    def key(self) -> str:
        """What makes the event one and the same for a function (section 2.3)."""
        return self.external_id or self.id

    @cached_property
    def payload(self) -> bytes:
        """The event as functions see it: JSON, keys sorted, ``user`` always an object, ``ts`` an integer."""
        parts = [b'{"data":', bytes(self.data), b',"id":', _encode(self.key)]
        if self.sessions:
            parts += [b',"meta":', _encode({"sessions": self.sessions})]
        parts += [b',"name":', _encode(self.name), b',"ts":', b"%d" % self.ts, b',"user":', bytes(self.user)]
        if self.v is not None:
            parts += [b',"v":', _encode(self.v)]
        parts.append(b"}")
        return b"".join(parts)

    @cached_property
    def value(self) -> dict[str, Any]:
        """The payload decoded, for expressions."""
        value: dict[str, Any] = msgspec.json.decode(self.payload)
        return value

    @cached_property
    def meta(self) -> Mapping[str, Any]:
        """``data._inngest`` of an internal event, else empty. Nobody outside can set it: it is removed on the
        way in.
        """
        if not self.name.startswith(RESERVED):
            return {}
        inner = self.value["data"].get("_inngest")
        return inner if isinstance(inner, dict) else {}

    def encode(self) -> bytes:
        """The form that travels on the event stream."""
        return _encode(self)


def decode_event(raw: bytes | memoryview) -> Event:
    """The inverse of ``Event.encode``. Raises ``msgspec.DecodeError``, whatever the bytes are."""
    try:
        return _decode_event(raw)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


class _Inbound(Struct, gc=False):
    name: str | None = None
    data: Raw = Raw()
    id: str | None = None
    ts: int | float | None = None
    v: str | None = None
    user: Raw = Raw()
    meta: Raw = Raw()


_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(Event).decode
_decode_one = msgspec.json.Decoder(_Inbound).decode
_decode_all = msgspec.json.Decoder(list[_Inbound]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


class Inbound(Struct, gc=False):
    """One element of a request: either acceptable, or the reason why it is not."""

    raw: _Inbound | None
    error: str = ""


def parse_body(body: bytes) -> list[Inbound]:
    """The events of a request body, in order, each decoded or with its error. Of lines of JSON none is taken,
    since all but the first would be lost (section 2.1).

    Raises:
        InvalidEvent: the body as a whole is not JSON, neither an object nor an array, or has too many events.

    """
    text = whole(body.lstrip(b" \t\r\n"))
    first = text[:1]
    if first == b"{":
        return [_parse_one(text)]
    if first != b"[":
        raise InvalidEvent("Request body must contain an event object or an array of event objects")
    try:
        items = [Inbound(raw) for raw in _decode_all(text)]
    except border.UNREADABLE:
        try:
            raws = _decode_list(text)
        except border.UNREADABLE as error:
            raise InvalidEvent(f"Request body is not valid JSON: {border.reason(error)}") from None
        _check_count(raws)
        return [_parse_one(bytes(raw)) for raw in raws]
    _check_count(items)
    return items


def _check_count(items: Sequence[object]) -> None:
    if len(items) > MAX_EVENTS:
        raise InvalidEvent(f"Cannot have more than {MAX_EVENTS} events in a batch")


def _parse_one(raw: bytes) -> Inbound:
    try:
        return Inbound(_decode_one(raw))
    except msgspec.ValidationError as error:
        return Inbound(None, f"Event is not valid: {error}")
    except border.UNREADABLE as error:
        return Inbound(None, f"Event is not valid JSON: {border.reason(error)}")


def accept(inbound: Inbound, internal_id: str, now: int, max_size: int, *, internal: bool = False) -> Event:
    """Check one decoded event and give it its identity.

    Args:
        inbound: an element of ``parse_body``.
        internal_id: its ULID.
        now: receive time.
        max_size: bytes of ``data`` and ``user`` allowed.
        internal: allow reserved names and keep ``data._inngest`` (events that this server makes itself).

    Raises:
        InvalidEvent: with the sentence that the sender gets.

    """
    raw = inbound.raw
    if raw is None:
        raise InvalidEvent(inbound.error)
    name = raw.name
    if not name:
        raise InvalidEvent("event name is empty")
    if problem := name_problem(name):
        raise InvalidEvent(f"event name {problem}")
    if not internal and name[:8].lower() == RESERVED:
        raise InvalidEvent(f"event name is reserved for internal use: {name}")
    data, user = bytes(raw.data), bytes(raw.user)
    size = len(data) + len(user)
    if size > max_size:
        raise InvalidEvent(f"Event is over the max size: {size} bytes of data, {max_size} allowed")
    data = _object(data, "data")
    if not internal and (b'"_inngest"' in data or b"\\u" in data):  # any letter of a key may be escaped
        data = _without_internal(data)
    return Event(
        id=internal_id,
        name=name,
        ts=_timestamp(raw.ts, now),
        received=now,
        data=Raw(data),
        external_id=_short(raw.id, "id") or "",
        v=_short(raw.v, "v"),
        user=Raw(_object(user, "user")),
        sessions=merged_sessions(raw.meta) if raw.meta else None,
    )


_control = re.compile("[\x00-\x1f\x7f]").search


def name_problem(name: str) -> str:
    """What keeps a text from being an event's name; empty if nothing does. A name with control characters
    would reach what is stored under names of our own (see ``runs.signal_name``).
    """
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters: {name[:64]}…"
    if not name.isprintable() and _control(name):
        return f"holds a control character: {name[:64]!r}"
    return ""


def _short(text: str | None, field: str) -> str | None:
    if text is not None and len(text) > MAX_ID:
        raise InvalidEvent(f"event {field} is longer than {MAX_ID} characters: {text[:64]}…")
    return text


def _object(text: bytes, key: str) -> bytes:
    if text[:1] == b"{":
        try:
            border.load(text, key)
        except InvalidJson as error:
            raise InvalidEvent(f"event {key} is not valid: {error}") from None
        return text
    if not text or text == b"null":
        return b"{}"
    raise InvalidEvent(f"event {key} must be an object")


def _without_internal(data: bytes) -> bytes:
    # Decoded key by key: the values keep their bytes.
    fields = msgspec.json.decode(data, type=dict[str, Raw])
    if "_inngest" not in fields:
        return data
    del fields["_inngest"]
    return _encode(fields)


def _timestamp(ts: float | None, now: int) -> int:
    if ts is None or ts == 0:
        return now
    if not TS_MIN <= ts <= TS_MAX:
        shown = str(ts)[:40]
        raise InvalidEvent(f"event ts must be between 1980-01-01 and 2100-01-01, in milliseconds: {shown}")
    if int(ts) != ts:
        raise InvalidEvent(f"event ts must be an integer of milliseconds: {ts}")
    return int(ts)


class _Meta(Struct):
    sessions: dict[str, str | int | float | None] | msgspec.UnsetType | None = msgspec.UNSET
    propagated_sessions: dict[str, str | int | float | None] | None = None


_decode_meta = msgspec.json.Decoder(_Meta | None).decode


def merged_sessions(raw: Raw) -> dict[str, str] | None:
    """The sessions of an event's ``meta``: its own override, or cut, those it inherits (section 2.2).

    Raises InvalidEvent.
    """
    try:
        meta = _decode_meta(raw)
    except border.UNREADABLE as error:
        raise InvalidEvent(f"event meta is not valid: {border.reason(error)}") from None
    if meta is None or meta.sessions is None:
        return None
    own = {} if meta.sessions is msgspec.UNSET else meta.sessions
    merged = {**(meta.propagated_sessions or {}), **own}
    sessions = {key: _session_id(value) for key, value in merged.items() if value is not None}
    if len(sessions) > MAX_SESSIONS:
        raise InvalidEvent(f"event has more than {MAX_SESSIONS} sessions")
    for key, value in sessions.items():
        if len(key.encode()) > MAX_SESSION_KEY:
            raise InvalidEvent(f"session key is longer than {MAX_SESSION_KEY} bytes: {key[:64]}…")
        if len(value.encode()) > MAX_SESSION_ID:
            raise InvalidEvent(f"session id is longer than {MAX_SESSION_ID} bytes: {value[:64]}…")
    return sessions or None


def _session_id(value: str | float) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def internal_event(
    internal_id: str, name: str, now: int, data: Mapping[str, Any] | bytes, **extra: Any
) -> Event:
    """An event that this server makes itself. ``data`` may be given as JSON text."""
    raw = data if isinstance(data, bytes) else _encode(data)
    return Event(id=internal_id, name=name, ts=now, received=now, data=Raw(raw), **extra)
