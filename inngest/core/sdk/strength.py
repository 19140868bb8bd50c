"""Whether a key is worth its name: what can be guessed keeps nobody out."""

from __future__ import annotations

MIN_KEY = 16
"""Characters."""


def weakness(secret: str) -> str:
    """What is wrong with a key, for its owner; empty for one that may do. It is not in it."""
    if len(secret) < MIN_KEY:
        return f"has {len(secret)} characters, and needs {MIN_KEY} at least"
    if len(set(secret)) == 1:
        return "is one character over and over"
    return ""
