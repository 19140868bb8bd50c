"""What the first line of the log has of a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inngest import __version__
from inngest.services.settings import SERVICES, InMemory, Listen, RedisServer, Settings, Sqlite
from inngest.services.starting import place, tell_start


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://user:pa55word@host:6380/3", "redis host:6380/3 mine:*"),
        ("rediss://:pa55word@[::1]?ssl_ca_certs=/ca", "redis [::1]:6379/0 mine:*"),
        ("unix://user:pa55word@/run/redis.sock?db=1", "redis /run/redis.sock mine:*"),
    ],
)
def test_a_redis_server_is_told_without_its_password(url: str, told: str) -> None:
    assert place(RedisServer(url, "mine:")) == told


def test_the_start_tells_version_mode_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        services=SERVICES,
        dev=False,
        engine=RedisServer("redis://h"),
        stream=InMemory(),
        data=Sqlite(Path("data")),
        event_api=Listen("127.0.0.1", 0),
    )
    with capture_logs() as (lines):
        tell_start(settings)
    (line,) = lines
    assert line == {
        "event": "starting",
        "log_level": "info",
        "service": "server",
        "action": "server.start",
        "version": __version__,
        "mode": "serve",
        "services": ["event-api", "core-api", "runner", "executor"],
        "engine": "redis h:6379/0 inngest:*",
        "stream": "memory",
        "data": f"sqlite {tmp_path}/data",
    }
