"""One connection to the server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

Command = tuple[Any, ...]
Reply = Any


class Connection:
    """One at a time asks on it. Nothing is repeated, and a connection that is lost is not made anew.

    ``era`` is that of the link when it was made.
    """

    __slots__ = ("_raw", "era")

    def __init__(self, raw: AbstractConnection, era: int) -> None:
        self._raw = raw
        self.era = era

    async def connect(self) -> None:
        """Raises `RedisError` or OSError."""
        await self._raw.connect()  # type: ignore[no-untyped-call]

    async def usable(self) -> bool:
        """Whether it is open, with nothing on it that nobody has asked for."""
        raw = self._raw
        writer = getattr(raw, "_writer", None)  # knows of a connection that was reset
        if not raw.is_connected or (writer is not None and writer.is_closing()):
            return False
        look = getattr(raw, "can_read", None) or raw.can_read_destructive
        try:
            return not await look()
        except (RedisError, OSError):
            return False

    async def ask(self, packed: Sequence[bytes], replies: list[Reply]) -> None:
        """Send commands and add their replies, of which some may be a `ResponseError`, to ``replies``: those
        that came stay there when the connection is lost.

        Raises `RedisError` or OSError.
        """
        await self.say(packed)
        for _ in packed:
            replies.append(await self.hear())

    async def say(self, packed: Sequence[bytes]) -> None:
        if not self._raw.is_connected:
            raise RedisConnectionError("the connection is closed")
        await self._raw.send_packed_command(packed, check_health=False)

    async def hear(self) -> Reply:
        """The next reply or message, however late."""
        try:
            return await self._raw.read_response()
        except ResponseError as error:
            return error

    async def close(self) -> None:
        """Whoever waits for a reply on it gets an error."""
        await self._raw.disconnect(nowait=True)


def pack(command: Iterable[Any]) -> bytes:
    """A command as it is sent.

    Raises:
        TypeError: an argument is no text, bytes or number.
        UnicodeEncodeError: a text has half a character in it.

    """
    parts = [b""]
    for arg in command:
        if isinstance(arg, str):
            raw = arg.encode()
        elif isinstance(arg, bytes | bytearray | memoryview):
            raw = bytes(arg)
        elif isinstance(arg, int | float) and not isinstance(arg, bool):
            raw = repr(arg).encode()
        else:
            raise TypeError(f"an argument of type {type(arg).__name__}")
        parts.append(b"$%d\r\n" % len(raw))
        parts.append(raw)
        parts.append(b"\r\n")
    parts[0] = b"*%d\r\n" % (len(parts) // 3)
    return b"".join(parts)
