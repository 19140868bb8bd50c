"""REST v1 (wire protocol section 6.3)."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from inngest.api.answers import (
    ApiError,
    answer,
    enveloped,
    limit_parameter,
    parse_time,
    passed,
    raw_answer,
    time_parameter,
)
from inngest.api.bodies import read_body, read_json
from inngest.api.context import ApiContext
from inngest.api.operations import (
    CANCEL_AHEAD,
    cancel_matching,
    cancel_run,
    check_ulid,
    get_record,
    parse_condition,
    send_signal,
)
from inngest.api.views import cancellation_view, event_view, function_view, job_view, run_view
from inngest.core.json import border
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.functions import Function
from inngest.core.policy import MAX_SIGNAL, MAX_STEP_OUTPUT, MAX_TRACES
from inngest.ports.data import EventFilter

MAX_EVENTS = 51
_PROTOBUF = "application/x-protobuf"


class _NewCancellation(Struct):
    app_id: str
    function_id: str
    started_before: str
    started_after: str | None = None
    condition: str | None = field(default=None, name="if")


class _Signal(Struct):
    signal: str
    data: Raw = Raw(b"null")


class RestV1:
    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/events", self.list_events),
            web.get("/v1/events/{id}", self.get_event),
            web.get("/v1/events/{id}/runs", self.list_event_runs),
            web.get("/v1/runs/{id}", self.get_run),
            web.delete("/v1/runs/{id}", self.cancel),
            web.get("/v1/runs/{id}/jobs", self.list_jobs),
            web.post("/v1/runs/{id}/metadata", self.add_metadata),
            web.get("/v1/apps/{app}/functions", self.list_functions),
            web.post("/v1/cancellations", self.add_cancellation),
            web.get("/v1/cancellations", self.list_cancellations),
            web.delete("/v1/cancellations/{id}", self.delete_cancellation),
            web.post("/v1/signals", self.signal),
            web.post("/v1/traces/userland", self.add_traces),
        ]

    def _enveloped(self, value: Any) -> web.Response:
        return enveloped(value, self._ctx.clock())

    # -- events --

    async def list_events(self, request: web.Request) -> web.Response:
        names = frozenset(name for name in request.query.getall("name", ()) if name)
        where = EventFilter(
            names=names,
            since=time_parameter(request, "received_after"),
            until=time_parameter(request, "received_before"),
        )
        cursor = request.query.get("cursor", "")
        events = await self._ctx.data.events(
            where,
            after=check_ulid(cursor, "cursor") if cursor else "",
            limit=limit_parameter(request, 20, MAX_EVENTS),
        )
        return self._enveloped([event_view(event) for event in events])

    async def get_event(self, request: web.Request) -> web.Response:
        found = await self._ctx.data.events_by_id([_id(request, "event ID")])
        if not found:
            raise ApiError(404, "Event not found")
        return self._enveloped(event_view(found[0]))

    async def list_event_runs(self, request: web.Request) -> web.Response:
        event_id, data = _id(request, "event ID"), self._ctx.data
        runs = (await data.runs_of([event_id]))[event_id]
        outputs = await data.outputs([run.id for run in runs if run.ended])
        return self._enveloped([run_view(replace(run, output=outputs.get(run.id))) for run in runs])

    # -- runs --

    async def get_run(self, request: web.Request) -> web.Response:
        return self._enveloped(run_view(await get_record(self._ctx, _id(request, "run ID"))))

    async def cancel(self, request: web.Request) -> web.Response:
        await cancel_run(self._ctx, _id(request, "run ID"))
        return web.Response()

    async def list_jobs(self, request: web.Request) -> web.Response:
        run_id = _id(request, "run ID")
        fn = await self._ctx.engine.locate(run_id)
        items = await self._ctx.engine.items(fn, run_id) if fn is not None else []
        if not items:
            await get_record(self._ctx, run_id)
        return self._enveloped([job_view(item, place) for place, item in enumerate(items)])

    async def add_metadata(self, request: web.Request) -> web.Response:
        """Refused: what is answered as taken would have to be kept and shown."""
        await get_record(self._ctx, _id(request, "run ID"))
        raise ApiError(501, "This server keeps no metadata of runs")

    # -- apps --

    async def list_functions(self, request: web.Request) -> web.Response:
        name = request.match_info["app"]
        apps = self._ctx.registry.apps.values()
        app = next((app for app in apps if name in {app.name, app.id} and not app.archived), None)
        if app is None:
            raise ApiError(404, "App not found")
        functions = [fn for fn in self._ctx.registry.functions.values() if fn.app_id == app.id]
        live = sorted((fn for fn in functions if not fn.archived), key=lambda fn: fn.slug)
        return answer([function_view(fn) for fn in live])

    # -- bulk cancellations --

    async def add_cancellation(self, request: web.Request) -> web.Response:
        asked = await read_json(request, _NewCancellation)
        now = self._ctx.clock()
        before = parse_time(asked.started_before, "started_before")
        after = parse_time(asked.started_after, "started_after") if asked.started_after else 0
        if before > now + CANCEL_AHEAD:
            raise ApiError(400, "started_before must be in the past")
        if after >= before:
            raise ApiError(400, "started_after must be before started_before")
        parse_condition(asked.condition or "")
        fn = self._function(asked.app_id, asked.function_id)
        cancellation = Cancellation(
            id=self._ctx.new_id(),
            fn=fn.id,
            slug=fn.slug,
            app_id=fn.app_id,
            created=now,
            started_after=after,
            started_before=before,
            condition=asked.condition or "",
        )
        await cancel_matching(self._ctx, cancellation)
        return self._enveloped(cancellation_view(cancellation))

    def _function(self, app: str, function: str) -> Function:
        """By the app's name or UUID, and the function's UUID, or its id with or without the app's in front.

        One that is removed has its runs still.
        """
        found = [
            (fn.archived, fn.slug != f"{fn.app}-{function}", fn.id, fn)
            for fn in self._ctx.registry.functions.values()
            if app in {fn.app, fn.app_id} and {fn.slug, fn.id} & {function, f"{fn.app}-{function}"}
        ]
        if found:
            return min(found)[-1]
        raise ApiError(404, "function not found")

    async def list_cancellations(self, request: web.Request) -> web.Response:
        found = await self._ctx.engine.cancellations()
        return self._enveloped([cancellation_view(each) for each in found])

    async def delete_cancellation(self, request: web.Request) -> web.Response:
        if not await self._ctx.engine.delete_cancellation(_id(request, "cancellation ID")):
            raise ApiError(404, "Cancellation not found")
        return answer({"ok": True})

    # -- from applications --

    async def signal(self, request: web.Request) -> web.Response:
        asked = await read_json(request, _Signal)
        if not asked.signal or len(asked.signal) > MAX_SIGNAL:
            raise ApiError(400, f"signal must have 1 to {MAX_SIGNAL} characters")
        data = bytes(asked.data)
        if len(data) > MAX_STEP_OUTPUT:
            message = f"The signal's data is {len(data)} bytes; {MAX_STEP_OUTPUT} are allowed"
            raise ApiError(413, message, code="output_too_large")
        passed(data, "data")
        run = await send_signal(self._ctx, asked.signal, data)
        return self._enveloped({"run_id": run})

    async def add_traces(self, request: web.Request) -> web.Response:
        """OTLP of the application's own spans: taken as the exporter expects, and let go."""
        body = await read_body(request, MAX_TRACES)
        if request.content_type == _PROTOBUF:
            return web.Response(content_type=_PROTOBUF)
        if body:
            try:
                msgspec.json.decode(body, type=Raw)
            except border.UNREADABLE as error:
                raise ApiError(400, f"OTLP request is not valid JSON: {border.reason(error)}") from None
        return raw_answer(b'{"partialSuccess":{}}')


def _id(request: web.Request, what: str) -> str:
    return check_ulid(request.match_info["id"], what)
