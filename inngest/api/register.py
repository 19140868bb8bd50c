"""``POST /fn/register``: applications tell what functions they have (wire protocol section 1.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid5

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from inngest.api.answers import ApiError
from inngest.api.bodies import read_body
from inngest.api.succession import others_at, succeed
from inngest.core.errors import StoreUnavailable
from inngest.core.model.functions import App, Function
from inngest.core.sdk.keyring import fingerprint
from inngest.core.sdk.registration import InvalidRegistration, Registration, parse_registration
from inngest.core.sdk.signing import bearer_key
from inngest.ports.engine import EngineStore

log = structlog.get_logger("inngest.register")

SERVER_KIND = "X-Inngest-Server-Kind"
EXPECTED_KIND = "X-Inngest-Expected-Server-Kind"
NO_SIGNING_KEY = "this server has no signing key, which it needs to know its applications"


class RegisterContext(Protocol):
    """What registering needs of the server. The clock tells Unix epoch milliseconds."""

    @property
    def engine(self) -> EngineStore: ...
    @property
    def signing_keys(self) -> Sequence[str]: ...
    @property
    def dev(self) -> bool: ...
    def clock(self) -> int: ...
    def new_id(self) -> str: ...


class Outcome(Struct):
    """What registering came to. If not ``modified``, everything was registered like this before."""

    app: App
    functions: list[Function]
    modified: bool
    sync_id: str


def server_kind(dev: bool) -> str:
    """The kind that SDKs compare with their own mode (wire protocol section 1.2)."""
    return "dev" if dev else "cloud"


async def register(ctx: RegisterContext, registration: Registration) -> Outcome:
    """Make a registration the state of its app, in one write: its functions replace those the app had.
    Schedules are derived from that by the runners. Another app at its URL loses its place: see
    `succession`.

    What is registered already is not written again. A function stays paused; its version grows when it
    changes.

    Raises `StoreUnavailable`; repeating is safe.
    """
    known = await ctx.engine.registry()
    before = known.apps.get(registration.app.id)
    functions = [_succeeding(fn, known.functions.get(fn.id)) for fn in registration.functions]
    present = {fn.id: fn for fn in functions}
    former = [fn for fn in known.functions.values() if fn.app_id == registration.app.id]
    live = {fn.id: fn for fn in former if not fn.archived}
    modified = before != replace(registration.app, synced=before.synced if before else 0) or live != present
    app = before
    others = others_at(known, registration.app)
    if app is None or modified or any(each.synced >= app.synced for each in others):
        modified = True
        # Clocks differ: who comes later has the later time.
        app = replace(registration.app, synced=max(ctx.clock(), *(each.synced + 1 for each in others), 0))
        await ctx.engine.put_app(app, functions)
        await succeed(ctx, app)
    elif others:
        await succeed(ctx, app)
    sync_id = str(uuid5(UUID(app.id), ctx.new_id()))
    return Outcome(app=app, functions=functions, modified=modified, sync_id=sync_id)


def _succeeding(fn: Function, before: Function | None) -> Function:
    """The function with what outlives a sync."""
    if before is None:
        return fn
    same = replace(fn, paused=before.paused, version=before.version)
    return same if same == replace(before, archived=False) else replace(same, version=before.version + 1)


class RegisterApi:
    """The registration endpoint. Every answer is JSON, and has its status in the body, where TypeScript SDKs
    look for it.

    Args:
        ctx: the server.
        registered: told of each application that came with something new, and how many functions it has.
        alive: told of each one that has registered, which therefore runs.
    """

    def __init__(
        self,
        ctx: RegisterContext,
        registered: Callable[[App, int], None] | None = None,
        *,
        alive: Callable[[App], None] | None = None,
    ) -> None:
        self._alive = alive
        self._ctx = ctx
        self._registered = registered

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/fn/register", self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        refusal = self._unauthorised(request) or self._wrong_kind(request)
        if refusal is not None:
            return refusal
        try:
            registration = parse_registration(await read_body(request))
        except web.HTTPRequestEntityTooLarge:
            return self._error(413, "Invalid request: the body is too large")
        except ApiError as error:
            return self._error(error.status, f"Invalid request: {error.message}", code=error.code)
        except InvalidRegistration as error:
            log.warning(
                "registration refused",
                action="app.refused",
                code=error.code,
                error=str(error),
                app=_sender(request),
            )
            return self._error(400, str(error), code=error.code)
        try:
            key = bearer_key(request.headers.get("Authorization"), self._ctx.signing_keys)
            if key is not None:
                registration.app = replace(registration.app, signed_by=fingerprint(key))
            outcome = await register(self._ctx, registration)
        except StoreUnavailable as error:
            log.error("registration cannot be stored", action="app.register", error=str(error))
            return self._error(503, "the server's store does not answer: try again")
        app = outcome.app
        if self._alive is not None:
            self._alive(app)
        tell = log.info if outcome.modified else log.debug
        tell(
            "app registered",
            action="app.registered",
            app=app.name,
            url=app.url,
            functions=len(outcome.functions),
            modified=outcome.modified,
            sdk=f"{app.sdk_language}:v{app.sdk_version}",
        )
        if outcome.modified and self._registered is not None:
            self._registered(app, len(outcome.functions))
        return self._answer(
            200,
            {"ok": True, "modified": outcome.modified, "sync_id": outcome.sync_id, "app_id": app.id},
        )

    def _unauthorised(self, request: web.Request) -> web.Response | None:
        keys = self._ctx.signing_keys
        if not keys and not self._ctx.dev:
            return self._error(401, NO_SIGNING_KEY, code="missing_server_signing_key")
        if not keys or bearer_key(request.headers.get("Authorization"), keys) is not None:
            return None
        log.warning("registration not authenticated", action="app.refused", app=_sender(request))
        message = "Authentication failed: the app's signing key is not this server's"
        return self._error(401, message, code="unauthorized")

    def _wrong_kind(self, request: web.Request) -> web.Response | None:
        kind, expected = server_kind(self._ctx.dev), request.headers.get(EXPECTED_KIND)
        if not expected or expected == kind:
            return None
        return self._error(400, f"Expected server kind {expected}, got {kind}")

    def _error(self, status: int, message: str, *, code: str = "") -> web.Response:
        body: dict[str, Any] = {"status": status, "error": message, "data": None}
        return self._answer(status, {"code": code, **body} if code else body)

    def _answer(self, status: int, body: dict[str, Any]) -> web.Response:
        return web.Response(
            status=status,
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers={SERVER_KIND: server_kind(self._ctx.dev)},
        )


def _sender(request: web.Request) -> str:
    """Who it was, as far as one can say of a request that was not understood."""
    return request.headers.get("X-Inngest-SDK", "unknown SDK")[:80]
