"""Heads of HTTP/1.0 answers."""

from __future__ import annotations

import re

_VERSION = b"HTTP/1.0"
_END = re.compile(rb"\r?\n\r?\n")
_CODING = re.compile(rb"^transfer-encoding[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)


class OldHead:
    """What has come of such a head. HTTP/1.0 has no transfer codings: a proxy that speaks it may copy the
    header of an answer that it has decoded, and the body goes to the end of the connection (protocol
    additions 7).
    """

    def __init__(self) -> None:
        self._held = b""

    @staticmethod
    def begins(data: bytes) -> bool:
        """Whether an answer that begins with this is, or may be, of HTTP/1.0."""
        return data.startswith(_VERSION) or _VERSION.startswith(data)

    def feed(self, data: bytes) -> bytes:
        """The bytes to be read in place of all that came: none until the head is whole."""
        self._held += data
        if not self.begins(self._held):
            return self._held
        end = _END.search(self._held)
        if end is None:
            return b""
        head = self._held[: end.end()]
        return _CODING.sub(b"", head) + self._held[end.end() :]
