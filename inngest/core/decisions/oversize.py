"""Internal events that are larger than the event stream takes, and what goes in their place.

Somebody waits for each of them: the invoker of a function, a handler of failures. What they hear may be less,
but they do hear.
"""

from __future__ import annotations

from msgspec import Raw, Struct
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from inngest.core.decisions.draft import error_json
from inngest.core.decisions.invocations import refusal
from inngest.core.model.events import CANCELLED, FAILED, FINISHED, INVOKED, Event, decode_event

TOO_LARGE = "output_too_large"
"""The name of the error that stands for what a function returned, or failed with."""

_encode = Encoder().encode
_fields = Decoder(dict[str, Raw]).decode


class _Seen(Struct):
    """An event as functions see it, without what it carried."""

    name: str
    id: str = ""
    ts: int | float = 0
    data: Raw = Raw(b"{}")
    user: Raw = Raw(b"{}")


_seen = Decoder(_Seen).decode


def substitute(body: bytes, largest: int) -> bytes | None:
    """What is published in place of an internal event that has more than ``largest`` bytes; None if there is
    no such thing. It is the same however often it is asked for.

    The end of a run goes without the data of the events that started it, and if that is not enough, without
    its result or error, of which an error `TOO_LARGE` tells. An invocation fails the step that waits for it.

    Raises:
        msgspec.MsgspecError: it is no event of ours.

    """
    event = decode_event(body)
    if event.name == INVOKED:
        message = f"The invocation is {len(body)} bytes; the event stream takes {largest}."
        # Its own id is free: it never was on the stream.
        answer = refusal(event, event.id, event.ts, message, shown=_stub(Raw(event.payload)))
        tries = [answer] if answer is not None else []
    elif event.name in {FINISHED, FAILED, CANCELLED}:
        tries = _shortened(event, len(body), largest)
    else:
        tries = []
    return next((told for told in (each.encode() for each in tries) if len(told) <= largest), None)


def _shortened(event: Event, size: int, largest: int) -> list[Event]:
    fields = _fields(event.data)
    if "event" in fields:
        fields["event"] = _stub(fields["event"])
        fields["events"] = Raw(_encode([fields["event"]]))
    first = replace(event, data=Raw(_encode(fields)))
    if fields.keys() & {"result", "error"}:
        told = "result" if "result" in fields else "error"
        message = f"The {told} does not fit: {size} bytes tell of it; the event stream takes {largest}."
        fields.pop("result", None)
        fields["error"] = Raw(error_json(TOO_LARGE, message))
    return [first, replace(event, data=Raw(_encode(fields)))]


def _stub(payload: Raw) -> Raw:
    seen = _seen(payload)
    return Raw(_encode(replace(seen, data=Raw(b"{}"), user=Raw(b"{}"))))
