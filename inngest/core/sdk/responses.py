"""What an application answered: the reading of an HTTP response as SDKs make it (wire protocol sections 3.2,
3.3 and 3.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from inngest.core.json import border
from inngest.core.json.jcs import InvalidJson
from inngest.core.json.surrogates import whole
from inngest.core.model.events import name_problem
from inngest.core.policy import BUSY_RETRY, MAX_OPS, MAX_SIGNAL, MAX_STEP_ID
from inngest.core.sdk.options import check_headers, check_payload, check_texts
from inngest.core.timing.durations import parse_http_retry_after

NO_RETRY = "x-inngest-no-retry"
REQUEST_VERSION = "x-inngest-req-version"
SDK = "x-inngest-sdk"
_EXCERPT = 8192


class Op(StrEnum):
    NONE = "none"
    STEP = "step"
    RUN = "steprun"
    ERROR = "steperror"
    FAILED = "stepfailed"
    PLANNED = "stepplanned"
    SLEEP = "sleep"
    WAIT = "waitforevent"
    INVOKE = "invokefunction"
    SIGNAL = "waitforsignal"
    AI_GATEWAY = "aigateway"
    GATEWAY = "gateway"
    COMPLETE = "runcomplete"
    SYNC_COMPLETE = "syncruncomplete"
    DISCOVERY = "discoveryrequest"
    DEFER_ADD = "deferadd"
    DEFER_ABORT = "deferabort"


FUNCTION = "0737c22d3bfae812339732d14d8c7dbd6dc4e09c"
"""sha1("complete"), the id of ops that tell of the function itself."""

LAZY = frozenset({Op.DEFER_ADD, Op.DEFER_ABORT})
"""Ops that travel with others and move nothing on their own."""

ASYNC = frozenset({Op.PLANNED, Op.SLEEP, Op.WAIT, Op.INVOKE, Op.SIGNAL, Op.GATEWAY, Op.AI_GATEWAY})
"""Ops whose result comes later; several of them in one answer are awaited together."""

_OPS = {op.value: op for op in Op}


class Step(Struct, gc=False):
    """One reported op. ``data`` and ``error`` are the JSON text as it was sent, empty if absent. Like
    ``opts`` they have passed the border.
    """

    id: str
    op: Op
    label: str
    name: str
    opts: dict[str, Any]
    data: bytes
    error: bytes
    started: int = 0  # ms, as the SDK measured it
    duration: int = 0  # ms


class Reported(Struct, gc=False):
    """206: steps. ``retry_at`` is 0 if the SDK named no time."""

    steps: list[Step]
    request_version: int | None = None
    no_retry: bool = False
    retry_at: int = 0


class Returned(Struct, gc=False):
    """200: the function ended with ``output``."""

    output: bytes
    request_version: int | None = None


class Failure(Struct, gc=False):
    """The call, or the function's own code, failed. ``error`` is a normalised error object as JSON text,
    ``output`` what the SDK has sent, empty if it has sent nothing that can be shown.
    """

    error: bytes
    output: bytes = b""
    no_retry: bool = False
    retry_at: int = 0
    status: int = 0


class Busy(Struct, gc=False):
    """Nobody was free to be called, and nobody was: that is no attempt. The same call is to be made again in
    about ``retry_in`` ms.
    """

    retry_in: int = BUSY_RETRY


Answer: TypeAlias = Reported | Returned | Failure | Busy


def has_failed(answer: Answer) -> bool:
    """Whether the call was made, and may have to be tried again."""
    if isinstance(answer, Reported):
        return any(step.op is Op.ERROR for step in answer.steps)
    return isinstance(answer, Failure)


_Nanoseconds = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class _Timing(Struct):
    a: _Nanoseconds = 0
    b: _Nanoseconds = 0


class _WireOp(Struct, gc=False):
    id: str = ""
    op: str = ""
    name: str | None = None
    displayName: str | None = None  # noqa: N815 (as on the wire)
    opts: Raw = Raw()
    data: Raw = Raw()
    error: Raw = Raw()
    timing: Raw = Raw()


class _Stream(Struct):
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    headers: dict[str, Any] | None = None
    body: Raw = Raw()
    error: str | None = None
    noRetry: bool | None = None  # noqa: N815 (as on the wire)
    retryAt: str | None = None  # noqa: N815 (as on the wire)


_decode_op = Decoder(_WireOp).decode
_decode_ops = Decoder(list[_WireOp]).decode
_decode_stream = Decoder(_Stream).decode
_decode_text = Decoder(str).decode
_decode_timing = Decoder(_Timing | None).decode
_encode = msgspec.json.Encoder().encode


def read(status: int, headers: Mapping[str, str], body: bytes, now: int) -> Answer:
    """Understand a response.

    Args:
        headers: by lower-case name.
        now: for relative Retry-After values.

    """
    if status == 201:
        return _read_stream(headers, body, now)
    return _read(status, headers, body, now)


def _read_stream(headers: Mapping[str, str], body: bytes, now: int) -> Answer:
    try:
        inner = _decode_stream(whole(body.strip()))
        raw = bytes(inner.body)
        if raw[:1] == b'"':
            raw = _decode_text(raw).encode()
    except border.UNREADABLE as error:
        return failure(
            "The streamed response ended before its JSON was complete",
            status=201,
            detail=border.reason(error),
        )
    if inner.error:
        return failure(inner.error, status=201)
    if inner.status is None:
        return failure("The streamed response has no status", status=201)
    named = (inner.headers or {}).items()
    merged = {**headers, **{name.lower(): str(value) for name, value in named if _is_scalar(value)}}
    if inner.noRetry:
        merged[NO_RETRY] = "true"
    if inner.retryAt:
        merged["retry-after"] = inner.retryAt
    return _read(inner.status, merged, raw, now)


def _is_scalar(value: Any) -> bool:
    return value is not None and not isinstance(value, dict | list)


def _read(status: int, headers: Mapping[str, str], body: bytes, now: int) -> Answer:
    after = headers.get("retry-after")
    retry_at = (parse_http_retry_after(after, now) or 0) if after else 0
    if SDK not in headers:
        return _not_sdk(status, body, retry_at)
    body = whole(body)
    no_retry = headers.get(NO_RETRY, "").lower() == "true"
    version = _version(headers.get(REQUEST_VERSION))
    if status == 206:
        return _reported(body, version, no_retry, retry_at)
    if 200 <= status < 300:
        try:
            return Returned(output=_json_text(body, "output"), request_version=version)
        except InvalidJson as error:
            return _refused("The function returned what cannot be taken", error, body, status, no_retry)
    output = b""
    try:
        output = _json_text(body, "error", around=border.ENVELOPE)
        problem = error_object(output, status)
        output = output if body.strip() else b""
    except InvalidJson as error:
        problem = _refused("The function failed with what cannot be shown", error, body).error
    return Failure(error=problem, output=output, no_retry=no_retry, retry_at=retry_at, status=status)


def _refused(message: str, error: Exception, body: bytes, status: int = 0, no_retry: bool = False) -> Failure:
    excerpt = body[:_EXCERPT].decode("utf-8", "replace")
    return failure(f"{message}: {error}", status=status, no_retry=no_retry, detail=excerpt)


_MAX_VERSION = 1 << 31


def _version(text: str | None) -> int | None:
    try:
        version = int(text) if text is not None else None
    except ValueError:
        return None
    return version if version is not None and abs(version) < _MAX_VERSION else None


def _reported(body: bytes, version: int | None, no_retry: bool, retry_at: int) -> Answer:
    text = body.strip()
    if not text:
        return failure("The SDK answered 206 without a body", status=206)
    try:
        wire = _decode_ops(text) if text[:1] == b"[" else [_decode_op(text)]
    except border.UNREADABLE as error:
        message = "The SDK answered 206 with a body that is not a list of steps"
        return failure(f"{message}: {border.reason(error)}", status=206)
    if len(wire) > MAX_OPS:
        return failure(
            f"The SDK reported {len(wire)} steps at once; {MAX_OPS} are allowed", status=206, no_retry=True
        )
    try:
        steps = [_step(op, place) for place, op in enumerate(wire)]
    except ValueError as error:
        return failure(f"The SDK reported what cannot be taken: {error}", status=206, no_retry=no_retry)
    return Reported(steps=steps, request_version=version, no_retry=no_retry, retry_at=retry_at)


def read_steps(raw: bytes) -> list[Step]:
    """The ops of a checkpoint (section 5.7). Raises ValueError naming the bad one."""
    try:
        return [_step(op, place) for place, op in enumerate(_decode_ops(raw))]
    except border.UNREADABLE as error:
        raise ValueError(border.reason(error)) from None


def _step(wire: _WireOp, index: int) -> Step:
    """Raises ValueError, which names what cannot be taken, and its place."""
    op = _OPS.get(wire.op.lower())
    if op is None:
        raise ValueError(f"unknown op {wire.op[:64]!r} at index {index}")
    if not wire.id and op is not Op.NONE:
        raise ValueError(f"op {wire.op} at index {index} has no id")
    place = f"steps[{index}]"
    if len(wire.id) > MAX_STEP_ID or not (wire.id.isascii() and wire.id.isprintable()):
        raise InvalidJson(f"{place}.id: must be at most {MAX_STEP_ID} characters of printable ASCII")
    timing = _timing(wire.timing)
    name = wire.name or ""
    return Step(
        id=wire.id,
        op=op,
        label=wire.displayName or name or wire.id,
        name=name,
        opts=_options(wire, op, name, place),
        data=_passed(wire.data, f"{place}.data"),
        error=_passed(wire.error, f"{place}.error", around=border.ENVELOPE),
        started=timing.a // 1_000_000,
        duration=timing.b // 1_000_000,
    )


_TEXTS = {
    Op.SLEEP: ("duration",),
    Op.WAIT: ("event", "if", "timeout"),
    Op.INVOKE: ("function_id", "timeout"),
    Op.SIGNAL: ("signal", "timeout", "conflict"),
    Op.GATEWAY: ("url", "method"),
    Op.AI_GATEWAY: ("url", "auth_key", "format"),
}
"""Options that are texts."""


def _options(wire: _WireOp, op: Op, name: str, step: str) -> dict[str, Any]:
    place = f"{step}.opts"
    raw = _present(wire.opts)
    opts = border.load(raw, place, around=border.ENVELOPE) if raw else {}
    if not isinstance(opts, dict):
        raise InvalidJson(f"{place}: must be an object")
    check_texts(opts, _TEXTS.get(op, ()), place)
    match op:
        case Op.WAIT:
            if problem := name_problem(opts.get("event") or name):
                raise InvalidJson(f"{step}: the name of the event {problem}")
        case Op.SIGNAL:
            if len(opts.get("signal") or name) > MAX_SIGNAL:
                raise InvalidJson(f"{step}: the signal's name is longer than {MAX_SIGNAL} characters")
        case Op.INVOKE:
            check_payload(opts, place)
        case Op.GATEWAY | Op.AI_GATEWAY:
            check_headers(opts, place)
    return opts


def _passed(raw: Raw, place: str, *, around: int = 0) -> bytes:
    text = _present(raw)
    if text:
        border.load(text, place, around=around)
    return text


def _timing(raw: Raw) -> _Timing:
    if not raw:
        return _NO_TIMING
    try:
        return _decode_timing(raw) or _NO_TIMING
    except border.UNREADABLE:
        return _NO_TIMING  # informative only


_NO_TIMING = _Timing()


def _present(raw: Raw) -> bytes:
    text = bytes(raw)
    return b"" if text == b"null" else text


def _json_text(body: bytes, place: str, *, around: int = 0) -> bytes:
    """The body as JSON text: what is not JSON becomes a string, what was encoded twice is unwrapped.

    Raises InvalidJson for JSON that cannot pass.
    """
    text = body.strip()
    if not text:
        return b"null"
    value = _load_json(text, place, around)
    if value is _NOT_JSON:
        return _encode(body.decode("utf-8", "replace"))
    if isinstance(value, str) and value[:1] == "{":
        inner = whole(value.encode())
        return text if _load_json(inner, place, around) is _NOT_JSON else inner
    return text


_NOT_JSON = object()


def _load_json(text: bytes, place: str, around: int) -> Any:
    try:
        return border.load(text, place, around=around)
    except InvalidJson:
        if border.is_json(text):
            raise
        return _NOT_JSON


class _Error(Struct):
    error: str | None = None
    name: str | None = None
    message: str | None = None
    stack: str | None = None


_decode_error = Decoder(_Error).decode


def error_object(raw: bytes, status: int = 0) -> bytes:
    """A run error in its one shape ``{error, name, message, stack}`` from whatever an SDK sent with an HTTP
    status (section 3.2; protocol additions 7), as JSON text that has passed the border or text of any other
    kind. 0: with none that tells anything.
    """
    try:
        found = _decode_error(raw)
    except border.UNREADABLE:
        value = _loose(raw)
        if not isinstance(value, str):
            value = raw.decode("utf-8", "replace")[:_EXCERPT] if raw != b"null" else None
        found = _Error(message=value)
    name = found.name or "Error"
    message = found.message
    if message is None:
        message = found.error or "Function execution error"
    error = found.error or (f"invalid status code: {status}" if status else f"{name}: {message}")
    shape: dict[str, Any] = {"error": error, "name": name, "message": message}
    if found.stack:
        shape["stack"] = found.stack
    return _encode(shape)


def _loose(raw: bytes) -> Any:
    try:
        value = msgspec.json.decode(raw)
    except border.UNREADABLE:
        return raw.decode("utf-8", "replace")
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return value["message"]
    return value


def failure(
    message: str,
    *,
    name: str = "Error",
    status: int = 0,
    detail: str = "",
    no_retry: bool = False,
) -> Failure:
    """A failure that the server itself found."""
    shape = {"error": message, "name": name, "message": message}
    if detail:
        shape["stack"] = f"{message}\n{detail}"
    return Failure(error=_encode(shape), status=status, no_retry=no_retry)


_LATER = {429, 503}
"""Statuses with which anybody on the way may say when to come again (RFC 6585, RFC 9110 15.6.4)."""


def _not_sdk(status: int, body: bytes, retry_at: int) -> Failure:
    excerpt = body[:_EXCERPT].decode("utf-8", "replace")
    if 200 <= status < 300:
        return failure("The response did not come from an Inngest SDK", status=status, detail=excerpt)
    failed = failure(
        f"Your server returned HTTP {status} before the SDK responded.",
        name="Server returned a fatal error",
        status=status,
        detail=excerpt,
    )
    failed.retry_at = retry_at if status in _LATER else 0
    return failed
