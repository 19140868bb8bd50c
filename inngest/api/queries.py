"""The queries of GraphQL (wire protocol section 6.5). What is unknown is null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inngest.api.answers import ApiError, parse_time
from inngest.api.context import ApiContext
from inngest.api.nodes import Node, Nodes, connection
from inngest.api.operations import find_record
from inngest.api.paging import (
    count_events,
    count_runs,
    decode_cursor,
    encode_cursor,
    page_of_events,
    page_of_runs,
)
from inngest.api.query_bounds import MAX_SEARCHES, Work
from inngest.api.search import EVENT_VARIABLES, RUN_VARIABLES, RunQuery, parse_query
from inngest.core.expr import Conditions
from inngest.core.model.runs import RunStatus
from inngest.core.sdk.traces import decode_output_id
from inngest.ports.data import Count, EventFilter, RunFilter, TimeField, position

MAX_PAGE = 400
_TIME_FIELDS = {
    "QUEUED_AT": TimeField.QUEUED,
    "STARTED_AT": TimeField.STARTED,
    "ENDED_AT": TimeField.ENDED,
}
_STATUSES = {status.name: status for status in RunStatus}


class Queries:
    """Resolvers: each takes the resolve info and the arguments of its field, in snake case."""

    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx
        self._nodes = Nodes(ctx)

    def fields(self) -> dict[str, Callable[..., Any]]:
        return {
            "run": self.run,
            "runs": self.runs,
            "runTrace": self.run_trace,
            "runTraceSpanOutputByID": self.span_output,
            "runTrigger": self.run_trigger,
            "functionRun": self.function_run,
            "event": self.event,
            "eventV2": self.event_by_id,
            "eventsV2": self.events,
            "stream": self.stream,
            "apps": self.apps,
            "app": self.app,
            "functions": self.functions,
            "functionBySlug": self.function_by_slug,
            "workerConnections": self.worker_connections,
        }

    # -- runs --

    async def run(self, _: Any, *, run_id: str) -> Node | None:
        record = await find_record(self._ctx, run_id)
        return self._nodes.run(record) if record is not None else None

    async def function_run(self, info: Any, *, query: Mapping[str, Any]) -> Node | None:
        return await self.run(info, run_id=query["functionRunId"])

    async def run_trace(self, _: Any, *, run_id: str) -> Node | None:
        record = await find_record(self._ctx, run_id)
        return await self._nodes.trace(record) if record is not None else None

    async def run_trigger(self, _: Any, *, run_id: str) -> Node | None:
        record = await find_record(self._ctx, run_id)
        return await self._nodes.trigger(record) if record is not None else None

    async def span_output(self, _: Any, *, output_id: str) -> Node | None:
        try:
            run_id, span_id = decode_output_id(output_id)
        except ValueError:
            return None
        record = await find_record(self._ctx, run_id)
        return await self._nodes.span_output(record, span_id) if record is not None else None

    async def runs(
        self,
        info: Any,
        *,
        filter: Mapping[str, Any],  # noqa: A002 (as in the schema)
        first: int = 40,
        after: str | None = None,
        order_by: Sequence[Mapping[str, Any]] = (),
        preview: bool | None = None,
    ) -> Node:
        order = order_by[0] if order_by else {"field": "QUEUED_AT", "direction": "DESC"}
        query = RunQuery(
            where=self._run_filter(filter),
            order=_TIME_FIELDS[order["field"]],
            descending=order["direction"] == "DESC",
            conditions=_conditions(info, filter.get("query"), RUN_VARIABLES),
        )
        begin = decode_cursor(after) if after else None
        page = await page_of_runs(self._ctx, query, begin, _page_size(first))
        edges = [
            (encode_cursor(position(record, query.order)), self._nodes.run(record)) for record in page.found
        ]

        async def total() -> Count:
            return await count_runs(self._ctx, query)

        following = encode_cursor(page.after) if page.after is not None else None
        return connection(edges, following=following, after=after, total=total)

    def _run_filter(self, given: Mapping[str, Any]) -> RunFilter:
        apps = self._ctx.registry.apps
        return RunFilter(
            statuses=frozenset(_STATUSES[name] for name in given.get("status") or ()),
            fns=frozenset(given.get("functionIDs") or ()),
            apps=frozenset(apps[each].name if each in apps else each for each in given.get("appIDs") or ()),
            field=_TIME_FIELDS[given.get("timeField") or "QUEUED_AT"],
            since=parse_time(given["from"], "from"),
            until=parse_time(given["until"], "until") if given.get("until") else 0,
        )

    # -- events --

    async def event(self, info: Any, *, query: Mapping[str, Any]) -> Node | None:
        return await self.event_by_id(info, id=query["eventId"])

    async def event_by_id(self, _: Any, *, id: str) -> Node | None:  # noqa: A002 (as in the schema)
        found = await self._ctx.data.events_by_id([id])
        return self._nodes.event(found[0]) if found else None

    async def events(
        self,
        info: Any,
        *,
        filter: Mapping[str, Any],  # noqa: A002 (as in the schema)
        first: int = 50,
        after: str | None = None,
    ) -> Node:
        where = EventFilter(
            names=frozenset(filter.get("eventNames") or ()),
            since=parse_time(filter["from"], "from"),
            until=parse_time(filter["until"], "until") if filter.get("until") else 0,
            internal=bool(filter.get("includeInternalEvents")),
        )
        conditions = _conditions(info, filter.get("query"), EVENT_VARIABLES)
        page = await page_of_events(self._ctx, where, conditions, after or "", _page_size(first))
        edges = [(event.id, self._nodes.event(event)) for event in page.found]

        async def total() -> Count:
            return await count_events(self._ctx, where, conditions)

        return connection(edges, following=page.after, after=after, total=total)

    async def stream(self, _: Any, *, query: Mapping[str, Any]) -> list[Node]:
        where = EventFilter(
            since=parse_time(query["after"], "after") if query.get("after") else 0,
            until=parse_time(query["before"], "before") if query.get("before") else 0,
            internal=bool(query.get("includeInternalEvents")),
        )
        found = await self._ctx.data.events(where, limit=_page_size(query["limit"]))
        return [self._nodes.stream_item(event) for event in found]

    # -- apps, functions, workers --

    async def apps(self, _: Any, *, filter: Mapping[str, Any] | None = None) -> list[Node]:  # noqa: A002
        given = filter or {}
        archived = bool(given.get("archived"))
        apps = [app for app in self._ctx.registry.apps.values() if app.archived == archived]
        nodes = [self._nodes.app(app) for app in sorted(apps, key=lambda app: app.name)]
        method = given.get("method")
        return [node for node in nodes if method is None or node["method"] == method]

    async def app(self, _: Any, *, id: str) -> Node | None:  # noqa: A002 (as in the schema)
        app = self._ctx.registry.apps.get(id)
        return self._nodes.app(app) if app is not None else None

    async def functions(self, _: Any) -> list[Node]:
        live = [fn for fn in self._ctx.registry.functions.values() if not fn.archived]
        return [self._nodes.function(fn) for fn in sorted(live, key=lambda fn: fn.slug)]

    async def function_by_slug(self, _: Any, *, query: Mapping[str, Any]) -> Node | None:
        fn = self._ctx.registry.by_slug(query["functionSlug"])
        return self._nodes.function(fn) if fn is not None else None

    async def worker_connections(
        self,
        _: Any,
        *,
        first: int = 40,
        after: str | None = None,
        order_by: Sequence[Mapping[str, Any]] = (),
        filter: Mapping[str, Any] | None = None,  # noqa: A002 (as in the schema)
    ) -> Node:
        given = filter or {}
        apps, statuses = given.get("appIDs"), given.get("status")
        workers = [
            worker
            for worker in self._ctx.workers()
            if (not apps or worker.get("appID") in apps) and (not statuses or worker["status"] in statuses)
        ]
        workers.sort(key=lambda worker: str(worker["id"]), reverse=True)
        following = [worker for worker in workers if not after or worker["id"] < after]
        size = _page_size(first)
        edges = [(str(worker["id"]), dict(worker)) for worker in following[:size]]
        last = edges[-1][0] if len(following) > size else None

        async def total() -> Count:
            return Count(len(workers))

        return connection(edges, following=last, after=after, total=total)


def _conditions(info: Any, text: str | None, variables: frozenset[str]) -> Conditions | None:
    """Raises `ApiError` 400 for what is wrong with them, and for one search too many."""
    conditions = parse_query(text, variables)
    work: Work = info.context
    if conditions is not None and not work.search():
        raise ApiError(400, f"One query may search {MAX_SEARCHES} times", code="query_too_costly")
    return conditions


def _page_size(first: int) -> int:
    if first < 1:
        raise ApiError(400, f"A page has at least one entry, not {first}")
    return min(first, MAX_PAGE)
