"""What a server tells of itself: which one it is, and what it would lose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

OLDEST = (7, 0)

NO_AOF, NO_PERSISTENCE, EVICTION = "no-aof", "no-persistence", "eviction"
UNSAFE = (NO_AOF, NO_PERSISTENCE, EVICTION)
"""What makes a server lose what it has acknowledged, by the names under which it can be allowed."""

SURVEY = (
    ("INFO", "persistence"),
    ("INFO", "memory"),
    ("CONFIG", "GET", "save"),
    ("CONFIG", "GET", "proto-max-bulk-len"),
)
"""What is asked of a server for its `Survey`. Not every one answers ``CONFIG``."""


@dataclass(frozen=True)
class Identity:
    """The data of one server in one of its lives: another ``run_id`` is another process, another ``history``
    began with a fail-over.
    """

    run_id: str
    history: str


@dataclass(frozen=True)
class Survey:
    """``unsafe`` says what to set for each name of `UNSAFE` that applies. ``largest``: the longest argument
    in bytes, 0 if that is unknown.
    """

    unsafe: Mapping[str, str]
    largest: int

    def refused(self, allowed: Collection[str] | None) -> list[str]:
        """What of it is not allowed; None allows all."""
        if allowed is None:
            return []
        # Who bears to lose everything bears to lose the last seconds.
        implied = {NO_AOF} if NO_PERSISTENCE in allowed else set()
        return [name for name in self.unsafe if name not in allowed and name not in implied]


def fields(info: object) -> dict[str, str]:
    """The reply to ``INFO``."""
    if not isinstance(info, bytes):
        return {}
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def is_too_old(server: Mapping[str, str]) -> bool:
    numbers = [int(part) for part in server.get("redis_version", "").split(".")[:2] if part.isdecimal()]
    return tuple(numbers) < OLDEST


def survey(persistence: object, memory: object, save: object, largest: object) -> Survey:
    """Of the replies to `SURVEY`, of which some may be errors."""
    unsafe = {}
    kept = fields(persistence)
    if kept.get("aof_enabled") == "0":
        if _setting(save) == "":
            unsafe[NO_PERSISTENCE] = (
                "it keeps nothing on disk, a restart loses everything: set appendonly to yes"
            )
        else:
            unsafe[NO_AOF] = (
                "it has no append-only file, a crash loses all since the last snapshot: set appendonly to yes"
            )
    policy = fields(memory).get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        unsafe[EVICTION] = (
            f"its maxmemory-policy is {policy}, short of memory it drops keys: set it to noeviction"
        )
    number = _setting(largest) or ""
    return Survey(unsafe, int(number) if number.isdecimal() else 0)


def _setting(reply: object) -> str | None:
    """The value in a reply to ``CONFIG GET``; None if there is none."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        return reply[1].decode()
    return None
