"""What a registration cannot say, with the place of each mistake."""

from __future__ import annotations

from typing import Any

import pytest
from registrations import body, fn, parsed, refused

from inngest.core.model.functions import (
    App,
)
from inngest.core.sdk.registration import InvalidRegistration, parse_registration

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


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
