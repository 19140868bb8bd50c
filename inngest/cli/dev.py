"""`inngest dev`."""

from __future__ import annotations

from pathlib import Path

import click

from inngest.cli.run import LOG_LEVELS, run
from inngest.services.logs import configure_logs
from inngest.services.settings import SERVICES, InMemory, Listen, Settings, Sqlite


@click.command()
@click.option(
    "-u",
    "--sdk-url",
    "sdk_urls",
    multiple=True,
    metavar="URL",
    help="An application to register; repeatable.",
)
@click.option("--no-discovery", is_flag=True, help="Do not look for applications on local ports.")
@click.option("--no-poll", is_flag=True, help="Do not ask registered applications for changes.")
@click.option(
    "--poll-interval",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Seconds between such questions.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "-p", "--port", default=8288, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on."
)
@click.option(
    "--retry-interval",
    type=click.IntRange(0),
    default=0,
    metavar="SECONDS",
    help="A fixed delay between retries.",
)
@click.option("--persist", is_flag=True, help="Keep everything in SQLite, over restarts.")
@click.option(
    "--sqlite-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".inngest"),
    show_default=True,
    help="Where --persist keeps it.",
)
@click.option("--tick", type=click.IntRange(1), metavar="MS", help="Accepted and ignored: nothing polls.")
@click.option(
    "--queue-workers", type=click.IntRange(1), default=1000, show_default=True, help="Steps at once."
)
@click.option("--log-level", default="warn", show_default=True, type=click.Choice(LOG_LEVELS))
@click.option("--quiet", is_flag=True, help="Do not print what happens.")
def dev(
    sdk_urls: tuple[str, ...],
    no_discovery: bool,
    no_poll: bool,
    poll_interval: int,
    host: str,
    port: int,
    retry_interval: int,
    persist: bool,
    sqlite_dir: Path,
    tick: int | None,
    queue_workers: int,
    log_level: str,
    quiet: bool,
) -> None:
    """Run everything in one process, for development: no keys, no files, one port."""
    configure_logs(level=log_level, style="console")
    settings = Settings(
        services=SERVICES,
        dev=True,
        engine=Sqlite(sqlite_dir) if persist else InMemory(),
        stream=Sqlite(sqlite_dir) if persist else InMemory(),
        data=Sqlite(sqlite_dir) if persist else InMemory(),
        event_api=Listen(host, port),
        sdk_urls=sdk_urls,
        discovery=not no_discovery,
        poll_seconds=0 if no_poll else poll_interval,
        retry_interval_ms=retry_interval * 1000,
        workers=queue_workers,
        console=not quiet,
    )
    run(settings)
