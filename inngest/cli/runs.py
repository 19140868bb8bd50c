"""`inngest runs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import click

from inngest.cli.lists import CURSOR, JSON, LIMIT, show_list, time_option
from inngest.cli.run_report import report
from inngest.cli.run_story import story
from inngest.cli.server import Refused, Server, server_options
from inngest.cli.table import duration, moment, plain, show_json
from inngest.core.timing.durations import parse_date

_COLUMNS = ("RUN", "STATUS", "APP", "FUNCTION", "QUEUED", "TOOK", "ERROR")
_PAGE = 100
_STATUSES = ("Scheduled", "Running", "Completed", "Failed", "Cancelled", "Skipped")
_RERUN = "mutation Rerun($id: ULID!, $from: RerunFromStepInput) { rerun(runID: $id, fromStep: $from) }"

_IDS = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.group()
def runs() -> None:
    """Runs of functions: find them, look at one, end it, repeat it."""


@runs.command("list")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(_STATUSES, case_sensitive=False),
    help="Only of this status; repeatable.",
)
@click.option("--failed", is_flag=True, help="As --status Failed --by ended.")
@click.option("--app", "apps", multiple=True, metavar="APP", help="Only of this app; repeatable.")
@click.option(
    "--function", "functions", multiple=True, metavar="FUNCTION", help="Only of this function; repeatable."
)
@time_option("--since", "Not before this time, or so long ago: 2h, 7d, 2026-11-27T20:00:00Z.")
@time_option("--until", "Before this time.")
@click.option(
    "--by",
    type=click.Choice(["queued", "started", "ended"]),
    help="Which time of a run counts, for order and filters.  [default: queued]",
)
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="EXPRESSION",
    help="A condition over event and output, as output.total > 5; repeatable, all have to hold.",
)
@LIMIT
@CURSOR
@JSON
@server_options
def list_runs(
    *,
    statuses: Sequence[str],
    failed: bool,
    apps: Sequence[str],
    functions: Sequence[str],
    since: str,
    until: str,
    by: str | None,
    queries: Sequence[str],
    limit: int,
    cursor: str,
    as_json: bool,
    server: Server,
) -> None:
    """Show runs, newest first."""
    by = by or ("ended" if failed else "queued")
    given = [
        *(("status", status) for status in (*statuses, *(["Failed"] if failed else []))),
        *(("app", app) for app in apps),
        *(("function", function) for function in functions),
        *(("query", query) for query in queries),
        *((name, text) for name, text in (("since", since), ("until", until)) if text),
        ("time_field", f"{by}_at"),
    ]
    found, following = _pages(server, given, limit, cursor)
    show_list("runs", _COLUMNS, found, _row, cursor=following, as_json=as_json)


def _pages(
    server: Server, given: Sequence[tuple[str, str]], limit: int, cursor: str
) -> tuple[list[dict[str, Any]], str | None]:
    found: list[dict[str, Any]] = []
    following: str | None = cursor or None
    while True:
        query = [*given, ("limit", str(min(limit - len(found), _PAGE)))]
        if following:
            query.append(("cursor", following))
        answer = server.ask("GET", f"/v1/runs?{urlencode(query)}")
        found += server.member(answer, "data")
        following = server.member(answer, "page")["cursor"]
        if not following or len(found) >= limit:
            return found, following


def _row(run: dict[str, Any]) -> list[object]:
    error = run.get("error") or {}
    told = ": ".join(str(error[part]) for part in ("name", "message") if error.get(part))
    begun, ended = (parse_date(run.get(name) or "") for name in ("run_started_at", "ended_at"))
    took = duration(ended - begun) if begun is not None and ended is not None else ""
    slug, app = run["function_slug"], run["app"]
    name = slug.removeprefix(f"{app}-")
    return [run["run_id"], run["status"], app, name, moment(run["queued_at"]), took, told]


@runs.command()
@click.argument("run_id", metavar="ID")
@JSON
@server_options
def show(*, run_id: str, as_json: bool, server: Server) -> None:
    """Show a run: its steps, their attempts and errors, and its output."""
    told = story(server, run_id)
    if as_json:
        show_json(told)
    else:
        click.echo("\n".join(report(told)))


@runs.command()
@_IDS
@JSON
@server_options
def cancel(*, ids: Sequence[str], as_json: bool, server: Server) -> None:
    """End runs. What they are doing at this moment is not interrupted, and counts no more.

    Ends with 1 if one of them could not be ended.
    """

    def end(run_id: str) -> str:
        server.ask("DELETE", f"/v1/runs/{quote(run_id, safe='')}")
        return ""

    _each(ids, end, "cancelled", as_json=as_json)


@runs.command()
@_IDS
@click.option("--from-step", default="", metavar="STEP", help="From this step on, by name or id.")
@JSON
@server_options
def rerun(*, ids: Sequence[str], from_step: str, as_json: bool, server: Server) -> None:
    """Run again, with the same events; the results of steps are kept only with --from-step.

    Ends with 1 if one of them could not be run again.
    """

    def again(run_id: str) -> str:
        given = {"stepID": _step(server, run_id, from_step)} if from_step else None
        variables = {"id": run_id, "from": given}
        return str(server.query(_RERUN, **variables)["rerun"])

    _each(ids, again, "runs again as", as_json=as_json)


def _step(server: Server, run_id: str, wanted: str) -> str:
    """The id of a step, of which the id is given, or the name."""
    steps = [step for step in story(server, run_id)["steps"] if step["id"]]
    for step in steps:
        if wanted in {step["id"], step["name"]}:
            return str(step["id"])
    known = ", ".join(step["name"] for step in steps) or "none"
    raise Refused(f"the run has no step {wanted!r}; there are {known}")


def _each(ids: Sequence[str], do: Callable[[str], str], done: str, *, as_json: bool) -> None:
    results: list[dict[str, Any]] = []
    failed = False
    for run_id in ids:
        try:
            new = do(run_id)
        except Refused as error:
            failed = True
            results.append({"run_id": run_id, "error": error.message})
            if not as_json:
                click.echo(f"{plain(run_id)}: {error.message}", err=True)
        else:
            results.append({"run_id": run_id, "error": None, **({"new_run_id": new} if new else {})})
            if not as_json:
                click.echo(f"{plain(run_id)}: {done} {new}".rstrip())
    if as_json:
        show_json(results)
    if failed:
        raise SystemExit(1)
