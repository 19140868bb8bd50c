"""From a configuration to the settings of a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import ConnectionPool, SSLConnection

from inngest.config.errors import ConfigError
from inngest.config.load import load, read
from inngest.config.lookup import Source
from inngest.drivers.http import Destinations, Rules
from inngest.services.data_dir import default_data_dir
from inngest.services.from_config import Overrides, Resolved, resolve
from inngest.services.settings import (
    REDIS_UNSAFE,
    SERVICES,
    InMemory,
    Listen,
    RedisServer,
    Settings,
    Sqlite,
)

A, B, C = "a1" * 8, "b2" * 8, "c3" * 8
EVENT, OTHER = "event-key-0123456789", "other-key-0123456789"
PUBLIC = Destinations(private=False)
KEYS = f'keys: {{signing: ["{A}"], event: ["{EVENT}"]}}\n'


def resolved(source: str = "", services: tuple[str, ...] = SERVICES, **overrides: object) -> Resolved:
    return resolve(read(Source("c.cue", KEYS + source), {}), services, Overrides(**overrides))  # type: ignore[arg-type]


def settings(source: str = "", services: tuple[str, ...] = SERVICES, **overrides: object) -> Settings:
    return resolved(source, services, **overrides).settings


def refusals(source: str, services: tuple[str, ...] = SERVICES, *, keys: str = KEYS) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(read(Source("c.cue", keys + source), {}), services)
    return [str(problem) for problem in caught.value.problems]


def test_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/srv/state")
    assert settings() == Settings(
        services=SERVICES,
        dev=False,
        engine=Sqlite(Path("/srv/state")),
        stream=Sqlite(Path("/srv/state")),
        data=Sqlite(Path("/srv/state")),
        event_api=Listen("0.0.0.0", 8288),
        signing_keys=(A,),
        event_keys=(EVENT,),
        fetches=PUBLIC,
        retention_seconds=30 * 24 * 3600,
    )


def test_every_value_arrives() -> None:
    found = settings("""
dataDir: "/data"
eventAPI: {addr: "a", port: 1, maxSize: 2048}
coreAPI: {addr: "b", port: 2}
runner: {addr: "c", port: 3}
executor: {addr: "d", port: 4, concurrency: 5}
metrics: {addr: "m", port: 6, token: "token-0123456789"}
execution: {logOutput: true, retryInterval: "1500ms", requestTimeout: "90s"}
apps: {urls: ["http://app"], pollInterval: "1m"}
retention: history: "1500ms"
limits: {maxEventSize: 1024, maxRequestSize: 4096, maxSteps: 7, maxState: 8192, gracePeriod: "500ms"}
""")
    assert found == Settings(
        services=SERVICES,
        dev=False,
        engine=Sqlite(Path("/data")),
        stream=Sqlite(Path("/data")),
        data=Sqlite(Path("/data")),
        event_api=Listen("a", 1),
        core_api=Listen("b", 2),
        runner=Listen("c", 3),
        executor=Listen("d", 4),
        metrics=Listen("m", 6),
        metrics_token="token-0123456789",
        signing_keys=(A,),
        event_keys=(EVENT,),
        fetches=PUBLIC,
        sdk_urls=("http://app",),
        poll_seconds=60,
        retry_interval_ms=1500,
        workers=5,
        max_event_bytes=1024,
        max_body_bytes=4096,
        max_events_body_bytes=2048,
        max_steps=7,
        max_state_bytes=8192,
        call_timeout_seconds=90.0,
        retention_seconds=2,
        grace_seconds=0.5,
        log_output=True,
    )


def test_the_command_line_counts_over_the_configuration() -> None:
    found = settings(
        'dataDir: "/data"\neventAPI: {addr: "a", port: 1}\ncoreAPI: {addr: "b", port: 2}\n'
        'executor: concurrency: 5\napps: {urls: ["http://a"], pollInterval: "1m"}\n'
        'execution: retryInterval: "1s"\n',
        host="h",
        port=11,
        core_port=12,
        data_dir=Path("/other"),
        signing_keys=(B, C),
        event_keys=(OTHER,),
        sdk_urls=("http://b",),
        poll_seconds=0,
        retry_interval_ms=0,
        workers=6,
    )
    assert (found.event_api, found.core_api) == (Listen("h", 11), Listen("h", 12))
    assert found.engine == Sqlite(Path("/other"))
    assert (found.signing_keys, found.event_keys) == ((B, C), (OTHER,))
    assert found.sdk_urls == ("http://b",)
    assert (found.poll_seconds, found.retry_interval_ms, found.workers) == (0, 0, 6)


# Backends


def test_in_memory() -> None:
    found = settings(
        "\n".join(
            f'{s}: service: backend: "inmemory"' for s in ("eventstream", "queue", "state", "datastore")
        )
    )
    assert (found.engine, found.stream, found.data) == (InMemory(), InMemory(), InMemory())


@pytest.mark.parametrize(
    ("keys", "url", "prefix"),
    [
        ("", "redis://localhost:6379/0", "inngest:"),
        ('host: "h", port: 1, db: 2, keyPrefix: "a:b"', "redis://h:1/2", "a:b:"),
        ('keyPrefix: "a:"', "redis://localhost:6379/0", "a:"),
        ('keyPrefix: ""', "redis://localhost:6379/0", ""),
        ('username: "u", password: "p@/:"', "redis://u:p%40%2F%3A@localhost:6379/0", "inngest:"),
        ('password: "p"', "redis://:p@localhost:6379/0", "inngest:"),
        ('host: "::1"', "redis://[::1]:6379/0", "inngest:"),
        ('dsn: "rediss://h/3", host: "x"', "rediss://h/3", "inngest:"),
    ],
)
def test_a_redis_server(keys: str, url: str, prefix: str) -> None:
    found = settings(f'state: service: {{backend: "redis", {keys}}}')
    assert found.engine == RedisServer(url, prefix)
    assert settings(f'eventstream: service: {{backend: "redis", {keys}}}').stream == RedisServer(url, prefix)


def test_what_of_a_redis_server_is_borne() -> None:
    keys = 'service: {backend: "redis", allowUnsafe: ["no-aof", "eviction"]}'
    allowed = ("no-aof", "eviction")
    found = settings(f"state: {keys}\neventstream: {keys}")
    server = RedisServer("redis://localhost:6379/0", allow_unsafe=allowed)
    assert (found.engine, found.stream) == (server, server)
    found = settings(f"state: {keys}", redis_uri="redis://other")
    server = RedisServer("redis://other", allow_unsafe=allowed)
    assert (found.engine, found.stream) == (server, server), "there is one server then"
    over = settings(f"state: {keys}", redis_uri="redis://other", redis_allow_unsafe=("no-persistence",))
    server = RedisServer("redis://other", allow_unsafe=("no-persistence",))
    assert (over.engine, over.stream) == (server, server)
    assert settings(f"state: {keys}", redis_allow_unsafe=("eviction",)).engine == RedisServer(
        "redis://localhost:6379/0", allow_unsafe=("eviction",)
    )


def test_the_schema_knows_all_that_can_be_borne() -> None:
    names = ", ".join(f'"{name}"' for name in REDIS_UNSAFE)
    settings(f'state: service: {{backend: "redis", allowUnsafe: [{names}]}}')
    with pytest.raises(ConfigError, match=names):
        settings('state: service: {backend: "redis", allowUnsafe: [""]}')


def test_an_encrypted_connection_is_one_to_the_client() -> None:
    found = settings(
        'state: service: {backend: "redis", host: "h", password: "p", '
        'tls: {ca: "/a b.pem", cert: "/c", key: "/k", insecure: true}}'
    ).engine
    assert isinstance(found, RedisServer)
    pool = ConnectionPool.from_url(found.url)
    assert pool.connection_class is SSLConnection
    kwargs = pool.connection_kwargs
    assert (kwargs["host"], kwargs["password"]) == ("h", "p")
    assert (kwargs["ssl_ca_certs"], kwargs["ssl_certfile"], kwargs["ssl_keyfile"]) == ("/a b.pem", "/c", "/k")
    assert (kwargs["ssl_cert_reqs"], kwargs["ssl_check_hostname"]) == ("none", False)
    default = settings('state: service: {backend: "redis", dsn: "redis://h:1/2", tls: {}}').engine
    assert default == RedisServer("rediss://h:1/2")


def test_a_redis_server_of_the_command_line_keeps_events_and_state() -> None:
    uri = "redis://other"
    found = settings('state: service: {backend: "redis", keyPrefix: "a"}', redis_uri=uri)
    assert (found.engine, found.stream) == (RedisServer(uri, "a:"), RedisServer(uri))
    assert settings('queue: service: backend: "inmemory"', redis_uri=uri).engine == RedisServer(uri)


DATA = 'this backend is not available yet; there are "sqlite", "inmemory"'
ONE_SERVER = "is not available yet; give the address of one server"
NO_SQS_QUEUE = (
    "a queue on SQS is not offered: the queue is kept with the state; "
    'give backend: "redis" here and in state.service'
)
OTHER_BACKEND = (
    'the queue is kept with the state, and that is "sqlite": give state.service the backend "redis" too'
)
OTHER_SERVER = "the queue is kept with the state: give it the same server as state.service"
STREAMS = 'this backend is not available yet; there are "sqlite", "inmemory", "redis"'


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            'eventstream: service: {backend: "nats", serverURL: "nats://h"}',
            f"c.cue:2:33: eventstream.service.backend: {STREAMS}",
        ),
        (
            'eventstream: service: {backend: "aws-sqs", queueURL: "https://q", region: "r"}',
            f"c.cue:2:33: eventstream.service.backend: {STREAMS}",
        ),
        (
            'eventstream: service: {backend: "gcp-pubsub", project: "p", topic: "t"}',
            f"c.cue:2:33: eventstream.service.backend: {STREAMS}",
        ),
        (
            'datastore: service: backend: "postgres"',
            f"c.cue:2:30: datastore.service.backend: {DATA}",
        ),
        (
            'state: service: {backend: "redis", sentinel: {master: "m", nodes: ["h:1"]}}',
            f"c.cue:2:46: state.service.sentinel: Redis sentinel {ONE_SERVER}",
        ),
        (
            'eventstream: service: {backend: "redis", cluster: nodes: ["h:1"]}',
            f"c.cue:2:51: eventstream.service.cluster: Redis cluster {ONE_SERVER}",
        ),
        (
            'state: service: {backend: "redis", dsn: "unix:///s", tls: {}}',
            "c.cue:2:59: state.service.tls: a socket of this machine is not encrypted",
        ),
        (
            'queue: service: {backend: "aws-sqs", queueURL: "https://q", region: "r"}',
            f"c.cue:2:27: queue.service.backend: {NO_SQS_QUEUE}",
        ),
        (
            'queue: service: backend: "redis"',
            f"c.cue:2:26: queue.service.backend: {OTHER_BACKEND}",
        ),
        (
            'queue: service: {backend: "redis", host: "a"}, state: service: {backend: "redis", host: "b"}',
            f"c.cue:2:17: queue.service: {OTHER_SERVER}",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_by_key_and_place(source: str, problem: str) -> None:
    assert refusals(source) == [problem]


def test_all_that_cannot_be_run_is_told_at_once() -> None:
    source = 'datastore: service: backend: "postgres"\nqueue: service: backend: "redis"'
    assert len(refusals(source, keys="")) == 4


@pytest.mark.parametrize(
    ("source", "note"),
    [
        (
            'queue: service: backend: "inmemory"',
            "queue.service inmemory: the queue is kept with the state, in sqlite",
        ),
        (
            'queue: service: backend: "sqlite"\nstate: service: backend: "redis"',
            "queue.service sqlite: the queue is kept with the state, in redis",
        ),
        (
            'execution: drivers: docker: name: "docker"',
            "execution.drivers.docker docker: not used, steps are called over HTTP",
        ),
        (
            'execution: drivers: http: name: "mock"',
            "execution.drivers.http mock: not used, steps are called over HTTP",
        ),
        (
            'state: service: {backend: "redis", poolSize: 5}',
            "state.service.poolSize is not used: a process needs few connections",
        ),
        (
            'state: service: {backend: "redis", maxRetries: 5}',
            "state.service.maxRetries is not used: a process needs few connections",
        ),
    ],
)
def test_what_has_no_effect_is_noted(source: str, note: str) -> None:
    assert resolved(source).notes == (note,)


@pytest.mark.parametrize(
    "source",
    [
        "",
        'queue: service: backend: "sqlite"',
        'queue: service: backend: "redis"\nstate: service: backend: "redis"',
        'queue: service: {backend: "redis", keyPrefix: "q"}\nstate: service: backend: "redis"',
        'state: service: backend: "redis"',
    ],
)
def test_what_agrees_is_not_noted(source: str) -> None:
    assert resolved(source).notes == ()


def test_an_embedded_backend_of_some_services_is_noted() -> None:
    (note,) = resolved("", ("event-api", "runner")).notes
    assert note == (
        "only this process sees its eventstream and state, not core-api, executor elsewhere: "
        "configure a backend that processes share"
    )
    shared = 'state: service: backend: "redis"\neventstream: service: backend: "redis"'
    assert resolved(shared, ("event-api", "runner")).notes == ()
    (note,) = resolved('state: service: backend: "redis"', ("runner",)).notes
    assert note.startswith("only this process sees its eventstream, not event-api")


# Listeners


@pytest.mark.parametrize(
    ("services", "core", "runner", "executor"),
    [
        (SERVICES, None, None, None),
        (("core-api",), Listen("0.0.0.0", 8300), None, None),
        (("runner",), Listen("0.0.0.0", 8300), Listen("0.0.0.0", 8301), Listen("0.0.0.0", 8302)),
        (("event-api", "executor"), None, None, None),
    ],
)
def test_a_listener_of_its_own_only_without_another(
    services: tuple[str, ...], core: Listen | None, runner: Listen | None, executor: Listen | None
) -> None:
    found = settings("", services)
    assert (found.core_api, found.runner, found.executor) == (core, runner, executor)


def test_a_listener_of_its_own_where_one_is_asked_for() -> None:
    assert settings("coreAPI: port: 8300").core_api == Listen("0.0.0.0", 8300)
    assert settings('runner: addr: "127.0.0.1"').runner == Listen("127.0.0.1", 8301)
    assert settings("executor: concurrency: 5").executor is None
    assert settings("", core_port=9000).core_api == Listen("0.0.0.0", 9000)
    assert settings("", ("core-api",), host="127.0.0.1").core_api == Listen("127.0.0.1", 8300)


# Keys and times


def test_without_keys_nothing_starts() -> None:
    signing, event = refusals("", keys="")
    assert signing.startswith(
        "keys.signing: no signing key is configured: make one with `inngest keys generate`"
    )
    assert event.startswith("keys.event: no event key is configured: make one with `inngest keys generate`")
    assert refusals("", ("runner",), keys="") == [signing]


def test_a_blank_event_key_is_refused_with_its_place() -> None:
    assert refusals("", keys=f'keys: {{event: ["{EVENT}", " "], signing: ["{A}"]}}') == [
        "c.cue:1:40: keys.event.1: the event key is blank"
    ]
    with pytest.raises(ConfigError, match=r"^--event-key: the event key is blank"):
        settings("", event_keys=("",))


def test_a_signing_key_that_is_none_is_refused_with_its_place() -> None:
    assert refusals("", keys=f'keys: {{signing: ["{A}", "signkey-prod-zz"], event: ["{EVENT}"]}}') == [
        "c.cue:1:38: keys.signing.1: the signing key is not hexadecimal: see its character 14"
    ]
    with pytest.raises(ConfigError, match=r"^--signing-key: the signing key is not hexadecimal"):
        resolved("", signing_keys=("zz",))


def test_a_key_that_can_be_guessed_is_refused_and_not_shown() -> None:
    short, constant = "f0" * 7, "00" * 32
    found = refusals(
        f'execution: drivers: http: {{name: "http", signingKey: "signkey-prod-{short}"}}\n'
        'metrics: token: "short-token"',
        keys=f'keys: {{signing: ["{constant}", "{A}"], event: ["{"k" * 20}", "short", "{EVENT}"]}}\n',
    )
    told = {place: why for _, place, why in (problem.split(": ", 2) for problem in found)}
    few, advice = "and needs 16 at least", ": make one with `inngest keys generate`"
    assert told == {
        "execution.drivers.http.signingKey": f"the signing key has 14 characters, {few}{advice}",
        "keys.event.0": f"the event key is one character over and over{advice}",
        "keys.event.1": f"the event key has 5 characters, {few}{advice}",
        "keys.signing.0": f"the signing key is one character over and over{advice}",
        "metrics.token": f"the token has 11 characters, {few}{advice}",
    }
    for given in ({"signing_keys": (short,)}, {"event_keys": ("short",)}):
        with pytest.raises(ConfigError, match="16 at least"):
            settings("", **given)


def test_the_signing_key_of_the_http_driver_is_one() -> None:
    driver = f'execution: drivers: http: {{name: "http", signingKey: "{B}"}}'
    assert settings(driver).signing_keys == (A, B)
    assert settings(driver, signing_keys=(C,)).signing_keys == (C,)
    assert settings(driver.replace(B, A)).signing_keys == (A,)
    assert refusals(driver.replace(B, "zz"))[0].startswith("c.cue:2:54: execution.drivers.http.signingKey: ")


def test_the_timeout_of_the_http_driver_is_that_of_calls() -> None:
    assert settings('execution: drivers: http: {name: "http", timeout: 300}').call_timeout_seconds == 300.0
    assert settings('execution: drivers: http: {name: "http", timeout: 0}').call_timeout_seconds == 7200.0


def test_times_that_cannot_be_are_refused() -> None:
    assert refusals('execution: requestTimeout: "0"') == [
        "c.cue:2:28: execution.requestTimeout: a call needs some time: more than 0"
    ]
    (problem,) = refusals('retention: history: "99999999h"')
    assert problem.startswith(
        "c.cue:2:21: retention.history: invalid duration '99999999h': more than 292 years"
    )
    assert settings('retention: history: "0"').retention_seconds == 0


def test_numbers_have_an_address_of_their_own_when_it_is_given() -> None:
    assert settings('metrics: token: "token-0123456789"').metrics is None
    assert settings("metrics: port: 9000").metrics == Listen("127.0.0.1", 9000)
    assert settings('metrics: addr: "10.0.0.1"').metrics == Listen("10.0.0.1", 8303)


def test_where_the_server_connects() -> None:
    found = settings('execution: http: {allow: ["10.1.0.0/16", "api.internal"], deny: ["10.0.0.0/8"]}')
    allow, deny = Rules.parse(["10.1.0.0/16", "api.internal"]), Rules.parse(["10.0.0.0/8"])
    assert found.calls == Destinations(private=True, allow=allow, deny=deny)
    assert found.fetches == Destinations(private=False, allow=allow, deny=deny)
    (problem,) = refusals('execution: http: deny: ["10.0.0.0/8", "http://a"]')
    assert problem.endswith(
        "execution.http.deny.1: 'http://a' is neither a network such as 10.0.0.0/8 nor the name of a host"
    )


def test_nobody_says_where_the_data_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = str(tmp_path / "state")
    assert default_data_dir({"STATE_DIRECTORY": "/srv/a:/srv/b"}, root=True) == Path("/srv/a")
    assert default_data_dir({"XDG_STATE_HOME": state}, root=True) == Path("/var/lib/inngest")
    assert default_data_dir({"XDG_STATE_HOME": state}, root=False) == tmp_path / "state" / "inngest"
    monkeypatch.setenv("HOME", str(tmp_path))
    for environment in ({}, {"XDG_STATE_HOME": "state"}):
        assert default_data_dir(environment, root=False) == tmp_path / ".local" / "state" / "inngest"


def test_a_relative_place_of_the_data_is_that_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "c.cue").write_text(KEYS + 'dataDir: "data"')
    monkeypatch.chdir(tmp_path)
    found = resolve(load(Path("etc/c.cue")), SERVICES).settings.engine
    assert found == Sqlite(tmp_path / "etc" / "data")
    given = resolve(load(Path("etc/c.cue")), SERVICES, Overrides(data_dir=Path("mine"))).settings.engine
    assert given == Sqlite(tmp_path / "mine")


def test_data_of_the_first_release_are_pointed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert not resolved().notes
    (tmp_path / ".inngest").mkdir()
    (tmp_path / ".inngest" / "engine.db").touch()
    (note,) = resolved().notes
    assert str(tmp_path / ".inngest") in note
    assert str(tmp_path / "state") in note
    assert not resolved(data_dir=tmp_path / "other").notes
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "engine.db").touch()
    assert not resolved().notes


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("localhost:6379", "begins with redis://"),
        ("http://:pa55word@host:6379", "begins with redis://"),
        ("redis://:pa55word@host:65536/0", "Port out of range"),
        ("redis://:pa55word@host:0", "no port 0"),
        ("redis://:pa55word@host/first", "is a number"),
    ],
)
def test_an_address_that_leads_to_no_redis_server_is_refused_without_its_password(
    uri: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(redis_uri=uri)
    (problem,) = caught.value.problems
    assert problem.path == "--redis-uri"
    assert told in problem.message
    assert "pa55word" not in str(caught.value)
