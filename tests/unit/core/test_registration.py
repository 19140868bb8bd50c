from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from inngest.core.model.functions import (
    App,
    Batch,
    Cancel,
    Concurrency,
    Debounce,
    Function,
    RateLimit,
    Singleton,
    Throttle,
    Trigger,
)
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.sdk.registration import InvalidRegistration, normalise_url, parse_registration

BODIES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "registration_bodies.json").read_text(encoding="utf-8")
)
"""What an application on each SDK line sent, recorded from the released SDKs."""

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


def body(*functions: dict[str, Any], **top: Any) -> dict[str, Any]:
    return {
        "url": "http://127.0.0.1:3000/api/inngest",
        "deployType": "ping",
        "appName": "app",
        "sdk": "js:v4.24.0",
        "v": "0.1",
        "functions": list(functions),
        **top,
    }


def fn(id: str = "app-fn", **config: Any) -> dict[str, Any]:  # noqa: A002 -- the wire's name
    url = f"http://127.0.0.1:3000/api/inngest?fnId={id}&stepId=step"
    step = {"id": "step", "name": "step", "runtime": {"type": "http", "url": url}}
    return {"id": id, "name": "Fn", "triggers": [{"event": "app/x"}], "steps": {"step": step}, **config}


def parsed(**config: Any) -> Function:
    [function] = parse_registration(body(fn(**config))).functions
    return function


def refused(*functions: dict[str, Any], **top: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidRegistration) as caught:
        parse_registration(json.dumps(body(*functions, **top)).encode())
    return [(problem.path, problem.message, problem.code) for problem in caught.value.problems]


# -- every SDK's spelling


@pytest.mark.parametrize(
    ("line", "language", "version", "framework"),
    [
        ("py", "py", "0.5.19", "fast_api"),
        ("go", "go", "0.15.1", ""),
        ("ts3", "js", "3.54.2", "nodejs"),
        ("ts4", "js", "4.24.0", "nodejs"),
    ],
)
def test_reads_what_each_sdk_sends(line: str, language: str, version: str, framework: str) -> None:
    registration = parse_registration(json.dumps(BODIES[line]).encode())
    app = registration.app
    assert (app.name, app.id, app.url) == (line, app_uuid(line), "http://127.0.0.1:3000/api/inngest")
    assert (app.sdk_language, app.sdk_version, app.framework) == (language, version, framework)
    functions = {function.slug.removeprefix(f"{line}-"): function for function in registration.functions}
    assert len(functions) == len(BODIES[line]["functions"])

    step = "step=step" if line == "go" else "stepId=step"
    throttle = functions["throttle"]
    assert throttle.id == function_uuid(line, f"{line}-throttle")
    assert throttle.whole_state is (line == "go")
    assert throttle.url == f"http://127.0.0.1:3000/api/inngest?fnId={line}-throttle&{step}"
    assert (throttle.app, throttle.app_id) == (line, app.id)
    assert throttle.throttle == Throttle(limit=1, period=2 * SECOND, key="event.data.k")
    assert functions["rate-limit"].rate_limit == RateLimit(limit=1, period=MINUTE, key="event.data.k")
    assert functions["idempotent"].rate_limit == RateLimit(limit=1, period=DAY, key="event.data.k")
    assert functions["debounce"].debounce == Debounce(period=SECOND, key="event.data.k")
    assert functions["batch"].batch == Batch(max_size=3, timeout=MINUTE, key="event.data.k")
    assert functions["batch-timeout"].batch == Batch(max_size=50, timeout=SECOND, key="event.data.k")
    assert functions["singleton-skip"].singleton == Singleton(mode="skip", key="event.data.k")
    assert functions["concurrency"].concurrency == [Concurrency(limit=1, key="event.data.k")]
    assert functions["long-sleep"].cancel == [
        Cancel(event=f"{line}/cancel", condition="event.data.k == async.data.k")
    ]
    assert functions["finish-timeout"].finish_timeout == SECOND
    assert functions["filtered"].triggers == [
        Trigger(event=f"{line}/filtered", expression="event.data.n > 10")
    ]
    assert functions["cron"].triggers == [Trigger(cron="* * * * *")]
    assert functions["step-retry"].retries == 3
    failure = functions["on-failure-failure"]
    assert failure.triggers == [
        Trigger(event="inngest/function.failed", expression=f"event.data.function_id == '{line}-on-failure'")
    ]
    assert failure.retries == (1 if line.startswith("ts") else 0)
    assert (failure.cancel, failure.concurrency, failure.singleton) == ([], [], None)


def test_reads_a_function_with_everything() -> None:
    function = parsed(
        name="Full fn",
        triggers=[
            {"event": "app/x", "expression": "event.data.a > 1"},
            {"cron": "TZ=Europe/Paris 0 9 * * 1", "jitter": "30s"},
        ],
        rateLimit={"limit": 10, "period": "1h", "key": "event.data.u"},
        throttle={"limit": 3, "period": "1m", "burst": 2, "key": "event.data.u"},
        concurrency=[{"limit": 5, "key": "event.data.u", "scope": "env"}, 7],
        debounce={"period": "10s", "timeout": "5m", "key": "event.data.u"},
        priority={"run": "event.data.p"},
        timeouts={"start": "30s", "finish": "2m"},
        singleton={"mode": "cancel", "key": "event.data.u"},
        cancel=[{"event": "app/cancel", "timeout": "1h", "if": "event.data.u == async.data.u"}],
    )
    assert function == Function(
        id=function_uuid("app", "app-fn"),
        slug="app-fn",
        name="Full fn",
        app="app",
        app_id=app_uuid("app"),
        url="http://127.0.0.1:3000/api/inngest?fnId=app-fn&stepId=step",
        triggers=[
            Trigger(event="app/x", expression="event.data.a > 1"),
            Trigger(cron="TZ=Europe/Paris 0 9 * * 1", jitter=30 * SECOND),
        ],
        rate_limit=RateLimit(limit=10, period=HOUR, key="event.data.u"),
        throttle=Throttle(limit=3, period=MINUTE, burst=2, key="event.data.u"),
        concurrency=[Concurrency(limit=5, key="event.data.u", scope="env"), Concurrency(limit=7)],
        debounce=Debounce(period=10 * SECOND, timeout=5 * MINUTE, key="event.data.u"),
        priority="event.data.p",
        start_timeout=30 * SECOND,
        finish_timeout=2 * MINUTE,
        singleton=Singleton(mode="cancel", key="event.data.u"),
        cancel=[Cancel(event="app/cancel", timeout="1h", condition="event.data.u == async.data.u")],
    )


def test_idempotency_replaces_the_rate_limit() -> None:
    function = parsed(rateLimit={"limit": 10, "period": "1h"}, idempotency="event.data.id")
    assert function.rate_limit == RateLimit(limit=1, period=DAY, key="event.data.id")


@pytest.mark.parametrize(
    ("concurrency", "steps", "run"),
    [
        (None, [], None),
        ([], [], None),
        (5, [Concurrency(limit=5)], None),
        (0, [Concurrency(limit=0)], None),
        ({"limit": 5.0}, [Concurrency(limit=5)], None),
        ({"limit": 5, "scope": None, "key": ""}, [Concurrency(limit=5)], None),
        (
            [{"Limit": 5}, {"LIMIT": 6, "Key": "event.id", "Scope": "Account"}],
            [Concurrency(limit=5), Concurrency(limit=6, key="event.id", scope="account")],
            None,
        ),
        (
            {"fn": [{"limit": 2, "key": "event.id"}], "step": [{"limit": 3}]},
            [Concurrency(limit=3)],
            Concurrency(limit=2, key="event.id"),
        ),
        ({"fn": 2}, [], Concurrency(limit=2)),
    ],
)
def test_concurrency_in_all_its_forms(
    concurrency: object, steps: list[Concurrency], run: Concurrency | None
) -> None:
    function = parsed(concurrency=concurrency)
    assert (function.concurrency, function.run_concurrency) == (steps, run)


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({"maxSize": 5, "timeout": "10s"}, Batch(max_size=5, timeout=10 * SECOND)),
        (
            {"max_size": 5, "Timeout": None, "if": "event.data.ok"},
            Batch(5, MINUTE, condition="event.data.ok"),
        ),
        ({"maxSize": 0, "timeout": "0s"}, Batch(max_size=100, timeout=MINUTE)),
        ({"key": "event.data.k"}, Batch(max_size=100, timeout=MINUTE, key="event.data.k")),
    ],
)
def test_batches_and_their_defaults(batch: object, expected: Batch) -> None:
    assert parsed(batchEvents=batch).batch == expected
    assert parsed(batch_events=batch).batch == expected


@pytest.mark.parametrize(
    ("step", "top", "retries"),
    [
        ({}, {}, 4),
        ({"retries": None}, {}, 4),
        ({"retries": {"attempts": 0}}, {}, 0),
        ({"retries": {"attempts": 99}}, {}, 20),
        ({"retries": None}, {"retries": 2}, 2),
        ({"retries": {"attempts": 3}}, {"retries": 2}, 3),
    ],
)
def test_retries(step: dict[str, Any], top: dict[str, Any], retries: int) -> None:
    config = fn(**top)
    config["steps"]["step"].update(step)
    [function] = parse_registration(body(config)).functions
    assert function.retries == retries


def test_nothing_optional_is_needed() -> None:
    registration = parse_registration(body(fn(triggers=[], cancel=[], singleton=None, idempotency="")))
    assert registration.functions[0].triggers == []
    assert parse_registration(body()).functions == []


def test_what_is_unknown_or_for_the_sdk_alone_is_let_pass() -> None:
    config = fn(
        checkpoint={"batch_steps": 3, "batch_interval": "3s", "max_runtime": 10**9},
        triggers=[
            {"event": "inngest/deferred.schedule", "expression": "event.data._inngest.fn_slug == 'app-fn'"}
        ],
        anything=[{"new": None}],
    )
    top = {"headers": {}, "idempotencyKey": "k", "capabilities": {"trust_probe": "v1"}, "later": 1}
    [function] = parse_registration(body(config, **top)).functions
    assert function.triggers[0].event == "inngest/deferred.schedule"


def test_an_id_is_made_of_the_name() -> None:
    config = fn(name="Send the mail!")
    del config["id"]
    [function] = parse_registration(body(config)).functions
    assert function.slug == "send-the-mail"


def test_reads_the_answer_to_an_in_band_sync() -> None:
    answer = {"app_id": "app", "sdk_language": "py", "sdk_version": "0.5.18", "functions": [fn()]}
    app = parse_registration({**answer, "url": "http://h/api/inngest", "framework": "flask"}).app
    assert (app.name, app.sdk_language, app.sdk_version, app.framework) == ("app", "py", "0.5.18", "flask")


# -- the checksum


def test_the_checksum_ignores_order_and_layout_but_nothing_else() -> None:
    def checksum(value: dict[str, Any], **layout: Any) -> str:
        return parse_registration(json.dumps(value, **layout).encode()).app.checksum

    original = BODIES["go"]
    shuffled = {**original, "functions": random.Random(1).sample(original["functions"], k=19)}
    assert shuffled["functions"] != original["functions"]
    assert checksum(shuffled, indent=2, sort_keys=True) == checksum(original)
    assert checksum({**original, "url": "http://127.0.0.1:3001/api/inngest"}) != checksum(original)
    assert checksum({**original, "functions": original["functions"][1:]}) != checksum(original)
    changed = json.loads(json.dumps(original))
    changed["functions"][0]["retries"] = 7
    assert checksum(changed) != checksum(original)
    observed = {**original, "featureObservations": {"sendEvents": {"config": {}}}}
    assert checksum(observed) == checksum(original)


# -- what is refused


@pytest.mark.parametrize(
    ("config", "path", "message", "code"),
    [
        ({"name": ""}, "name", "is missing", "config_invalid"),
        ({"name": 5}, "name", "must be a string, not 5", "config_invalid"),
        ({"steps": None}, "steps", "must hold exactly one step", "config_invalid"),
        ({"steps": {}}, "steps", "must hold exactly one step", "config_invalid"),
        ({"steps": {"a": {}, "b": {}}}, "steps", "must hold exactly one step", "config_invalid"),
        ({"steps": {"step": None}}, "steps.step", "is missing", "config_invalid"),
        ({"steps": {"step": {}}}, "steps.step.runtime", "is missing", "config_invalid"),
        ({"steps": "step"}, "steps", "must be an object, not the string 'step'", "config_invalid"),
        ({"triggers": {}}, "triggers", "must be a list, not an object", "config_invalid"),
        ({"triggers": ["x"]}, "triggers[0]", "must be an object, not the string 'x'", "config_invalid"),
        ({"triggers": [{}]}, "triggers[0]", "must have either an event or a cron", "config_invalid"),
        (
            {"triggers": [{"event": "x", "cron": "* * * * *"}]},
            "triggers[0]",
            "must have either an event or a cron",
            "config_invalid",
        ),
        (
            {"triggers": [{"event": "x"}, {"event": "x"}]},
            "triggers[1]",
            "is the same as an earlier trigger",
            "config_invalid",
        ),
        (
            {"triggers": [{"event": f"x{i}"} for i in range(11)]},
            "triggers",
            "has 11 entries, at most 10 are allowed",
            "config_invalid",
        ),
        (
            {"triggers": [{"event": "x" * 256}]},
            "triggers[0].event",
            f"is longer than 255 characters: {'x' * 40}…",
            "event_name_invalid",
        ),
        (
            {"triggers": [{"cron": "@daily"}]},
            "triggers[0].cron",
            "invalid cron expression '@daily': descriptors such as @daily are not supported",
            "schedule_invalid",
        ),
        (
            {"triggers": [{"cron": "* * * * " + ",".join(["1"] * 125)}]},
            "triggers[0].cron",
            f"is longer than 255 characters: * * * * {'1,' * 16}…",
            "schedule_invalid",
        ),
        (
            {"triggers": [{"cron": "* * * * *", "jitter": "999ms"}]},
            "triggers[0].jitter",
            "must be at least 1s, not 999ms",
            "schedule_invalid",
        ),
        (
            {"triggers": [{"cron": "* * * * *", "jitter": "6m"}]},
            "triggers[0].jitter",
            "must be at most 5m, not 6m",
            "schedule_invalid",
        ),
        ({"concurrency": -1}, "concurrency.limit", "must be at least 0, not -1", "concurrency_limit_invalid"),
        (
            {"concurrency": [1, 2, 3]},
            "concurrency",
            "has 3 entries, at most 2 are allowed",
            "concurrency_limit_invalid",
        ),
        (
            {"concurrency": [{"key": "event.id"}]},
            "concurrency[0].limit",
            "is missing",
            "concurrency_limit_invalid",
        ),
        (
            {"concurrency": [{"limit": 1, "scope": "env"}]},
            "concurrency[0].key",
            "is missing, which the scope env needs",
            "config_invalid",
        ),
        (
            {"concurrency": [{"limit": 1, "scope": "planet"}]},
            "concurrency[0].scope",
            "must be fn, env or account, not 'planet'",
            "config_invalid",
        ),
        (
            {"concurrency": {"fn": [{"limit": 0}]}},
            "concurrency.fn[0].limit",
            "must be at least 1, not 0",
            "concurrency_limit_invalid",
        ),
        (
            {"concurrency": {"fn": [1, 2]}},
            "concurrency.fn",
            "has 2 entries, at most 1 are allowed",
            "concurrency_limit_invalid",
        ),
        ({"throttle": {"period": "1s"}}, "throttle.limit", "is missing", "config_invalid"),
        (
            {"throttle": {"limit": 0, "period": "1s"}},
            "throttle.limit",
            "must be at least 1, not 0",
            "config_invalid",
        ),
        (
            {"throttle": {"limit": True, "period": "1s"}},
            "throttle.limit",
            "must be a whole number, not true",
            "config_invalid",
        ),
        (
            {"throttle": {"limit": 1, "period": "500ms"}},
            "throttle.period",
            "must be at least 1s, not 500ms",
            "config_invalid",
        ),
        (
            {"throttle": {"limit": 1, "period": "1x"}},
            "throttle.period",
            "invalid duration '1x': unknown unit 'x' at position 2",
            "config_invalid",
        ),
        (
            {"throttle": {"limit": 1, "period": 60}},
            "throttle.period",
            "must be a string, not 60",
            "config_invalid",
        ),
        ({"throttle": 1}, "throttle", "must be an object, not 1", "config_invalid"),
        (
            {"rateLimit": {"limit": 1, "period": "25h"}},
            "rateLimit.period",
            "must be at most 1d, not 25h",
            "config_invalid",
        ),
        (
            {"rateLimit": {"limit": 0, "period": "1h"}},
            "rateLimit.limit",
            "must be at least 1, not 0",
            "config_invalid",
        ),
        ({"debounce": {"key": "event.id"}}, "debounce.period", "is missing", "config_invalid"),
        (
            {"debounce": {"period": "999ms"}},
            "debounce.period",
            "must be at least 1s, not 999ms",
            "config_invalid",
        ),
        ({"debounce": {"period": "8d"}}, "debounce.period", "must be at most 1w, not 8d", "config_invalid"),
        (
            {"batchEvents": {"maxSize": 1}},
            "batchEvents.maxSize",
            "must be at least 2, not 1",
            "batch_size_invalid",
        ),
        (
            {"batchEvents": {"maxSize": 5, "timeout": "10ms"}},
            "batchEvents.timeout",
            "must be at least 1s, not 10ms",
            "batch_timeout_invalid",
        ),
        (
            {"batchEvents": {"maxSize": 1001}},
            "batchEvents.maxSize",
            "must be at most 1000, not 1001",
            "batch_size_invalid",
        ),
        (
            {"concurrency": [{"limit": 1, "scope": "account"}]},
            "concurrency[0].key",
            "is missing, which the scope account needs",
            "config_invalid",
        ),
        ({"timeouts": {"start": "-1s"}}, "timeouts.start", "must be at least 0s, not -1s", "config_invalid"),
        ({"singleton": {"key": "event.id"}}, "singleton.mode", "is missing", "config_invalid"),
        (
            {"singleton": {"mode": "queue"}},
            "singleton.mode",
            "must be skip or cancel, not 'queue'",
            "config_invalid",
        ),
        ({"cancel": [{"if": "true"}]}, "cancel[0].event", "is missing", "event_name_invalid"),
        (
            {"cancel": [{"event": "c"}] * 6},
            "cancel",
            "has 6 entries, at most 5 are allowed",
            "config_invalid",
        ),
        (
            {"cancel": [{"event": "c", "timeout": "soon"}]},
            "cancel[0].timeout",
            "neither a date nor a duration: invalid duration 'soon': a number is missing at position 1",
            "config_invalid",
        ),
        (
            {"cancel": [{"event": "c", "if": "async.data.x.all(t, t == 1)"}]},
            "cancel[0].if",
            "invalid expression: all() is not allowed here at position 14 of 'async.data.x.all(t, t == 1)'",
            "config_invalid",
        ),
        (
            {"batchEvents": {}, "debounce": {"period": "1s"}},
            "",
            "batchEvents and debounce cannot be combined",
            "combo_unsupported",
        ),
        (
            {"batchEvents": {}, "cancel": [{"event": "c"}]},
            "",
            "batchEvents and cancel cannot be combined",
            "combo_unsupported",
        ),
        (
            {"batchEvents": {}, "singleton": {"mode": "skip"}},
            "",
            "batchEvents and singleton cannot be combined",
            "combo_unsupported",
        ),
        (
            {"batchEvents": {}, "priority": {"run": "1"}},
            "",
            "batchEvents and priority cannot be combined",
            "combo_unsupported",
        ),
    ],
)
def test_mistakes_are_named(config: dict[str, Any], path: str, message: str, code: str) -> None:
    full = f'functions[0] "app-fn": {path}' if path else 'functions[0] "app-fn"'
    assert refused(fn(**config)) == [(full, message, code)]


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ({"triggers": [{"event": "x", "expression": "event.data. >"}]}, "config_invalid"),
        ({"concurrency": [{"limit": 1, "key": "event.data. >"}]}, "config_invalid"),
        ({"throttle": {"limit": 1, "period": "1s", "key": "event.data. >"}}, "config_invalid"),
        ({"rateLimit": {"limit": 1, "period": "1s", "key": "event.data. >"}}, "config_invalid"),
        ({"debounce": {"period": "1s", "key": "event.data. >"}}, "config_invalid"),
        ({"priority": {"run": "event.data. >"}}, "config_invalid"),
        ({"singleton": {"mode": "skip", "key": "event.data. >"}}, "config_invalid"),
        ({"idempotency": "event.data. >"}, "config_invalid"),
        ({"cancel": [{"event": "c", "if": "event.data. >"}]}, "config_invalid"),
        ({"batchEvents": {"key": "event.data. >"}}, "batch_key_expression_invalid"),
        ({"batchEvents": {"if": "event.data. >"}}, "batch_if_expression_invalid"),
    ],
)
def test_every_expression_has_to_compile(field: dict[str, Any], code: str) -> None:
    [(_, message, found)] = refused(fn(**field))
    assert message.startswith("invalid expression: ")
    assert "at position 13 of 'event.data. >'" in message
    assert found == code


def test_only_cancellations_see_the_incoming_event() -> None:
    [(path, message, _)] = refused(fn(idempotency="async.data.id"))
    assert path == 'functions[0] "app-fn": idempotency'
    assert "async" in message
    assert parsed(cancel=[{"event": "c", "if": "async.data.id == 1"}]).cancel


def test_one_error_names_every_mistake_of_every_function() -> None:
    config = body(
        fn("a", throttle={"limit": 0, "period": "no"}),
        fn("b"),
        fn("c", batchEvents={"maxSize": 1}),
    )
    with pytest.raises(InvalidRegistration) as caught:
        parse_registration(config)
    assert [problem.path for problem in caught.value.problems] == [
        'functions[0] "a": throttle.limit',
        'functions[0] "a": throttle.period',
        'functions[2] "c": batchEvents.maxSize',
    ]
    assert caught.value.code == "config_invalid"
    assert str(caught.value).startswith(
        'At least one function is invalid: functions[0] "a": throttle.limit: must be at least 1, not 0; '
    )


def test_ids_are_unique() -> None:
    assert refused(fn("a"), fn("b"), fn("a")) == [
        ('functions[2] "a": id', "is the id of functions[0] too", "config_invalid")
    ]


def test_a_function_has_an_id_or_a_name() -> None:
    config = fn()
    del config["id"], config["name"]
    assert refused(config) == [
        ("functions[0]: id", "is missing", "config_invalid"),
        ("functions[0]: name", "is missing", "config_invalid"),
    ]


@pytest.mark.parametrize(
    ("top", "path", "message", "code"),
    [
        ({"appName": ""}, "", "App ID required", "config_invalid"),
        ({"url": None}, "url", "is missing", "config_invalid"),
        ({"url": "http://"}, "url", "is not a usable URL", "config_invalid"),
        ({"url": "http://h:0/"}, "url", "is not a usable URL", "config_invalid"),
        ({"url": "http://h:x/"}, "url", "is not a usable URL", "config_invalid"),
        ({"url": "http://h/a b"}, "url", "is not a usable URL", "config_invalid"),
        (
            {"url": "ftp://h/"},
            "url",
            "the URL's scheme must be http or https, not 'ftp'",
            "unsupported_protocol",
        ),
        ({"functions": {}}, "functions", "must be a list, not an object", "config_invalid"),
    ],
)
def test_mistakes_about_the_app_are_named(top: dict[str, Any], path: str, message: str, code: str) -> None:
    assert refused(**top) == [(path, message, code)]


def test_connect_is_refused_in_so_many_words() -> None:
    [(path, message, code)] = refused(fn(), url="wss://connect")
    assert (path, code) == ("url", "unsupported_protocol")
    assert "Connect is not available on this server yet" in message
    worker = fn(
        steps={"step": {"id": "step", "runtime": {"type": "http", "url": "wss://connect?fnId=app-fn"}}}
    )
    [(path, message, code)] = refused(worker)
    assert (path, code) == ('functions[0] "app-fn": steps.step.runtime.url', "unsupported_protocol")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":1e999}', b'"x"', b"[]", b"null"])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRegistration, match=r"^Invalid request: |^url: is missing"):
        parse_registration(raw)


@pytest.mark.parametrize("version", ["3.22.0", "3.30.1", "3.53.1", "3.40.0-beta.1"])
def test_vulnerable_sdks_are_denied(version: str) -> None:
    [(path, message, code)] = refused(fn(), sdk=f"js:v{version}")
    assert (path, code) == ("sdk", "sdk_version_denied")
    assert f"version {version} " in message
    assert "CVE-2026-42047" in message
    assert "upgrade the npm package inngest to 3.54.0 or later" in message


@pytest.mark.parametrize("sdk", ["js:v3.21.9", "js:v3.54.0", "js:v4.0.0", "py:v3.30.0", "js:vnext", "js", ""])
def test_other_sdks_are_not(sdk: str) -> None:
    assert isinstance(parse_registration(body(fn(), sdk=sdk)).app, App)


# -- URLs


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://localhost:3000/api/inngest", "http://localhost:3000/api/inngest"),
        ("HTTP://127.0.0.1:3000/api/inngest?", "http://localhost:3000/api/inngest"),
        ("http://0.0.0.0:80/api/inngest", "http://localhost/api/inngest"),
        ("http://[::1]:3000/x", "http://localhost:3000/x"),
        ("http://[fe80::1]:3000/x", "http://[fe80::1]:3000/x"),
        ("https://App.Example.com:443", "https://app.example.com/"),
        ("https://app.example.com:80/", "https://app.example.com:80/"),
        (
            "http://h/i?fnId=a&stepId=step&deployId=1&probe=trust&tenant=7&step=step#f",
            "http://h/i?tenant=7",
        ),
        ("http://user:secret@h/i", "http://h/i"),
        ("not a url", "not a url"),
        ("http://h:port/", "http://h:port/"),
    ],
)
def test_urls_are_compared_in_one_form(url: str, normal: str) -> None:
    assert normalise_url(url) == normal
    assert normalise_url(normal) == normal
