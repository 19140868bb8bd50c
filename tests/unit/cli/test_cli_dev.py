"""`inngest dev`: what its options come to."""

from __future__ import annotations

import importlib

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from inngest.cli.dev import dev
from inngest.services.settings import Settings

KEY = "signkey-test-0123456789abcdef"
EVENT_KEY = "an-event-key-0123456789"


class Started:
    """Runs the command up to the point where it would serve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: Settings | None = None
        self.actions: list[str] = []
        module = importlib.import_module("inngest.cli.dev")
        monkeypatch.setattr(module, "run", self._run)
        monkeypatch.setattr(module, "configure_logs", lambda **_: None)

    def _run(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, *options: str, **environment: str) -> Result:
        with capture_logs() as lines:
            result = CliRunner().invoke(dev, options, env=environment)
        self.actions = [line["action"] for line in lines]
        return result


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_alone_it_needs_no_keys_and_takes_none_of_the_environment(start: Started, host: str) -> None:
    assert start("--host", host, INNGEST_SIGNING_KEY=KEY, INNGEST_EVENT_KEY=EVENT_KEY).exit_code == 0
    assert start.settings is not None
    assert (start.settings.signing_keys, start.settings.event_keys) == ((), ())
    assert start.actions == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "dev.example.com", ""])
def test_who_opens_it_to_others_is_warned_unless_keys_keep_them_out(start: Started, host: str) -> None:
    assert start("--host", host).exit_code == 0
    assert start.actions == ["dev.open"]
    assert start("--host", host, "--signing-key", KEY).exit_code == 0
    assert start.actions == ["dev.open"], "anybody may still send events"
    assert start("--host", host, "--signing-key", KEY, "--event-key", EVENT_KEY).exit_code == 0
    assert start.actions == []
    assert start.settings is not None
    assert (start.settings.signing_keys, start.settings.event_keys) == ((KEY,), (EVENT_KEY,))


def test_the_names_of_the_server_are_its_host_and_those_allowed(start: Started) -> None:
    assert (
        start("--host", "dev.example.com", "--allowed-host", "a.b.c", "--allowed-host", ".d.e").exit_code == 0
    )
    assert start.settings is not None
    assert start.settings.allowed_hosts == ("dev.example.com", "a.b.c", ".d.e")


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--signing-key", "no hex"), "--signing-key"), (("--event-key", " "), "--event-key")],
)
def test_a_key_that_cannot_work_is_refused(start: Started, options: tuple[str, str], told: str) -> None:
    result = start(*options)
    assert result.exit_code == 2
    assert told in result.output
    assert start.settings is None


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:8000", "http://localhost:8000/api/inngest"),
        ("http://localhost:8000/", "http://localhost:8000/api/inngest"),
        ("[::1]:8000", "http://[::1]:8000/api/inngest"),
        ("localhost:8000/x/inngest", "http://localhost:8000/x/inngest"),
        ("https://app.test/api/inngest?a=b", "https://app.test/api/inngest?a=b"),
    ],
)
def test_scheme_and_path_of_an_application_may_be_left_out(start: Started, given: str, url: str) -> None:
    assert start("-u", given).exit_code == 0
    assert start.settings is not None
    assert start.settings.sdk_urls == (url,)


@pytest.mark.parametrize("given", ["", "http://", "localhost:many", "http://[::1"])
def test_what_is_no_url_of_an_application_is_refused(start: Started, given: str) -> None:
    result = start("-u", given)
    assert result.exit_code == 2
    assert "--sdk-url" in result.output
