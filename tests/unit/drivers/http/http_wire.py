"""Stand-ins for what is around a connection."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from inngest.drivers.http import Target
from inngest.drivers.http.connection import Connection

TARGET = Target.parse("http://app/")


class Wire(asyncio.Transport):
    """A transport that swallows the request and remembers whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self._sockets = socket.socketpair()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sockets[0] if name == "socket" else default

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    def __del__(self) -> None:
        for each in self._sockets:
            each.close()

    abort = close


class Nobody:
    def opened(self, connection: Connection) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        pass
