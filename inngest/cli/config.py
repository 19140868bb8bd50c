"""`inngest config`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from inngest.cli.run import refuse
from inngest.cli.serve import check_services, from_environment
from inngest.config.catalogue import catalogue, schema_source
from inngest.config.cue import dumps
from inngest.config.errors import ConfigError
from inngest.config.explain import UnknownKey, explanation, tables
from inngest.config.load import Loaded, load
from inngest.config.mask import masked
from inngest.services.from_config import resolve
from inngest.services.settings import SERVICES

_PATH = click.argument("path", required=False, type=click.Path(path_type=Path))


@click.group()
def config() -> None:
    """Look at configurations.

    PATH is a file, or its name without .cue or .json; without one, what `serve` would find is meant.
    """


@config.command()
@_PATH
@click.option(
    "--for",
    "services",
    multiple=True,
    metavar="SERVICE",
    help="Judge for a process that runs this service; repeatable.  [default: all of them]",
)
def validate(path: Path | None, services: tuple[str, ...]) -> None:
    """Say whether `serve` would start with a configuration, or all that is wrong with it.

    Keys and the address of a Redis server may be given by the environment, as `serve` takes them.
    """
    check_services(services)
    loaded = _load(path)
    try:
        resolved = resolve(loaded, services or SERVICES, from_environment(os.environ))
    except ConfigError as error:
        refuse(error)
    for note in resolved.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"{loaded.source.name}: valid")


@config.command()
@_PATH
@click.option("--json", "as_json", is_flag=True, help="As JSON in place of CUE.")
def show(path: Path | None, *, as_json: bool) -> None:
    """Print the effective configuration: with all defaults, without secrets."""
    loaded = _load(path)
    plain = masked(loaded.plain)
    if as_json:
        click.echo(json.dumps(plain, indent=2))
    else:
        click.echo(f"// From {loaded.source.name}\n{dumps(plain)}", nl=False)


@config.command()
@click.option("--markdown", is_flag=True, help="As the tables of the documentation.")
def schema(*, markdown: bool) -> None:
    """Print the schema, a CUE package."""
    click.echo(tables(catalogue()) if markdown else schema_source(), nl=False)


@config.command()
@click.argument("key", required=False, default="")
def explain(key: str) -> None:
    """Say what a key means and what it may hold, such as state.service.keyPrefix."""
    try:
        click.echo(explanation(catalogue(), key), nl=False)
    except UnknownKey as error:
        raise click.ClickException(str(error)) from None


def _load(path: Path | None) -> Loaded:
    try:
        loaded = load(path)
    except ConfigError as error:
        refuse(error)
    for note in loaded.notes:
        click.echo(f"Note: {note}", err=True)
    return loaded
