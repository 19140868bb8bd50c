"""Stand-ins for what is around a connection."""

from __future__ import annotations

import asyncio

from inngest.drivers.http import Target
from inngest.drivers.http.connection import Connection

TARGET = Target.parse("http://app/")


class Wire(asyncio.Transport):
    """A transport that swallows the request and remembers whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    abort = close


class Nobody:
    def opened(self, connection: Connection) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        pass
