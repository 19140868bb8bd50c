"""Running a process, and what commands have in common."""

from __future__ import annotations

import asyncio
import gc
from typing import NoReturn

import click

from inngest.config.errors import ConfigError
from inngest.services.assembly import build
from inngest.services.settings import Settings
from inngest.services.starting import tell_start

LOG_LEVELS = ["debug", "info", "warn", "error"]


def run(settings: Settings) -> NoReturn:
    """Run the services of a process to their end, and exit with what they say."""
    tell_start(settings)

    async def main() -> int:
        supervisor = build(settings)
        _relax_collector()
        return await supervisor.run()

    try:
        import uvloop
    except ImportError:
        code = asyncio.run(main())
    else:
        code = uvloop.run(main())
    raise SystemExit(code)


def _relax_collector() -> None:
    """Let the collector of cycles look seldom: what a server makes by the thousand has none, and what was
    imported stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def refuse(error: ConfigError) -> NoReturn:
    """Say on standard error what is wrong, one problem a line, and exit with 1."""
    for problem in error.problems:
        click.echo(f"Error: {problem}", err=True)
    raise SystemExit(1)
