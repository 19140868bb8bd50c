"""The `inngest` command: its group, and what belongs to it."""

from __future__ import annotations

import click

from inngest import __version__
from inngest.cli.apps import apps
from inngest.cli.config import config
from inngest.cli.dead import dead
from inngest.cli.dev import dev
from inngest.cli.events import events
from inngest.cli.keys import keys
from inngest.cli.runs import runs
from inngest.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """A self-hosted durable-function platform for the official Inngest SDKs."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


@cli.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("rest", nargs=-1)
def start(rest: tuple[str, ...]) -> None:
    """What other servers of this protocol are started with."""
    raise click.ClickException("there is no `inngest start` here: `inngest serve` runs all services")


for command in (dev, serve, runs, events, apps, dead, config, keys):
    cli.add_command(command)
