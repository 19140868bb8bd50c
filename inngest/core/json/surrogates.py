"""Halves of surrogate pairs in JSON text.

JavaScript and Python write half an emoji, as a string cut in the middle has it, as an escape that JSON's
grammar allows and no Unicode text can hold. It is taken for the replacement character, as it is by most that
read such text, so that neither an event nor a step's result fails by it.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def whole(text: bytes) -> bytes:
    r"""JSON text with ``\ufffd`` for the halves that lack the other one; all else as it was."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], text)
