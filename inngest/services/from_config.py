"""From a configuration and what the command line says over it to the `Settings` of one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from inngest.config.errors import ConfigError, Problem
from inngest.config.load import Loaded
from inngest.config.model import (
    Address,
    HttpDriver,
    InmemService,
    NatsService,
    PostgresService,
    PubSubService,
    RedisService,
    SqliteService,
    SqsService,
)
from inngest.core.sdk.signing import check_signing_key, normalise_key
from inngest.core.sdk.strength import weakness
from inngest.core.timing.durations import InvalidDuration, parse_duration
from inngest.drivers.http import Destinations, InvalidRule, Rules
from inngest.services.data_dir import default_data_dir, left_behind
from inngest.services.redis_url import redis_server, url_problem
from inngest.services.settings import (
    SERVICES,
    DataBackend,
    EngineBackend,
    InMemory,
    Listen,
    RedisServer,
    Settings,
    Sqlite,
    StreamBackend,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Overrides:
    """What the command line and the environment say; None where they say nothing."""

    host: str | None = None
    port: int | None = None
    core_port: int | None = None
    data_dir: Path | None = None
    redis_uri: str | None = None
    redis_allow_unsafe: tuple[str, ...] | None = None
    signing_keys: tuple[str, ...] | None = None
    event_keys: tuple[str, ...] | None = None
    sdk_urls: tuple[str, ...] | None = None
    poll_seconds: int | None = None
    retry_interval_ms: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Resolved:
    """Settings, and what their operator should know about them."""

    settings: Settings
    notes: tuple[str, ...]


def resolve(loaded: Loaded, services: Sequence[str], overrides: Overrides | None = None) -> Resolved:
    """The settings of a process that runs ``services``.

    Raises ConfigError, with all problems, for what cannot be run as configured: keys that are missing or
    unusable, backends that this release does not have.
    """
    return _Resolution(loaded, services, overrides or Overrides()).run()


class _Resolution:
    def __init__(self, loaded: Loaded, services: Sequence[str], overrides: Overrides) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._over = overrides
        self._services = tuple(name for name in SERVICES if name in services)
        self._problems: list[Problem] = []
        self._notes: list[str] = []

    def run(self) -> Resolved:
        config, over = self._config, self._over
        engine, stream, data = self._engine(), self._stream(), self._data()
        self._queue()
        self._drivers()
        signing, event = self._signing_keys(), self._event_keys()
        timeout = self._timeout()
        allow, deny = self._rules("allow"), self._rules("deny")
        settings = Settings(
            services=self._services,
            dev=False,
            engine=engine,
            stream=stream,
            data=data,
            event_api=self._event_api(),
            core_api=self._listener("coreAPI", config.core_api, over.core_port, beside=("event-api",)),
            runner=self._listener("runner", config.runner, None, beside=("event-api", "core-api")),
            executor=self._listener("executor", config.executor, None, beside=("event-api", "core-api")),
            metrics=self._metrics(),
            metrics_token=config.metrics.token,
            signing_keys=signing,
            event_keys=event,
            calls=Destinations(private=True, allow=allow, deny=deny),
            fetches=Destinations(private=False, allow=allow, deny=deny),
            sdk_urls=_first(over.sdk_urls, config.apps.urls),
            poll_seconds=_first(
                over.poll_seconds, self._seconds(config.apps.poll_interval, "apps", "pollInterval")
            ),
            retry_interval_ms=_first(
                over.retry_interval_ms,
                self._ms(config.execution.retry_interval, "execution", "retryInterval"),
            ),
            workers=_first(over.workers, config.executor.concurrency),
            max_event_bytes=config.limits.max_event_size,
            max_body_bytes=config.limits.max_request_size,
            max_events_body_bytes=config.event_api.max_size,
            max_steps=config.limits.max_steps,
            max_state_bytes=config.limits.max_state,
            call_timeout_seconds=timeout,
            retention_seconds=self._seconds(config.retention.history, "retention", "history"),
            grace_seconds=self._ms(config.limits.grace_period, "limits", "gracePeriod") / 1000,
            log_output=config.execution.log_output,
        )
        if self._problems:
            raise ConfigError(self._problems)
        self._warn_of_embedded(settings)
        self._warn_of_former(settings)
        return Resolved(settings, tuple(self._notes))

    def _refuse(self, message: str, *path: str) -> None:
        problem = Problem(message, self._loaded.position(*path), ".".join(path))
        if problem not in self._problems:
            self._problems.append(problem)

    # Backends

    def _directory(self) -> Path:
        if self._over.data_dir is not None:
            return self._over.data_dir.absolute()
        if not self._config.data_dir:
            return default_data_dir()
        file = self._loaded.source.path
        return (file.absolute().parent if file is not None else Path.cwd()) / self._config.data_dir

    def _engine(self) -> EngineBackend:
        service = self._config.state.service
        if self._over.redis_uri:
            return self._named(self._over.redis_uri, service)
        match service:
            case InmemService():
                return InMemory()
            case RedisService():
                return self._redis(service, "state")
            case SqliteService():
                return Sqlite(self._directory())

    def _stream(self) -> StreamBackend:
        service = self._config.eventstream.service
        if self._over.redis_uri:
            return self._named(self._over.redis_uri, service)
        match service:
            case InmemService():
                return InMemory()
            case RedisService():
                return self._redis(service, "eventstream")
            case SqliteService():
                return Sqlite(self._directory())
            case NatsService() | SqsService() | PubSubService():
                self._unavailable("eventstream", "sqlite", "inmemory", "redis")
                return InMemory()

    def _data(self) -> DataBackend:
        match self._config.datastore.service:
            case InmemService():
                return InMemory()
            case SqliteService():
                return Sqlite(self._directory())
            case PostgresService():
                self._unavailable("datastore", "sqlite", "inmemory")
                return InMemory()

    def _unavailable(self, section: str, *available: str) -> None:
        """What the schema knows and this release does not run yet: every use of this is one to take out."""
        names = ", ".join(f'"{name}"' for name in available)
        self._refuse(f"this backend is not available yet; there are {names}", section, "service", "backend")

    def _redis(self, service: RedisService, section: str) -> RedisServer:
        for name, value in (("sentinel", service.sentinel), ("cluster", service.cluster)):
            if value is not None:
                self._refuse(
                    f"Redis {name} is not available yet; give the address of one server",
                    section,
                    "service",
                    name,
                )
        if service.dsn and (problem := url_problem(service.dsn)):
            self._refuse(problem, section, "service", "dsn")
        if service.tls is not None and service.dsn.startswith("unix:"):
            self._refuse("a socket of this machine is not encrypted", section, "service", "tls")
        for name in ("maxRetries", "poolSize"):
            if self._loaded.gives(section, "service", name):
                self._notes.append(f"{section}.service.{name} is not used: a process needs few connections")
        return self._allowing(redis_server(service))

    def _named(self, uri: str, service: object) -> RedisServer:
        """The server that the command line names, with what the configuration says beside the address. It is
        one for all, so that what is borne of one is borne of it.
        """
        if problem := url_problem(uri):
            self._refuse(problem, "--redis-uri")
        services = (self._config.state.service, self._config.eventstream.service)
        allowed = [name for one in services if isinstance(one, RedisService) for name in one.allow_unsafe]
        named = replace(redis_server(service), url=uri) if isinstance(service, RedisService) else None
        return self._allowing(replace(named or RedisServer(uri), allow_unsafe=tuple(dict.fromkeys(allowed))))

    def _allowing(self, server: RedisServer) -> RedisServer:
        return replace(server, allow_unsafe=_first(self._over.redis_allow_unsafe, server.allow_unsafe))

    def _queue(self) -> None:
        """The queue is kept with the state, so what is said of it can only agree, or be of no effect."""
        queue, state = self._config.queue.service, self._config.state.service
        if not self._loaded.gives("queue") or self._over.redis_uri:
            return
        kept = "redis" if isinstance(state, RedisService) else str(state.__struct_config__.tag)
        named = str(queue.__struct_config__.tag)
        match queue:
            case SqsService():
                self._refuse(
                    'a queue on SQS is not offered: the queue is kept with the state; give backend: "redis" '
                    'here and in state.service',
                    "queue", "service", "backend",
                )  # fmt: skip
            case RedisService() if not isinstance(state, RedisService):
                self._refuse(
                    f'the queue is kept with the state, and that is "{kept}": '
                    'give state.service the backend "redis" too',
                    "queue", "service", "backend",
                )  # fmt: skip
            case RedisService() if isinstance(state, RedisService) and (
                redis_server(queue).url != redis_server(state).url
            ):
                self._refuse(
                    "the queue is kept with the state: give it the same server as state.service",
                    "queue", "service",
                )  # fmt: skip
            case _ if named != kept:
                self._notes.append(f"queue.service {named}: the queue is kept with the state, in {kept}")
            case _:
                pass

    def _drivers(self) -> None:
        for runtime, driver in self._config.execution.drivers.items():
            if not isinstance(driver, HttpDriver):
                name = driver.__struct_config__.tag
                self._notes.append(
                    f"execution.drivers.{runtime} {name}: not used, steps are called over HTTP"
                )

    # Listeners

    def _event_api(self) -> Listen:
        api = self._config.event_api
        return Listen(_first(self._over.host, api.addr), _first(self._over.port, api.port))

    def _listener(
        self, key: str, address: Address, port: int | None, *, beside: tuple[str, ...]
    ) -> Listen | None:
        """An address of its own where one is asked for, or where no API is there to share that of."""
        asked = port is not None or self._loaded.gives(key, "addr") or self._loaded.gives(key, "port")
        if not asked and any(name in self._services for name in beside):
            return None
        return Listen(_first(self._over.host, address.addr), _first(port, address.port))

    def _metrics(self) -> Listen | None:
        if self._config.metrics.token:
            self._check_strength("token", self._config.metrics.token, "metrics", "token")
        if not (self._loaded.gives("metrics", "addr") or self._loaded.gives("metrics", "port")):
            return None
        return Listen(self._config.metrics.addr, self._config.metrics.port)

    # Keys

    def _signing_keys(self) -> tuple[str, ...]:
        over = self._over.signing_keys
        keys = list(self._config.keys.signing) if over is None else list(over)
        places: list[tuple[str, ...]] = [("keys", "signing", str(number)) for number in range(len(keys))]
        driver = self._config.execution.drivers.get("http")
        if (
            over is None
            and isinstance(driver, HttpDriver)
            and driver.signing_key
            and driver.signing_key not in keys
        ):
            keys.append(driver.signing_key)
            places.append(("execution", "drivers", "http", "signingKey"))
        if not keys:
            self._refuse(
                "no signing key is configured: make one with `inngest keys generate` and give it here, "
                "as --signing-key or as INNGEST_SIGNING_KEY",
                "keys", "signing",
            )  # fmt: skip
        for key, place in zip(keys, places, strict=True):
            where = place if over is None else ("--signing-key",)
            try:
                check_signing_key(key)
            except ValueError as error:
                self._refuse(str(error), *where)
            else:
                self._check_strength("signing key", normalise_key(key), *where)
        return tuple(keys)

    def _event_keys(self) -> tuple[str, ...]:
        keys = _first(self._over.event_keys, self._config.keys.event)
        if not keys and "event-api" in self._services:
            self._refuse(
                "no event key is configured: make one with `inngest keys generate` and give it here, "
                "as --event-key or as INNGEST_EVENT_KEY",
                "keys", "event",
            )  # fmt: skip
        for number, key in enumerate(keys):
            given = self._over.event_keys is not None
            where = ("--event-key",) if given else ("keys", "event", str(number))
            if not key.strip():
                self._refuse("the event key is blank", *where)
            else:
                self._check_strength("event key", key, *where)
        return tuple(keys)

    def _check_strength(self, what: str, key: str, *path: str) -> None:
        if words := weakness(key):
            self._refuse(f"the {what} {words}: make one with `inngest keys generate`", *path)

    def _rules(self, which: str) -> Rules:
        texts = self._config.execution.http.allow if which == "allow" else self._config.execution.http.deny
        for number, text in enumerate(texts):
            try:
                Rules.parse([text])
            except InvalidRule as error:
                self._refuse(str(error), "execution", "http", which, str(number))
                return Rules()
        return Rules.parse(texts)

    # Times

    def _ms(self, text: str, *path: str) -> int:
        try:
            return parse_duration(text)
        except InvalidDuration as error:
            self._refuse(str(error), *path)
            return 0

    def _seconds(self, text: str, *path: str) -> int:
        """Whole seconds; a part of one counts as a whole one."""
        return -(-self._ms(text, *path) // 1000)

    def _timeout(self) -> float:
        driver = self._config.execution.drivers.get("http")
        if isinstance(driver, HttpDriver) and driver.timeout:
            return float(driver.timeout)
        ms = self._ms(self._config.execution.request_timeout, "execution", "requestTimeout")
        if not ms and not self._problems:
            self._refuse("a call needs some time: more than 0", "execution", "requestTimeout")
        return ms / 1000

    def _warn_of_embedded(self, settings: Settings) -> None:
        absent = [name for name in SERVICES if name not in self._services]
        kept = {"eventstream": settings.stream, "state": settings.engine}
        embedded = [name for name, backend in kept.items() if isinstance(backend, InMemory | Sqlite)]
        if absent and embedded:
            self._notes.append(
                f"only this process sees its {' and '.join(embedded)}, not {', '.join(absent)} elsewhere: "
                "configure a backend that processes share"
            )

    def _warn_of_former(self, settings: Settings) -> None:
        if isinstance(settings.engine, Sqlite) and not self._config.data_dir and self._over.data_dir is None:
            directory = settings.engine.directory
            if (former := left_behind(directory)) is not None:
                self._notes.append(
                    f"the data in {former} are not used, as the first release did: move them to {directory}, "
                    f"or give --data-dir {former}"
                )


def _first(given: _T | None, default: _T) -> _T:
    return default if given is None else given
