"""Syncs that the server starts: it asks an application to register (wire protocol section 1.5).

A ping is a ``PUT`` to the application's URL, which makes the SDK call ``POST /fn/register``. The loops here
ping what the operator named, what is registered, and what they find on the local host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Struct

from inngest.api.register import NO_SIGNING_KEY, SERVER_KIND, RegisterContext, server_kind
from inngest.core.errors import StoreUnavailable
from inngest.core.json.border import UNREADABLE
from inngest.core.json.jcs import canonical
from inngest.core.model.functions import App
from inngest.core.sdk.keyring import Keyring
from inngest.core.sdk.registration import normalise_url
from inngest.core.sdk.signing import sign
from inngest.drivers.http import HttpClient, HttpError, HttpResponse, Redirects, UnsupportedUrl
from inngest.loops.background import forever, is_own
from inngest.loops.trouble import unexpected
from inngest.ports.engine import Registered

log = structlog.get_logger("inngest.sync")

PING_SECONDS = 10.0
PROBE_SECONDS = 2.0
CONNECT_SECONDS = 0.5
DISCOVERY_SECONDS = 5.0
POLL_SECONDS = 5.0
RETRY_SECONDS = 2.0
MAX_REST_SECONDS = 60.0
"""Longest pause before a port on which something else answers, or an app that is slow to, is tried again."""
MAX_CONCURRENT = 16
"""Pings that the server makes by itself; those that somebody asks for have as many of their own."""
SLOW_SECONDS = 1.0
"""An app that does not answer in so much time is polled less and less often."""
MAX_MESSAGE = 500
UNNAMED = "an Inngest SDK"
"""What an SDK is called that does not say which one it is."""

PORTS = (80, 443, *range(3000, 3011), 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888, *range(8910, 8916))
PATHS = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")

_LOOPBACK = ("127.0.0.1", "::1")


class SyncResult(Struct, frozen=True):
    """How a ping went. ``code`` is a sync error of wire protocol section 7.2, empty if it went well;
    ``message`` is for people. ``sdk`` is what the application calls its SDK, empty if it is none.
    """

    url: str
    code: str = ""
    message: str = ""
    sdk: str = ""

    @property
    def ok(self) -> bool:
        return not self.code


class AppSync:
    """Asks applications to register.

    Args:
        ctx: the server that they are to register with.
        client: how they are called; closed by `close`.
        ports: those on the local host where ``discover`` looks.

    """

    def __init__(
        self, ctx: RegisterContext, client: HttpClient, *, ports: Sequence[int] | None = None
    ) -> None:
        self._ctx = ctx
        self._client = client
        self._ports = default_ports() if ports is None else tuple(dict.fromkeys(ports))
        self._asked = asyncio.Semaphore(MAX_CONCURRENT)
        self._own = asyncio.Semaphore(MAX_CONCURRENT)
        # Normalised URL -> until when it is not polled, and how long that pause is.
        self._slow: dict[str, tuple[float, float]] = {}
        self._failing: dict[str, str] = {}  # normalised URL -> the error that was logged
        self._errors: dict[str, str] = {}  # normalised URL of a registered app -> why it did not answer
        self._resting: dict[int, tuple[float, float]] = {}  # port -> until when, and how long that pause is

    def error_of(self, url: str) -> str:
        """What the last ping of the app that is registered at this URL came to; empty if it went well, if the
        app has registered since, or if there was none.
        """
        return self._errors.get(normalise_url(url), "")

    def registered(self, app: App) -> None:
        """It has registered, and so it runs."""
        key = normalise_url(app.url)
        self._errors.pop(key, None)
        self._slow.pop(key, None)

    async def ping(self, url: str, *, seconds: float = PING_SECONDS) -> SyncResult:
        """Ask the application at ``url`` to register, and see whether it did.

        Raises `StoreUnavailable` if it cannot be seen.
        """
        async with self._asked:
            return await self._ping(url, seconds)

    async def _ping(self, url: str, seconds: float) -> SyncResult:
        keys = self._ctx.signing_keys
        if not keys and not self._ctx.dev:
            return SyncResult(url, "missing_server_signing_key", NO_SIGNING_KEY)
        before = await self._ctx.engine.registry()
        known = {normalise_url(app.url): app for app in before.apps.values() if not app.archived}
        key = normalise_url(url)
        result = await self._ask(url, known.get(key), before, seconds)
        self._errors = {each: error for each, error in self._errors.items() if each in known}
        if result.ok:
            self._errors.pop(key, None)
        elif key in known:
            self._errors[key] = result.message
        return result

    async def _ask(self, url: str, app: App | None, before: Registered, seconds: float) -> SyncResult:
        """``app`` is the one that is registered at the URL."""
        body = canonical({"url": url})
        headers = {"Content-Type": "application/json", SERVER_KIND: server_kind(self._ctx.dev)}
        ring = Keyring(self._ctx.signing_keys)
        refused: SyncResult | None = None
        for key in ring.order(app.id, app.signed_by) if app is not None else ring.keys:
            signature = sign(body, key, self._ctx.clock() // 1000)
            signed = {**headers, "X-Inngest-Signature": signature}
            result = await self._put(url, signed, body, before, seconds)
            if result.code != "unauthorized":
                return result
            refused = refused or result
        return refused or await self._put(url, headers, body, before, seconds)

    async def _put(
        self, url: str, headers: dict[str, str], body: bytes, before: Registered, seconds: float
    ) -> SyncResult:
        try:
            # Where a signature goes along, to no other origin.
            redirects = Redirects.SAME_ORIGIN if self._ctx.signing_keys else Redirects.ANY
            response = await self._client.request(
                "PUT", url, headers, body, timeout=seconds, redirects=redirects
            )
        except UnsupportedUrl as error:
            return SyncResult(url, "unsupported_protocol", str(error))
        except HttpError as error:
            return SyncResult(url, "unreachable", str(error))
        result = judge(url, response)
        if result.ok and not _arrived(before, await self._ctx.engine.registry(), {url, response.url}):
            message = (
                "the app answered, but nothing is registered here under this URL: does it register with "
                "another server? See its INNGEST_DEV, INNGEST_BASE_URL and INNGEST_API_BASE_URL"
            )
            return SyncResult(url, "unknown", message, result.sdk)
        return result

    async def run(
        self,
        *,
        urls: Sequence[str] = (),
        discover: bool = True,
        poll_every: float | None = POLL_SECONDS,
    ) -> None:
        """Do what was asked for, if anything, until cancelled: see `watch`, `discover` and `poll`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            if urls:
                group.create_task(self.watch(urls))
            if discover:
                group.create_task(self.discover())
            if poll_every is not None:
                group.create_task(self.poll(every=poll_every))

    async def close(self) -> None:
        """Close the client. A ping that comes later finds every application unreachable."""
        await self._client.close()

    async def watch(self, urls: Sequence[str], *, every: float = RETRY_SECONDS) -> None:
        """Ping each URL until it has registered. Returns when all have."""
        pending = list(dict.fromkeys(urls))
        while pending:
            registered = await asyncio.gather(*map(self._observe, pending))
            pending = [url for url, done in zip(pending, registered, strict=True) if not done]
            if pending:
                await asyncio.sleep(every)

    async def poll(self, *, every: float = POLL_SECONDS) -> None:
        """Ping all registered applications again and again, so that new code registers. Never returns."""
        await forever("sync.poll", self._poll, every=every)

    async def _poll(self) -> None:
        urls = {normalise_url(app.url): app.url for app in await self._apps() if not app.archived}
        self._slow = {url: rest for url, rest in self._slow.items() if url in urls}
        now = asyncio.get_running_loop().time()
        due = [url for key, url in urls.items() if self._slow.get(key, (0.0, 0.0))[0] <= now]
        await asyncio.gather(*map(self._observe, due))

    async def discover(self, *, every: float = DISCOVERY_SECONDS) -> None:
        """Look for applications on the local host, on the ports without one that answers. Never returns."""

        async def look() -> None:
            known = {normalise_url(app.url) for app in await self._apps()} - self._failing.keys()
            taken = {_local_port(url) for url in known}
            await asyncio.gather(*(self._probe(port) for port in self._ports if port not in taken))
            await asyncio.sleep(every)

        await forever("sync.discover", look)

    async def _apps(self) -> Collection[App]:
        try:
            registry = await self._ctx.engine.registry()
        except StoreUnavailable as error:
            log.debug("registry is not readable", action="sync.registry", error=str(error))
            return ()
        return registry.apps.values()

    async def _observe(self, url: str) -> bool:
        """Ping, and log what is news. Whether the application has registered."""
        result = await self._ping_calmly(url, PING_SECONDS)
        if result is not None:
            self._tell(result)
        return result is not None and result.ok

    async def _probe(self, port: int) -> None:
        """Try the usual paths of a local port, quietly; less and less often if something else answers."""
        if not await _is_open(port):
            self._resting.pop(port, None)
            return
        now = asyncio.get_running_loop().time()
        until, length = self._resting.get(port, (0.0, DISCOVERY_SECONDS / 2))
        if now < until:
            return
        length = min(2 * length, MAX_REST_SECONDS)
        self._resting[port] = (now + length, length)
        for path in PATHS:
            result = await self._ping_calmly(local_url(port, path), PROBE_SECONDS)
            if result is None or result.code == "unreachable":  # nothing that speaks HTTP, or nothing yet
                return
            if result.sdk:
                self._tell(result)
                if result.ok:
                    del self._resting[port]
                return

    async def _ping_calmly(self, url: str, seconds: float) -> SyncResult | None:
        try:
            async with self._own:
                start = asyncio.get_running_loop().time()
                result = await self._ping(url, seconds)
                self._note(url, result, start)
                return result
        except StoreUnavailable as error:
            log.debug("registry is not readable", action="sync.ping", url=url, error=str(error))
            return None
        except (Exception, asyncio.CancelledError) as error:
            if is_own(error):
                raise
            unexpected("sync.ping", error, url=url)
            return None

    def _note(self, url: str, result: SyncResult, start: float) -> None:
        """Poll less often what costs so much time: others wait for the slot."""
        key, now = normalise_url(url), asyncio.get_running_loop().time()
        if result.ok or now - start < SLOW_SECONDS:
            self._slow.pop(key, None)
        else:
            _, before = self._slow.get(key, (0.0, POLL_SECONDS / 2))
            length = min(2 * before, MAX_REST_SECONDS)
            self._slow[key] = (now + length, length)

    def _tell(self, result: SyncResult) -> None:
        """Log a failure once, and that it is over; the first success is logged as a registration."""
        key = normalise_url(result.url)
        if result.ok:
            if self._failing.pop(key, None) is not None:
                log.info("app answers", action="sync.recovered", url=result.url, sdk=result.sdk)
        elif self._failing.get(key) != result.message:
            self._failing[key] = result.message
            log.warning(
                "app did not sync",
                action="sync.failed",
                url=result.url,
                code=result.code,
                error=result.message,
            )


def default_ports(environment: Mapping[str, str] = os.environ) -> tuple[int, ...]:
    """Where development servers listen, and ``$PORT``."""
    own = environment.get("PORT", "")
    extra = (int(own),) if own.isdecimal() and 0 < int(own) < 65_536 else ()
    return tuple(dict.fromkeys(PORTS + extra))


def local_url(port: int, path: str) -> str:
    """The URL of a path on a port of this host."""
    if port == 443:
        return f"https://localhost{path}"
    return f"http://localhost{path}" if port == 80 else f"http://localhost:{port}{path}"


def judge(url: str, response: HttpResponse) -> SyncResult:
    """What an application's answer to a ping means.

    The Python SDK answers 200 also when this server refused it: the refusal is then the body (wire protocol
    section 1.7).
    """
    status, sdk = response.status, response.headers.get("x-inngest-sdk", "")[:80]
    if not sdk and response.headers.get("x-inngest-sdk-handled") == "true":
        sdk = UNNAMED  # some say no more than that when they refuse, or before they can work at all
    body = _object(response.body)
    if status < 300:
        hidden = body.get("status")
        refused = isinstance(hidden, int) and hidden >= 400
        if sdk and not refused:
            return SyncResult(url, sdk=sdk)
        status = hidden if refused and isinstance(hidden, int) else 200
    text = next((v for k in ("error", "message") if isinstance(v := body.get(k), str) and v), "")
    code = _code(status, str(body.get("code", "")), text, sdk=sdk)
    said = text[:MAX_MESSAGE] or f"it answered {response.status}"
    hint = _KEYLESS if sdk == UNNAMED and code == "internal_server_error" else _HINTS.get(code)
    return SyncResult(url, code, f"{hint}: {said}" if hint else said, sdk)


def _code(status: int, code: str, text: str, *, sdk: str) -> str:
    if code in _CODES:
        return code
    if by_status := _BY_STATUS.get(status):
        return by_status
    for pattern, found in _BY_TEXT:
        if pattern.search(text):
            return found
    if not sdk:
        return "not_sdk"
    return "internal_server_error" if status == 500 else "http_not_ok"


_CODES = frozenset(
    {"sdk_version_denied", "server_kind_mismatch", "missing_server_signing_key", "unauthorized"}
)
_BY_STATUS = {401: "unauthorized", 403: "forbidden", 404: "url_not_found"}
_BY_TEXT = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"CVE-2026-42047", "sdk_version_denied"),
        (r"function is invalid|invalid function", "invalid_function"),
        (r"\bno functions", "no_functions"),
        (r"expected server kind", "server_kind_mismatch"),
        (r"invalid signing key|signing key is (?:invalid|not)", "invalid_signing_key"),
        (
            r"(?:missing|no|without a?) ?signing key|signing key (?:is )?(?:missing|required)",
            "missing_signing_key",
        ),
        (r"branch env|missing branch|branch name", "missing_branch_env_name"),
    )
)
_KEYLESS = (
    "an Inngest app that cannot work as it was started: for a dev server it needs INNGEST_DEV=1 (or this "
    "server's address), for others INNGEST_SIGNING_KEY"
)
_HINTS = {
    "forbidden": "the app does not allow this request",
    "internal_server_error": "the app failed",
    "not_sdk": "what answers is no Inngest SDK",
    "server_kind_mismatch": (
        "the app's mode is not this server's kind: with INNGEST_DEV=1 it talks to a dev server, without to "
        "one with a signing key"
    ),
    "unauthorized": "the app refused this server or was refused by it, both need the same signing key",
    "url_not_found": "nothing is served under this path, the usual one is /api/inngest",
}


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}


def _arrived(before: Registered, after: Registered, urls: Iterable[str]) -> bool:
    """Whether a registration came in between, or was there already. An app may register under another URL
    than
    the one that was pinged.
    """
    if after.version != before.version:
        return True
    wanted = set(map(normalise_url, urls))
    return any(normalise_url(app.url) in wanted for app in after.apps.values() if not app.archived)


def _local_port(url: str) -> int | None:
    """The port of a normalised URL, if it is one and on this host."""
    try:
        parts = urlsplit(url)
        if parts.hostname != "localhost":
            return None
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None


async def _is_open(port: int) -> bool:
    for host in _LOOPBACK:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return True
    return False
