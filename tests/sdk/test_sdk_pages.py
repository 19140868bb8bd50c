"""Every example of the pages on the APIs and on the commands, run in the order of the page.

The server takes keys, and the example application works with it. The shape of each answer is held against the
JSON that the page shows under it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT, Program, python_environment
from harness import PATIENCE, Process, Server, eventually, free_port

KEY = "signkey-test-" + "0123456789abcdef" * 4
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    for tool in ("bash", "curl", "jq"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    example = ROOT / "examples" / "orders-python"
    program = Program((str(python_environment(example / "requirements.txt")), "app.py"), example)
    directory = tmp_path_factory.mktemp("pages")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/inngest"
    options = ["--data-dir", str(directory / "data"), "-u", url, "--poll-interval", "1"]
    server = Server(directory / "server.log", options=options, signing_key=KEY)
    app = Process(program, directory / "app.log", {"PORT": str(port), **server.environment_of("py")})
    with server, app:
        eventually(lambda: "orders-fulfil-order" in server.functions(), "the functions of the example")
        yield server, url


class Page:
    """Its examples, each with the JSON that is shown under it."""

    def __init__(self, name: str) -> None:
        blocks = _BLOCK.findall((ROOT / "docs" / name).read_text())
        self.examples: list[tuple[str, Any]] = []
        for (kind, text), (next_kind, next_text) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
            if kind == "sh":
                self.examples.append((text, json.loads(next_text) if next_kind == "json" else None))

    def run(self, server: Server, app_url: str, directory: Path) -> None:
        state = directory / "state"
        state.touch()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "INNGEST_SIGNING_KEY": server.signing_key,
            "INNGEST_EVENT_KEY": server.event_key,
        }
        for example, shown in self.examples:
            text = example.replace("http://127.0.0.1:8288", server.url)
            text = text.replace("http://127.0.0.1:8000/api/inngest", app_url)
            script = f"set -euo pipefail\n. {state}\n{text}\n{{ export -p; declare -fx; }} > {state}.new\n"
            deadline = time.monotonic() + PATIENCE
            while True:  # what happened is shown a moment later
                done = subprocess.run(
                    ["bash", "-c", script],
                    cwd=directory,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if not done.returncode and (shown is None or same_shape(shown, json.loads(done.stdout))):
                    break
                assert time.monotonic() < deadline, (text, shown, done.stdout, done.stderr)
                time.sleep(0.2)
            Path(f"{state}.new").replace(state)


def same_shape(shown: Any, told: Any) -> bool:
    """Whether there are the same keys, and the same codes of status; null stands for whatever it may be."""
    if isinstance(shown, dict) and isinstance(told, dict):
        return shown.keys() == told.keys() and all(same_shape(shown[key], told[key]) for key in shown)
    if isinstance(shown, list) and isinstance(told, list):
        return bool(shown) == bool(told) and (not shown or same_shape(shown[0], told[0]))
    return shown is None or (type(shown) is type(told) and (not isinstance(shown, int) or shown == told))


@pytest.mark.parametrize("name", ["api.md", "commands.md"])
def test_every_example_of_the_page_does_what_it_says(
    shop: tuple[Server, str], tmp_path: Path, name: str
) -> None:
    page = Page(name)
    assert len(page.examples) > 8
    page.run(*shop, tmp_path)


def test_shapes_are_told_apart() -> None:
    assert same_shape({"a": [{"b": "x"}], "c": None}, {"a": [{"b": "y"}, {}], "c": {}})
    for other in ({"a": []}, {"a": [{"b": "x"}], "d": 1}, {"a": [{"b": 1}], "c": 1}, {"a": {}, "c": 1}):
        assert not same_shape({"a": [{"b": "x"}], "c": None}, other)
    assert not same_shape({"status": 400}, {"status": 404})
