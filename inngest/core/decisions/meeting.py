"""Whether and with what an event ends a wait (wire protocol sections 4.10, 5.2 and 5.3)."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct, field
from msgspec.json import Decoder, Encoder

from inngest.core.expr import EvaluationError, Expression, compile_bound
from inngest.core.model.events import Event
from inngest.core.model.runs import Pause, PauseKind
from inngest.core.policy import FUDGE
from inngest.core.remembered import Remembered

_encode = Encoder().encode
_CANCELLED = _encode(
    {
        "error": {
            "error": "Error: invoked function was cancelled",
            "name": "Error",
            "message": "invoked function was cancelled",
        }
    }
)


def may_meet(pause: Pause, event: Event) -> bool:
    """The conditions beside the expression: not the run's own event, not older than the wait, accepted before
    the wait was over, however late it is looked at.

    A cancellation is as old as the event that started its run: what is accepted after that cancels (section
    4.10).
    """
    if event.id == pause.ignore or event.received > pause.expires + FUDGE:
        return False
    if pause.kind is PauseKind.CANCEL:
        return event.received >= pause.created
    return event.received >= pause.created - FUDGE


class Conditions:
    """The compiled conditions of pauses, as many as take ``most`` bytes."""

    def __init__(self, most: int = 64 << 20) -> None:
        self._known = Remembered[str, Expression](most)

    def hold(self, pause: Pause, event: Event, now: int) -> bool:
        """Whether the event fulfils the pause's condition; one that fails on it does not hold.

        Raises `ExpressionError` for a stored condition that is not valid.
        """
        if not pause.condition:
            return True
        compiled = self._known.get(pause.condition)
        if compiled is None:
            compiled = compile_bound(pause.condition)
            self._known.put(pause.condition, compiled, compiled.size)
        try:
            return compiled.is_true({"async": event.value}, now)
        except EvaluationError:
            return False


class _Finished(Struct):
    run_id: str = ""
    result: Raw = Raw()
    error: Raw = Raw()
    inngest: dict[str, Any] | None = field(default=None, name="_inngest")


_finished = Decoder(_Finished).decode


def invoke_result(event: Event) -> tuple[bytes, dict[str, Any]]:
    """The step value that a finished event of the invoked function gives its caller, and what history tells
    of it.

    A cancelled function fails the step: an answer that looks like a result would be worse than an error.
    """
    data = _finished(event.data)
    info = {"event": event.id, "run": data.run_id}
    if data.error and bytes(data.error) != b"null":
        return b'{"error":' + bytes(data.error) + b"}", info
    if data.result:
        return b'{"data":' + bytes(data.result) + b"}", info
    return _CANCELLED, info
