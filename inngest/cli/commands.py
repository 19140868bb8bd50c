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


for command in (dev, serve, runs, events, apps, dead, config, keys):
    cli.add_command(command)
