"""`inngest dev`."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import click
import structlog

from inngest.cli.run import LOG_LEVELS, run
from inngest.core.sdk.signing import check_signing_key
from inngest.services.logs import configure_logs
from inngest.services.settings import SERVICES, InMemory, Listen, Settings, Sqlite

log = structlog.get_logger("inngest.dev", service="dev")


@click.command()
@click.option(
    "-u",
    "--sdk-url",
    "sdk_urls",
    multiple=True,
    metavar="URL",
    help="An application to register, as localhost:3000 or http://localhost:3000/api/inngest; repeatable.",
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
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which browsers and clients reach this server, .NAME for all below it; repeatable. "
    "Addresses, names without dots and private ones need none.",
)
@click.option(
    "--signing-key",
    "signing_keys",
    multiple=True,
    metavar="KEY",
    help="Demanded of whoever uses the APIs, for a server that others reach; hex, repeatable.",
)
@click.option(
    "--event-key",
    "event_keys",
    multiple=True,
    metavar="KEY",
    help="Demanded of whoever sends events; repeatable.",
)
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
    allowed_hosts: tuple[str, ...],
    signing_keys: tuple[str, ...],
    event_keys: tuple[str, ...],
    port: int,
    retry_interval: int,
    persist: bool,
    sqlite_dir: Path,
    tick: int | None,
    queue_workers: int,
    log_level: str,
    quiet: bool,
) -> None:
    """Run everything in one process, for development: no keys unless given, no files, one port."""
    configure_logs(level=log_level, style="console")
    _check_keys(signing_keys, event_keys)
    if not (_is_loopback(host) or (signing_keys and event_keys)):
        log.warning(
            "whoever reaches this address controls the server, and what it reaches; "
            "--signing-key and --event-key keep others out",
            action="dev.open",
            host=host,
        )
    settings = Settings(
        services=SERVICES,
        dev=True,
        engine=Sqlite(sqlite_dir) if persist else InMemory(),
        stream=Sqlite(sqlite_dir) if persist else InMemory(),
        data=Sqlite(sqlite_dir) if persist else InMemory(),
        event_api=Listen(host, port),
        allowed_hosts=(host, *allowed_hosts),
        signing_keys=signing_keys,
        event_keys=event_keys,
        sdk_urls=tuple(map(_app_url, sdk_urls)),
        discovery=not no_discovery,
        poll_seconds=0 if no_poll else poll_interval,
        retry_interval_ms=retry_interval * 1000,
        workers=queue_workers,
        console=not quiet,
    )
    run(settings)


def _check_keys(signing_keys: Sequence[str], event_keys: Sequence[str]) -> None:
    for key in signing_keys:
        try:
            check_signing_key(key)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--signing-key") from None
    if not all(key.strip() for key in event_keys):
        raise click.BadParameter("the event key is blank", param_hint="--event-key")


def _app_url(text: str) -> str:
    """An application's URL, of which the scheme and the usual path may be left out."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        message = f"{text!r} is not the URL of an application"
        raise click.BadParameter(message, param_hint="--sdk-url") from None
    return urlunsplit(parts._replace(path="/api/inngest")) if parts.path in {"", "/"} else url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
