"""The engine store on a real Redis server, whose time is the simulation's.

The server answers at once, as far as simulated time goes: a round trip is a call that returns. Its clock is
left alone; scripts are told the time, and a few lines before each keep what expires in a list of their own,
from which it is dropped when its time has come.

Stream and data store are those of the simulation over memory.
"""

from __future__ import annotations

import asyncio
import contextvars
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.util import Finalize
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from redis.connection import UnixDomainSocketConnection
from redis.exceptions import ResponseError

from inngest.backends.mailbox import Mailbox
from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.redis import engine as redis_engine
from inngest.backends.redis.clock import ServerClock
from inngest.backends.redis.connection import Command, Reply, pack
from inngest.backends.redis.engine import PREFIX, RedisEngineStore
from inngest.backends.redis.link import Link
from inngest.backends.redis.scripts import SCRIPTS
from inngest.ports.bus import Message
from sim.loop import SimLoop
from sim.ports import Clock, SharedStream, Stores
from sim.process import PROCESS, Process

EXPIRIES = "sim:expiries"
_ANCHOR = "local function of(fn)\n"
_EXPIRING = f"""
local on_server = call
call = function(command, key, ...)
  if command == 'SET' then
    local value, px, ttl = ...
    if px then
      redis.call('ZADD', '{EXPIRIES}', NOW + tonumber(ttl), key)
    else
      redis.call('ZREM', '{EXPIRIES}', key)
    end
    return on_server('SET', key, value)
  elseif command == 'PEXPIRE' then
    redis.call('ZADD', '{EXPIRIES}', NOW + tonumber((...)), key)
    return 1
  elseif command == 'PTTL' then
    local till = redis.call('ZSCORE', '{EXPIRIES}', key)
    return till and tonumber(till) - NOW or -1
  elseif command == 'DEL' or command == 'UNLINK' then
    redis.call('ZREM', '{EXPIRIES}', key, ...)
  end
  return on_server(command, key, ...)
end

"""
_EXPIRE = f"""
local gone = redis.call('ZRANGE', '{EXPIRIES}', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, 1000)
if #gone > 0 then
  redis.call('DEL', unpack(gone))
  redis.call('ZREM', '{EXPIRIES}', unpack(gone))
end
return #gone
"""


class Server:
    """A server of this process of the operating system, for one seed after the other."""

    _running: Server | None = None

    def __init__(self) -> None:
        shm = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(prefix="sim-redis-", dir=shm if shm.is_dir() else None))
        path = self._folder / "socket"
        options = {"--port": "0", "--unixsocket": str(path), "--save": "", "--dir": str(self._folder)}
        options |= {"--appendonly": "no", "--hash-max-listpack-entries": "100000"}
        binary = shutil.which("redis-server")
        if binary is None:
            raise FileNotFoundError("there is no redis-server on this machine")
        words = [word for option in options.items() for word in option]
        self._process = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL)
        Finalize(None, self._end, exitpriority=10)
        until = time.monotonic() + 10
        while not path.exists():
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError("redis-server does not start")
            time.sleep(0.01)
        self.url = f"unix://{path}"
        self._commands, self._heard = (
            UnixDomainSocketConnection(path=str(path), protocol=2) for _ in range(2)
        )
        for connection in (self._commands, self._heard):
            connection.connect()
        self._scripts: dict[str, bytes] = {}
        for sha, script in SCRIPTS.items():
            source = script.source
            if _ANCHOR in source:
                source = source.replace(_ANCHOR, _EXPIRING + _ANCHOR, 1)
            (known,) = self._ask([pack(("SCRIPT", "LOAD", source))])
            self._scripts[sha] = known
        self._heard.send_packed_command([pack(("PSUBSCRIBE", f"{PREFIX}*"))])
        self._heard.read_response()
        (self._expire,) = self._ask([pack(("SCRIPT", "LOAD", _EXPIRE))])

    @classmethod
    def running(cls) -> Server:
        if cls._running is None:
            cls._running = cls()
        cls._running._ask([pack(("FLUSHALL",))])
        cls._running.messages()
        return cls._running

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, packed: Sequence[bytes]) -> list[Reply]:
        self._commands.send_packed_command(list(packed))
        replies: list[Reply] = []
        for _ in packed:
            try:
                replies.append(self._commands.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies

    def ask(self, commands: Sequence[Command], now: int) -> list[Reply]:
        """The replies to commands that are done at a time (Unix ms)."""
        packed = [pack(("EVALSHA", self._expire, 0, now))]
        for command in commands:
            if command[0] == "EVALSHA":
                _, sha, keys, key, prefix, _, *rest = command
                packed.append(pack(("EVALSHA", self._scripts[sha], keys, key, prefix, now, *rest)))
            else:
                packed.append(pack(command))
        _, *replies = self._ask(packed)
        return [
            [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)] if command == ("TIME",) else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    def messages(self) -> list[Message]:
        """What was published since it was asked for last."""
        self._heard.send_packed_command([pack(("PING",))])
        found = []
        while True:
            kind, *words = self._heard.read_response()
            if kind == b"pong":
                return found
            _, channel, body = words
            found.append(Message(channel.decode(), body))


class Network:
    """Between the processes and the server.

    Args:
        at_once: round trips take no time. Else they take some, and those of one call meet those of others.

    """

    def __init__(self, loop: SimLoop, clock: Clock, random: Random, *, at_once: bool) -> None:
        self.server = Server.running()
        self.loop = loop
        self.clock = clock
        self._random = random
        self._at_once = at_once
        self._ears: list[_Ear] = []

    async def way(self) -> None:
        if not self._at_once and PROCESS.get() is not None:
            await asyncio.sleep(self._random.random() * self._random.choice((0.001, 0.001, 0.02)))

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        replies = self.server.ask(commands, self.clock())
        for message in self.server.messages():
            for ear in self._ears:
                ear.hear(message)
        return replies

    def listen(self, ear: _Ear) -> None:
        self._ears = [each for each in self._ears if each.process is None or not each.process.dead]
        self._ears.append(ear)

    def forget(self, ear: _Ear) -> None:
        if ear in self._ears:
            self._ears.remove(ear)

    def later(self, work: Callable[[], None], context: contextvars.Context) -> None:
        self.loop.call_later(self._random.random() * 0.002, work, context=context)

    def breaks(self) -> bool:
        """Whether a connection on which something is heard is lost just now."""
        return self._random.random() < 0.002


class _Ear:
    """A subscription of a process: what it hears comes in order, and a little later."""

    def __init__(self, network: Network, channels: Sequence[str]) -> None:
        self.process: Process | None = PROCESS.get()
        self.mailbox = Mailbox(self._leave)
        self._network = network
        self._channels = frozenset(channels)
        self._context = contextvars.copy_context()
        self._waiting: deque[Message] = deque()
        self._lost = False
        network.listen(self)

    async def _leave(self, _: Mailbox) -> None:
        self._network.forget(self)

    def hear(self, message: Message) -> None:
        if message.channel not in self._channels or self._lost:
            return
        if self._network.breaks():
            self._lost = True
            self._network.later(self._back, self._context)
            return
        self._waiting.append(message)
        self._network.later(self._next, self._context)

    def _next(self) -> None:
        self.mailbox.put(self._waiting.popleft())

    def _back(self) -> None:
        self._lost = False
        self.mailbox.gap()


class SimBus:
    """See `inngest.ports.bus.Bus`: as much of it as the engine store needs."""

    def __init__(self, link: SimLink) -> None:
        self._link = link

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def subscribe(self, *channels: str) -> Mailbox:
        return _Ear(self._link.network, channels).mailbox


class SimLink(Link):
    """A link whose round trips are calls."""

    network: Network

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    @property
    def is_open(self) -> bool:
        return self._open

    _open = False

    async def _run(self, commands: Sequence[Command], nothing: Mapping[str, Reply]) -> list[Reply]:
        if not self._open:
            raise self._closed()
        request = self._request(commands)
        await self.network.way()
        replies = self.network.ask(commands)
        await self.network.way()
        return self._judged(request, replies, nothing)


class RedisStores(Stores):
    """Systems that outlive every process, which share one server as their engine store."""

    timed = False

    def __init__(self, loop: SimLoop, clock: Clock, random: Random, *, at_once: bool) -> None:
        self.seen = at_once
        self._network = Network(loop, clock, random, at_once=at_once)
        self.stream = SharedStream(clock)
        self.data = MemoryDataStore()
        self.engine = self._client()
        self.engine._link._open = True

    def _client(self) -> Any:
        with patch.object(redis_engine, "Link", SimLink), patch.object(redis_engine, "RedisBus", SimBus):
            store: Any = RedisEngineStore(self._network.server.url)
        store._link.network = self._network
        store._time = ServerClock(lambda: self._network.loop.time() * 1000)
        return store

    async def connect(self) -> Any:
        store = self._client()
        await store.open()
        return store

    async def leave(self, engine: Any) -> None:
        await engine.close()

    # -- what is left at the end --

    def _ask(self, *command: Any) -> Any:
        (reply,) = self._network.ask([command])
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def _keys(self, pattern: str = "*") -> list[str]:
        return sorted(key.decode() for key in self._ask("KEYS", PREFIX + pattern))

    async def stuck(self) -> list[str]:
        told = []
        for run, fn in _pairs(self._ask("HGETALL", f"{PREFIX}runs")):
            items = [
                f"{item.kind} {item.job.removeprefix(run)} due {item.due}"
                for item in await self.engine.items(fn, run)
            ]
            pauses = self._ask("HKEYS", f"{PREFIX}{{{fn}}}:pauses:{run}")
            told.append(f"{run} of {fn}: items {items}, pauses {pauses}")
        return told + [key for key in self._keys() if ":item:" in key]

    def known_runs(self) -> set[str]:
        return {run for run, _ in _pairs(self._ask("HGETALL", f"{PREFIX}runs"))}

    def leftovers(self) -> list[str]:
        expire = set(map(bytes.decode, self._ask("ZRANGE", EXPIRIES, 0, -1)))
        found = [key for key in self._keys() if key not in expire and not _stays(key.removeprefix(PREFIX))]
        counts = dict(_pairs(self._ask("HGETALL", f"{PREFIX}counts")))
        return found + [f"count of {what}: {count}" for what, count in counts.items() if count != "0"]

    def cron_items(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key in self._keys("{*}:crons:*"):
            fn = key.split("{", 1)[1].split("}", 1)[0]
            found.setdefault(fn, []).extend(job for _, job in _pairs(self._ask("HGETALL", key)))
        return found


_STAYING = {"apps", "functions", "version", "serial", "counts", "workers", "cancellations", "ping", "latest"}
_OF_FUNCTIONS = ("config", "seen", "crons")


def _stays(key: str) -> bool:
    """Whether a key, without the prefix, is there when nothing is left to do."""
    if key.startswith("{"):
        return key.rpartition("}:")[2] in _OF_FUNCTIONS
    return key in _STAYING or key.endswith(":base") or key.startswith("answered:")


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    texts = [each.decode() for each in flat]
    return list(zip(texts[::2], texts[1::2], strict=True))


__all__ = ["RedisStores"]
