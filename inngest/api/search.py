"""Runs and events that only expressions can tell apart, at a bounded cost.

A search goes through what the filter finds, one after the other. Where it has looked at so many, decoded so
much, computed so much or taken so long that it ends early, it says how far it came, and the next page goes on
from there. It never holds the loop for longer than one evaluation may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from inngest.api.answers import ApiError
from inngest.api.context import ApiContext
from inngest.core.errors import ExpressionError
from inngest.core.expr import Conditions, compile_conditions
from inngest.core.json.border import UNREADABLE
from inngest.core.model.events import Event
from inngest.core.model.records import RunRecord
from inngest.core.policy import MAX_SCANNED, MAX_SEARCH_BYTES, MAX_SEARCH_WORK, SEARCH_SECONDS
from inngest.ports.data import EventFilter, Position, RunFilter, TimeField, position

RUN_VARIABLES = frozenset({"event", "output"})
EVENT_VARIABLES = frozenset({"event"})

_CHUNK = 500
_BODIES = 32
"""Events or outputs that are in memory together: each may be megabytes."""
_REST_WORK = 100_000
_REST_BYTES = 1024 * 1024
"""Others get their turn after so much."""


class RunQuery(Struct, frozen=True):
    """Which runs, in which order; ``conditions`` are over the first event and the output."""

    where: RunFilter
    order: TimeField = TimeField.QUEUED
    descending: bool = True
    conditions: Conditions | None = None


def parse_query(text: str | None, variables: frozenset[str]) -> Conditions | None:
    """The conditions of a search. Raises `ApiError` 400."""
    try:
        return compile_conditions(text or "", variables)
    except ExpressionError as error:
        raise ApiError(400, f"Invalid query: {error}") from None


class Effort:
    """What one search has cost, and whether it may go on."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._deadline = asyncio.get_running_loop().time() + SEARCH_SECONDS
        self._rows = 0
        self._bytes = 0
        self._rested = (0, 0)
        self.over = False
        """It ended before all was looked at."""

    async def spend(self, size: int) -> None:
        """One more was looked at, for which ``size`` bytes were decoded."""
        self._rows += 1
        self._bytes += size
        work = self._conditions.work
        rested_work, rested_bytes = self._rested
        if (
            self._rows % _BODIES == 0
            or work - rested_work > _REST_WORK
            or self._bytes - rested_bytes > _REST_BYTES
        ):
            self._rested = work, self._bytes
            await asyncio.sleep(0)
        self.over = (
            self._rows >= MAX_SCANNED
            or work >= MAX_SEARCH_WORK
            or self._bytes >= MAX_SEARCH_BYTES
            or asyncio.get_running_loop().time() >= self._deadline
        )


async def searched_runs(
    ctx: ApiContext, query: RunQuery, conditions: Conditions, effort: Effort, after: Position | None
) -> AsyncIterator[tuple[RunRecord, bool]]:
    """Each run that was looked at, and whether it fulfils the conditions."""
    while True:
        chunk = await ctx.data.runs(
            query.where, order=query.order, descending=query.descending, after=after, limit=_CHUNK
        )
        for start in range(0, len(chunk), _BODIES):
            some = chunk[start : start + _BODIES]
            bodies = await _Bodies.read(ctx, conditions, some)
            for record in some:
                variables, size = bodies.variables(record)
                held = variables is not None and conditions.hold(variables, ctx.clock())
                await effort.spend(size)
                yield record, held
                if effort.over:
                    return
        if len(chunk) < _CHUNK:
            return
        after = position(chunk[-1], query.order)


class _Bodies:
    """The first events and the outputs of some runs, as far as the conditions look at them."""

    def __init__(self, events: dict[str, Event], outputs: dict[str, bytes], *, payloads: bool) -> None:
        self._events = events
        self._outputs = outputs
        self._payloads = payloads

    @classmethod
    async def read(cls, ctx: ApiContext, conditions: Conditions, runs: Sequence[RunRecord]) -> _Bodies:
        payloads = conditions.refer_to("event")
        events, outputs = {}, {}
        if payloads:
            ids = dict.fromkeys(run.events[0] for run in runs if run.events and run.payload is None)
            events = {event.id: event for event in await ctx.data.events_by_id(list(ids))}
        if conditions.refer_to("output"):
            outputs = await ctx.data.outputs([run.id for run in runs if run.ended])
        return cls(events, outputs, payloads=payloads)

    def variables(self, run: RunRecord) -> tuple[dict[str, Any] | None, int]:
        """What expressions see of a run, and its bytes; None if that is gone, or cannot be read."""
        variables: dict[str, Any] = {}
        size = 0
        try:
            if self._payloads:
                payload = run.payload
                if payload is None:
                    event = self._events.get(run.events[0]) if run.events else None
                    if event is None:
                        return None, 0
                    payload = event.payload
                size += len(payload)
                variables["event"] = msgspec.json.decode(payload)
            output = self._outputs.get(run.id)
            if output is not None:
                size += len(output)
                variables["output"] = msgspec.json.decode(output)
        except UNREADABLE:  # the data store is not ours alone
            return None, size
        return variables, size


async def searched_events(
    ctx: ApiContext, where: EventFilter, conditions: Conditions, effort: Effort, after: str
) -> AsyncIterator[tuple[Event, bool]]:
    """As `searched_runs`."""
    while True:
        chunk = await ctx.data.events(where, after=after, limit=_BODIES)
        for event in chunk:
            held, size = _event_holds(conditions, event, ctx.clock())
            await effort.spend(size)
            yield event, held
            if effort.over:
                return
        if len(chunk) < _BODIES:
            return
        after = chunk[-1].id


def _event_holds(conditions: Conditions, event: Event, now: int) -> tuple[bool, int]:
    payload = event.payload
    try:
        value = msgspec.json.decode(payload)
    except UNREADABLE:
        return False, len(payload)
    return conditions.hold({"event": value}, now), len(payload)
