"""``GET /v1/runs``: runs by status, function, app, time and conditions, page by page.

A wrong filter would show too much or hide what is looked for, so that every parameter that is not
understood is refused, all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from inngest.api.answers import ApiError, limit_parameter, listed, time_parameter
from inngest.api.context import ApiContext
from inngest.api.paging import decode_cursor, encode_cursor, page_of_runs
from inngest.api.search import RUN_VARIABLES, RunQuery, parse_query
from inngest.api.views import listed_run_view
from inngest.core.json.border import UNREADABLE
from inngest.core.model.runs import RunStatus
from inngest.ports.data import RunFilter, TimeField

MAX_RUNS = 100
MAX_MESSAGE = 500
"""Characters of an error's name and message, as a list tells them."""
_ERRORS_AT_ONCE = 10
"""Outputs of failed runs that are in memory together."""

_PARAMETERS = (
    "status",
    "function",
    "app",
    "since",
    "until",
    "time_field",
    "query",
    "order",
    "cursor",
    "limit",
)
_STATUSES = {name.lower(): status for status in RunStatus for name in (status.name, status.value)}
_TIME_FIELDS = {
    "queued_at": TimeField.QUEUED,
    "started_at": TimeField.STARTED,
    "ended_at": TimeField.ENDED,
}
_ORDERS = {"desc": True, "asc": False}

T = TypeVar("T")


class RunList:
    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/runs", self.list_runs)]

    async def list_runs(self, request: web.Request) -> web.Response:
        read = _Parameters(request)
        unknown = [name for name in dict.fromkeys(request.query) if name not in _PARAMETERS]
        if unknown:
            read.problems.append(
                f"unknown parameters: {', '.join(map(repr, unknown))}; there are {', '.join(_PARAMETERS)}"
            )
        apps = read.each("app", self._app)
        field = read.one("time_field", TimeField.QUEUED, lambda text: _choice(_TIME_FIELDS, text))
        query = RunQuery(
            where=RunFilter(
                statuses=frozenset(read.each("status", lambda text: _choice(_STATUSES, text, _shown()))),
                fns=frozenset(read.each("function", lambda text: self._function(text, apps))),
                apps=frozenset(apps),
                field=field,
                since=read.checked(lambda: time_parameter(request, "since"), 0),
                until=read.checked(lambda: time_parameter(request, "until"), 0),
            ),
            order=field,
            descending=read.one("order", True, lambda text: _choice(_ORDERS, text)),
            conditions=read.checked(
                lambda: parse_query("\n".join(request.query.getall("query", ())), RUN_VARIABLES), None
            ),
        )
        after = read.one("cursor", None, decode_cursor)
        limit = read.checked(lambda: limit_parameter(request, 20, MAX_RUNS), 20)
        read.refuse()
        page = await page_of_runs(self._ctx, query, after, limit)
        errors = await self._errors([run.id for run in page.found if run.failed])
        return listed(
            [listed_run_view(run, errors.get(run.id)) for run in page.found],
            self._ctx.clock(),
            cursor=encode_cursor(page.after) if page.after is not None else None,
            limit=limit,
        )

    def _app(self, text: str) -> str:
        """The name of an app, of which its UUID is given, or the name."""
        for app in self._ctx.registry.apps.values():
            if text in {app.name, app.id}:
                return app.name
        raise ApiError(400, f"there is no app {text[:64]!r}")

    def _function(self, text: str, apps: Sequence[str]) -> str:
        """The UUID of a function, also of one that was removed. A UUID is taken as it is: runs outlive what
        is known of their functions.
        """
        with suppress(ValueError):
            return str(UUID(text))
        known = self._ctx.registry.functions.values()
        slugs = {text, *(f"{app}-{text}" for app in apps)}
        found = [fn.id for fn in known if fn.slug in slugs and (not apps or fn.app in apps)]
        if not found:
            of = f" of {', '.join(map(repr, apps))}" if apps else ""
            raise ApiError(400, f"there is no function {text[:64]!r}{of}")
        return found[0]

    async def _errors(self, failed: Sequence[str]) -> dict[str, dict[str, Any]]:
        errors: dict[str, dict[str, Any]] = {}
        for start in range(0, len(failed), _ERRORS_AT_ONCE):
            outputs = await self._ctx.data.outputs(failed[start : start + _ERRORS_AT_ONCE])
            errors.update((run, _error(output)) for run, output in outputs.items())
        return errors


class _Parameters:
    """Reads the parameters of a request, and gathers what is wrong with them."""

    def __init__(self, request: web.Request) -> None:
        self._query = request.query
        self.problems: list[str] = []

    def each(self, name: str, read: Callable[[str], T]) -> list[T]:
        """Of a parameter that may be given several times, or once with commas between."""
        texts = [text.strip() for value in self._query.getall(name, ()) for text in value.split(",")]
        return [value for text in texts if text and (value := self._read(name, text, read)) is not None]

    def one(self, name: str, default: T, read: Callable[[str], T]) -> T:
        text = self._query.get(name)
        value = self._read(name, text, read) if text else None
        return default if value is None else value

    def _read(self, name: str, text: str, read: Callable[[str], T]) -> T | None:
        try:
            return read(text)
        except ApiError as error:
            self.problems.append(f"{name}: {error.message}")
            return None

    def checked(self, read: Callable[[], T], default: T) -> T:
        """Of what names its parameter itself."""
        try:
            return read()
        except ApiError as error:
            self.problems.append(error.message)
            return default

    def refuse(self) -> None:
        """Raises `ApiError` 400 if anything is wrong."""
        if self.problems:
            raise ApiError(400, "; ".join(self.problems[:10]), code="invalid_parameters")


def _choice(known: dict[str, T], text: str, shown: str = "") -> T:
    try:
        return known[text.lower()]
    except KeyError:
        raise ApiError(400, f"{text[:64]!r} is not one of {shown or ', '.join(known)}") from None


def _shown() -> str:
    return ", ".join(RunStatus)


class _Error(msgspec.Struct):
    name: object = None
    message: object = None
    error: object = None


def _error(output: bytes) -> dict[str, Any]:
    """Name and message of what a run failed with, cut to the length of a list."""
    try:
        told = msgspec.json.decode(output, type=_Error)
    except UNREADABLE:  # the output of a failed run may be anything
        return {"name": None, "message": output[:MAX_MESSAGE].decode("utf-8", "replace")}
    message = told.message if told.message is not None else told.error
    return {"name": _cut(told.name), "message": _cut(message)}


def _cut(value: object) -> str | None:
    return None if value is None else str(value)[:MAX_MESSAGE]
