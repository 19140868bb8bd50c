from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from registrations import body, fn, parsed

from inngest.core.model.functions import (
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
from inngest.core.sdk.registration import normalise_url, parse_registration

BODIES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "registration_bodies.json").read_text(encoding="utf-8")
)
"""What an application on each SDK line sent, recorded from the released SDKs."""

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


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
