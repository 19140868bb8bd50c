"""Pages of runs and events, also of those that only an expression can tell apart."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from inngest.api.answers import ApiError, whole_number
from inngest.api.context import ApiContext
from inngest.core.errors import ExpressionError
from inngest.core.expr import EvaluationError, Expression, compile_expression
from inngest.core.json.border import UNREADABLE
from inngest.core.model.events import Event
from inngest.core.model.records import RunRecord
from inngest.core.policy import MAX_COUNTED, MAX_SCANNED
from inngest.ports.data import Count, EventFilter, Position, RunFilter, TimeField, position

_CHUNK = 500

T = TypeVar("T")


class RunQuery(Struct, frozen=True):
    """Which runs, in which order; ``condition`` is an expression over the first event."""

    where: RunFilter
    order: TimeField = TimeField.QUEUED
    descending: bool = True
    condition: Expression | None = None


def parse_query(text: str | None) -> Expression | None:
    """The condition of a search. Raises `ApiError` 400."""
    if not text or not text.strip():
        return None
    try:
        return compile_expression(text)
    except ExpressionError as error:
        raise ApiError(400, f"Invalid query: {error}") from None


async def page_of_runs(
    ctx: ApiContext, query: RunQuery, after: Position | None, limit: int
) -> list[RunRecord]:
    """Up to ``limit`` runs that follow ``after``."""
    if query.condition is None:
        return await ctx.data.runs(
            query.where, order=query.order, descending=query.descending, after=after, limit=limit
        )
    return await _first(_searched_runs(ctx, query, after), limit)


async def count_runs(ctx: ApiContext, query: RunQuery) -> Count:
    """How many there are; of a search, among the first `MAX_SCANNED`."""
    if query.condition is None:
        return await ctx.data.count_runs(query.where, most=MAX_COUNTED)
    return await _count(_searched_runs(ctx, query, None))


async def _searched_runs(
    ctx: ApiContext, query: RunQuery, after: Position | None
) -> AsyncIterator[RunRecord | None]:
    """Those that fulfil the condition; None at the end if not all were looked at."""
    assert query.condition is not None
    for _ in range(MAX_SCANNED // _CHUNK):
        chunk = await ctx.data.runs(
            query.where, order=query.order, descending=query.descending, after=after, limit=_CHUNK
        )
        values = await _first_events(ctx, chunk)
        for record in chunk:
            if record.id in values and _holds(query.condition, values[record.id], ctx.clock()):
                yield record
        if len(chunk) < _CHUNK:
            return
        after = position(chunk[-1], query.order)
    yield None


async def _first_events(ctx: ApiContext, records: Sequence[RunRecord]) -> dict[str, Any]:
    """The first event of each run, decoded, by run id; without those that cannot be."""
    ids = list(dict.fromkeys(record.events[0] for record in records if record.events))
    events = {event.id: event for event in await ctx.data.events_by_id(ids)}
    values: dict[str, Any] = {}
    for record in records:
        with suppress(*UNREADABLE):  # the data store is not ours alone
            if record.payload is not None:
                values[record.id] = msgspec.json.decode(record.payload)
            elif record.events and record.events[0] in events:
                values[record.id] = events[record.events[0]].value
    return values


async def page_of_events(
    ctx: ApiContext, where: EventFilter, condition: Expression | None, after: str, limit: int
) -> list[Event]:
    if condition is None:
        return await ctx.data.events(where, after=after, limit=limit)
    return await _first(_searched_events(ctx, where, condition, after), limit)


async def count_events(ctx: ApiContext, where: EventFilter, condition: Expression | None) -> Count:
    """As `count_runs`."""
    if condition is None:
        return await ctx.data.count_events(where, most=MAX_COUNTED)
    return await _count(_searched_events(ctx, where, condition, ""))


async def _searched_events(
    ctx: ApiContext, where: EventFilter, condition: Expression, after: str
) -> AsyncIterator[Event | None]:
    for _ in range(MAX_SCANNED // _CHUNK):
        chunk = await ctx.data.events(where, after=after, limit=_CHUNK)
        for event in chunk:
            if _event_holds(condition, event, ctx.clock()):
                yield event
        if len(chunk) < _CHUNK:
            return
        after = chunk[-1].id
    yield None


async def _count(found: AsyncIterator[object | None]) -> Count:
    number = 0
    async for each in found:
        if each is None:
            return Count(number, exact=False)
        number += 1
    return Count(number)


async def _first(found: AsyncIterator[T | None], limit: int) -> list[T]:
    taken: list[T] = []
    async for each in found:
        if each is None:
            break
        taken.append(each)
        if len(taken) == limit:
            break
    return taken


def _holds(condition: Expression, event: Any, now: int) -> bool:
    try:
        return condition.truthy({"event": event}, now)
    except EvaluationError:
        return False


def _event_holds(condition: Expression, event: Event, now: int) -> bool:
    try:
        value = event.value
    except UNREADABLE:
        return False
    return _holds(condition, value, now)


def encode_cursor(place: Position) -> str:
    return urlsafe_b64encode(f"{place[0]}:{place[1]}".encode()).decode()


def decode_cursor(text: str) -> Position:
    """Raises `ApiError` 400."""
    try:
        time, colon, run = urlsafe_b64decode(text.encode()).decode().partition(":")
        at = whole_number(time)
        if colon and run and at is not None:
            return at, run
    except ValueError:
        pass
    raise ApiError(400, f"Invalid cursor: {text[:64]!r}")
