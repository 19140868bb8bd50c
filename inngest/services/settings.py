"""What a process is to run, resolved from the command line and the configuration.

Everything here is decided: no defaults of the configuration's, no names of variables, no paths to look for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from inngest.backends.redis import server as redis_server
from inngest.core.policy import CAPACITY, MAX_BODY, MAX_EVENT, MAX_STATE, MAX_STEPS
from inngest.drivers.http import Destinations

SERVICES = ("event-api", "core-api", "runner", "executor")
"""In the order in which they start."""

GRACE_SECONDS = 30.0

REDIS_UNSAFE = redis_server.UNSAFE
"""What makes a Redis server lose what it has acknowledged, by name."""


@dataclass(frozen=True)
class Listen:
    """An address to listen on; port 0 takes any that is free."""

    host: str
    port: int


@dataclass(frozen=True)
class InMemory:
    """Kept by this process, as long as it lives."""


@dataclass(frozen=True)
class Sqlite:
    """Kept by this process in files of this directory."""

    directory: Path


@dataclass(frozen=True)
class RedisServer:
    """A Redis server, by its URL; ``prefix`` is that of all keys. ``allow_unsafe``: of `REDIS_UNSAFE`, what
    of it is borne; outside development all else is refused.
    """

    url: str
    prefix: str = "inngest:"
    allow_unsafe: tuple[str, ...] = ()


EngineBackend: TypeAlias = InMemory | Sqlite | RedisServer
StreamBackend: TypeAlias = InMemory | Sqlite | RedisServer
DataBackend: TypeAlias = InMemory | Sqlite


@dataclass(frozen=True)
class Settings:
    """One process.

    ``core_api``, ``runner`` and ``executor`` of None listen where the APIs of this process do: the core API
    beside the event API, the other two (which tell of their health, and nothing else) beside either. Alone,
    each has a default of its own.

    ``metrics`` is where numbers are told in place of all listeners; ``metrics_token`` is what they ask for.

    ``calls`` says where applications may be, ``fetches`` where steps may fetch from.

    ``max_body_bytes`` bounds a request to the core API, ``max_events_body_bytes`` one to the event API.

    ``allowed_hosts`` are names under which a development server is reached, besides those that it knows.

    Times are in the unit that their name says. ``retention_seconds`` of 0 keeps history for ever.
    """

    services: tuple[str, ...]
    dev: bool
    engine: EngineBackend
    stream: StreamBackend
    data: DataBackend
    event_api: Listen
    core_api: Listen | None = None
    runner: Listen | None = None
    executor: Listen | None = None
    metrics: Listen | None = None
    metrics_token: str = ""
    signing_keys: tuple[str, ...] = ()
    event_keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    calls: Destinations = field(default_factory=Destinations)
    fetches: Destinations = field(default_factory=Destinations)
    sdk_urls: tuple[str, ...] = ()
    discovery: bool = False
    poll_seconds: int = 0
    retry_interval_ms: int = 0
    workers: int = CAPACITY
    max_event_bytes: int = MAX_EVENT
    max_body_bytes: int = MAX_BODY
    max_events_body_bytes: int = MAX_BODY
    max_steps: int = MAX_STEPS
    max_state_bytes: int = MAX_STATE
    call_timeout_seconds: float = 2 * 60 * 60.0
    retention_seconds: int = 0
    grace_seconds: float = GRACE_SECONDS
    log_output: bool = False
    console: bool = False
