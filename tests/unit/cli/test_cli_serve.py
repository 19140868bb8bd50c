"""A process of `inngest serve` on a configuration: what it logs of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = """
keys: {signing: ["${SIGNING_KEY}"], event: ["an-event-5ecret-key"]}
eventAPI: addr: "127.0.0.1"
dataDir: "data"
queue: service: backend: "inmemory"
log: format: "${LOG_FORMAT:-json}"
"""
SIGNING_KEY = "00ff" * 16


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "mine.cue").write_text(CONFIG)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INNGEST_")}
    child = subprocess.Popen(
        [sys.executable, "-m", "inngest.cli", "serve", "event-api", "runner", "-c", "mine", "--port", "0"],
        cwd=tmp_path,
        env=environment | {"SIGNING_KEY": SIGNING_KEY},
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        yield child
        child.kill()


def test_the_log_tells_which_configuration_and_what_to_know_of_it(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert process.stderr is not None
    lines: list[str] = []
    while not lines or '"supervisor.serve"' not in lines[-1]:
        line = process.stderr.readline()
        assert line, lines
        lines.append(line)
    process.send_signal(signal.SIGINT)
    lines += process.stderr.readlines()
    assert process.wait(timeout=60) == 0
    entries = [json.loads(line) for line in lines]
    loads = [entry["source"] for entry in entries if entry["action"] == "config.load"]
    assert loads == ["mine.cue"]
    notes = [(entry["level"], entry["event"]) for entry in entries if entry["action"] == "config.note"]
    (queue, embedded) = notes
    assert queue == ("warning", "queue.service inmemory: the queue is kept with the state, in sqlite")
    assert embedded[1].startswith("only this process sees its eventstream and state, not core-api, executor")
    assert not [line for line in lines if SIGNING_KEY in line or "an-event-5ecret-key" in line]
    assert (tmp_path / "data").is_dir()
