"""The evaluated configuration, typed. What each key means stands in the schema."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import UNSET, Struct, UnsetType, field


class _Section(Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """Keys as the schema has them, in Python's spelling."""


class _Backend(_Section, frozen=True, tag_field="backend", kw_only=True):
    pass


class Log(_Section, frozen=True):
    level: str
    format: str


class Keys(_Section, frozen=True):
    signing: tuple[str, ...]
    event: tuple[str, ...]


class Address(_Section, frozen=True):
    addr: str
    port: int


class EventApi(Address, frozen=True):
    max_size: int


class ExecutorConfig(Address, frozen=True):
    concurrency: int


class MetricsConfig(Address, frozen=True):
    token: str = ""


class HttpDriver(_Section, frozen=True, tag_field="name", tag="http"):
    timeout: int = 0
    signing_key: str = ""


class DockerDriver(_Section, frozen=True, tag_field="name", tag="docker"):
    host: str = ""
    network: str = ""


class MockDriver(_Section, frozen=True, tag_field="name", tag="mock"):
    driver: str = ""


Driver: TypeAlias = HttpDriver | DockerDriver | MockDriver


class Connecting(_Section, frozen=True):
    allow: tuple[str, ...]
    deny: tuple[str, ...]


class Execution(_Section, frozen=True):
    drivers: dict[str, Driver]
    http: Connecting
    log_output: bool
    request_timeout: str
    retry_interval: str = "0"


class Apps(_Section, frozen=True):
    urls: tuple[str, ...]
    poll_interval: str


class Retention(_Section, frozen=True):
    history: str


class Limits(_Section, frozen=True):
    max_event_size: int
    max_request_size: int
    max_steps: int
    max_state: int
    grace_period: str


class Tls(_Section, frozen=True):
    insecure: bool
    ca: str = ""
    cert: str = ""
    key: str = ""


class Sentinel(_Section, frozen=True):
    master: str
    nodes: tuple[str, ...]
    username: str = ""
    password: str = ""


class Cluster(_Section, frozen=True):
    nodes: tuple[str, ...]


class SqliteService(_Backend, frozen=True, tag="sqlite"):
    topic: str = ""


class InmemService(_Backend, frozen=True, tag="inmemory"):
    topic: str = ""


class RedisService(_Backend, frozen=True, tag="redis"):
    host: str
    port: int
    db: int
    key_prefix: str
    dsn: str = ""
    username: str = ""
    password: str = ""
    max_retries: int | UnsetType = UNSET
    pool_size: int | UnsetType = UNSET
    topic: str = ""
    allow_unsafe: tuple[str, ...] = ()
    tls: Tls | None = None
    sentinel: Sentinel | None = None
    cluster: Cluster | None = None


class NatsService(_Backend, frozen=True, tag="nats"):
    server_url: str = field(name="serverURL")
    topic: str
    stream: str
    replicas: int
    retention: str
    credentials: str = ""
    username: str = ""
    password: str = ""
    token: str = ""
    nkey: str = ""
    tls: Tls | None = None


class SqsService(_Backend, frozen=True, tag="aws-sqs"):
    queue_url: str = field(name="queueURL")
    region: str
    topic: str
    concurrency: int | UnsetType = UNSET
    endpoint: str = ""


class PubSubService(_Backend, frozen=True, tag="gcp-pubsub"):
    project: str
    topic: str
    subscription: str = ""
    endpoint: str = ""


class PostgresService(_Backend, frozen=True, tag="postgres"):
    uri: str = field(name="URI")
    min_connections: int
    max_connections: int
    tls: Tls | None = None


class EventStream(_Section, frozen=True):
    service: SqliteService | InmemService | RedisService | NatsService | SqsService | PubSubService


class Queue(_Section, frozen=True):
    service: SqliteService | InmemService | RedisService | SqsService


class State(_Section, frozen=True):
    service: SqliteService | InmemService | RedisService


class DataStore(_Section, frozen=True):
    service: SqliteService | InmemService | PostgresService


class Config(_Section, frozen=True):
    """A whole configuration, with every default in place."""

    log: Log
    keys: Keys
    event_api: EventApi = field(name="eventAPI")
    core_api: Address = field(name="coreAPI")
    runner: Address
    executor: ExecutorConfig
    metrics: MetricsConfig
    execution: Execution
    apps: Apps
    retention: Retention
    limits: Limits
    eventstream: EventStream
    queue: Queue
    state: State
    datastore: DataStore
    data_dir: str = ""
