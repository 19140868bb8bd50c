"""What the server's errors mean: to whoever asked, and for the connection they came on."""

from __future__ import annotations

import re
from typing import NamedTuple

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ExecAbortError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from inngest.backends.redis.scripts import SCRIPTS
from inngest.core.errors import StoreDefect, StoreError, StoreRefused, StoreUnavailable, StoreUnusable


class _State(NamedTuple):
    """A state of a server in which it does not do what it is asked. ``leave``: the address may lead to a
    better one. ``elsewhere``: this is not the server that one meant, and nothing it said is believed.
    """

    reason: str
    leave: bool = False
    elsewhere: bool = False


_STATES = {
    "READONLY": _State("it is a replica and takes no writes", True, True),
    "MASTERDOWN": _State("it is a replica that has lost its primary", True, True),
    "LOADING": _State("it is loading its data", True, True),
    "UNBLOCKED": _State("it has become a replica", True, True),
    "NOREPLICAS": _State("it has too few replicas to take writes", True),
    "NOMASTERLINK": _State("it is a replica that has lost its primary", True, True),
    "UNKILLABLE": _State("it is held by a script that cannot be stopped", True),
    "CLUSTERDOWN": _State("its cluster is down", True),
    "MOVED": _State("it does not have that part of the cluster", True),
    "ASK": _State("it does not have that part of the cluster", True),
    "TRYAGAIN": _State("its cluster is moving that key"),
    "MISCONF": _State("it cannot write to its disk and takes no writes", True),
    "OOM": _State("its memory is full"),
    "BUSY": _State("it is held by a script"),
    "NOGROUP": _State("it has lost its data"),
    "NOSCRIPT": _State("it has forgotten a script again"),
}
_CLASSES: tuple[tuple[type[RedisError], str], ...] = (
    (ReadOnlyError, "READONLY"),
    (MasterDownError, "MASTERDOWN"),
    (BusyLoadingError, "LOADING"),
    (ClusterDownError, "CLUSTERDOWN"),
    (MovedError, "MOVED"),
    (AskError, "ASK"),
    (TryAgainError, "TRYAGAIN"),
    (ClusterCrossSlotError, "CROSSSLOT"),
    (OutOfMemoryError, "OOM"),
    (NoScriptError, "NOSCRIPT"),
    (NoPermissionError, "NOPERM"),
    (AuthenticationError, "WRONGPASS"),
    (ExecAbortError, "EXECABORT"),
)
"""The client's library takes the code off the words of these, and keeps it for those of no other."""
_NOT_LET_IN = {"WRONGPASS", "NOAUTH", "NOPERM", "DENIED"}
_CODE = re.compile(r"[A-Z]{2,}\b")
_TOO_LARGE = ("exceeds maximum allowed size", "invalid bulk length", "invalid multibulk length")
_LINE = re.compile(r"user_script:(\d+)")
_PLACE = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?$")


def code(error: BaseException) -> str:
    """The first word of an error reply, such as READONLY; empty if the error is none."""
    for kind, known in _CLASSES:
        if isinstance(error, kind):
            return known
    if not isinstance(error, ResponseError):
        return ""
    words = str(error)
    if words.startswith("UNBLOCKED") and "instance state changed" not in words:
        return "NOGROUP"  # what it was blocked on is gone
    found = _CODE.match(words)
    return found.group() if found is not None else "ERR"


def leaves(error: BaseException) -> bool:
    """Whether the connection is better made anew."""
    return code(error) in _LEAVE


def is_elsewhere(error: BaseException) -> bool:
    """Whether this is not the server that one meant: all connections are given up."""
    return code(error) in _ELSEWHERE


def is_state(error: BaseException) -> bool:
    """Whether the server is in a state in which it does not do such things at all."""
    return code(error) in _STATES


_LEAVE = {name for name, state in _STATES.items() if state.leave}
_ELSEWHERE = {name for name, state in _STATES.items() if state.elsewhere}


def store_error(system: str, error: BaseException, command: tuple[object, ...] = ()) -> StoreError:
    """What a failure of the connection, or an error reply to ``command``, is to the caller."""
    if isinstance(error.__cause__, RedisError):
        error = error.__cause__  # what went wrong while connecting
    name, is_script = _name(command)
    word, words = code(error), _PLACE.sub("", str(error))
    facts: dict[str, object] = {"script" if is_script else "command": name} if name else {}
    facts["words"] = words
    if word:
        facts["code"] = word
    if word in _NOT_LET_IN or (word and "can't run this command" in words):
        return StoreUnusable(f"{system}: it does not let us in ({words})", system=system, **facts)
    if not word or word in _STATES or isinstance(error, RedisConnectionError):
        return StoreUnavailable(f"{system}: {reason(error)}", system=system, **facts)
    what = f"the {'script' if is_script else 'command'} {name}" if name else "it"
    if any(part in words for part in _TOO_LARGE):
        return StoreRefused(f"{system}: {what} was given too much ({words})", system=system, **facts)
    if line := _lua_line(command, str(error)):
        facts["line"] = line
        if "cmsgpack.unpack(ARGV" in line:
            return StoreRefused(
                f"{system}: {what} cannot read what it was given ({words})", system=system, **facts
            )
    return StoreDefect(f"{system}: {what} failed ({words})", system=system, **facts)


def never_fits(error: BaseException) -> str:
    """Why a first connection fails in a way that waiting does not change; empty if it may."""
    error = error.__cause__ if isinstance(error.__cause__, RedisError) else error
    if isinstance(error, InvalidResponse):
        return "what answers there is no Redis server"
    if "DB index is out of range" in str(error) or "Invalid Database" in str(error):
        return f"there is no database of that number ({error})"
    return ""


def reason(error: BaseException) -> str:
    """Why the server does not do what it is asked, in words for the log."""
    words = str(error)
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "it did not answer in time"
    state = _STATES.get(code(error))
    return f"{state.reason} ({words})" if state is not None else words or type(error).__name__


def _name(command: tuple[object, ...]) -> tuple[str, bool]:
    """The name of a script, or else of a command."""
    if not command:
        return "", False
    if command[0] == "EVALSHA" and (script := SCRIPTS.get(str(command[1]))) is not None:
        return script.name, True
    return str(command[0]), False


def _lua_line(command: tuple[object, ...], words: str) -> str:
    """The line on which a script failed."""
    found = _LINE.search(words)
    script = SCRIPTS.get(str(command[1])) if len(command) > 1 else None
    if found is None or script is None:
        return ""
    lines, number = script.source.splitlines(), int(found.group(1))
    return lines[number - 1].strip() if number <= len(lines) else ""
