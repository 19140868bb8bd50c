"""The engine store on Redis: what `ports.engine` demands, by the scripts in ``lua/``."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from uuid import uuid4

from inngest.backends.redis import wire
from inngest.backends.redis.bell import Bell
from inngest.backends.redis.bus import RedisBus
from inngest.backends.redis.cache import RunCache, advanced, created
from inngest.backends.redis.link import Command, Link, Reply, call
from inngest.backends.redis.registry import VERSION, RedisRegistry
from inngest.backends.redis.scripts import (
    COMMIT,
    EXTEND,
    HAND_BACK,
    ITEM,
    LEASE,
    ORPHANS,
    OUTBOX_ACK,
    OUTBOX_TAKE,
    RUN,
    RUN_ITEMS,
)
from inngest.core.errors import StoreUnavailable
from inngest.core.expr import term_value, value_at
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function
from inngest.core.model.runs import Item, Leased, Pause, Queue, Run
from inngest.core.model.transition import Committed, EndRun, Lease, Transition
from inngest.ports.engine import EventOutbox, HistoryOutbox, Registry, Stats, Take, Work

PREFIX = "inngest:"
ROOM = 1024 * 1024
"""Bytes of run states that a reply brings along; larger ones are fetched by themselves, unless known."""
_PAGE = 200
_EVENTS, _HISTORY = "events", "history"


class RedisEngineStore:
    """See `inngest.ports.engine.EngineStore`. Many of them, in many processes, may share one server.

    Args:
        url: as of ``redis.asyncio.Redis.from_url``: ``redis://``, ``rediss://`` or ``unix://``.
        prefix: of all keys and channels.
        allow_unsafe: of `server.UNSAFE`, what of the server is borne; None for all.

    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = PREFIX,
        cache: RunCache | None = None,
        allow_unsafe: Collection[str] | None = None,
    ) -> None:
        self._prefix = prefix
        self._cache = RunCache() if cache is None else cache
        self._link = Link(url, on_break=self._cache.clear, allow_unsafe=allow_unsafe)
        self._bus = RedisBus(self._link)
        self._owner = uuid4().hex
        queues = [self._ready(queue) for queue in Queue]
        channels = [self._box(_EVENTS), self._box(_HISTORY), f"{prefix}{VERSION}"]
        self._bell = Bell(channels, queues, name=self._owner)
        self._registry = RedisRegistry(self._link, self._bell, prefix)

    @property
    def round_trips(self) -> int:
        """How many there were so far."""
        return self._link.round_trips

    @property
    def warnings(self) -> list[str]:
        """What should be set otherwise at the server."""
        return self._link.warnings

    async def open(self) -> None:
        await self._link.open()
        try:
            await self._bus.open()
            await self._bell.open(self._bus)
        except BaseException:
            await self._bus.close()
            await self._link.close()
            raise
        self._bell.ring_all()

    async def close(self) -> None:
        with suppress(StoreUnavailable):  # then what it has claimed is free a little later
            for box in (_EVENTS, _HISTORY):
                await self._ack(box, 0)
        await self._bell.close()
        await self._bus.close()
        await self._link.close()
        self._cache.clear()

    async def ping(self) -> None:
        await self._link.ping(f"{self._prefix}ping")

    def _ready(self, queue: Queue) -> str:
        return f"{self._prefix}ready:{queue.value}"

    def _box(self, box: str) -> str:
        return f"{self._prefix}outbox:{box}"

    # -- the registry --

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        await self._registry.put(app, functions)

    async def registry(self) -> Registry:
        return await self._registry.read()

    async def wait_registry(self, version: int, seconds: float) -> int:
        return await self._registry.wait(version, seconds)

    # -- decisions --

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        if not transitions:
            return []
        replies = await self._link.run([self._commit(transition, take) for transition in transitions])
        results = [
            self._committed(transition, reply, take)
            for transition, reply in zip(transitions, replies, strict=True)
        ]
        await self._complete([result.next for result in results if result.next is not None])
        return results

    def _commit(self, transition: Transition, take: Take | None) -> Command:
        known = self._cache.get(transition.run) if transition.run else None
        return call(
            COMMIT,
            f"{self._prefix}{{{transition.fn}}}",
            self._prefix,
            wire.encode_transition(transition),
            take.now if take is not None else 0,
            take.until if take is not None else "",
            known.revision if known is not None else -1,
            ROOM,
        )

    def _committed(self, transition: Transition, reply: Reply, take: Take | None) -> Committed:
        if reply[0]:
            return Committed(won=[False] * len(transition.effects), stale=True)
        won = [letter == 49 for letter in reply[1]]  # "1"
        run = self._follow(transition, won, reply)
        following = None
        if reply[8] is not None and take is not None:
            following = wire.decode_leased(reply[8], take.until)
            if reply[9] is not None and (state := wire.decode_run(reply[9])) is not None:
                self._cache.put(state)
                run = state
            following.run = run
        return Committed(won=won, next=following)

    def _follow(self, transition: Transition, won: list[bool], reply: Reply) -> Run | None:
        """The state of the run after a transition, if the one before it is known."""
        if not transition.run:
            return None
        if any(win and isinstance(e, EndRun) for e, win in zip(transition.effects, won, strict=True)):
            self._cache.drop(transition.run)
            return None
        before, revision = reply[2], reply[3]
        run = created(transition, won) if before < 0 else self._cache.get(transition.run)
        if run is None or (before >= 0 and run.revision != before):
            return None
        if revision != before:
            run = advanced(run, transition, won)
            run.revision, run.request_version = revision, reply[4]
            run.force_plan, run.started, run.size = bool(reply[5]), reply[6], reply[7]
            self._cache.put(run)
        return run

    async def _complete(self, leased: Sequence[Leased]) -> list[Leased]:
        """Fetch the states that did not come along. Those whose run has just ended are left out: the queue
        gets them back, and drops them.
        """
        missing = {one.item.run: one.item.fn for one in leased if one.item.run and one.run is None}
        if not missing:
            return list(leased)
        runs = await self._states(list(missing.items()))
        for one in leased:
            if one.run is None:
                one.run = runs.get(one.item.run)
        lost = [one for one in leased if one.item.run and one.run is None]
        if lost:
            until = min(one.until for one in lost)
            await self.hand_back([Lease(one.item.job, one.item.epoch) for one in lost], until)
        return [one for one in leased if not one.item.run or one.run is not None]

    async def _states(self, runs: Sequence[tuple[str, str]]) -> dict[str, Run]:
        """The states of runs, given as (run, function or ""), by run id; without those that have ended."""
        found: dict[str, Run] = {}
        commands = []
        for run_id, fn in runs:
            known = self._cache.get(run_id)
            revision = known.revision if known is not None else -1
            commands.append(call(RUN, f"{self._prefix}runs", self._prefix, run_id, fn, revision))
            if known is not None:
                found[run_id] = known
        for (run_id, _), reply in zip(runs, await self._link.run(commands), strict=True):
            if reply is None:
                self._cache.drop(run_id)
                found.pop(run_id, None)
            elif (run := wire.decode_run(reply)) is not None:
                self._cache.put(run)
                found[run_id] = run
        return found

    # -- the queue --

    async def lease(self, queue: Queue, limit: int, now: int, until: int) -> Work:
        ready = self._bell.events[self._ready(queue)]
        ready.clear()
        try:
            key = f"{self._prefix}ring:{queue.value}"
            next_due, more, items, states = await self._link.script(
                LEASE, key, self._prefix, queue.value, limit, now, until, ROOM, self._owner
            )
        except BaseException:
            ready.set()  # another may have relied on this look
            raise
        if more:
            ready.set()
        self._bell.looked(self._ready(queue), found=bool(items))
        runs = {}
        for reply in states:
            run = wire.decode_run(reply)
            if run is not None:
                self._cache.put(run)
            else:
                run = self._cache.get(reply[0].decode())
                if run is not None and run.revision != int(reply[1]):
                    run = None
            if run is not None:
                runs[run.id] = run
        leased = [wire.decode_leased(reply, until) for reply in items]
        for one in leased:
            one.run = runs.get(one.item.run)
        return Work(items=await self._complete(leased), next_due=next_due if next_due >= 0 else None)

    async def extend(self, leases: Sequence[Lease], until: int) -> list[Lease]:
        if not leases:
            return []
        held = await self._link.script(
            EXTEND, f"{self._prefix}leases", self._prefix, until, wire.encode(leases)
        )
        return [lease for lease, still in zip(leases, held, strict=True) if not still]

    async def hand_back(self, leases: Sequence[Lease], now: int) -> None:
        if leases:
            key = f"{self._prefix}leases"
            await self._link.script(HAND_BACK, key, self._prefix, now, wire.encode(leases))

    async def wait(self, queue: Queue, seconds: float) -> None:
        await self._bell.wait(self._ready(queue), seconds)

    # -- reads --

    async def run(self, run_id: str) -> Run | None:
        return (await self._states([(run_id, "")])).get(run_id)

    async def runs(self, fn: str, created_from: int, created_to: int) -> list[Run]:
        key = f"{self._prefix}{{{fn}}}:runs"
        (ids,) = await self._link.run(
            [("ZRANGE", key, created_from, f"({created_to}", "BYSCORE")],
        )
        found = await self._all([(raw.decode(), fn) for raw in ids])
        return sorted(found, key=lambda run: (run.created, run.id))

    async def _all(self, runs: Sequence[tuple[str, str]]) -> list[Run]:
        found: list[Run] = []
        for first in range(0, len(runs), _PAGE):
            found += (await self._states(runs[first : first + _PAGE])).values()
        return found

    async def item(self, job: str) -> Item | None:
        reply = await self._link.script(ITEM, f"{self._prefix}jobs", self._prefix, job)
        return wire.decode_item(reply) if reply is not None else None

    async def items(self, run_id: str) -> list[Item]:
        replies = await self._link.script(RUN_ITEMS, f"{self._prefix}runs", self._prefix, run_id)
        return sorted(map(wire.decode_item, replies), key=lambda item: item.due)

    async def pauses(self, events: Sequence[Event]) -> list[list[Pause]]:
        names = list(dict.fromkeys(event.name for event in events))
        if not names:
            return []
        replies = await self._link.run(
            [
                command
                for name in names
                for command in (
                    ("HVALS", self._prefix + wire.plain_bucket(name)),
                    ("HKEYS", self._prefix + wire.paths_name(name)),
                )
            ]
        )
        plain = dict(zip(names, replies[::2], strict=True))
        paths = {
            name: [path.decode() for path in found] for name, found in zip(names, replies[1::2], strict=True)
        }
        wanted = [_buckets(event, paths[event.name]) for event in events]
        buckets = list(dict.fromkeys(bucket for some in wanted for bucket in some))
        found = {}
        if buckets:
            entries = await self._link.run([("HVALS", self._prefix + bucket) for bucket in buckets])
            found = dict(zip(buckets, entries, strict=True))
        return [
            [wire.decode_pause(entry) for entry in plain[event.name]]
            + [wire.decode_pause(entry) for bucket in some for entry in found[bucket]]
            for event, some in zip(events, wanted, strict=True)
        ]

    async def signal(self, name: str) -> Pause | None:
        (entries,) = await self._link.run([("HVALS", self._prefix + wire.plain_bucket(name))])
        return wire.decode_pause(entries[0]) if entries else None

    async def lock_holder(self, key: str) -> str | None:
        (holder,) = await self._link.run([("GET", self._prefix + wire.lock_name(key))])
        if holder is None:
            return None
        (exists,) = await self._link.run([("HEXISTS", f"{self._prefix}runs", holder)])
        return holder.decode() if exists else None

    async def orphans(self, older_than: int) -> list[Run]:
        key = f"{self._prefix}runs"
        found: list[tuple[str, str]] = []
        cursor = b"0"
        while True:
            ((cursor, flat),) = await self._link.run([("HSCAN", key, cursor, "COUNT", _PAGE)])
            page = {run.decode(): fn.decode() for run, fn in zip(flat[::2], flat[1::2], strict=True)}
            orphans = await self._link.script(
                ORPHANS, key, self._prefix, older_than, wire.encode(list(page.items()))
            )
            found += [(run.decode(), page[run.decode()]) for run in orphans]
            if cursor == b"0":
                return await self._all(list(dict.fromkeys(found)))

    async def stats(self) -> Stats:
        runs, counts, leased, events, history = await self._link.run(
            [
                ("HLEN", f"{self._prefix}runs"),
                ("HMGET", f"{self._prefix}counts", "items", "pauses"),
                ("ZCARD", f"{self._prefix}leases"),
                ("LLEN", self._box(_EVENTS)),
                ("LLEN", self._box(_HISTORY)),
            ]
        )
        items, pauses = (int(count or 0) for count in counts)
        return Stats(runs=runs, queued=items - leased, leased=leased, pauses=pauses, outbox=events + history)

    # -- the outbox --

    async def outbox_events(self, limit: int) -> EventOutbox:
        entries, token = await self._outbox(_EVENTS, limit)
        return EventOutbox(events=entries, token=token)

    async def outbox_history(self, limit: int) -> HistoryOutbox:
        entries, token = await self._outbox(_HISTORY, limit)
        return HistoryOutbox(entries=[wire.decode_history(entry) for entry in entries], token=token)

    async def _outbox(self, box: str, limit: int) -> tuple[list[bytes], int]:
        key = self._box(box)
        arrived = self._bell.events[key]
        arrived.clear()
        try:
            token, more, entries, claimed = await self._link.script(
                OUTBOX_TAKE, key, self._prefix, box, limit, self._owner
            )
        except BaseException:
            arrived.set()
            raise
        if more:
            arrived.set()
        if claimed:
            # Nobody calls if the one who has claimed it is dead.
            asyncio.get_running_loop().call_later(claimed / 1000, arrived.set)
        return entries, token

    async def ack_events(self, token: int) -> None:
        await self._ack(_EVENTS, token)

    async def ack_history(self, token: int) -> None:
        await self._ack(_HISTORY, token)

    async def _ack(self, box: str, token: int) -> None:
        key = self._box(box)
        left = await self._link.script(OUTBOX_ACK, key, self._prefix, box, token, self._owner)
        if left:
            self._bell.events[key].set()

    async def wait_events(self, seconds: float) -> None:
        await self._bell.wait(self._box(_EVENTS), seconds)

    async def wait_history(self, seconds: float) -> None:
        await self._bell.wait(self._box(_HISTORY), seconds)


def _buckets(event: Event, paths: Sequence[str]) -> list[str]:
    """The buckets of the first terms that the event fulfils."""
    found = []
    for path in paths:
        text = term_value(value_at(event.value, path))
        if text is not None:
            found.append(wire.term_bucket(event.name, path, text))
    return found
