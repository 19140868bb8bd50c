"""What web pages may do to a listener: browsers send requests of any page to any address that they reach.

What holds:

- In development, where no key keeps anybody out, a page of another origin can send events and see that there
  is a server; everything else it can neither read nor cause. A page of this machine can do all.
- A name of the public DNS is no name of a development server, since whoever owns the name has it point where
  he likes; other names have to be allowed.
- Elsewhere keys decide, and pages of any origin send events; browsers let them read nothing else.

SDKs are no browsers: they send neither ``Origin`` nor ``Sec-Fetch-Site``, and are not affected.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from inngest.api.answers import error_answer

OPTION = "--allowed-host"

_PRIVATE = (".localhost", ".local", ".internal", ".test")
_PROBES = frozenset({"/dev", "/health", "/health/live", "/health/ready"})
_MAX_AGE_SECONDS = "3600"
_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"


class Pages:
    """The rule of one listener.

    Args:
        dev: for a development server.
        hosts: names under which it is reached besides addresses, names without dots and private ones; with a
            dot in front, all names below.
    """

    def __init__(self, *, dev: bool, hosts: Iterable[str] = ()) -> None:
        self._dev = dev
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)
        self._ours = ""  # the last ``Host`` that was: most requests have the same

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Goes before all that answers, errors included."""
        events = request.path == "/e" or request.path.startswith("/e/")
        if not self._dev:
            return await self._shared(request, handler) if events else await handler(request)
        for host in request.headers.getall("Host", ()):
            if host == self._ours:
                continue
            if not self.is_ours(host):
                return _refused(
                    f"The development server does not answer to {_name(host)[:200]!r}; "
                    f"if that is a name of it, start it with {OPTION}"
                )
            self._ours = host
        if events or (request.path in _PROBES and request.method in {"GET", "HEAD", "OPTIONS"}):
            return await self._shared(request, handler)
        if is_foreign(request):
            origin = request.headers.get("Origin", "another site")
            return _refused(f"Pages of {origin[:200]} may only send events to the development server")
        origin = request.headers.get("Origin", "")
        if not origin:
            return await handler(request)
        return _readable(await _answer(request, handler), origin)

    async def _shared(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """For pages of any origin. A browser shows them nothing that was asked with cookies."""
        return _readable(await _answer(request, handler), "*")

    def is_ours(self, host: str) -> bool:
        """Whether a ``Host`` header names this server, as far as one can know."""
        name = _name(host)
        if "." not in name or name.endswith(_PRIVATE) or name in self._hosts or _is_address(name):
            return True
        return any(name.endswith(each) for each in self._hosts if each.startswith("."))


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return await handler(request)
    asked = request.headers.get("Access-Control-Request-Headers", "*")
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": asked,
        "Access-Control-Max-Age": _MAX_AGE_SECONDS,
    }
    return web.Response(status=204, headers=headers)


def _readable(response: web.StreamResponse, origin: str) -> web.StreamResponse:
    if not response.prepared:
        response.headers["Access-Control-Allow-Origin"] = origin
        if origin != "*":
            response.headers["Vary"] = "Origin"
    return response


def _refused(message: str) -> web.Response:
    return error_answer(403, message, code="forbidden_origin")


def is_foreign(request: web.Request) -> bool:
    """Whether a browser sends this for a page that is neither of this server nor of this machine. Its own
    headers, which no page can set, tell.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site", "").lower() == "cross-site"
    try:
        parts = urlsplit(origin)
    except ValueError:
        return True
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return True  # such as "null", of sandboxed pages and files
    own = request.headers.get("Host", "").lower()
    return not (_is_loopback(parts.hostname) or parts.netloc.lower() == own)


def _name(host: str) -> str:
    """The name or address of a ``Host`` header, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return (host.partition(":")[0] if host.count(":") == 1 else host).removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    if _is_address(name):
        return ip_address(name.partition("%")[0]).is_loopback
    return name == "localhost" or name.endswith(".localhost")
