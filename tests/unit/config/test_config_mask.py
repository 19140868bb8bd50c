"""Hiding secrets."""

from __future__ import annotations

import pytest

from inngest.config.mask import masked, masked_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:secret@h:6379/0", "redis://user:***@h:6379/0"),
        ("redis://:secret@h", "redis://:***@h"),
        ("nats://token@h:4222", "nats://***@h:4222"),
        ("nats://u:secret@a:1,nats://v:secret@b:2", "nats://u:***@a:1,nats://v:***@b:2"),
        ("postgres://h/db?password=secret&sslmode=require", "postgres://h/db?password=***&sslmode=require"),
        ("redis://user:p@ss:w/o@h", "redis://user:***@h"),
        ("https://h/path@x", "https://h/path@x"),
        ("no URL: a@b", "no URL: a@b"),
    ],
)
def test_urls(text: str, shown: str) -> None:
    assert masked_url(text) == shown


def test_a_whole_configuration() -> None:
    plain = {
        "keys": {"signing": ["secret", "secret"], "event": []},
        "state": {"service": {"password": "secret", "username": "u", "sentinel": {"password": "secret"}}},
        "eventstream": {"service": {"token": "secret", "nkey": "secret", "serverURL": "nats://secret@h"}},
        "execution": {"drivers": {"http": {"signingKey": "secret"}}},
        "eventAPI": {"port": 8288},
        "apps": {"urls": ["http://u:secret@h/x"]},
    }
    assert masked(plain) == {
        "keys": {"signing": ["***", "***"], "event": []},
        "state": {"service": {"password": "***", "username": "u", "sentinel": {"password": "***"}}},
        "eventstream": {"service": {"token": "***", "nkey": "***", "serverURL": "nats://***@h"}},
        "execution": {"drivers": {"http": {"signingKey": "***"}}},
        "eventAPI": {"port": 8288},
        "apps": {"urls": ["http://u:***@h/x"]},
    }
