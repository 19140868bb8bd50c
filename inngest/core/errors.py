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


class StoreUnavailable(InngestError):
    """A backing system does not answer or refuses; nothing is known to be committed."""


class StoreUnusable(StoreUnavailable):
    """A backing system refuses for good: somebody has to change something, waiting does not help."""
