"""`inngest serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import structlog

from inngest.cli.run import LOG_LEVELS, refuse, run
from inngest.config.errors import ConfigError
from inngest.config.load import Loaded, load
from inngest.services.from_config import Overrides, Resolved, resolve
from inngest.services.logs import configure_logs
from inngest.services.settings import REDIS_UNSAFE, SERVICES


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The configuration: a file, or its name without .cue or .json.  [default: INNGEST_CONFIG, "
    "./inngest.cue, /etc/inngest/config.cue, /etc/inngest.cue, or the same with .json]",
)
@click.option("--host", show_default="eventAPI.addr, 0.0.0.0", help="Address to listen on.")
@click.option(
    "-p",
    "--port",
    show_default="eventAPI.port, 8288",
    type=click.IntRange(0, 65535),
    help="Port of the event API.",
)
@click.option(
    "--core-port",
    type=click.IntRange(0, 65535),
    show_default="coreAPI.port; --port beside the event API, else 8300",
    help="Port of the core API.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="dataDir, $STATE_DIRECTORY, /var/lib/inngest, ~/.local/state/inngest",
    help="Where the embedded store keeps everything.",
)
@click.option(
    "--redis-uri",
    help="Keep events, queue and state in this Redis server, whatever is configured.",
    envvar="INNGEST_REDIS_URI",
)
@click.option(
    "--redis-allow-unsafe",
    multiple=True,
    envvar="INNGEST_REDIS_ALLOW_UNSAFE",
    type=click.Choice(REDIS_UNSAFE),
    show_default="state.service.allowUnsafe",
    help="Bear this of the Redis server, which may then lose what it has acknowledged; repeatable.",
)
@click.option(
    "--signing-key",
    "signing_keys",
    multiple=True,
    envvar="INNGEST_SIGNING_KEY",
    show_default="keys.signing",
    help="Hex; repeatable, the first one signs.",
)
@click.option(
    "--event-key",
    "event_keys",
    multiple=True,
    envvar="INNGEST_EVENT_KEY",
    show_default="keys.event",
    help="Repeatable.",
)
@click.option(
    "-u",
    "--sdk-url",
    "sdk_urls",
    multiple=True,
    metavar="URL",
    show_default="apps.urls",
    help="An application to register; repeatable.",
)
@click.option(
    "--poll-interval",
    type=click.IntRange(0),
    metavar="SECONDS",
    show_default="apps.pollInterval, 0",
    help="Between questions to applications; 0 for none.",
)
@click.option(
    "--retry-interval",
    type=click.IntRange(0),
    metavar="SECONDS",
    show_default="execution.retryInterval",
    help="A fixed delay between retries.",
)
@click.option(
    "--queue-workers",
    type=click.IntRange(1),
    show_default="executor.concurrency, 1000",
    help="Steps at once.",
)
@click.option("--log-level", show_default="log.level, info", type=click.Choice(LOG_LEVELS))
@click.option("--log-format", show_default="log.format, json", type=click.Choice(["json", "console"]))
def serve(
    services: tuple[str, ...],
    config_path: Path | None,
    host: str | None,
    port: int | None,
    core_port: int | None,
    data_dir: Path | None,
    redis_uri: str | None,
    redis_allow_unsafe: tuple[str, ...],
    signing_keys: tuple[str, ...],
    event_keys: tuple[str, ...],
    sdk_urls: tuple[str, ...],
    poll_interval: int | None,
    retry_interval: int | None,
    queue_workers: int | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run services: event-api, core-api, runner, executor, in any combination, or without a name all of them.

    Options and their variables count over the configuration.
    """
    check_services(services)
    services = services or SERVICES
    overrides = Overrides(
        host=host,
        port=port,
        core_port=core_port,
        data_dir=data_dir,
        redis_uri=redis_uri,
        redis_allow_unsafe=redis_allow_unsafe or None,
        signing_keys=signing_keys or None,
        event_keys=event_keys or None,
        sdk_urls=sdk_urls or None,
        poll_seconds=poll_interval,
        retry_interval_ms=None if retry_interval is None else retry_interval * 1000,
        workers=queue_workers,
    )
    try:
        loaded = load(config_path)
        resolved = resolve(loaded, services, overrides)
    except ConfigError as error:
        refuse(error)
    level = log_level or loaded.config.log.level
    configure_logs(
        # There is nothing less severe than debug here.
        level="debug" if level == "trace" else level,
        style=log_format or loaded.config.log.format,
    )
    _tell(loaded, resolved)
    run(resolved.settings)


def check_services(services: Sequence[str]) -> None:
    """Raises `click.ClickException` for a name that no service has."""
    unknown = [name for name in services if name not in SERVICES]
    if unknown:
        raise click.ClickException(f"unknown service {unknown[0]!r}; there are {', '.join(SERVICES)}")


def _tell(loaded: Loaded, resolved: Resolved) -> None:
    """Log where the configuration came from, and what its author should know."""
    log = structlog.get_logger().bind(service="config")
    log.info("configuration", action="config.load", source=loaded.source.name)
    for note in (*loaded.notes, *resolved.notes):
        log.warning(note, action="config.note")


def from_environment(variables: Mapping[str, str]) -> Overrides:
    """What `serve` takes from these variables, without options."""

    def words(name: str) -> tuple[str, ...] | None:
        return tuple(variables.get(name, "").split()) or None

    return Overrides(
        redis_uri=variables.get("INNGEST_REDIS_URI") or None,
        redis_allow_unsafe=words("INNGEST_REDIS_ALLOW_UNSAFE"),
        signing_keys=words("INNGEST_SIGNING_KEY"),
        event_keys=words("INNGEST_EVENT_KEY"),
    )
