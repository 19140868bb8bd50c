"""The exceptions that cross room borders. Their messages are written for the person who reads the log."""

from __future__ import annotations


class InngestError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidFunction(InngestError):
    """A registered function's configuration cannot be used.

    ``code`` is the wire code of protocol.md section 7.2, ``path`` names the field, as in
    ``functions[2].throttle.limit``.
    """

    def __init__(self, message: str, *, path: str = "", code: str = "config_invalid") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path
        self.code = code


class InvalidEvent(InngestError):
    """An event is not acceptable; the message is sent to the sender as it stands."""


class ExpressionError(InngestError):
    """An expression does not parse or compile. ``position`` is a 0-based offset into ``source``."""

    def __init__(self, message: str, *, source: str, position: int) -> None:
        super().__init__(f"{message} at position {position + 1} of {source!r}")
        self.message = message
        self.source = source
        self.position = position


class StoreError(InngestError):
    """A backing system did not do what it was asked.

    ``system`` names it, as in ``redis 127.0.0.1:6379`` or a file's path; ``facts`` is what else is known, for
    logs and for machines.
    """

    def __init__(self, message: str, *, system: str = "", **facts: object) -> None:
        super().__init__(message)
        self.system = system
        self.facts = facts


class StoreUnavailable(StoreError):
    """It does not answer or takes nothing now. Nothing is known to be committed; trying again is right."""


class StoreUnusable(StoreUnavailable):
    """It refuses for good: somebody has to change something, waiting does not help."""


class StoreRefused(StoreError):
    """This one request can never pass, whatever is waited for; nothing of it was done."""


class StoreDefect(StoreError):
    """The store's own program failed on this request: a defect, or damaged data. It may be tried a few times,
    never for ever.
    """


class NobodyListens(InngestError):
    """A request on the bus, on whose channel nobody answers; nothing happened."""


class RequestFailed(InngestError):
    """A request on the bus, which the one who was asked could not answer. Its log says why."""
