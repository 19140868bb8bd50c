"""`inngest dead`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import click

from inngest.cli.server import SIGNING_KEY, URL, ask

_PATH = "/v1/dead-letters"
_COLUMNS = {
    "ID": "id",
    "KIND": "kind",
    "GROUP": "group",
    "SINCE": "buried_at",
    "BYTES": "bytes",
    "REASON": "reason",
}
_WIDEST = 100

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON, as the server tells it.")
_IDS = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.group()
def dead() -> None:
    """Dead letters: events and other records that a server could not process, and has kept aside."""


@dead.command("list")
@click.option("--after", default="", metavar="ID", help="Begin behind this one.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@URL
@SIGNING_KEY
@_JSON
def list_letters(*, after: str, limit: int, url: str, signing_key: str, as_json: bool) -> None:
    """Show dead letters, oldest first."""
    letters = ask(url, signing_key, "GET", f"{_PATH}?{urlencode({'after': after, 'limit': limit})}")
    if as_json:
        click.echo(json.dumps(letters, indent=2))
    elif letters:
        click.echo(_table(letters))
    else:
        click.echo("There are no dead letters" + (f" after {after}." if after else "."))


@dead.command()
@_IDS
@URL
@SIGNING_KEY
@_JSON
def requeue(*, ids: Sequence[str], url: str, signing_key: str, as_json: bool) -> None:
    """Give dead letters back to those that could not process them.

    Ends with 1 if one of them could not be given back: it is gone, or there is no way back for its kind.
    """
    answer = ask(url, signing_key, "POST", f"{_PATH}/requeue", {"ids": ids})
    _tell(answer, "requeued", "left", as_json=as_json)


@dead.command()
@_IDS
@URL
@SIGNING_KEY
@_JSON
def discard(*, ids: Sequence[str], url: str, signing_key: str, as_json: bool) -> None:
    """Throw dead letters away.

    Ends with 1 if one of them is not there.
    """
    answer = ask(url, signing_key, "DELETE", _PATH, {"ids": ids})
    _tell(answer, "discarded", "unknown", as_json=as_json)


def _tell(answer: dict[str, list[str]], done: str, undone: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for word in (done, undone):
            for letter in answer[word]:
                click.echo(f"{_plain(letter)}: {word}", err=word == undone)
    if answer[undone]:
        raise SystemExit(1)


def _table(letters: Sequence[dict[str, Any]]) -> str:
    rows = [list(_COLUMNS), *([_plain(letter[field]) for field in _COLUMNS.values()] for letter in letters)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines)


def _plain(value: object) -> str:
    """One line of text that does nothing to a terminal."""
    text = "".join(char if char.isprintable() else "·" for char in str(value))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
