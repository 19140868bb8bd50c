"""`inngest events`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from inngest.cli.lists import CURSOR, JSON, LIMIT, show_list, time_option
from inngest.cli.server import Refused, Server, event_server_options, server_options
from inngest.cli.table import moment, plain, short, show_json
from inngest.core.timing.durations import parse_date

_COLUMNS = ("EVENT", "NAME", "RECEIVED", "RUNS", "DATA")
_PAGE = 100
_EVENTS = """
query Events($first: Int!, $after: String, $filter: EventsFilter!) {
  eventsV2(first: $first, after: $after, filter: $filter) {
    edges { node { id name receivedAt raw runs { id status function { slug } } } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
_BEGINNING = "1970-01-01T00:00:00Z"


@click.group()
def events() -> None:
    """Events: send them, and find those that came."""


@events.command()
@click.argument("name", required=False, default="")
@click.option(
    "--data",
    default="",
    metavar="JSON",
    help="Its data, an object; @FILE reads them from there, - from the input.",
)
@click.option("--user", default="", metavar="JSON", help="The same of its user.")
@click.option("--id", "event_id", default="", help="An id, of which a second event starts nothing again.")
@time_option("--ts", "When it happened; in the future, when its functions start.")
@click.option("--v", "version", default="", help="The version of its data.")
@click.option(
    "--file",
    "path",
    default="",
    metavar="FILE",
    help="Send whole events in place of NAME: an object, an array, or one object a line; - is the input.",
)
@JSON
@event_server_options
def send(
    *,
    name: str,
    data: str,
    user: str,
    event_id: str,
    ts: str,
    version: str,
    path: str,
    as_json: bool,
    server: Server,
    path_of_key: str,
) -> None:
    """Send an event called NAME, or those of a file, and print the ids that they got."""
    if bool(name) == bool(path):
        raise click.UsageError("give either the NAME of an event, or whole events with --file")
    if path:
        if data or user or event_id or ts or version:
            raise click.UsageError("the events of --file are sent as they are: leave out other options")
        content = _whole(path)
    else:
        content = {"name": name, "data": _object("--data", data)}
        given = {"id": event_id, "ts": parse_date(ts) if ts else None, "v": version}
        content |= {key: value for key, value in given.items() if value}
        if user:
            content["user"] = _object("--user", user)
    try:
        answer = server.ask("POST", path_of_key, content)
    except Refused as refused:
        # Of an array those that were accepted are told, whatever became of the others.
        _tell(
            (refused.body or {}).get("ids") or [] if isinstance(refused.body, dict) else [], as_json=as_json
        )
        raise
    _tell(server.member(answer, "ids"), as_json=as_json)


def _tell(ids: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        show_json({"ids": ids})
    else:
        for each in ids:
            click.echo(plain(each))


def _read(option: str, path: str) -> str:
    try:
        with click.open_file(path, encoding="utf-8") as source:
            text: str = source.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise click.BadParameter(f"{path}: {reason}", param_hint=option) from None
    return text


def _object(option: str, text: str) -> dict[str, Any]:
    if text == "-" or text.startswith("@"):
        text = _read(option, text.removeprefix("@"))
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint=option) from None
    if not isinstance(value, dict):
        raise click.BadParameter("it has to be a JSON object", param_hint=option)
    return value


def _whole(path: str) -> Any:
    """The events of a file."""
    text = _read("--file", path)
    try:
        value = json.loads(text)
    except ValueError as error:
        try:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise click.BadParameter(
                f"{path}: it is neither JSON nor one object a line: {error}", param_hint="--file"
            ) from None
    if not isinstance(value, dict | list) or not value:
        raise click.BadParameter(f"{path}: there are no events in it", param_hint="--file")
    return value


@events.command("list")
@click.option("--name", "names", multiple=True, help="Only of this name; repeatable.")
@time_option("--since", "Received not before this time, or so long ago: 2h, 7d, 2026-11-27T20:00:00Z.")
@time_option("--until", "Received before this time.")
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="EXPRESSION",
    help="A condition, as event.data.total > 5; repeatable, all have to hold.",
)
@click.option("--internal", is_flag=True, help="Also those that the server made itself.")
@LIMIT
@CURSOR
@JSON
@server_options
def list_events(
    *,
    names: Sequence[str],
    since: str,
    until: str,
    queries: Sequence[str],
    internal: bool,
    limit: int,
    cursor: str,
    as_json: bool,
    server: Server,
) -> None:
    """Show events with what they started, newest first."""
    where = {
        "from": since or _BEGINNING,
        "until": until or None,
        "eventNames": list(names) or None,
        "query": "\n".join(queries) or None,
        "includeInternalEvents": internal,
    }
    found: list[dict[str, Any]] = []
    following: str | None = cursor or None
    while True:
        first = min(limit - len(found), _PAGE)
        page = server.query(_EVENTS, first=first, after=following, filter=where)["eventsV2"]
        found += [_event(edge["node"]) for edge in page["edges"]]
        following = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
        if not following or len(found) >= limit:
            break
    show_list("events", _COLUMNS, found, _row, cursor=following, as_json=as_json)


def _event(node: dict[str, Any]) -> dict[str, Any]:
    """As REST shows events, with the runs."""
    raw = json.loads(node["raw"])
    return {
        "internal_id": node["id"],
        "received_at": node["receivedAt"],
        **raw,
        "runs": [
            {
                "run_id": run["id"],
                "status": run["status"].capitalize(),
                "function": (run["function"] or {}).get("slug"),
            }
            for run in node["runs"]
        ],
    }


def _row(event: dict[str, Any]) -> list[object]:
    counts = Counter(run["status"] for run in event["runs"])
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return [
        event["internal_id"],
        event["name"],
        moment(event["received_at"]),
        told or "none",
        short(event["data"]),
    ]
