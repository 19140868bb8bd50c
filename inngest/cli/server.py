"""A running server, asked over HTTP."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import click

_SECONDS = 30.0


def _checked(_: click.Context, __: click.Parameter, url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        known = False
    if not known:
        raise click.BadParameter(f"{url!r} is not an http or https URL")
    return url.rstrip("/")


URL = click.option(
    "--url",
    default="http://127.0.0.1:8288",
    show_default=True,
    callback=_checked,
    help="Of the server's core API.",
)
SIGNING_KEY = click.option(
    "--signing-key",
    envvar="INNGEST_SIGNING_KEY",
    default="",
    show_default="INNGEST_SIGNING_KEY",
    help="A signing key of the server.",
)


def ask(url: str, signing_key: str, method: str, path: str, body: object = None) -> Any:
    """What the answer has as ``data``. Raises `click.ClickException` for any other answer, and for none."""
    headers = {"Content-Type": "application/json"}
    if signing_key.strip():
        # There may be several in the variable, as `serve` takes them.
        headers["Authorization"] = f"Bearer {signing_key.split(maxsplit=1)[0]}"
    content = json.dumps(body).encode() if body is not None else None
    request = Request(url + path, data=content, headers=headers, method=method)  # noqa: S310 -- see _checked
    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            return json.loads(answer.read())["data"]
    except HTTPError as error:
        with error:
            raise click.ClickException(f"{url} answers {error.code}: {_message(error)}") from None
    except URLError as error:
        raise click.ClickException(f"{url} does not answer: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"{url} does not answer: {type(error).__name__}: {error}") from None
    except (ValueError, LookupError, TypeError):
        raise click.ClickException(f"{url} answers, but not as an Inngest server does") from None


def _message(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (OSError, ValueError, LookupError, TypeError):
        return str(error.reason)
