"""What commands that list things have in common: how far back, how many, from where on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from inngest.cli.table import show_json, table
from inngest.core.timing.durations import InvalidDuration, parse_date, parse_duration
from inngest.core.timing.times import rfc3339

JSON = click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
LIMIT = click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most."
)
CURSOR = click.option("--cursor", default="", help="Go on where another list ended, which has told this.")


def time_option(name: str, text: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """An option that is a time, or how long ago that was; the command gets RFC 3339 or an empty text."""
    return click.option(name, default="", metavar="TIME", callback=_time, help=text)


def _time(_: click.Context, __: click.Parameter, text: str) -> str:
    if not text:
        return ""
    at = parse_date(text)
    if at is None:
        try:
            at = int(time.time() * 1000) - parse_duration(text)
        except InvalidDuration:
            raise click.BadParameter(
                f"{text!r} is neither a duration such as 2h nor a time such as 2026-11-27T20:00:00Z"
            ) from None
    return rfc3339(at)


def show_list(
    what: str,
    columns: Sequence[str],
    found: Sequence[dict[str, Any]],
    row: Callable[[dict[str, Any]], Sequence[object]],
    *,
    cursor: str | None,
    as_json: bool,
) -> None:
    """What was found; and, on standard error so that programs read nothing but the list, where more is."""
    if as_json:
        show_json(found)
    elif found:
        click.echo(table(columns, [row(each) for each in found]))
    else:
        click.echo(f"There are no such {what}.")
    if cursor:
        click.echo(f"There may be more: --cursor {cursor}", err=True)
