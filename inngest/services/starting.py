"""What a process says of itself when it starts: its version, its mode, and where it keeps what."""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog

from inngest import __version__
from inngest.services.needs import System, used
from inngest.services.settings import InMemory, RedisServer, Settings, Sqlite

log = structlog.get_logger("inngest.start", service="server")


def tell_start(settings: Settings) -> None:
    """One line of the log. Each listener tells of its address itself, once it has it."""
    kept = {System.ENGINE: settings.engine, System.STREAM: settings.stream, System.DATA: settings.data}
    systems = {
        system.name.lower(): place(backend)
        for system, backend in kept.items()
        if system in used(settings.services)
    }
    log.info(
        "starting",
        action="server.start",
        version=__version__,
        mode="dev" if settings.dev else "serve",
        services=list(settings.services),
        **systems,
    )


def place(backend: InMemory | Sqlite | RedisServer) -> str:
    """The kind of a backend and where it is, without what it takes to get in."""
    match backend:
        case InMemory():
            return "memory"
        case Sqlite(directory):
            return f"sqlite {directory.absolute()}"
        case RedisServer(url, prefix):
            return f"redis {_where(url)} {prefix}*"


def _where(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port or 6379}/{parts.path.strip('/') or 0}"


_HERE = {"", "0.0.0.0", "::", "127.0.0.1", "::1"}  # noqa: S104 -- to be told, not to listen on


def reachable(host: str, port: int) -> str:
    """The URL under which people on this machine reach what listens on ``host``."""
    name = "localhost" if host in _HERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
