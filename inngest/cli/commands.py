"""The commands and their options."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from inngest import __version__
from inngest.core.signing import check_signing_key
from inngest.services.build import build
from inngest.services.logs import configure_logs
from inngest.services.settings import SERVICES, InMemory, Listen, RedisServer, Settings, Sqlite

EVERYWHERE = "0.0.0.0"  # noqa: S104 -- a server is there to be reached


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """A self-hosted durable-function platform for the official Inngest SDKs."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


@cli.command()
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
@click.option(
    "--log-level", default="warn", show_default=True, type=click.Choice(["debug", "info", "warn", "error"])
)
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
    _run(settings)


@cli.command()
@click.argument("services", nargs=-1, metavar="SERVICE...")
@click.option("--host", default=EVERYWHERE, show_default=True, help="Address to listen on.")
@click.option(
    "-p",
    "--port",
    default=8288,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of the event API.",
)
@click.option(
    "--core-port",
    type=click.IntRange(0, 65535),
    help="Port of the core API  [default: --port beside the event API, else 8300]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".inngest"),
    show_default=True,
    help="Where the embedded store keeps everything.",
)
@click.option(
    "--redis-uri",
    help="Keep queue and state in this Redis server in place of SQLite.",
    envvar="INNGEST_REDIS_URI",
)
@click.option(
    "--signing-key",
    "signing_keys",
    multiple=True,
    envvar="INNGEST_SIGNING_KEY",
    help="Hex; repeatable, the first one signs.",
)
@click.option("--event-key", "event_keys", multiple=True, envvar="INNGEST_EVENT_KEY", help="Repeatable.")
@click.option(
    "-u",
    "--sdk-url",
    "sdk_urls",
    multiple=True,
    metavar="URL",
    help="An application to register; repeatable.",
)
@click.option(
    "--poll-interval",
    default=0,
    type=click.IntRange(0),
    help="Seconds between questions to applications; 0 for none.",
)
@click.option(
    "--retry-interval",
    type=click.IntRange(0),
    default=0,
    metavar="SECONDS",
    help="A fixed delay between retries.",
)
@click.option(
    "--queue-workers", type=click.IntRange(1), default=1000, show_default=True, help="Steps at once."
)
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warn", "error"])
)
@click.option("--log-format", default="json", show_default=True, type=click.Choice(["json", "console"]))
def serve(
    services: tuple[str, ...],
    host: str,
    port: int,
    core_port: int | None,
    data_dir: Path,
    redis_uri: str | None,
    signing_keys: tuple[str, ...],
    event_keys: tuple[str, ...],
    sdk_urls: tuple[str, ...],
    poll_interval: int,
    retry_interval: int,
    queue_workers: int,
    log_level: str,
    log_format: str,
) -> None:
    """Run services: event-api, core-api, runner, executor, in any combination."""
    if not services:
        click.echo("Name the services to run:\n", err=True)
        for name in SERVICES:
            click.echo(f"  {name}", err=True)
        raise SystemExit(1)
    unknown = [name for name in services if name not in SERVICES]
    if unknown:
        raise click.ClickException(f"unknown service {unknown[0]!r}; there are {', '.join(SERVICES)}")
    _check_keys(services, signing_keys, event_keys)
    configure_logs(level=log_level, style=log_format)
    settings = Settings(
        services=tuple(name for name in SERVICES if name in services),
        dev=False,
        engine=RedisServer(redis_uri) if redis_uri else Sqlite(data_dir),
        stream=RedisServer(redis_uri) if redis_uri else Sqlite(data_dir),
        data=Sqlite(data_dir),
        event_api=Listen(host, port),
        core_api=Listen(host, core_port) if core_port is not None else None,
        signing_keys=signing_keys,
        event_keys=event_keys,
        sdk_urls=sdk_urls,
        discovery=False,
        poll_seconds=poll_interval,
        retry_interval_ms=retry_interval * 1000,
        workers=queue_workers,
        console=False,
    )
    _run(settings)


def _check_keys(
    services: tuple[str, ...], signing_keys: tuple[str, ...], event_keys: tuple[str, ...]
) -> None:
    if not signing_keys:
        raise click.ClickException(
            "no signing key is configured (--signing-key or INNGEST_SIGNING_KEY); "
            "create one with: openssl rand -hex 32"
        )
    for key in signing_keys:
        try:
            check_signing_key(key)
        except ValueError as error:
            raise click.ClickException(f"signing key is not usable: {error}") from None
    if "event-api" in services and not event_keys:
        raise click.ClickException(
            "no event key is configured (--event-key or INNGEST_EVENT_KEY); "
            "create one with: openssl rand -hex 16"
        )


def _run(settings: Settings) -> None:
    async def main() -> int:
        supervisor = build(settings)
        return await supervisor.run()

    try:
        import uvloop
    except ImportError:
        code = asyncio.run(main())
    else:
        code = uvloop.run(main())
    raise SystemExit(code)
