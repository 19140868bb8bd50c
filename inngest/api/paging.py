"""Pages and numbers of runs and events."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from msgspec import Struct

from inngest.api.answers import ApiError, whole_number
from inngest.api.context import ApiContext
from inngest.api.search import Effort, RunQuery, searched_events, searched_runs
from inngest.core.expr import Conditions
from inngest.core.model.events import Event
from inngest.core.model.records import RunRecord
from inngest.core.policy import MAX_COUNTED
from inngest.ports.data import Count, EventFilter, Position, position

T = TypeVar("T")
P = TypeVar("P")


class Page(Struct, Generic[T, P]):
    """``after`` is the place from which the next page goes on, None if there is nothing more. A search that
    ended early has one, too, however little it found.
    """

    found: list[T]
    after: P | None


async def page_of_runs(
    ctx: ApiContext, query: RunQuery, after: Position | None, limit: int
) -> Page[RunRecord, Position]:
    """Up to ``limit`` runs that follow ``after``."""

    def place(run: RunRecord) -> Position:
        return position(run, query.order)

    if query.conditions is None:
        found = await ctx.data.runs(
            query.where, order=query.order, descending=query.descending, after=after, limit=limit + 1
        )
        return _page(found, limit, place)
    effort = Effort(query.conditions)
    return await _first(searched_runs(ctx, query, query.conditions, effort, after), effort, limit, place)


async def count_runs(ctx: ApiContext, query: RunQuery) -> Count:
    """How many there are; of a search, among those that it came to."""
    if query.conditions is None:
        return await ctx.data.count_runs(query.where, most=MAX_COUNTED)
    effort = Effort(query.conditions)
    return await _count(searched_runs(ctx, query, query.conditions, effort, None), effort)


async def page_of_events(
    ctx: ApiContext, where: EventFilter, conditions: Conditions | None, after: str, limit: int
) -> Page[Event, str]:
    def place(event: Event) -> str:
        return event.id

    if conditions is None:
        return _page(await ctx.data.events(where, after=after, limit=limit + 1), limit, place)
    effort = Effort(conditions)
    return await _first(searched_events(ctx, where, conditions, effort, after), effort, limit, place)


async def count_events(ctx: ApiContext, where: EventFilter, conditions: Conditions | None) -> Count:
    """As `count_runs`."""
    if conditions is None:
        return await ctx.data.count_events(where, most=MAX_COUNTED)
    effort = Effort(conditions)
    return await _count(searched_events(ctx, where, conditions, effort, ""), effort)


def _page(found: list[T], limit: int, place: Callable[[T], P]) -> Page[T, P]:
    """Of one more than was asked for, if there are so many."""
    return Page(found[:limit], place(found[limit - 1]) if len(found) > limit else None)


async def _first(
    looked_at: AsyncIterator[tuple[T, bool]], effort: Effort, limit: int, place: Callable[[T], P]
) -> Page[T, P]:
    found: list[T] = []
    last: P | None = None
    async for each, held in looked_at:
        if held and len(found) == limit:
            return Page(found, last)
        if held:
            found.append(each)
        last = place(each)
    return Page(found, last if effort.over else None)


async def _count(looked_at: AsyncIterator[tuple[object, bool]], effort: Effort) -> Count:
    number = 0
    async for _, held in looked_at:
        number += held
    return Count(number, exact=not effort.over)


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
