"""`inngest apps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from inngest.cli.lists import JSON
from inngest.cli.server import Refused, Server, server_options
from inngest.cli.table import moment, plain, show_json, table

_COLUMNS = ("APP", "FUNCTIONS", "SDK", "URL", "SYNCED", "ERROR")
_FIELDS = """
  id externalID url method sdkLanguage sdkVersion framework appVersion functionCount error updatedAt
  functions { slug name isPaused triggers { type value condition } }
"""
_APPS = f"{{ apps {{ {_FIELDS} }} }}"
_SYNC = f"mutation Sync($url: String!) {{ createApp(input: {{url: $url}}) {{ {_FIELDS} }} }}"


@click.group()
def apps() -> None:
    """Applications: see which there are, and ask them for their functions."""


@apps.command("list")
@JSON
@server_options
def list_apps(*, as_json: bool, server: Server) -> None:
    """Show the applications that are registered."""
    found = _all(server)
    if as_json:
        show_json(found)
    elif found:
        click.echo(table(_COLUMNS, [_row(app) for app in found]))
    else:
        click.echo("No application is registered.")


@apps.command()
@click.argument("wanted", nargs=-1, metavar="[APP|URL]...")
@JSON
@server_options
def sync(*, wanted: Sequence[str], as_json: bool, server: Server) -> None:
    """Have the server ask applications for their functions: those that are named, or all it knows.

    Ends with 1 if one of them could not be asked.
    """
    known = _all(server) if not all("://" in each for each in wanted) or not wanted else []
    urls = {app["name"]: app["url"] for app in known}
    results: list[dict[str, Any]] = []
    failed = False
    for each in wanted or list(urls):
        try:
            if "://" not in each and each not in urls:
                there = ", ".join(urls) or "none"
                raise Refused(f"no app is registered by this name; there are {there}")
            app = _app(server.query(_SYNC, url=urls.get(each, each))["createApp"])
        except Refused as error:
            failed = True
            results.append({"asked": each, "error": error.message, "app": None})
            if not as_json:
                click.echo(f"{plain(each)}: {error.message}", err=True)
        else:
            results.append({"asked": each, "error": None, "app": app})
            if not as_json:
                count = len(app["functions"])
                functions = "1 function" if count == 1 else f"{count} functions"
                click.echo(plain(f"{app['name']}: {functions} at {app['url']}", 400))
    if as_json:
        show_json(results)
    elif not wanted and not urls:
        click.echo("No application is registered.")
    if failed:
        raise SystemExit(1)


def _all(server: Server) -> list[dict[str, Any]]:
    return [_app(node) for node in server.query(_APPS)["apps"]]


def _app(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": node["externalID"],
        "id": node["id"],
        "url": node["url"],
        "method": node["method"].lower(),
        "sdk_language": node["sdkLanguage"],
        "sdk_version": node["sdkVersion"],
        "framework": node["framework"],
        "app_version": node["appVersion"],
        "error": node["error"],
        "synced_at": node["updatedAt"],
        "functions": [
            {
                "slug": function["slug"],
                "name": function["name"],
                "is_paused": function["isPaused"],
                "triggers": [
                    {"type": trigger["type"].lower(), "value": trigger["value"], "if": trigger["condition"]}
                    for trigger in function["triggers"]
                ],
            }
            for function in node["functions"]
        ],
    }


def _row(app: dict[str, Any]) -> list[object]:
    sdk = f"{app['sdk_language']} {app['sdk_version']}".strip()
    return [app["name"], len(app["functions"]), sdk, app["url"], moment(app["synced_at"]), app["error"]]
