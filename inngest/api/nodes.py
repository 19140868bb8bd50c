"""What GraphQL shows, as mappings. A value that is a function is resolved only when it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from inngest.api.answers import optional_time
from inngest.api.context import ApiContext
from inngest.api.loader import Loader
from inngest.api.operations import payloads
from inngest.core.json.border import UNREADABLE
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.records import RunRecord
from inngest.core.sdk.traces import Span, SpanStatus, StepOp, assemble, output_id, root_span, trace_id
from inngest.core.timing.times import rfc3339
from inngest.ports.data import Count

_AT_ONCE = 100
"""Runs or events that are read together."""

Node: TypeAlias = dict[str, Any]


class Nodes:
    """Makes nodes of what the stores hold."""

    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx
        data = ctx.data
        self._events = Loader(self._events_by_id, most=_AT_ONCE)
        self._runs_of = Loader(data.runs_of, most=_AT_ONCE)
        self._outputs = Loader(data.outputs, most=_AT_ONCE)
        self._histories = Loader(data.history, most=_AT_ONCE)

    async def _events_by_id(self, ids: Sequence[str]) -> dict[str, Event]:
        return {event.id: event for event in await self._ctx.data.events_by_id(ids)}

    # -- apps and functions --

    def app(self, app: App) -> Node:
        functions = [fn for fn in self._ctx.registry.functions.values() if fn.app_id == app.id]
        live = sorted((fn for fn in functions if not fn.archived), key=lambda fn: fn.slug)
        error = app.error or ("" if app.archived else self._ctx.app_error(app.url))
        return {
            "id": app.id,
            "externalID": app.name,
            "name": app.name,
            "url": app.url,
            "method": "CONNECT" if app.url.startswith(("ws:", "wss:")) else "SERVE",
            "sdkLanguage": app.sdk_language,
            "sdkVersion": app.sdk_version,
            "framework": app.framework or None,
            "appVersion": app.version or None,
            "checksum": app.checksum or None,
            "error": error or None,
            "connected": not error and not app.archived,
            "autodiscovered": False,
            "functionCount": len(live),
            "functions": lambda _: [self.function(fn) for fn in live],
            "createdAt": optional_time(app.synced),
            "updatedAt": optional_time(app.synced),
        }

    def function(self, fn: Function) -> Node:
        return {
            "id": fn.id,
            "name": fn.name,
            "slug": fn.slug,
            "url": fn.url,
            "appID": fn.app_id,
            "app": lambda _: self.app(self._app_of(fn)),
            "version": fn.version,
            "isPaused": fn.paused,
            "isArchived": fn.archived,
            "triggers": [
                {
                    "type": "CRON" if trigger.cron else "EVENT",
                    "value": trigger.cron or trigger.event,
                    "condition": trigger.expression or None,
                }
                for trigger in fn.triggers
            ],
            "config": lambda _: msgspec.json.encode(fn).decode(),
        }

    def _app_of(self, fn: Function) -> App:
        return self._ctx.registry.apps.get(fn.app_id) or App(id=fn.app_id, name=fn.app, url=fn.url)

    # -- runs --

    def run(self, record: RunRecord) -> Node:
        """Of a record with its output or, from a list, without."""
        fn = self._ctx.registry.functions.get(record.fn)

        async def event_name(_: Any) -> str | None:
            return await self._event_name(record)

        async def output(_: Any) -> str | None:
            return _text((await self._whole(record)).output)

        async def trace(_: Any, *, preview: bool | None = None) -> Node:
            return await self.trace(record)

        async def has_ai(_: Any) -> bool:
            history = await self._history(record)
            return any(span.op is StepOp.AI for span in assemble(record, history).walk())

        return {
            "id": record.id,
            "appID": fn.app_id if fn is not None else None,
            "functionID": record.fn,
            "app": lambda _: self.app(self._app_of(fn)) if fn is not None else None,
            "function": self._function_of(record),
            "traceID": trace_id(record.id),
            "queuedAt": rfc3339(record.queued),
            "startedAt": optional_time(record.started),
            "endedAt": optional_time(record.ended),
            "finishedAt": optional_time(record.ended),
            "status": root_span(record).status.value,
            "output": output,
            "triggerIDs": record.events,
            "eventName": event_name,
            "eventID": record.events[0] if record.events else None,
            "event": self._event_of(record),
            "events": self._events_of(record),
            "isBatch": bool(record.batch),
            "batchID": record.batch or None,
            "batchCreatedAt": optional_time(record.queued) if record.batch else None,
            "cron": record.cron or None,
            "cronSchedule": record.cron or None,
            "originalRunID": record.original or None,
            "skipReason": record.reason or None,
            "hasAI": has_ai,
            "trace": trace,
        }

    async def _whole(self, record: RunRecord) -> RunRecord:
        """With its output, which records of lists lack."""
        if record.output is not None or not record.ended:
            return record
        return replace(record, output=await self._outputs.get(record.id))

    async def _history(self, record: RunRecord) -> list[History]:
        return await self._histories.get(record.id) or []

    async def _first_event(self, record: RunRecord) -> Event | None:
        return await self._events.get(record.events[0]) if record.events else None

    def _function_of(self, record: RunRecord) -> Callable[[Any], Node | None]:
        def resolve(_: Any) -> Node | None:
            fn = self._ctx.registry.functions.get(record.fn)
            return self.function(fn) if fn is not None else None

        return resolve

    def _event_of(self, record: RunRecord) -> Callable[[Any], Any]:
        async def resolve(_: Any) -> Node | None:
            event = await self._first_event(record)
            return self.event(event) if event is not None else None

        return resolve

    def _events_of(self, record: RunRecord) -> Callable[[Any], Any]:
        async def resolve(_: Any) -> list[Node]:
            events = await asyncio.gather(*map(self._events.get, record.events))
            return [self.event(event) for event in events if event is not None]

        return resolve

    async def _event_name(self, record: RunRecord) -> str | None:
        if record.cron:
            return None
        event = await self._first_event(record)
        return event.name if event is not None else None

    async def trigger(self, record: RunRecord) -> Node:
        found = await payloads(self._ctx, record)
        first = _Trigger(name=None)
        with suppress(*UNREADABLE):  # the data store is not ours alone
            first = msgspec.json.decode(found[0], type=_Trigger) if found else first
        return {
            "eventName": None if record.cron else first.name,
            "IDs": record.events,
            "payloads": [_text(payload) for payload in found],
            "timestamp": rfc3339(first.ts or record.queued),
            "isBatch": bool(record.batch),
            "batchID": record.batch or None,
            "cron": record.cron or None,
        }

    # -- traces --

    async def trace(self, record: RunRecord) -> Node:
        record, history = await asyncio.gather(self._whole(record), self._history(record))
        return self._span(record, assemble(record, history))

    def _span(self, record: RunRecord, span: Span) -> Node:
        fn = self._ctx.registry.functions.get(record.fn)
        root = not span.parent
        begun = span.started or span.queued
        until = span.ended or (self._ctx.clock() if span.started else 0)
        return {
            "appID": fn.app_id if fn is not None else None,
            "functionID": record.fn,
            "runID": record.id,
            "traceID": trace_id(record.id),
            "spanID": span.id,
            "parentSpanID": span.parent or None,
            "isRoot": root,
            "name": span.name,
            "status": span.status.value,
            "attempts": span.attempts or None,
            "duration": max(0, until - begun) if until else None,
            "outputID": output_id(record.id, span),
            "queuedAt": rfc3339(span.queued),
            "startedAt": optional_time(span.started),
            "endedAt": optional_time(span.ended),
            "childrenSpans": lambda _: [self._span(record, child) for child in span.children],
            "stepOp": span.op.value if span.op is not None else None,
            "stepID": span.step or None,
            "stepInfo": _step_info(span),
            "stepType": span.type,
            "isUserland": False,
            "metadata": [],
            "skipReason": record.reason or None if root else None,
            "skipExistingRunID": record.existing or None if root else None,
            "debugPaused": False,
        }

    async def span_output(self, record: RunRecord, span_id: str) -> Node | None:
        """What the span with that id led to."""
        span = root_span(record)
        if span.id != span_id:
            history = await self._history(record)
            spans = assemble(record, history).walk()
            span = next((each for each in spans if each.id == span_id), span)
            if span.id != span_id:
                return None
        failed = span.status is SpanStatus.FAILED and span.error is not None
        return {
            "input": _text(span.input),
            "data": _text(span.output),
            "error": _error(span.error) if failed and span.error is not None else None,
        }

    # -- events --

    def event(self, event: Event) -> Node:
        async def runs(_: Any) -> list[Node]:
            return [self.run(record) for record in await self._runs_of.get(event.id) or ()]

        async def total(_: Any) -> int:
            return len(await self._runs_of.get(event.id) or ())

        return {
            "id": event.id,
            "externalID": event.external_id or None,
            "idempotencyKey": event.key,
            "name": event.name,
            "createdAt": rfc3339(event.received),
            "occurredAt": rfc3339(event.ts),
            "receivedAt": rfc3339(event.received),
            "payload": lambda _: _text(bytes(event.data)),
            "raw": lambda _: _text(event.payload),
            "version": event.v,
            "functionRuns": runs,
            "runs": runs,
            "totalRuns": total,
        }

    def stream_item(self, event: Event) -> Node:
        node = self.event(event)
        return {
            "id": event.id,
            "trigger": event.name,
            "type": "EVENT",
            "createdAt": rfc3339(event.received),
            "inBatch": False,
            "runs": node["runs"],
        }


class _Trigger(msgspec.Struct):
    name: str | None
    ts: int = 0


def connection(
    edges: list[tuple[str, Node]],
    *,
    following: str | None,
    after: str | None,
    total: Callable[[], Awaitable[Count]],
) -> Node:
    """A page: edges by cursor; after ``following``, if that is one, comes more. ``total`` counts, if anybody
    wants to know.
    """
    counting: asyncio.Future[Count] | None = None

    def count() -> asyncio.Future[Count]:
        nonlocal counting
        counting = counting or asyncio.ensure_future(total())
        return counting

    async def number(_: Any) -> int:
        return (await count()).number

    async def exact(_: Any) -> bool:
        return (await count()).exact

    return {
        "edges": [{"cursor": cursor, "node": node} for cursor, node in edges],
        "pageInfo": {
            "hasNextPage": following is not None,
            "hasPreviousPage": bool(after),
            "startCursor": edges[0][0] if edges else None,
            "endCursor": following or (edges[-1][0] if edges else None),
        },
        "totalCount": number,
        "totalCountExact": exact,
    }


def _text(value: bytes | None) -> str | None:
    """Whatever the bytes are: one bad text must not fail the answer with all the others."""
    return value.decode("utf-8", "replace") if value is not None else None


def _error(raw: bytes) -> Node:
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:  # the data store is not ours alone
        value = None
    if not isinstance(value, Mapping):
        return {"message": value if isinstance(value, str) else _text(raw)}
    message = value.get("message") or value.get("error")
    name, stack = value.get("name"), value.get("stack")
    return {
        "message": message if isinstance(message, str) else _text(raw),
        "name": name if isinstance(name, str) else None,
        "stack": stack if isinstance(stack, str) else None,
        "cause": value.get("cause"),
    }


def _step_info(span: Span) -> Node | None:
    wait = span.wait
    if wait is None:
        return {"__typename": "RunStepInfo", "type": span.type or None} if span.step else None
    until = rfc3339(wait.until)
    match span.op:
        case StepOp.SLEEP:
            return {"__typename": "SleepStepInfo", "sleepUntil": until}
        case StepOp.WAIT:
            return {
                "__typename": "WaitForEventStepInfo",
                "eventName": wait.event,
                "expression": wait.expression or None,
                "timeout": until,
                "foundEventID": wait.found or None,
                "timedOut": wait.timed_out,
            }
        case StepOp.INVOKE:
            return {
                "__typename": "InvokeStepInfo",
                "triggeringEventID": wait.event,
                "functionID": wait.function,
                "timeout": until,
                "returnEventID": wait.found or None,
                "runID": wait.run or None,
                "timedOut": wait.timed_out,
            }
        case StepOp.SIGNAL:
            return {
                "__typename": "WaitForSignalStepInfo",
                "signal": wait.signal,
                "timeout": until,
                "timedOut": wait.timed_out,
            }
        case _:
            return None
