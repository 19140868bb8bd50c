"""Reading the event stream: what the runner and the indexer have in common.

An event that cannot be read, or that nobody can do anything with, goes to the dead letters; it keeps no other
from being worked on, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

import structlog
from msgspec import Struct

from inngest.core.errors import StoreRefused, StoreUnavailable, StoreUnusable
from inngest.core.model.events import Event, decode_event
from inngest.loops.backoff import backoff
from inngest.loops.trouble import Trouble
from inngest.ports.stream import Entry, EventStream
from inngest.services.counts import ReaderCounts
from inngest.services.loop import Loop, Stopped

log = structlog.get_logger("inngest.reader")

T = TypeVar("T")

Rest: TypeAlias = Callable[[], Awaitable[None]]
"""What is left of some work. It may be repeated, and raises `StoreUnavailable` to be."""

Work: TypeAlias = Callable[[Sequence[Event]], Awaitable[Rest | None]]
"""Does what is to be done with events, and may leave a rest."""

TRIES = 3
"""How often an event is tried by itself that fails for a reason which may have been another's."""
_IDLE_SECONDS = 30.0
_SHOWN = 200
"""Bytes of a body that the log shows."""


async def sift(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[None]],
    refuse: Callable[[T, Exception], Awaitable[None]],
    *,
    on: type[Exception] = Exception,
) -> None:
    """Do ``work`` on all items, in their order; those that it fails on by themselves go to ``refuse``.

    Work on several that fails is done again on each half of them, so it must bear to be repeated. Only errors
    of the kind ``on`` are an item's fault, and never `StoreUnavailable` or `Stopped`: others pass.
    """
    if not items:
        return
    try:
        await work(items)
    except (StoreUnavailable, Stopped):
        raise
    except on as error:
        if len(items) == 1:
            await refuse(items[0], error)
            return
        half = len(items) // 2
        await sift(items[:half], work, refuse, on=on)
        await sift(items[half:], work, refuse, on=on)


def reason_of(error: Exception) -> str:
    """Why a dead letter is one."""
    return f"{type(error).__name__}: {error}"


def read_event(entry: Entry) -> Event:
    """The event of an entry. It was received when the stream has accepted it, and happened then, too, if its
    sender did not say when. Raises whatever decoding raises.
    """
    event = decode_event(entry.body)
    if event.ts == event.received:
        event.ts = entry.at
    event.received = entry.at
    return event


class _Read(Struct):
    entry: Entry
    event: Event


class Reader:
    """One consumer of a group.

    Args:
        stream: the event stream.
        group: whose events.
        limit: how many events are worked on together.

    """

    def __init__(self, stream: EventStream, group: str, limit: int) -> None:
        self._stream = stream
        self._group = group
        self._limit = limit
        self._action = f"{group}.events"
        self._failing = 0  # events that have failed since one did not
        self.counts = ReaderCounts()

    async def read(
        self, loop: Loop, work: Work, *, aside: Callable[[Rest], Awaitable[None]] | None = None
    ) -> None:
        """Have ``work`` done on the next events, if any come soon, and acknowledge them. With ``aside``, what
        the work leaves and the acknowledgement are given to it, so that other events go on.

        The work may be repeated, on fewer events at a time. While it raises `StoreUnavailable` it is tried
        again; an event that it fails on otherwise is buried.

        Raises:
            StoreUnavailable: there is nothing to be had from the stream.
            Stopped: the loop is to end; what is not acknowledged is delivered again.

        """
        delivery = await loop.rest(self._stream.fetch(self._group, self._limit, _IDLE_SECONDS))
        if delivery is None:
            return

        rests: list[Rest] = []

        async def try_(reads: Sequence[_Read]) -> None:
            rest = await self._work(loop, [read.event for read in reads], work)
            if rest is not None:
                rests.append(rest)

        async def refuse(read: _Read, error: Exception) -> None:
            self.counts.refused += 1
            await self._bury(loop, [read.entry], reason_of(error))

        await sift(await self._decode(loop, delivery.entries), try_, refuse)

        async def finish() -> None:
            for rest in rests:
                await self._until_available(loop, rest)
            await self._until_available(loop, lambda: self._stream.ack(self._group, delivery.token))

        if rests and aside is not None:
            await aside(finish)
        else:
            await finish()

    async def _decode(self, loop: Loop, entries: Sequence[Entry]) -> list[_Read]:
        """Those that are events; the others are buried."""
        reads: list[_Read] = []
        refused: dict[str, list[Entry]] = {}
        for entry in entries:
            try:
                reads.append(_Read(entry, read_event(entry)))
            except Exception as error:  # noqa: BLE001 -- whatever decoding raises, it is the entry's fault
                refused.setdefault(reason_of(error), []).append(entry)
        for reason, bad in refused.items():
            self.counts.undecodable += len(bad)
            await self._bury(loop, bad, reason)
        return reads

    async def _work(self, loop: Loop, events: Sequence[Event], work: Work) -> Rest | None:
        """A single event that fails without being refused is tried some times: it may not be its fault. The
        more of them fail in a row the longer that takes, since then it hardly is.
        """
        tries = 0
        while True:
            try:
                rest = await self._until_available(loop, lambda: work(events))
            except (StoreUnavailable, StoreRefused, Stopped):
                raise
            except Exception as error:
                if len(events) > 1:
                    raise
                tries += 1
                log.error(
                    "event cannot be processed",
                    action=self._action,
                    event_id=events[0].id,
                    name=events[0].name,
                    tries=tries,
                    exc_info=error,
                )
                if tries >= TRIES:
                    self._failing += 1
                    raise
                await loop.rest(backoff(tries + self._failing))
            else:
                self._failing = 0
                return rest

    async def _bury(self, loop: Loop, entries: Sequence[Entry], reason: str) -> None:
        facts = {"action": self._action, "entry": entries[0].id, "count": len(entries), "reason": reason}
        try:
            await self._until_available(loop, lambda: self._stream.bury(self._group, entries, reason))
        except (StoreUnavailable, Stopped):
            raise
        except Exception as error:
            # There is no place for it, and there will be none: what is left of it is this line.
            self.counts.lost += len(entries)
            shown = repr(entries[0].body[:_SHOWN])
            log.critical("events are lost", **facts, body=shown, exc_info=error)
        else:
            log.error("events go to the dead letters", **facts)

    async def _until_available(self, loop: Loop, call: Callable[[], Awaitable[T]]) -> T:
        with Trouble(self._action) as trouble:
            while True:
                try:
                    result = await call()
                except StoreUnusable:
                    raise
                except StoreUnavailable as error:
                    trouble.met(error)
                    await loop.rest(trouble.wait())
                else:
                    trouble.over()
                    return result
