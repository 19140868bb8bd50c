"""The HTTP/1.1 client that calls applications."""

from __future__ import annotations

import asyncio
import ssl
from enum import StrEnum

from inngest.drivers.http.connection import HttpResponse
from inngest.drivers.http.destinations import Destinations
from inngest.drivers.http.dial import Dialer
from inngest.drivers.http.errors import ForeignRedirect, HttpClientClosed, StaleConnection, TooManyRedirects
from inngest.drivers.http.head import Headers, encode_head, harmless
from inngest.drivers.http.pool import Pool
from inngest.drivers.http.target import Target
from inngest.loops.room import Room

# A 303 asks for a GET of something else, whose body would pass for the answer to the POST: it is returned as
# it stands.
_REDIRECTS = frozenset((301, 302, 307, 308))
_KNOWN_ORIGINS = 256
MAX_REDIRECTS = 5


class Redirects(StrEnum):
    """Which redirects a request follows, and with what."""

    NONE = "none"
    SAME_ORIGIN = "same origin"
    """As the request was. One to another origin is an error: what an application is sent is for it alone."""
    ANY = "any"
    """To another origin without the headers that may let somebody in, and without what stood in the query."""


class HttpClient:
    """Calls applications over kept HTTP/1.1 connections, with little work a call.

    One client belongs to one event loop. ``max_connections_per_host`` holds for each scheme, host and port;
    further calls wait in order of arrival. ``idle_seconds`` is how long an unused connection is kept, less if
    the peer's ``Keep-Alive`` header says so. ``connect_timeout`` in seconds covers name resolution, TCP and
    TLS together. ``max_body`` is the most bytes of a response body after its content coding is undone.
    ``ssl_context`` holds trust and client certificate for https, by default the system's trust.
    ``destinations`` says where it may connect, by default anywhere but to metadata services.
    """

    def __init__(
        self,
        *,
        max_connections_per_host: int = 1000,
        idle_seconds: float = 60,
        connect_timeout: float = 10,
        max_body: int = 8 * 1024 * 1024,
        max_redirects: int = MAX_REDIRECTS,
        ssl_context: ssl.SSLContext | None = None,
        room: Room | None = None,
        destinations: Destinations | None = None,
    ) -> None:
        if max_connections_per_host < 1:
            raise ValueError(f"max_connections_per_host is {max_connections_per_host}, must be at least 1")
        self._limit = max_connections_per_host
        self._idle_seconds = idle_seconds
        self._max_body = max_body
        self._room = room
        self._max_redirects = max_redirects
        self._dialer = Dialer(
            connect_timeout=connect_timeout, ssl_context=ssl_context, destinations=destinations
        )
        self._pools: dict[str, Pool] = {}
        self._closed = False

    @staticmethod
    def target(url: str) -> Target:
        """``url`` taken apart, to be passed to :meth:`request` in its place. Raises UnsupportedUrl."""
        return Target.parse(url)

    async def request(
        self,
        method: str,
        url: str | Target,
        headers: Headers,
        body: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 -- one loop timer, cheaper than a cancel scope around each call
        redirects: Redirects = Redirects.SAME_ORIGIN,
    ) -> HttpResponse:
        """Send a request and read the whole response.

        ``timeout`` in seconds covers everything: the queue, connecting, redirects, and the response to its
        last byte. Redirects (301, 302, 307, 308) repeat method, headers and body, as far as
        ``redirects`` allows. A request is sent a second time when a kept connection turns out to have been
        closed before it, see :meth:`_exchange`.

        Raises InvalidHeader before anything is sent, UnsupportedUrl then or for a redirect; HttpUnreachable,
        HttpTimeout, HttpForbidden, HttpProtocolError, HttpTooLarge, ForeignRedirect, TooManyRedirects,
        HttpClientClosed. Cancellation closes the connection in use.
        """
        target = Target.parse(url) if isinstance(url, str) else url
        deadline = asyncio.get_running_loop().time() + timeout
        response = await self._exchange(method, target, headers, body, deadline=deadline, seconds=timeout)
        if response.status not in _REDIRECTS or redirects is Redirects.NONE:
            return response
        for _ in range(self._max_redirects):
            location = response.headers.get("location")
            if location is None:
                return response
            following = target.redirected(location)
            if following.origin != target.origin:
                if redirects is not Redirects.ANY:
                    raise ForeignRedirect(target.where, origin=following.origin)
                headers = harmless(headers)
            target = following
            response = await self._exchange(method, target, headers, body, deadline=deadline, seconds=timeout)
            if response.status not in _REDIRECTS:
                return response
        raise TooManyRedirects(response.url, limit=self._max_redirects)

    async def close(self) -> None:
        """Drop all connections and wait until they are gone; calls in flight fail with HttpClientClosed."""
        self._closed = True
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    async def _exchange(
        self, method: str, target: Target, headers: Headers, body: bytes, *, deadline: float, seconds: float
    ) -> HttpResponse:
        """One request and its response, on a kept connection if there is one.

        A peer may close an idle connection while we are about to write to it. If it is certain that it did
        so before it had anything of the request, this is sent once more, on a new connection. If it had, it
        may have run: that is an attempt, which only the caller may repeat.
        """
        head = encode_head(method, target, headers, len(body))
        head_only = method == "HEAD"
        pool = self._pools.get(target.origin) or self._open_pool(target)
        connection = pool.borrow_idle() or await pool.borrow(deadline=deadline, seconds=seconds)
        try:
            try:
                return await connection.send(
                    head, body, target, head_only=head_only, deadline=deadline, seconds=seconds
                )
            except StaleConnection:
                connection = await pool.dial(deadline=deadline, seconds=seconds)
            return await connection.send(
                head, body, target, head_only=head_only, deadline=deadline, seconds=seconds
            )
        finally:
            pool.release(connection)

    def _open_pool(self, target: Target) -> Pool:
        if self._closed:
            raise HttpClientClosed
        if len(self._pools) >= _KNOWN_ORIGINS:
            self._pools = {origin: pool for origin, pool in self._pools.items() if not pool.unused}
        pool = self._pools[target.origin] = Pool(
            target,
            self._dialer,
            limit=self._limit,
            idle_seconds=self._idle_seconds,
            max_body=self._max_body,
            room=self._room,
        )
        return pool
