"""What is known of commands: whether they write, and what they reply when they find nothing."""

from __future__ import annotations

from typing import Any

from inngest.backends.redis.connection import Command, Reply
from inngest.backends.redis.scripts import SCRIPTS, Script

NOTHING: dict[str, Reply] = {
    "GET": None,
    "HGET": None,
    "HMGET": [None] * 8,
    "HSCAN": [b"0", []],
    "HKEYS": [],
    "HVALS": [],
    "ZRANGE": [],
    "HLEN": 0,
    "ZCARD": 0,
    "LLEN": 0,
}
"""What commands reply that find nothing."""

_WRITES = {"SET", "DEL", "XADD", "XACK", "XREADGROUP"}
_READING = {script.sha for script in SCRIPTS.values() if not script.writes}


def writes(command: Command) -> bool:
    """Whether a server that answers this takes writes. The name and the first argument are enough."""
    return command[1] not in _READING if command[0] == "EVALSHA" else command[0] in _WRITES


def call(script: Script, key: str, *args: Any) -> Command:
    """The command that runs a script on the slot of ``key``."""
    return ("EVALSHA", script.sha, 1, key, *args)
