"""`inngest config`, `inngest keys`, and what `inngest serve` refuses, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inngest.cli.commands import cli
from inngest.config.catalogue import schema_source
from inngest.config.load import read
from inngest.config.lookup import Source
from inngest.core.sdk.signing import check_signing_key

KEYS = {"INNGEST_SIGNING_KEY": "5f3a" * 8, "INNGEST_EVENT_KEY": "event-key-0123456789"}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("INNGEST_CONFIG", "INNGEST_SIGNING_KEY", "INNGEST_EVENT_KEY", "INNGEST_REDIS_URI"):
        monkeypatch.delenv(name, raising=False)


def inngest(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=environment)


def test_validate_says_that_a_configuration_is_valid() -> None:
    Path("mine.cue").write_text('log: level: "warn"')
    result = inngest("config", "validate", "mine", **KEYS)
    assert (result.exit_code, result.stdout) == (0, "mine.cue: valid\n")
    assert inngest("config", "validate", INNGEST_CONFIG="{}", **KEYS).stdout == "INNGEST_CONFIG: valid\n"


def test_validate_judges_as_serve_does() -> None:
    Path("mine.cue").write_text('datastore: service: backend: "postgres"')
    result = inngest("config", "validate", "mine")
    assert result.exit_code == 1
    assert [line.partition(": no ")[0].partition(": this ")[0] for line in result.stderr.splitlines()] == [
        "Error: mine.cue:1:30: datastore.service.backend",
        "Error: keys.signing",
        "Error: keys.event",
    ]
    Path("mine.cue").write_text(f'keys: signing: ["{KEYS["INNGEST_SIGNING_KEY"]}"]')
    assert "keys.event" in inngest("config", "validate", "mine").stderr
    result = inngest("config", "validate", "mine", "--for", "runner", "--for", "executor")
    assert result.exit_code == 0
    assert "only this process sees" in result.stderr
    assert "unknown service 'web'" in inngest("config", "validate", "mine", "--for", "web").stderr
    bad = inngest("config", "validate", INNGEST_CONFIG="{}", INNGEST_REDIS_URI="localhost:6379", **KEYS)
    assert bad.exit_code == 1
    assert "--redis-uri: the address of a Redis server begins with" in bad.stderr


def test_start_points_to_serve() -> None:
    result = inngest("start", "--port", "8288")
    assert result.exit_code == 1
    assert "inngest serve" in result.stderr


def test_validate_tells_each_problem_in_a_line() -> None:
    Path("inngest.cue").write_text("log: levl: 1\neventAPI: port: 0\n")
    result = inngest("config", "validate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "Error: inngest.cue:1:6: log.levl: unknown key; did you mean level?",
        "Error: inngest.cue:2:17: eventAPI.port: 0 is not allowed; it is to be a port, 1 to 65535",
    ]


def test_validate_tells_of_a_function_that_was_passed_by() -> None:
    Path("inngest.json").write_text('{"id": "f", "triggers": []}')
    Path("inngest.cue").write_text('log: level: "warn"')
    assert inngest("config", "validate", **KEYS).stdout == "inngest.cue: valid\n"
    Path("inngest.cue").write_text('function: {id: "g"}')
    Path("inngest.json").write_text("{}")
    result = inngest("config", "validate", **KEYS)
    assert result.stdout == "inngest.json: valid\n"
    assert result.stderr.startswith("Note: inngest.cue is the definition of the function 'g'")


def test_show_hides_secrets_and_prints_a_configuration() -> None:
    text = """
keys: {signing: ["abcdef"], event: ["mysecret"]}
state: service: {backend: "redis", dsn: "redis://u:mysecret@h"}
"""
    result = inngest("config", "show", INNGEST_CONFIG=text)
    assert result.exit_code == 0
    assert result.stdout.startswith("// From INNGEST_CONFIG\n")
    assert "abcdef" not in result.stdout
    assert "mysecret" not in result.stdout
    again = read(Source("shown.cue", result.stdout), {})
    assert again.config.event_api.port == 8288
    as_json = json.loads(inngest("config", "show", "--json", INNGEST_CONFIG=text).stdout)
    assert as_json == again.plain
    assert as_json["state"]["service"]["dsn"] == "redis://u:***@h"


def test_schema_and_explain() -> None:
    assert inngest("config", "schema").stdout == schema_source()
    assert inngest("config", "explain", "log.level").stdout.startswith("log.level\n  The least severe level")
    result = inngest("config", "explain", "log.levl")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: log.levl: there is no key levl; did you mean level?\n"


def test_generated_keys_can_be_used() -> None:
    made = json.loads(inngest("keys", "generate", "--json").stdout)
    assert made.keys() == {"signingKey", "eventKey"}
    prefix, env, material = made["signingKey"].split("-")
    assert (prefix, env, len(bytes.fromhex(material))) == ("signkey", "prod", 32)
    check_signing_key(made["signingKey"])
    assert made["eventKey"].isalnum()
    again = json.loads(inngest("keys", "generate", "--json").stdout)
    assert set(made.values()).isdisjoint(again.values())


def test_generated_keys_come_with_how_to_configure_them() -> None:
    lines = inngest("keys", "generate").stdout.splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert values.keys() == {"INNGEST_SIGNING_KEY", "INNGEST_EVENT_KEY"}
    assert values["INNGEST_SIGNING_KEY"].startswith("signkey-prod-")


def test_one_key_alone() -> None:
    assert inngest("keys", "generate", "--signing").stdout.startswith("signkey-prod-")
    assert inngest("keys", "generate", "--event").stdout.strip().isalnum()
    assert json.loads(inngest("keys", "generate", "--event", "--json").stdout).keys() == {"eventKey"}


def test_serve_without_a_name_means_all_services() -> None:
    result = inngest("serve")
    assert result.exit_code == 1
    assert "keys.event: no event key is configured" in result.stderr, "which event-api alone needs"


def test_serve_names_an_unknown_service() -> None:
    result = inngest("serve", "events-api")
    assert result.exit_code == 1
    assert "unknown service 'events-api'" in result.stderr


def test_serve_without_keys_says_how_to_make_them() -> None:
    result = inngest("serve", "event-api", INNGEST_CONFIG="{}")
    assert result.exit_code == 1
    signing, event = result.stderr.splitlines()
    assert signing.startswith("Error: keys.signing: no signing key is configured")
    assert event.startswith("Error: keys.event: no event key is configured")
    assert all("`inngest keys generate`" in line for line in (signing, event))


def test_serve_refuses_a_configuration_that_is_missing_or_wrong() -> None:
    result = inngest("serve", "runner", "-c", "./missing")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: there is no configuration file missing (tried: missing, missing.cue"
    )
    result = inngest("serve", "runner", INNGEST_CONFIG="log: 5", INNGEST_SIGNING_KEY="aa")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: INNGEST_CONFIG:1:6: log: 5 is not allowed")


def test_serve_refuses_what_it_does_not_have() -> None:
    text = 'eventstream: service: {backend: "nats", serverURL: "nats://h"}'
    result = inngest("serve", "runner", INNGEST_CONFIG=text, INNGEST_SIGNING_KEY="aa")
    assert result.exit_code == 1
    assert "eventstream.service.backend: this backend is not available yet" in result.stderr
