"""`inngest dead`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import click

from inngest.cli.server import Server, server_options
from inngest.cli.table import plain, show_json, table

_PATH = "/v1/dead-letters"
_COLUMNS = {
    "ID": "id",
    "KIND": "kind",
    "GROUP": "group",
    "SINCE": "buried_at",
    "BYTES": "bytes",
    "REASON": "reason",
}

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON, as the server tells it.")
_IDS = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.group()
def dead() -> None:
    """Dead letters: events and other records that a server could not process, and has kept aside."""


@dead.command("list")
@click.option("--after", default="", metavar="ID", help="Begin behind this one.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@server_options
@_JSON
def list_letters(*, after: str, limit: int, server: Server, as_json: bool) -> None:
    """Show dead letters, oldest first."""
    letters = server.data("GET", f"{_PATH}?{urlencode({'after': after, 'limit': limit})}")
    if as_json:
        show_json(letters)
    elif letters:
        rows = [[letter[field] for field in _COLUMNS.values()] for letter in letters]
        click.echo(table(list(_COLUMNS), rows))
    else:
        click.echo("There are no dead letters" + (f" after {after}." if after else "."))


@dead.command()
@_IDS
@server_options
@_JSON
def requeue(*, ids: Sequence[str], server: Server, as_json: bool) -> None:
    """Give dead letters back to those that could not process them.

    Ends with 1 if one of them could not be given back: it is gone, or there is no way back for its kind.
    """
    answer = server.data("POST", f"{_PATH}/requeue", {"ids": ids})
    _tell(answer, "requeued", "left", as_json=as_json)


@dead.command()
@_IDS
@server_options
@_JSON
def discard(*, ids: Sequence[str], server: Server, as_json: bool) -> None:
    """Throw dead letters away.

    Ends with 1 if one of them is not there.
    """
    answer = server.data("DELETE", _PATH, {"ids": ids})
    _tell(answer, "discarded", "unknown", as_json=as_json)


def _tell(answer: dict[str, list[str]], done: str, undone: str, *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
    else:
        for word in (done, undone):
            for letter in answer[word]:
                click.echo(f"{plain(letter)}: {word}", err=word == undone)
    if answer[undone]:
        raise SystemExit(1)
