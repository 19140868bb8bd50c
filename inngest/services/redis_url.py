"""The URL of a Redis server out of the keys of a configuration."""

from __future__ import annotations

from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from inngest.config.model import RedisService, Tls
from inngest.services.settings import RedisServer


def redis_server(service: RedisService) -> RedisServer:
    """The server of a section: by its ``dsn``, or by host, port, db, username and password."""
    url = service.dsn or _composed(service)
    if service.tls is not None:
        url = _encrypted(url, service.tls)
    prefix = service.key_prefix
    prefix = prefix if not prefix or prefix.endswith(":") else f"{prefix}:"
    return RedisServer(url, prefix, service.allow_unsafe)


def url_problem(url: str) -> str:
    """Why a URL leads to no Redis server, without the URL, which may have a password; empty if it may."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"this is no address of a Redis server: {error}"
    if parts.scheme not in {"redis", "rediss", "unix"}:
        return (
            "the address of a Redis server begins with redis://, rediss:// or unix://, "
            "as redis://user:password@host:6379/0 does"
        )
    if port == 0:
        return "this is no address of a Redis server: there is no port 0"
    number = parts.path.strip("/")
    if parts.scheme != "unix" and number and not (number.isascii() and number.isdecimal()):
        return f"the database of a Redis server is a number, not {number!r}"
    return ""


def _composed(service: RedisService) -> str:
    host = f"[{service.host}]" if ":" in service.host else service.host
    login = ""
    if service.username or service.password:
        login = f"{quote(service.username, safe='')}:{quote(service.password, safe='')}@"
    return f"redis://{login}{host}:{service.port}/{service.db}"


def _encrypted(url: str, tls: Tls) -> str:
    parts = urlsplit(url)
    options = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
    query = urlencode({name: value for name, value in options.items() if value})
    if tls.insecure:
        query = "&".join(filter(None, [query, "ssl_cert_reqs=none&ssl_check_hostname=false"]))
    return urlunsplit(("rediss", parts.netloc, parts.path, "&".join(filter(None, [parts.query, query])), ""))
