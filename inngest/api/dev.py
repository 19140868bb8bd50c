"""What SDKs, test suites and tools ask of a development server (wire protocol sections 2.5 and 6.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from aiohttp import web

from inngest.api.answers import ApiError, answer, raw_answer, whole_number
from inngest.api.bodies import read_body, skip_body
from inngest.api.context import ApiContext
from inngest.api.events import SEED
from inngest.api.operations import invoke, remove_app
from inngest.api.pages import is_foreign
from inngest.api.views import function_view
from inngest.core.model.functions import App
from inngest.core.model.ids import seeded
from inngest.core.policy import MAX_TRACES
from inngest.core.sdk.registration import normalise_url

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class DevApi:
    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx

    def routes(self) -> list[web.RouteDef]:
        ctx = self._ctx
        kept = [
            web.post("/invoke/{slug}", self.invoke),
            web.delete("/fn/remove", self.remove),
            web.post("/dev/traces", self.traces),
        ]
        if not ctx.dev:
            return kept
        # They reach the executor of this process and no other one.
        return [
            *kept,
            web.post("/fn/step-limit", self._setting(ctx.limits.set_max_steps)),
            web.delete("/fn/step-limit", self._resetting(ctx.limits.set_max_steps)),
            web.post("/fn/state-size-limit", self._setting(ctx.limits.set_max_state)),
            web.delete("/fn/state-size-limit", self._resetting(ctx.limits.set_max_state)),
        ]

    def public_routes(self) -> list[web.RouteDef]:
        routes = [web.get("/dev", self.describe)]
        return [*routes, web.get("/", self.greet)] if self._ctx.dev else routes

    async def greet(self, request: web.Request) -> web.Response:
        """Tools look here whether a development server is up."""
        return answer({"message": "Inngest dev server: send events to /e/KEY", "version": self._ctx.version})

    async def describe(self, request: web.Request) -> web.Response:
        """By a 404 the SDKs know that this is no development server."""
        ctx = self._ctx
        if not ctx.dev:
            raise ApiError(404, "This is not a development server")
        if is_foreign(request):
            # SDKs in pages look whether there is a server; what it runs is not for any page to know.
            return answer({"version": ctx.version, "functions": [], "handlers": [], "startOpts": {}})
        functions = [fn for fn in ctx.registry.functions.values() if not fn.archived]
        return answer(
            {
                "version": ctx.version,
                "authed": False,
                "startOpts": ctx.start_options,
                "functions": [function_view(fn) for fn in functions],
                "handlers": [
                    {"appName": app.name, "url": app.url, "sdk": f"{app.sdk_language}:v{app.sdk_version}"}
                    for app in ctx.registry.apps.values()
                    if not app.archived
                ],
                "isSingleNodeService": False,
                "isMissingSigningKey": not ctx.signing_keys,
                "isMissingEventKeys": not ctx.event_keys,
                "features": {},
            }
        )

    async def traces(self, request: web.Request) -> web.Response:
        """OTLP, let go."""
        await skip_body(request, MAX_TRACES)
        return raw_answer(b'{"partialSuccess":{}}')

    async def invoke(self, request: web.Request) -> web.Response:
        # Here the seed counts from 0, for the events of a request from 1 (wire protocol section 8, 38).
        internal = seeded(request.headers.get(SEED, ""), 0, self._ctx.clock()) or ""
        event = await invoke(self._ctx, request.match_info["slug"], await read_body(request), internal)
        return answer({"id": event.id, "status": 200})

    async def remove(self, request: web.Request) -> web.Response:
        url = request.query.get("url", "")
        app = find_by_url(self._ctx, url)
        if app is None:
            raise ApiError(404, f"No app is registered at {url[:200]!r}")
        await remove_app(self._ctx, app)
        return answer({"ok": True, "status": 200})

    def _setting(self, change: Callable[[str, int | None], None]) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            values = await _values(request)
            text = values.get("limit", "")
            limit = whole_number(text)
            if limit is None:
                raise ApiError(400, f"Invalid limit: {text[:64]}")
            change(self._function(values), limit)
            return answer({"status": 200})

        return handle

    def _resetting(self, change: Callable[[str, int | None], None]) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            change(self._function(await _values(request)), None)
            return answer({"status": 200})

        return handle

    def _function(self, values: dict[str, str]) -> str:
        fn = self._ctx.registry.by_slug(values.get("functionId", ""))
        if fn is None:
            raise ApiError(404, f"Unknown function: {values.get('functionId', '')[:200]}")
        return fn.id


def find_by_url(ctx: ApiContext, url: str) -> App | None:
    """The app that is registered at a URL, however that is spelt."""
    wanted = normalise_url(url) if url else ""
    apps = (app for app in ctx.registry.apps.values() if not app.archived)
    return next((app for app in apps if normalise_url(app.url) == wanted), None)


async def _values(request: web.Request) -> dict[str, str]:
    """What is in the query, and in a form if that is the body."""
    form = parse_qsl((await read_body(request)).decode("utf-8", "replace"))
    return {**dict(form), **request.query}
