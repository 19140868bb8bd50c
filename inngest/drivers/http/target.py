"""Where a request goes: a URL taken apart once, and the part of the request head that depends on it."""

from __future__ import annotations

import base64
import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urljoin, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from inngest.drivers.http.errors import UnsupportedUrl

_DEFAULT_PORTS = {"http": 80, "https": 443}
# urlsplit drops tabs and line ends in silence and reads a backslash unlike browsers do: refuse them all up
# front.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[0-9A-Za-z_~!$&'()*+,;=-]+(\.[0-9A-Za-z_~!$&'()*+,;=-]+)*\.?")
_SAFE = "%/:?#[]@!$&'()*+,;=-._~\"<>^`{|}"

ACCEPT_ENCODING = "gzip, br"


class Target(Struct, frozen=True):
    """A parsed URL; build it with :meth:`parse` and pass it in place of the URL to skip parsing.

    ``url`` has neither fragment nor credentials. ``host`` is without brackets. ``origin`` keys the connection
    pool. ``where`` is ``host:port`` for messages. ``head`` is what follows the method in the request head,
    without the last line end. ``authorization`` is the Basic credential from the URL's userinfo, if any.
    """

    url: str
    scheme: str
    host: str
    port: int
    origin: str
    where: str
    head: str
    authorization: str | None

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(url: str) -> Target:
        """Take ``url`` apart; raise UnsupportedUrl when it cannot be called over HTTP."""
        if found := _FORBIDDEN.search(url):
            raise UnsupportedUrl(
                f"the URL holds the character {found.group()!r} at position {found.start() + 1}"
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # its text may quote a part of a password
            raise UnsupportedUrl("the URL's host or port is malformed") from None
        scheme = parts.scheme
        if scheme not in _DEFAULT_PORTS:
            raise UnsupportedUrl(f"the URL's scheme is {scheme!r}, not http or https")
        if port == 0:
            raise UnsupportedUrl("the URL's port is 0")
        host = _checked_host(parts.hostname or "")
        literal = f"[{host}]" if ":" in host else host
        port = port or _DEFAULT_PORTS[scheme]
        authority = literal if port == _DEFAULT_PORTS[scheme] else f"{literal}:{port}"
        path = _request_path(parts)
        return Target(
            url=f"{scheme}://{authority}{path}",
            scheme=scheme,
            host=host,
            port=port,
            origin=f"{scheme}://{literal}:{port}",
            where=f"{literal}:{port}",
            head=f" {path} HTTP/1.1\r\nhost: {authority}\r\naccept-encoding: {ACCEPT_ENCODING}",
            authorization=_basic(parts),
        )

    def redirected(self, location: str) -> Target:
        """The target that a ``Location`` header sent by this one names.

        Query parameters of this URL that ``location`` does not carry are appended, since a redirect of an
        application's URL must keep them (wire protocol section 1.5), but not to another origin. Raises
        UnsupportedUrl, also for a step from https down to http.
        """
        # The header was read as Latin-1; servers that do not percent-encode send UTF-8.
        raw = location.encode("latin-1")
        try:
            joined = urljoin(self.url, raw.decode())
        except ValueError as error:  # not UTF-8, or not a URL
            raise UnsupportedUrl(f"{self.where} redirects to a malformed URL") from error
        joined, _, _ = joined.partition("#")
        head, mark, query = joined.partition("?")
        if mark and not query:
            joined = head
        target = Target.parse(joined)
        if target.origin == self.origin and (kept := _missing_pairs(self.url.partition("?")[2], query)):
            target = Target.parse(f"{head}?{query}&{kept}" if query else f"{head}?{kept}")
        if self.scheme == "https" and target.scheme == "http":
            raise UnsupportedUrl(f"{self.where} redirects from https to http at {target.where}")
        if target.authorization is None and target.origin == self.origin and self.authorization is not None:
            return replace(target, authorization=self.authorization)
        return target


def _checked_host(host: str) -> str:
    if ":" in host:  # urlsplit took the brackets off
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise UnsupportedUrl(f"the URL's host {host!r} is not an IPv6 address") from error
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise UnsupportedUrl(f"the URL's host {host!r} is not a valid name") from error
    if not _HOST.fullmatch(host):
        raise UnsupportedUrl(f"the URL has no usable host: {host!r}" if host else "the URL has no host")
    return host


def _request_path(parts: SplitResult) -> str:
    path = parts.path or "/"
    if parts.query:
        path = f"{path}?{parts.query}"
    return path if path.isascii() else quote(path, safe=_SAFE)


def _basic(parts: SplitResult) -> str | None:
    userinfo, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None
    user, _, password = userinfo.partition(":")
    credential = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return f"Basic {base64.b64encode(credential).decode()}"


def _missing_pairs(original: str, query: str) -> str:
    """The ``name=value`` pairs of ``original``, as written, whose names ``query`` does not have."""
    if not original:
        return ""
    present = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    pairs = (pair for pair in original.split("&") if pair)
    return "&".join(p for p in pairs if parse_qsl(p, keep_blank_values=True)[0][0] not in present)
