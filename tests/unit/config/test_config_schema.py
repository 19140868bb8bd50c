"""Every key of the schema: what it takes, what it does not, what it is without being given."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from config_keys import CASES, Case

from inngest.config.catalogue import (
    DEFINITION,
    IMPORT_PATH,
    Items,
    Node,
    Section,
    Variants,
    catalogue,
    schema_source,
)
from inngest.config.cue import CueError, Plain, evaluate
from inngest.config.errors import ConfigError
from inngest.config.load import Loaded, read
from inngest.config.lookup import Source
from inngest.config.rules import Rule

STATES = '"sqlite", "inmemory", "redis"'
STREAMS = f'{STATES}, "nats", "aws-sqs", "gcp-pubsub"'
GUESS = "; did you mean nats?"
DRIVERS = '"docker", "http", "mock"'


def load(source: str) -> Loaded:
    return read(Source("c.cue", source), {})


def refusals(source: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(source)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def written(case: Case, value: str) -> str:
    """The case's key in a configuration, with what has to stand beside it in its section."""
    *above, key = case.path.split(".")
    if not case.beside:
        return f"{': '.join(above)}{': ' if above else ''}{key}: {value}"
    depth = 3 if above[0] == "execution" else 2
    section, inner = above[:depth], [*above[depth:], key]
    return f"{': '.join(section)}: {{{case.beside}{': '.join(inner)}: {value}}}"


def at(plain: Plain, path: str) -> Plain:
    for name in path.split("."):
        assert isinstance(plain, dict)
        plain = plain[name]
    return plain


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.beside}{case.path}={case.accepted}")
def test_what_a_key_takes(case: Case) -> None:
    loaded = load(written(case, case.accepted))
    assert at(loaded.plain, case.path) == at(evaluate(f"x: {case.accepted}").export(), "x")
    assert loaded.gives(*case.path.split("."))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.beside}{case.path}={case.rejected}")
def test_what_a_key_does_not_take(case: Case) -> None:
    assert refusals(written(case, case.rejected)) == [case.message]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.beside}{case.path}={case.rejected}")
def test_the_schema_by_itself_does_not_take_it_either(case: Case) -> None:
    value = evaluate(
        written(case, case.rejected),
        packages={IMPORT_PATH: schema_source()},
        against=(IMPORT_PATH, DEFINITION),
    )
    with pytest.raises(CueError):
        value.export()


def paths(node: Node, path: str = "") -> Iterator[str]:
    """Every key that holds a value, with the variant it is of."""
    match node:
        case Section():
            tag = node.tag()
            for name, key in node.keys.items():
                if tag is None or name != tag[0]:
                    yield from paths(key.node, f"{path}.{name}".lstrip("."))
        case Variants():
            for name, section in node.sections.items():
                for found in paths(section, ""):
                    yield f"{path}.{found} {name}"
        case Rule() | Items():
            yield path


def test_every_key_has_its_cases() -> None:
    variants = [case.beside.split('"')[1] if case.beside else "" for case in CASES]
    tested = {f"{case.path} {variant}".strip() for case, variant in zip(CASES, variants, strict=True)}
    assert set(paths(catalogue().root)) == tested


def test_the_schema_documents_every_key() -> None:
    undocumented = [path for path, key in catalogue().walk() if not key.doc]
    assert undocumented == []
    for _, key in catalogue().walk():
        if isinstance(key.node, Variants):
            assert all(section.doc for section in key.node.sections.values())


def test_the_words_and_the_schema_agree_on_defaults() -> None:
    plain = load("").plain
    for path, key in catalogue().walk():
        if isinstance(key.node, Rule) and key.node.default is not None:
            shown = key.node.default
            expected = at(plain, shown) if "." in shown and shown[0] != '"' else json.loads(shown)
            assert at(plain, ".".join(path)) == expected


def test_the_defaults() -> None:
    assert load("").plain == {
        "log": {"level": "info", "format": "json"},
        "keys": {"signing": [], "event": []},
        "eventAPI": {"addr": "0.0.0.0", "port": 8288, "maxSize": 64 << 20},
        "coreAPI": {"addr": "0.0.0.0", "port": 8300},
        "runner": {"addr": "0.0.0.0", "port": 8301},
        "executor": {"addr": "0.0.0.0", "port": 8302, "concurrency": 1000},
        "metrics": {"addr": "127.0.0.1", "port": 8303},
        "execution": {
            "drivers": {"http": {"name": "http"}},
            "http": {"allow": [], "deny": []},
            "logOutput": False,
            "requestTimeout": "2h",
        },
        "apps": {"urls": [], "pollInterval": "0"},
        "retention": {"history": "720h"},
        "limits": {
            "maxEventSize": 3 << 20,
            "maxRequestSize": 64 << 20,
            "maxSteps": 1000,
            "maxState": 32 << 20,
            "gracePeriod": "30s",
        },
        "eventstream": {"service": {"backend": "sqlite", "topic": "events"}},
        "queue": {"service": {"backend": "sqlite"}},
        "state": {"service": {"backend": "sqlite"}},
        "datastore": {"service": {"backend": "sqlite"}},
    }


def test_the_body_of_events_is_bounded_as_any_other_unless_said_otherwise() -> None:
    assert load("limits: maxRequestSize: 2048").config.event_api.max_size == 2048
    assert load("limits: maxRequestSize: 2048, eventAPI: maxSize: 4096").config.event_api.max_size == 4096


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("lgo: {}", "lgo: unknown key; did you mean log?"),
        ("eventStream: {}", "eventStream: unknown key; did you mean eventstream?"),
        ("eventapi: port: 1", "eventapi: unknown key; did you mean eventAPI?"),
        ("log: fromat: 1", "log.fromat: unknown key; did you mean format?"),
        ("log: zzz: 1", "log.zzz: unknown key; known here: format, level"),
        (
            'state: service: {backend: "redis", hots: 1}',
            'state.service.hots: unknown key for backend "redis"; did you mean host?',
        ),
        (
            'state: service: {backend: "redis", tls: crt: 1}',
            "state.service.tls.crt: unknown key; did you mean cert?",
        ),
        ("state: service: dns: 1", "state.service.dns: unknown key; did you mean dsn?"),
        (
            'execution: drivers: http: {name: "http", timout: 1}',
            'execution.drivers.http.timout: unknown key for name "http"; did you mean timeout?',
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(source: str, problem: str) -> None:
    assert refusals(source) == [problem]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            'state: service: backend: "postgres"',
            'state.service.backend: "postgres" is not allowed; it is to be one of ' + STATES,
        ),
        (
            'eventstream: service: backend: "natz"',
            f'eventstream.service.backend: "natz" is not allowed; it is to be one of {STREAMS}{GUESS}',
        ),
        (
            'state: service: "redis"',
            'state.service: "redis" is not allowed; it is to be a struct such as {backend: "sqlite"}',
        ),
        (
            'eventstream: service: backend: "nats"',
            'eventstream.service.serverURL: required for backend "nats", and not given',
        ),
        (
            'eventstream: service: region: "r"',
            "eventstream.service.queueURL: required, and not given",
        ),
        (
            'eventstream: service: username: "u"',
            'eventstream.service: backend is needed to tell what is meant: one of "redis", "nats"',
        ),
        (
            'state: service: {backend: "redis", cluster: nodes: []}',
            "state.service.cluster.nodes: the list is empty; it needs an item",
        ),
        ("log: 5", "log: 5 is not allowed; it is to be a struct of keys: level, format"),
        (
            'execution: drivers: docker: name: "http"',
            'execution.drivers.docker.name: "http" is not allowed; it is to be one of "docker", "mock"',
        ),
        (
            'execution: drivers: python: name: "lambda"',
            'execution.drivers.python.name: "lambda" is not allowed; it is to be one of ' + DRIVERS,
        ),
    ],
)
def test_a_wrong_section_is_told_in_its_own_words(source: str, problem: str) -> None:
    assert refusals(source) == [problem]


def test_without_a_backend_the_keys_tell_which_is_meant() -> None:
    assert at(load('state: service: host: "h"').plain, "state.service.backend") == "redis"
    assert at(load('eventstream: service: topic: "t"').plain, "eventstream.service.backend") == "sqlite"
    assert at(load('eventstream: service: serverURL: "n"').plain, "eventstream.service.backend") == "nats"


def test_the_schema_stands_in_the_package() -> None:
    assert schema_source().startswith("// The configuration of `inngest serve`")
