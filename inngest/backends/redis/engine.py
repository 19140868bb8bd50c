"""The engine store on Redis: what `ports.engine` demands, by the scripts in ``lua/``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from inngest.backends.damage import Damage
from inngest.backends.lost import lost_run, lost_run_entry
from inngest.backends.redis import wire
from inngest.backends.redis.bell import Bell
from inngest.backends.redis.bus import RedisBus
from inngest.backends.redis.cache import RunCache, advanced, created
from inngest.backends.redis.clock import ServerClock
from inngest.backends.redis.link import Command, Link, Reply, call
from inngest.backends.redis.outbox import RedisOutbox
from inngest.backends.redis.pauses import Waiting
from inngest.backends.redis.registry import VERSION, RedisRegistry
from inngest.backends.redis.scripts import (
    ALIVE,
    COMMIT,
    DISCARD,
    EXTEND,
    HAND_BACK,
    ITEM,
    LEASE,
    ORPHANS,
    RUN,
    RUN_ITEMS,
    Script,
)
from inngest.core.errors import StoreRefused, StoreUnavailable
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History, decode_history
from inngest.core.model.runs import Item, Leased, Pause, Queue, Run
from inngest.core.model.transition import Committed, EndRun, Evict, Lease, Record, Transition, lease_of
from inngest.core.policy import LEASE_BYTES, MAX_HISTORY_WAITING
from inngest.ports.engine import Page, Registered, Stats, Take, Work

T = TypeVar("T")


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
        clock: the time in ms in place of the server's, for tests.
        allow_unsafe: of `server.UNSAFE`, what of the server is borne; None for all.

    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = PREFIX,
        cache: RunCache | None = None,
        clock: Callable[[], int] | None = None,
        allow_unsafe: Collection[str] | None = None,
    ) -> None:
        self._prefix = prefix
        self._clock = clock
        self._time = ServerClock()
        self._cache = RunCache() if cache is None else cache
        self._link = Link(url, on_break=self._cache.clear, allow_unsafe=allow_unsafe)
        self._damage = Damage(self._link.system)
        self._bus = RedisBus(self._link)
        self._owner = uuid4().hex
        queues = [self._ready(queue) for queue in Queue]
        channels = [f"{prefix}outbox:{box}" for box in (_EVENTS, _HISTORY)]
        self._bell = Bell([*channels, f"{prefix}{VERSION}"], queues, name=self._owner)
        self.events: RedisOutbox[bytes] = RedisOutbox(
            self._link, self._bell, prefix, _EVENTS, self._owner, lambda entry: entry, self._damage
        )
        self.history: RedisOutbox[History] = RedisOutbox(
            self._link, self._bell, prefix, _HISTORY, self._owner, decode_history, self._damage
        )
        self._waiting = Waiting(self._link, prefix, self._damage)
        self._registry = RedisRegistry(self._link, self._bell, prefix, self._damage)

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
            await self._hear()
            await self._bus.open()
            await self._bell.open(self._bus)
        except BaseException:
            await self._bus.close()
            await self._link.close()
            raise
        self._bell.ring_all()

    async def _hear(self) -> None:
        """Learn what time it is there."""
        sent = self._time.start()
        ((seconds, micros),) = await self._link.run([("TIME",)])
        self._time.tell(sent, int(seconds) * 1000 + int(micros) // 1000)

    def now(self) -> int:
        return self._clock() if self._clock is not None else self._time.now()

    def slack(self) -> int:
        return self._time.slack() if self._clock is None else 0

    async def close(self) -> None:
        with suppress(StoreUnavailable):  # then what it has claimed is free a little later
            await self.events.ack(0)
            await self.history.ack(0)
        await self._bell.close()
        await self._bus.close()
        await self._link.close()
        self._cache.clear()

    async def ping(self) -> None:
        await self._link.ping(f"{self._prefix}ping")

    def _ready(self, queue: Queue) -> str:
        return f"{self._prefix}ready:{queue.value}"

    # -- the registry --

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        await self._registry.put(app, functions)

    async def registry(self) -> Registered:
        return await self._registry.read()

    async def wait_registry(self, version: int, seconds: float) -> int:
        return await self._registry.wait(version, seconds)

    # -- decisions --

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        if not transitions:
            return []
        replies = await self._link.run([self._commit(transition, take) for transition in transitions])
        results = [
            self._committed(transition, reply) for transition, reply in zip(transitions, replies, strict=True)
        ]
        following = [result.next for result in results if result.next is not None]
        there = await self._complete(following)
        if len(there) < len(following):
            ids = set(map(id, there))
            for result in results:
                if id(result.next) not in ids:
                    result.next = None
        return results

    def _commit(self, transition: Transition, take: Take | None) -> Command:
        known = self._cache.get(transition.run) if transition.run else None
        try:
            encoded = wire.encode_transition(transition)
        except (ValueError, OverflowError, RecursionError, TypeError, msgspec.MsgspecError) as error:
            raise StoreRefused(
                f"redis {self._link.address}: a change of run {transition.run!r} cannot be encoded: "
                f"{type(error).__name__}: {error}",
                system=f"redis {self._link.address}",
                run=transition.run,
            ) from error
        return self._call(
            COMMIT,
            f"{self._prefix}{{{transition.fn}}}",
            encoded,
            take.ms if take is not None else "",
            take.worker if take is not None else "",
            known.revision if known is not None else -1,
            ROOM,
            MAX_HISTORY_WAITING,
        )

    def _call(self, script: Script, key: str, *args: Any) -> Command:
        return call(script, key, self._prefix, self._clock() if self._clock is not None else "", *args)

    async def _script(self, script: Script, key: str, *args: Any) -> Reply:
        (reply,) = await self._link.run([self._call(script, key, *args)])
        return reply

    def _committed(self, transition: Transition, reply: Reply) -> Committed:
        if reply[0]:
            following = self._leased(reply[1], reply[2]) if len(reply) > 1 else None
            return Committed(won=[False] * len(transition.effects), stale=True, next=following)
        won = [letter == 49 for letter in reply[1]]  # "1"
        run = self._follow(transition, won, reply)
        following = None
        if reply[8] is not None:
            following = self._leased(reply[8], reply[9])
            if following is not None and following.run is None:
                following.run = run
        return Committed(won=won, next=following)

    def _leased(self, item: Reply, state: Reply) -> Leased | None:
        """A leased item with the state that came along, if one did."""
        found = self._damage.read("item", repr(item[8]), wire.decode_item, item)
        if found is None:
            return None
        leased = Leased(item=found, run=None)
        if state is not None and (run := self._state(state)) is not None:
            leased.run = run
        return leased

    def _state(self, reply: Reply) -> Run | None:
        """A state that came along; None if it is known, too large to come along, or damaged."""
        if len(reply) == 2:
            known = self._cache.get(reply[0].decode())
            return known if known is not None and known.revision == int(reply[1]) else None
        run = self._damage.read("run", repr(reply[0]), wire.decode_run, reply)
        if run is not None:
            self._cache.put(run)
        return run

    def _follow(self, transition: Transition, won: list[bool], reply: Reply) -> Run | None:
        """The state of the run after a transition, if the one before it is known."""
        if not transition.run:
            return None
        if any(win and isinstance(e, EndRun | Evict) for e, win in zip(transition.effects, won, strict=True)):
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
        damaged: set[str] = set()
        runs = await self._states(list(missing.items()), damaged)
        for one in leased:
            if one.run is None:
                one.run = runs.get(one.item.run)
        lost = [one.item for one in leased if one.item.run and one.run is None]
        if lost:
            await self.hand_back([lease_of(item) for item in lost if item.run not in damaged])
            await self._discard([lease_of(item) for item in lost if item.run in damaged])
        return [one for one in leased if not one.item.run or one.run is not None]

    async def _discard(self, leases: Sequence[Lease]) -> None:
        """Drop items that nobody can work on."""
        if leases:
            key = f"{self._prefix}leases"
            await self._link.run(
                [self._call(DISCARD, key, lease.fn, lease.job, lease.epoch) for lease in leases]
            )

    async def _states(
        self, runs: Sequence[tuple[str, str]], damaged: set[str] | None = None
    ) -> dict[str, Run]:
        """The states of runs, given as (run, function), by run id; without those that have ended, and without
        those that cannot be read, whose ids are added to ``damaged``.
        """
        found: dict[str, Run] = {}
        commands = []
        for run_id, fn in runs:
            known = self._cache.get(run_id)
            revision = known.revision if known is not None else -1
            commands.append(self._call(RUN, f"{self._prefix}{{{fn}}}", fn, run_id, revision))
            if known is not None:
                found[run_id] = known
        for (run_id, _), reply in zip(runs, await self._link.run(commands), strict=True):
            if reply is None:
                self._cache.drop(run_id)
                found.pop(run_id, None)
            elif len(reply) == 2 and run_id in found:
                continue  # it is still as it was known when this was asked, whatever the cache has by now
            elif (run := self._state(reply)) is not None:
                found[run_id] = run
            else:
                found.pop(run_id, None)
                if damaged is not None:
                    damaged.add(run_id)
        return found

    # -- the queue --

    async def lease(
        self, queue: Queue, limit: int, ms: int, worker: str, *, request: int = 0, again: bool = False
    ) -> Work:
        ready = self._bell.events[self._ready(queue)]
        ready.clear()
        key = f"{self._prefix}ring:{queue.value}"
        sent = self._time.start()
        try:
            next_in, more, items, states, now = await self._script(
                LEASE,
                key,
                queue.value,
                limit,
                ms,
                worker,
                request,
                "1" if again else "",
                ROOM,
                self._owner,
                LEASE_BYTES,
            )
        except BaseException:
            ready.set()  # another may have relied on this look
            raise
        self._time.tell(sent, now)
        if more:
            ready.set()
        self._bell.looked(self._ready(queue), found=bool(items))
        runs = {run.id: run for run in map(self._state, states) if run is not None}
        leased, lost = [], []
        for reply in items:
            one = self._leased(reply, None)
            if one is None:
                lost.append(wire.lease_of_reply(reply))
                continue
            one.run = runs.get(one.item.run)
            leased.append(one)
        await self._discard(lost)
        return Work(items=await self._complete(leased), next_in=next_in / 1000 if next_in >= 0 else None)

    async def extend(self, leases: Sequence[Lease], ms: int) -> list[Lease]:
        lost: list[Lease] = []
        for page in _pages(leases):
            held = await self._script(EXTEND, f"{self._prefix}leases", ms, wire.encode(page))
            lost += [lease for lease, still in zip(page, held, strict=True) if not still]
        return lost

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        for page in _pages(leases):
            await self._script(HAND_BACK, f"{self._prefix}leases", wire.encode(page))

    async def alive(self, worker: str, ms: int) -> None:
        for _ in range(_PAGE):
            sent = self._time.start()
            more, now = await self._script(ALIVE, f"{self._prefix}workers", worker, ms)
            self._time.tell(sent, now)
            if not more:
                return

    async def wait(self, queue: Queue, seconds: float) -> None:
        await self._bell.wait(self._ready(queue), seconds)

    # -- reads --

    async def locate(self, run_id: str) -> str | None:
        (fn,) = await self._link.read([("HGET", f"{self._prefix}runs", run_id)])
        return _text(fn) if fn is not None else None

    async def run(self, fn: str, run_id: str) -> Run | None:
        return (await self._states([(run_id, fn)])).get(run_id)

    async def runs(self, fn: str, created_from: int, created_to: int, cursor: str, limit: int) -> Page[Run]:
        # A cursor is the last one's creation time and id, by which those of one time are ordered.
        low, _, last = cursor.partition(":")
        key, since = f"{self._prefix}{{{fn}}}:runs", int(low or created_from)
        ids: list[str] = []
        known: list[tuple[int, str]] = []
        following, offset = "", 0
        while not ids:
            window = (since, f"({created_to}", "BYSCORE", "LIMIT", offset, limit, "WITHSCORES")
            (flat,) = await self._link.read([("ZRANGE", key, *window)])
            known = [(int(float(at)), _text(raw)) for raw, at in zip(flat[::2], flat[1::2], strict=True)]
            ids = [run_id for at, run_id in known if (at, run_id) > (since, last)]
            following = f"{known[-1][0]}:{known[-1][1]}" if len(known) == limit else ""
            if not following:
                break
            offset += limit
        some = await self._some([(run_id, fn) for run_id in ids])
        if len(some) < len(ids):
            last = some[-1][0]
            following = next(f"{at}:{last}" for at, run_id in known if run_id == last)
        found = await self._states(some)
        return Page(found=list(found.values()), cursor=following)

    async def _some(self, runs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """The first of these runs, given as (run, function): those that are shown in one page."""
        keys = [f"{self._prefix}{{{fn}}}:run:{run_id}" for run_id, fn in runs]
        weight = 0
        sizes = await self._link.read([("HMGET", key, "size", "weight") for key in keys])
        for place, parts in enumerate(sizes):
            weight += sum(map(wire.number, parts))
            if weight >= LEASE_BYTES:
                return runs[: place + 1]
        return runs

    async def item(self, fn: str, job: str) -> Item | None:
        reply = await self._script(ITEM, f"{self._prefix}{{{fn}}}", fn, job)
        return next(iter(self._items([reply] if reply is not None else [])), None)

    async def items(self, fn: str, run_id: str) -> list[Item]:
        replies = await self._script(RUN_ITEMS, f"{self._prefix}{{{fn}}}", fn, run_id)
        return sorted(self._items(replies), key=lambda item: item.due)

    def _items(self, replies: Sequence[Reply]) -> list[Item]:
        """Without the damaged ones."""
        return [one.item for reply in replies if (one := self._leased(reply, None)) is not None]

    async def first_pauses(self, events: Sequence[Event], limit: int) -> list[Page[Pause]]:
        return await self._waiting.first(events, limit)

    async def pauses(self, event: Event, cursor: str, limit: int) -> Page[Pause]:
        return await self._waiting.more(event, cursor, limit)

    async def remembered(self, fn: str, names: Sequence[str], since: int) -> list[bytes]:
        keys = [f"{self._prefix}{{{fn}}}:cancelling:{name}" for name in names]
        found = await self._link.read([("ZRANGE", key, since, "+inf", "BYSCORE") for key in keys])
        return [event for events in found for event in events]

    async def signal(self, name: str) -> Pause | None:
        return await self._waiting.signal(name)

    async def lock_holders(self, locks: Sequence[tuple[str, str]]) -> list[str | None]:
        values = await self._link.read([("GET", self._prefix + wire.lock_name(key)) for _, key in locks])
        holders = [_text(value).partition(" ")[0] if value is not None else "" for value in values]
        alive = await self._link.read(
            [
                ("HMGET", f"{self._prefix}{{{fn}}}:run:{holder}", "revision", "evicted")
                for (fn, _), holder in zip(locks, holders, strict=True)
            ]
        )
        return [
            holder if state[0] is not None and state[1] != b"1" else None
            for holder, state in zip(holders, alive, strict=True)
        ]

    async def orphans(self, age: int, cursor: str, limit: int) -> Page[Run]:
        key = f"{self._prefix}runs"
        if not cursor:
            await self._index_lost(age)
        ((following, flat),) = await self._link.read([("HSCAN", key, cursor or "0", "COUNT", limit)])
        page = {_text(run): _text(fn) for run, fn in zip(flat[::2], flat[1::2], strict=True)}
        found: list[tuple[str, str]] = []
        for some in _pages(list(page.items())):
            still, gone = await self._script(ORPHANS, key, age, wire.encode(some))
            found += [(run.decode(), page[run.decode()]) for run in still]
            await self._tell_lost({run.decode(): page[run.decode()] for run in gone})
        damaged: set[str] = set()
        # Those beyond what may be in memory are found again by the next search.
        runs = await self._states(await self._some(found), damaged)
        # Nothing moves them, and nobody can.
        now = self.now()
        await self.commit(
            [Transition(page[run], run, lost_run(run, page[run], now)) for run in sorted(damaged)]
        )
        return Page(found=list(runs.values()), cursor="" if following == b"0" else following.decode())

    async def _tell_lost(self, runs: dict[str, str]) -> None:
        """Let the history tell of runs, given with their functions, that were damaged and are dropped."""
        now = self.now()
        await self.commit(
            [Transition(fn, run, [Record(entry=lost_run_entry(run, fn, now))]) for run, fn in runs.items()]
        )

    async def _index_lost(self, age: int) -> None:
        """Let runs that only their functions know be found again."""
        (names,) = await self._link.read([("HKEYS", f"{self._prefix}functions")])
        keys = {fn: f"{self._prefix}{{{fn}}}:runs" for fn in map(_text, names)}
        known, *theirs = await self._link.read(
            [("HLEN", f"{self._prefix}runs"), *(("ZCARD", key) for key in keys.values())]
        )
        if known >= sum(theirs):
            return
        for (fn, key), size in zip(keys.items(), theirs, strict=True):
            for first in range(0, size, _PAGE):
                (ids,) = await self._link.read([("ZRANGE", key, first, first + _PAGE - 1)])
                pairs = [(_text(run), fn) for run in ids]
                _, gone = await self._script(ORPHANS, f"{self._prefix}runs", age, wire.encode(pairs))
                await self._tell_lost({run.decode(): fn for run in gone})

    async def stats(self) -> Stats:
        runs, counts, leased, events, history, dropped = await self._link.read(
            [
                ("HLEN", f"{self._prefix}runs"),
                ("HMGET", f"{self._prefix}counts", "items", "pauses", "damaged"),
                ("ZCARD", f"{self._prefix}leases"),
                ("LLEN", self.events.key),
                ("LLEN", self.history.key),
                ("GET", f"{self.history.key}:dropped"),
            ]
        )
        items, pauses, damaged = (wire.number(count) for count in counts[:3])
        return Stats(
            runs=runs,
            queued=items - leased,
            leased=leased,
            pauses=pauses,
            outbox=events + history,
            dropped=wire.number(dropped),
            damaged=damaged + self._damage.count,
        )

    # -- bulk cancellations --

    async def put_cancellation(self, cancellation: Cancellation) -> None:
        key = f"{self._prefix}cancellations"
        await self._link.run([("HSET", key, cancellation.id, wire.encode(cancellation))])

    async def cancellations(self) -> list[Cancellation]:
        (values,) = await self._link.read([("HVALS", f"{self._prefix}cancellations")])
        read = self._damage.read
        found = (read("cancellation", repr(each[:80]), _decode_cancellation, each) for each in values)
        return sorted((each for each in found if each is not None), key=lambda each: each.id, reverse=True)

    async def delete_cancellation(self, cancellation_id: str) -> bool:
        (gone,) = await self._link.run([("HDEL", f"{self._prefix}cancellations", cancellation_id)])
        return bool(gone)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")  # a damaged one leads nowhere


_decode_cancellation = msgspec.msgpack.Decoder(Cancellation).decode


def _pages(things: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), _PAGE):
        yield things[start : start + _PAGE]
