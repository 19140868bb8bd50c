"""A running server, asked over HTTP."""

from __future__ import annotations

import functools
import http.client
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click

from inngest.cli.table import plain
from inngest.config.errors import ConfigError
from inngest.config.load import Loaded, load

_SECONDS = 60.0
_LONGEST = 1000
"""Characters of a message."""
_AWAY = frozenset({502, 503, 504})

P = ParamSpec("P")
T = TypeVar("T")


class Refused(click.ClickException):
    """The server said no, or knows nothing of it. ``body`` is what it answered, if that is JSON."""

    exit_code = 1

    def __init__(self, message: str, body: Any = None) -> None:
        super().__init__(message)
        self.body = body


class Away(click.ClickException):
    """The server does not answer, or not as one."""

    exit_code = 3


class _NoRedirects(HTTPRedirectHandler):
    """The key is for the server that was named, and for no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_open = build_opener(_NoRedirects).open


@dataclass(frozen=True)
class Server:
    """``url`` without a slash at its end; ``key`` is a signing key, or empty."""

    url: str
    key: str = field(default="", repr=False)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer, None if it is empty. Raises `Refused` and `Away`."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        content = json.dumps(body).encode() if body is not None else None
        # Of an http or https URL: see _checked.
        request = Request(self.url + path, data=content, headers=headers, method=method)  # noqa: S310
        try:
            with _open(request, timeout=_SECONDS) as answer:
                text = answer.read()
            return json.loads(text) if text.strip() else None
        except HTTPError as error:
            with error:
                told, message = _told(error)
            kind = f"{self.url} answers {error.code}: {message}"
            raise (Away(kind) if error.code in _AWAY else Refused(kind, told)) from None
        except URLError as error:
            raise Away(f"{self.url} does not answer: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{self.url} does not answer: {type(error).__name__}: {error}") from None
        except ValueError:
            raise self._other() from None

    def data(self, method: str, path: str, body: object = None) -> Any:
        """What the answer has as ``data``."""
        return self.member(self.ask(method, path, body), "data")

    def member(self, answer: Any, name: str) -> Any:
        """Raises `Away` for an answer that no server of this kind gives."""
        try:
            return answer[name]
        except (LookupError, TypeError):
            raise self._other() from None

    def query(self, query: str, **variables: object) -> Any:
        """The data of a GraphQL query; an error in it is a `Refused`."""
        answer = self.ask("POST", "/v0/gql", {"query": query, "variables": variables})
        if isinstance(answer, dict) and answer.get("errors"):
            raise Refused(f"{self.url} answers: {_shown(answer['errors'])}", answer)
        return self.member(answer, "data")

    def _other(self) -> Away:
        return Away(f"{self.url} answers, but not as an Inngest server does")


def _told(error: HTTPError) -> tuple[Any, str]:
    try:
        body = json.loads(error.read())
        return body, plain(body["error"], _LONGEST)
    except (OSError, ValueError, LookupError, TypeError):
        return None, str(error.reason)


def _shown(errors: Any) -> str:
    try:
        return plain(errors[0]["message"], _LONGEST)
    except (LookupError, TypeError):
        return "an error without a message"


# -- options --


def _checked(_: click.Context, __: click.Parameter, url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        known = False
    if not known:
        raise click.BadParameter(f"{url!r} is not an http or https URL")
    return url.rstrip("/")


_LOCAL = "http://127.0.0.1:8288"
_FILE = click.Path(dir_okay=False, path_type=Path)
_CONFIG = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A configuration that has the key.  "
    "[default: for a server of this machine, what `serve` would find]",
)


def _options(api: str, variable: str, kind: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """``--url`` of one of the APIs, and where its key comes from."""
    options = [
        click.option(
            "--url",
            envvar=[variable, "INNGEST_BASE_URL"],
            default=_LOCAL,
            show_default=f"{variable}, INNGEST_BASE_URL, {_LOCAL}",
            callback=_checked,
            help=f"Of the server's {api} API.",
        ),
        click.option(
            f"--{kind}-key",
            default="",
            show_default=f"INNGEST_{kind.upper()}_KEY",
            help=f"{'An event' if kind == 'event' else 'A signing'} key of the server; better in a file.",
        ),
        click.option(f"--{kind}-key-file", type=_FILE, help="A file that has it."),
        _CONFIG,
    ]

    def add(command: Callable[..., T]) -> Callable[..., T]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def server_options(command: Callable[P, T]) -> Callable[..., T]:
    """Adds ``--url`` and where the signing key comes from; the command gets a ``server``."""

    @_options("core", "INNGEST_API_BASE_URL", "signing")
    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        key = _key(kwargs, "signing_key", "INNGEST_SIGNING_KEY", lambda loaded: loaded.config.keys.signing)
        url = str(kwargs.pop("url"))
        kwargs["server"] = Server(url, key)
        return command(*args, **kwargs)

    return wrapped


def event_server_options(command: Callable[P, T]) -> Callable[..., T]:
    """The same of the event API; the command gets a ``server`` and the ``path_of_key``."""

    @_options("event", "INNGEST_EVENT_API_BASE_URL", "event")
    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        key = _key(kwargs, "event_key", "INNGEST_EVENT_KEY", lambda loaded: loaded.config.keys.event)
        kwargs["server"] = Server(str(kwargs.pop("url")))
        kwargs["path_of_key"] = f"/e/{quote(key, safe='')}"
        return command(*args, **kwargs)

    return wrapped


def _key(options: dict[str, Any], name: str, variable: str, of: Callable[[Loaded], tuple[str, ...]]) -> str:
    """From the option, the file, the variable or the configuration, whichever has one first."""
    given, path, config = options.pop(name), options.pop(f"{name}_file"), options.pop("config_path")
    option = f"--{name.replace('_', '-')}"
    if given and path:
        raise click.UsageError(f"{option} and {option}-file are two keys: give one of them")
    # There may be several, as `serve` takes them: the first one is as good as any.
    if given.strip():
        return str(given.split(maxsplit=1)[0])
    if path is not None:
        return _from_file(path, option)
    if found := os.environ.get(variable, "").split(maxsplit=1):
        return found[0]
    if config is None and not _is_here(options["url"]):
        return ""
    try:
        keys = of(load(config))
    except ConfigError as error:
        raise click.ClickException(f"no key: {error.problems[0]}") from None
    return keys[0] if keys else ""


def _from_file(path: Path, option: str) -> str:
    try:
        words = path.read_text("utf-8").split(maxsplit=1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise click.BadParameter(f"{path}: {reason}", param_hint=f"{option}-file") from None
    if not words:
        raise click.BadParameter(f"{path}: there is no key in it", param_hint=f"{option}-file")
    return words[0]


def _is_here(url: str) -> bool:
    """Whether the configuration of this machine may speak of that server."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
