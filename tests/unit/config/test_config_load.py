"""The shapes that a configuration may have, and what is said of one that cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.config.cue import Position
from inngest.config.errors import ConfigError
from inngest.config.load import Loaded, read
from inngest.config.lookup import Source
from inngest.config.model import (
    HttpDriver,
    NatsService,
    PostgresService,
    PubSubService,
    RedisService,
    SqsService,
)

ENVIRONMENT = {
    "NATS_URL": "nats://bus:4222",
    "REDIS_HOST": "cache",
    "DATABASE_URL": "postgres://app:secret@db/inngest",
    "REDIS_PASS": 'quo"te',
    "EVENT_SQS_URL": "https://sqs.example/1/events",
    "QUEUE_SQS_URL": "https://sqs.example/1/steps",
    "SIGNING_KEY": "signkey-prod-00ff",
}

NATS = """package main
import config "inngest.com/defs/config"
config.#Config & {
	log: level: "info"
	eventAPI: {addr: "0.0.0.0", port: 8288, maxSize: 262144}
	coreAPI: port: 8300
	eventstream: service: {backend: "nats", topic: "events", serverURL: "${NATS_URL}"}
	queue: service: backend: "inmemory"
	state: service: {backend: "redis", host: "${REDIS_HOST}", port: 6379, db: 2, poolSize: 25, keyPrefix: "acme:inngest"}
	datastore: service: {backend: "postgres", URI: "${DATABASE_URL}"}
	execution: {drivers: http: config.#HTTPDriver, logOutput: true}
}
"""  # fmt: skip  # noqa: E501 -- as it was written
SQS = """package main
import config "inngest.com/defs/config"
config.#Config & {
	eventAPI: port: 80
	execution: drivers: {
		docker: config.#DockerDriver & {host: "unix:///var/run/docker.sock", network: "bridge"}
		http:   config.#HTTPDriver
	}
	state: service: config.#RedisState & {dsn: "redis://user:${REDIS_PASS}@cache.internal:6379/0"}
	eventstream: service: config.#SQSMessaging & {queueURL: "${EVENT_SQS_URL}", region: "us-east-2", topic: "events"}
	queue: service: config.#SQSQueue & {queueURL: "${QUEUE_SQS_URL}", region: "us-east-2", topic: "steps", concurrency: 50}
}
"""  # noqa: E501 -- as it was written
PUBSUB = """{"log": {"level": "warn"},
 "eventstream": {"service": {"backend": "gcp-pubsub", "project": "acme-prod", "topic": "inngest-events"}},
 "state": {"service": {"backend": "redis", "host": "10.0.0.5", "username": "app", "password": "${REDIS_PASS}", "maxRetries": -1}},
 "datastore": {"service": {"backend": "postgres"}}}
"""  # noqa: E501 -- as it was written
DRIVER = '{execution: drivers: http: {name: "http", timeout: 300, signingKey: "${SIGNING_KEY}"}}'


def load(source: str) -> Loaded:
    return read(Source("c.cue", source), ENVIRONMENT)


def refusals(source: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(source)
    return [str(problem) for problem in caught.value.problems]


# The examples of 2022


def test_nats_redis_and_postgres_as_of_2022() -> None:
    config = load(NATS).config
    stream, state, data = config.eventstream.service, config.state.service, config.datastore.service
    assert isinstance(stream, NatsService)
    assert stream.server_url == "nats://bus:4222"
    assert isinstance(state, RedisService)
    assert (state.host, state.db, state.pool_size, state.key_prefix) == ("cache", 2, 25, "acme:inngest")
    assert isinstance(data, PostgresService)
    assert data.uri == "postgres://app:secret@db/inngest"
    assert (config.event_api.max_size, config.execution.log_output) == (262144, True)


def test_sqs_and_docker_as_of_2022() -> None:
    config = load(SQS).config
    stream, queue, state = config.eventstream.service, config.queue.service, config.state.service
    assert isinstance(stream, SqsService)
    assert isinstance(queue, SqsService)
    assert (stream.queue_url, queue.queue_url) == (ENVIRONMENT["EVENT_SQS_URL"], ENVIRONMENT["QUEUE_SQS_URL"])
    assert queue.concurrency == 50
    assert isinstance(state, RedisService)
    assert state.dsn == 'redis://user:quo"te@cache.internal:6379/0'
    assert set(config.execution.drivers) == {"docker", "http"}


def test_pubsub_in_json_as_of_2022() -> None:
    config = load(PUBSUB).config
    stream, state = config.eventstream.service, config.state.service
    assert isinstance(stream, PubSubService)
    assert stream.project == "acme-prod"
    assert isinstance(state, RedisService)
    assert (state.username, state.password, state.max_retries) == ("app", 'quo"te', -1)


def test_options_of_the_http_driver_as_of_2023() -> None:
    driver = load(DRIVER).config.execution.drivers["http"]
    assert driver == HttpDriver(timeout=300, signing_key="signkey-prod-00ff")


# Shapes


@pytest.mark.parametrize(
    "source",
    [
        'package main\nimport "inngest.com/defs/config"\nconfig.#Config & {log: level: "warn"}',
        'package any\nimport c "inngest.com/defs/config"\nconfig: c.#Config & {log: level: "warn"}',
        'import "inngest.com/defs/config"\nconfig: config.#Config & {log: level: "warn"}',
        'import "inngest.com/defs/config"\nconfig: config.#Config\nconfig: log: level: "warn"',
        'config: log: level: "warn"',
        'log: level: "warn"',
        'package main\nlog: level: "warn"',
        '{log: level: "warn"}',
        '{"log": {"level": "warn"}}',
        '{"config": {"log": {"level": "warn"}}}',
        'let x = "warn"\nlog: level: x',
        '_x: "warn"\nlog: level: _x',
        'level: "warn"\nconfig: log: "level": level',
        'import "inngest.com/defs/config"\n#Mine: config.#Config & {log: level: "warn"}\n#Mine',
    ],
)
def test_shapes(source: str) -> None:
    config = load(source).config
    assert config.log.level == "warn"
    assert config.event_api.port == 8288  # the defaults are there in every shape


@pytest.mark.parametrize("source", ["", "\n\n", "// nothing\n", "{}", "package main\n"])
def test_an_empty_text_means_the_defaults(source: str) -> None:
    assert load(source).config.event_api.port == 8288


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ('import "inngest.com/defs/config"\nconfig.#Config & {log: levl: 1}', "c.cue:2:24: log.levl"),
        ('import "inngest.com/defs/config"\nconfig: config.#Config & {log: levl: 1}', "c.cue:2:32: log.levl"),
        ("log: levl: 1", "c.cue:1:6: log.levl"),
        ('{"log": {"levl": 1}}', "c.cue:1:10: log.levl"),
    ],
)
def test_every_shape_is_held_to_the_schema(source: str, place: str) -> None:
    assert refusals(source) == [f"{place}: unknown key; did you mean level?"]


# Problems


def test_all_problems_are_told_at_once() -> None:
    source = 'log: level: "loud"\neventAPI: prot: 1\nexecutor: concurrency: 0\n'
    levels = '"info", "trace", "debug", "warn", "error"'
    assert refusals(source) == [
        f'c.cue:1:13: log.level: "loud" is not allowed; it is to be one of {levels}',
        "c.cue:2:11: eventAPI.prot: unknown key; did you mean port?",
        "c.cue:3:24: executor.concurrency: 0 is not allowed; it is to be a whole number, at least 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("log: {", "c.cue:1:7: expected '}', found end of file"),
        ("log: level: x", 'c.cue:1:13: reference "x" not found'),
        ('import "example.com/x"\nlog: x.y', 'c.cue:1:8: cannot find package "example.com/x"'),
        ('eventAPI: addr: "a" & "b"', 'c.cue:1:17: eventAPI.addr: conflicting values "b" and "a"'),
        ("[1]", "c.cue:1:1: a list is not allowed; it is to be a struct of keys: "),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(source: str, problem: str) -> None:
    (found,) = refusals(source)
    assert found.startswith(problem)


def test_what_is_not_concrete_by_itself_is_held_to_the_schema() -> None:
    assert load("eventAPI: port: int").config.event_api.port == 8288
    assert refusals("eventAPI: {port: int, prot: 1}") == [
        "c.cue:1:23: eventAPI.prot: unknown key; did you mean port?"
    ]
    assert refusals("eventAPI: port: >70000")[0].startswith("c.cue:1:17: eventAPI.port: ")


PIECES = [
    *'{}[]():,&|*$"\\\n',
    *('"${PORT}"', "${PORT}", "${", "$PORT", "${file:/none}"),
    *("config", 'import "inngest.com/defs/config"\n', "config.#Config"),
    *("log", "level", "state", "service", "backend", '"redis"'),
    *("1", "true", "_|_", "...", "int", "if", "for", "//"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join))
def test_whatever_the_text_it_is_a_configuration_or_a_problem(source: str) -> None:
    try:
        found = read(Source("c.cue", source), {"PORT": "80"}).config.log.level
    except ConfigError as error:
        found = str(error)
    assert found


def test_secrets_do_not_show_in_problems() -> None:
    source = """
keys: signing: ["secret" & "other"]
state: service: {backend: "redis", password: "secret" & "other"}
"""
    assert not [problem for problem in refusals(source) if "secret" in problem or "other" in problem]
    (problem,) = refusals('datastore: service: {backend: "postgres", URI: "mysql://u:secret@h/d"}')
    assert "mysql://u:***@h/d" in problem
    assert "secret" not in repr(load('keys: event: ["secret"]'))


def test_what_was_given_is_known_with_its_place() -> None:
    loaded = load('config: {\n\tstate: service: backend: "redis"\n}')
    assert loaded.gives("state", "service", "backend")
    assert not loaded.gives("state", "service", "host")
    assert not loaded.gives("queue")
    assert loaded.position("state", "service", "backend") == Position("c.cue", 2, 27)
    assert loaded.position("queue", "service") is None


def test_the_place_of_what_a_definition_gives_is_that_of_the_section() -> None:
    source = 'import "inngest.com/defs/config"\nstate: service: config.#RedisState & {host: "h"}'
    assert load(source).position("state", "service", "backend") == Position("c.cue", 2, 36)
