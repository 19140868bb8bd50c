"""Halves of surrogate pairs in JSON text.

JavaScript and Python write half an emoji, as a string cut in the middle has it, as an escape that JSON's
grammar allows and no Unicode text can hold. It is taken for the replacement character, as it is by most that
read such text, so that neither an event nor a step's result fails by it.
"""

from __future__ import annotations

import re

_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_lone_high = re.compile(rb"%b(?!%b)" % (_HIGH, _LOW)).sub
_lone_low = re.compile(rb"%b(?<!%b%b)" % (_LOW, _HIGH, _LOW)).sub
_REPLACEMENT = rb"\\ufffd"


def whole(text: bytes) -> bytes:
    r"""JSON text with ``\ufffd`` for the halves that lack the other one; all else as it was."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    escaped = rb"\\" in text  # a backslash for itself: what follows it is no escape
    if escaped:
        if b"\0" in text:
            return text  # no JSON
        text = text.replace(rb"\\", b"\0\0")
    text = _lone_low(_REPLACEMENT, _lone_high(_REPLACEMENT, text))
    return text.replace(b"\0\0", rb"\\") if escaped else text


_ANY_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL).finditer


def lone_surrogate(text: bytes) -> int | None:
    """The offset of the first escaped surrogate without its other half; None if there is none."""
    high_at = high_end = -1
    for match in _ANY_ESCAPE(text):
        kind = int(match[1] or b"0", 16) >> 10
        follows = high_at >= 0 and match.start() == high_end
        if high_at >= 0 and not (follows and kind == 0x37):
            return high_at
        if kind == 0x37 and not follows:
            return match.start()
        high_at, high_end = (match.start(), match.end()) if kind == 0x36 else (-1, -1)
    return high_at if high_at >= 0 else None
