"""The registered apps and functions on Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from inngest.backends.damage import Damage
from inngest.backends.redis.bell import Bell
from inngest.backends.redis.link import Link
from inngest.backends.redis.scripts import PUT_APP
from inngest.backends.redis.wire import encode, number, opaque
from inngest.core.model.functions import App, Function
from inngest.core.timing import gcra
from inngest.ports.engine import Registered

T = TypeVar("T")


VERSION = "version"
_decode_app = msgspec.msgpack.Decoder(App).decode
_decode_function = msgspec.msgpack.Decoder(Function).decode


class RedisRegistry:
    """See `inngest.ports.engine.EngineStore`, "the registry"."""

    def __init__(self, link: Link, bell: Bell, prefix: str, damage: Damage) -> None:
        self._link = link
        self._bell = bell
        self._prefix = prefix
        self._damage = damage

    async def read(self) -> Registered:
        # The version first: a change in between makes it too old, and so is read again.
        version, apps, functions = await self._link.read(
            [
                ("GET", f"{self._prefix}version"),
                ("HVALS", f"{self._prefix}apps"),
                ("HVALS", f"{self._prefix}functions"),
            ]
        )
        return Registered(
            version=number(version),
            apps={app.id: app for app in self._decoded(_decode_app, apps)},
            functions={fn.id: fn for fn in self._decoded(_decode_function, functions)},
        )

    def _decoded(self, decode: Callable[[bytes], T], records: Sequence[bytes]) -> list[T]:
        read = self._damage.read
        found = (read("registration", repr(record[:80]), decode, record) for record in records)
        return [record for record in found if record is not None]

    async def put(self, app: App, functions: Sequence[Function]) -> None:
        key = f"{self._prefix}version"
        while True:
            known = await self.read()
            kept = {fn.id for fn in functions}
            gone = [
                replace(fn, archived=True)
                for fn in known.functions.values()
                if fn.app_id == app.id and fn.id not in kept and not fn.archived
            ]
            packed = encode([_config(fn) for fn in [*functions, *gone]])
            version = await self._link.script(
                PUT_APP, key, self._prefix, "", known.version, app.id, encode(app), packed
            )
            if version >= 0:
                return

    async def wait(self, version: int, seconds: float) -> int:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            channel = f"{self._prefix}{VERSION}"
            self._bell.events[channel].clear()
            (raw,) = await self._link.read([("GET", f"{self._prefix}version")])
            now, left = number(raw), end - loop.time()
            if now != version or left <= 0:
                return now
            await self._bell.wait(channel, left)


def _config(fn: Function) -> tuple[Any, ...]:
    emission, tolerance = -1, 0
    if fn.throttle is not None:
        limit = fn.throttle
        emission, tolerance = gcra.throttle(limit.limit, limit.period, limit.burst)
    return (fn.id, opaque(encode(fn)), opaque(encode(fn.limits)), emission, tolerance)
