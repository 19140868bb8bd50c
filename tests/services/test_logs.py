"""Every line has a service and an action, whoever wrote it, and none has a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inngest.core.sdk.signing import hashed_key
from inngest.services.masking import HIDDEN, Mask, secrets_of
from inngest.services.settings import InMemory, Listen, RedisServer, Settings

SIGNING = "signkey-prod-" + "ab12" * 8
PROGRAM = """
import asyncio, logging, warnings
import structlog
from inngest.services.logs import configure_logs, hide_secrets
from inngest.services.supervisor import Supervisor
from inngest.services.task import Task

configure_logs(level="info", style={style!r})
hide_secrets(["tiger-lily", "runner"])
log = structlog.get_logger("inngest.test")

async def child():
    log.info("from a child", action="test.child", run="01ABC")
    logging.getLogger("redis.connection").warning("lost %s", "redis://u:pw-of-url@host/0")
    logging.getLogger("aiohttp.server").info("is not heard")
    logging.getLogger("inngest.backends.x").info("is heard")

async def work():
    await asyncio.create_task(child())
    log.debug("is not heard", action="test.debug")
    log.warning("key is tiger-lily", action="test.key", nested={{"a": ["tiger-lily", b"tiger-lily"]}}, port=1)
    try:
        raise ValueError("tiger-lily is not valid")
    except ValueError:
        log.exception("failed", action="test.failed")
        logging.getLogger("asyncio").error("task failed", exc_info=True)
    await asyncio.Event().wait()

async def main():
    supervisor = Supervisor([Task("runner", work)])
    asyncio.get_running_loop().call_later(0.2, supervisor.stop)
    await supervisor.run()
    log.info("outside")

asyncio.run(main())
"""


def _log(style: str, tmp_path: Path) -> str:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(style=style))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stdout
    return done.stderr


@pytest.fixture
def lines(tmp_path: Path) -> list[dict[str, Any]]:
    text = _log("json", tmp_path)
    assert "tiger-lily" not in text
    assert "pw-of-url" not in text
    return [json.loads(line) for line in text.splitlines()]


def _line(lines: list[dict[str, Any]], action: str) -> dict[str, Any]:
    (line,) = [line for line in lines if line["action"] == action]
    return line


def test_every_line_says_whose_it_is(lines: list[dict[str, Any]]) -> None:
    assert all(line["service"] and line["action"] and line["level"] and line["timestamp"] for line in lines)
    for action in ("test.child", "test.key", "test.failed", "redis.connection", "asyncio"):
        assert _line(lines, action)["service"] == "runner", action
    assert _line(lines, "test.child")["run"] == "01ABC"
    assert _line(lines, "log")["service"] == "inngest"


def test_libraries_are_heard_from_a_warning_on(lines: list[dict[str, Any]]) -> None:
    assert _line(lines, "redis.connection")["event"] == f"lost redis://u:{HIDDEN}@host/0"
    assert _line(lines, "inngest.backends.x")["event"] == "is heard"
    assert all("is not heard" not in line["event"] for line in lines)


def test_secrets_are_hidden_everywhere(lines: list[dict[str, Any]]) -> None:
    line = _line(lines, "test.key")
    assert line["event"] == f"key is {HIDDEN}"
    assert line["nested"] == {"a": [HIDDEN, HIDDEN]}
    assert line["port"] == 1
    for action in ("test.failed", "asyncio"):
        trace = _line(lines, action)["exception"]
        assert f"ValueError: {HIDDEN} is not valid" in trace
        assert "program.py" in trace


def test_lines_for_people_have_no_secrets_either(tmp_path: Path) -> None:
    text = _log("console", tmp_path)
    assert "tiger-lily" not in text
    assert "pw-of-url" not in text
    assert "key is ***" in text
    assert "program.py" in text


def test_all_forms_of_the_secrets_of_a_server_are_known() -> None:
    settings = Settings(
        services=("executor",),
        dev=False,
        engine=RedisServer("redis://user:p%40ssword-1@host:6379/0"),
        stream=InMemory(),
        data=InMemory(),
        event_api=Listen("127.0.0.1", 0),
        signing_keys=(SIGNING,),
        event_keys=("event key/1", "ab"),
    )
    mask = Mask()
    mask.hide(secrets_of(settings))
    for secret in (
        SIGNING,
        SIGNING.rpartition("-")[2],
        hashed_key(SIGNING),
        "event key/1",
        "/e/event%20key%2F1",
        "redis://user:p%40ssword-1@host:6379/0",
        "p@ssword-1",
    ):
        shown = mask.text(f"before {secret} after")
        assert HIDDEN in shown
        for part in ("ab12ab12", "event key", "event%20key", "ssword", hashed_key(SIGNING)[20:]):
            assert part not in shown, (secret, shown)
    # A short one is hidden as a word, and tears nothing else apart.
    assert mask.text("key ab of cable") == f"key {HIDDEN} of cable"


def test_passwords_of_unknown_urls_are_hidden_too() -> None:
    assert Mask().text("see postgres://me:pw@db/x and http://host:80/") == (
        f"see postgres://me:{HIDDEN}@db/x and http://host:80/"
    )
