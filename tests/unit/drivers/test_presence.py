"""What the log says of applications that cannot be called."""

from __future__ import annotations

import pytest
from builders import function
from structlog.testing import capture_logs

from inngest.drivers.http import HttpError, HttpTimeout, HttpTooLarge, HttpUnreachable
from inngest.drivers.presence import MAX_KNOWN, Presence

FN = function(url="http://app.test/api/inngest?fnId=app-fn&stepId=step")
OTHER = function("other", url="http://app.test/api/inngest?fnId=app-other&stepId=step")
GONE = HttpUnreachable("app.test:80", "refused")


def test_an_application_that_is_away_is_told_when_that_begins_and_when_it_is_over() -> None:
    now = 10.0
    presence = Presence(clock=lambda: now)
    with capture_logs() as lines:
        assert not presence.troubled
        presence.failed(FN, GONE)
        presence.failed(OTHER, GONE)
        assert presence.troubled
        now = 13.5
        presence.answered(OTHER)
        presence.answered(FN)
        assert not presence.troubled
    where = {"app": "app", "url": "http://app.test/api/inngest"}
    assert lines == [
        where
        | {
            "event": "application is away",
            "log_level": "warning",
            "action": "app.away",
            "error": "cannot connect to app.test:80: refused",
        },
        where | {"event": "application is back", "log_level": "info", "action": "app.back", "seconds": 3.5},
    ]


def test_who_refuses_the_signature_is_told_apart() -> None:
    presence = Presence()
    with capture_logs() as lines:
        presence.failed(FN, GONE)
        presence.refused(FN)
        presence.refused(FN)
        presence.answered(FN)
    assert [(line["action"], line["log_level"]) for line in lines] == [
        ("app.away", "warning"),
        ("app.refuses", "error"),
        ("app.back", "info"),
    ]


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (HttpTimeout("h", phase="connect", seconds=1, doing="connecting to"), True),
        (HttpTimeout("h", phase="total", seconds=1, doing="waiting for"), False),
        (HttpTooLarge("h", part="body", limit=1), False),
    ],
)
def test_who_was_reached_is_not_away(error: HttpError, away: bool) -> None:
    presence = Presence()
    with capture_logs() as lines:
        presence.failed(FN, error)
    assert bool(lines) == away


def test_not_without_bound() -> None:
    presence = Presence()
    with capture_logs() as lines:
        for number in range(MAX_KNOWN + 1):
            presence.failed(function(app=f"app-{number}"), GONE)
        for number in range(MAX_KNOWN + 1):
            presence.answered(function(app=f"app-{number}"))
    assert [line["action"] for line in lines].count("app.back") == MAX_KNOWN
