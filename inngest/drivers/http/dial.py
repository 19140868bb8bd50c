"""Opening connections: names resolved through a short-lived cache, all addresses tried, TLS on top."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from functools import cached_property

from inngest.drivers.http.connection import Connection
from inngest.drivers.http.destinations import Destinations
from inngest.drivers.http.errors import HttpForbidden, HttpTimeout, HttpUnreachable
from inngest.drivers.http.target import Target

DNS_CACHE_SECONDS = 30.0
_DNS_CACHE_ENTRIES = 1024

ATTEMPT_DELAY_SECONDS = 0.25
"""How long one address may take before the next one is tried beside it (RFC 8305's recommended delay)."""

# Half-open peers behind a 2 h response are found out by the kernel: first probe after 60 s, dead after 6
# unanswered ones.
_KEEPALIVE_OPTIONS = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))

_Factory = Callable[[], Connection]


class Dialer:
    """Opens TCP and TLS connections to targets.

    ``connect_timeout`` in seconds covers name resolution, TCP and TLS. ``ssl_context`` is by default the
    system's trust, loaded at the first https target. ``destinations`` says which addresses may be dialled.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        ssl_context: ssl.SSLContext | None,
        destinations: Destinations | None = None,
    ) -> None:
        self._destinations = destinations or Destinations()
        self._connect_timeout = connect_timeout
        self._given_context = ssl_context
        self._resolved: dict[str, tuple[float, asyncio.Task[list[str]]]] = {}

    async def dial(self, target: Target, factory: _Factory, *, deadline: float, seconds: float) -> Connection:
        """A new connection made by ``factory``.

        ``deadline`` is the caller's, on the loop's clock, and ``seconds`` the whole time-out it stands for.
        Raises HttpUnreachable, HttpForbidden and HttpTimeout.
        """
        loop = asyncio.get_running_loop()
        limit = loop.time() + self._connect_timeout
        context = self._ssl_context if target.scheme == "https" else None
        try:
            async with asyncio.timeout_at(min(limit, deadline)):
                addresses = self._allowed(target, await self._resolve(loop, target))
                try:
                    return await _connect_first(target, addresses, factory, context)
                except OSError:
                    # The host may have moved: the next attempt asks again.
                    self._resolved.pop(target.host, None)
                    raise
        except TimeoutError as error:
            doing = "connecting to"
            if limit < deadline:
                raise HttpTimeout(
                    target.where, phase="connect", seconds=self._connect_timeout, doing=doing
                ) from error
            raise HttpTimeout(target.where, phase="total", seconds=seconds, doing=doing) from error
        except OSError as error:
            raise HttpUnreachable(target.where, _reason(error)) from error

    def _allowed(self, target: Target, addresses: list[str]) -> list[str]:
        """Those that may be dialled. Raises HttpForbidden if none may."""
        refusals = {address: self._destinations.refusal(target.host, address) for address in addresses}
        allowed = [address for address in addresses if not refusals[address]]
        if not allowed:
            raise HttpForbidden(target.where, refusals)
        return allowed

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        if self._given_context is not None:
            return self._given_context
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def _resolve(self, loop: asyncio.AbstractEventLoop, target: Target) -> list[str]:
        """The addresses of a host, one or more. Concurrent callers share a look-up; failures are not kept."""
        host = target.host
        known = self._resolved.get(host)
        if known is None or known[0] <= loop.time():
            self._prune(loop.time())
            lookup = loop.create_task(_look_up(loop, host))
            lookup.add_done_callback(_heard)
            known = self._resolved[host] = loop.time() + DNS_CACHE_SECONDS, lookup
        try:
            # Shielded: one caller's cancellation is not the others'.
            return await asyncio.shield(known[1])
        except OSError as error:
            if self._resolved.get(host) is known:
                del self._resolved[host]
            raise HttpUnreachable(target.where, f"the name does not resolve: {_reason(error)}") from error

    def _prune(self, now: float) -> None:
        if len(self._resolved) >= _DNS_CACHE_ENTRIES:
            self._resolved = {host: entry for host, entry in self._resolved.items() if entry[0] > now}


def _heard(lookup: asyncio.Task[list[str]]) -> None:
    """Those who wait for a look-up are told of its error; there may be nobody left."""
    if not lookup.cancelled():
        lookup.exception()


async def _look_up(loop: asyncio.AbstractEventLoop, host: str) -> list[str]:
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:  # a label over 63 characters
        raise OSError(str(error)) from error
    if not found:
        raise OSError("the name has no address")
    return [str(sockaddr[0]) for *_, sockaddr in found]


async def _connect(
    target: Target, address: str, factory: _Factory, context: ssl.SSLContext | None
) -> Connection:
    # By address and not with a socket of our own: uvloop closes a given socket's descriptor a second time
    # when the transport was closed before create_connection returned.
    transport, connection = await asyncio.get_running_loop().create_connection(
        factory,
        address,
        target.port,
        ssl=context,
        server_hostname=target.host.rstrip(".") if context else None,
    )
    sock = transport.get_extra_info("socket")
    if sock is not None:  # else the peer hung up at once
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE_OPTIONS:
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connection


async def _connect_first(
    target: Target, addresses: list[str], factory: _Factory, context: ssl.SSLContext | None
) -> Connection:
    """Race the addresses in order, each with a head start over the next ("happy eyeballs", RFC 8305)."""
    if len(addresses) == 1:
        return await _connect(target, addresses[0], factory, context)
    remaining = list(reversed(addresses))
    attempts: set[asyncio.Task[Connection]] = set()
    errors: list[OSError] = []
    winner: Connection | None = None
    try:
        while remaining or attempts:
            if remaining:
                attempt = _connect(target, remaining.pop(), factory, context)
                attempts.add(asyncio.create_task(attempt))
            done, attempts = await asyncio.wait(
                attempts,
                timeout=ATTEMPT_DELAY_SECONDS if remaining else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None and winner is None:
                    winner = task.result()
                elif error is None:
                    task.result().abort()
                elif isinstance(error, OSError):
                    errors.append(error)
                else:
                    raise error
            if winner is not None:
                return winner
    finally:
        await _abandon(attempts)
    raise OSError("; ".join(dict.fromkeys(_reason(error) for error in errors)))


async def _abandon(attempts: set[asyncio.Task[Connection]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, Connection):
            result.abort()


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    # The event loops word a refusal in their own ways, the system's text says why. The resolver's numbers are
    # negative.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, ConnectionError):  # out of the TLS layer, bare of a number
        return f"TLS failed: {str(error) or 'the peer hung up'}"
    return error.strerror or str(error) or type(error).__name__
