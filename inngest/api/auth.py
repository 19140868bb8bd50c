"""Who may use the APIs: those who know a signing key (wire protocol section 1.4), or are logged in."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from inngest.api.answers import ApiError
from inngest.api.context import ApiContext
from inngest.core.sdk.signing import bearer_matches

NO_KEY = "This server has no signing key, so it lets nobody in"


def authorise(ctx: ApiContext, request: web.Request) -> None:
    """Raises `ApiError` 401. The development server lets everybody in unless it has a signing key."""
    if ctx.session(request):
        return
    if not ctx.signing_keys and not ctx.dev:
        raise ApiError(401, NO_KEY, code="missing_server_signing_key")
    if not bearer_matches(request.headers.get("Authorization"), ctx.signing_keys):
        raise ApiError(401, "Authentication failed", code="unauthorized")


def protected(ctx: ApiContext, routes: Iterable[web.RouteDef]) -> list[web.RouteDef]:
    """The same routes, for those who may."""
    return [web.route(each.method, each.path, _guard(ctx, each.handler), **each.kwargs) for each in routes]


def _guard(ctx: ApiContext, handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        authorise(ctx, request)
        return await handler(request)

    return guarded
