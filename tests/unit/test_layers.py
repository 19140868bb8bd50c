"""Dependencies point one way: cli -> services -> (api, drivers, backends) -> ports -> core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import inngest

PACKAGE = Path(inngest.__file__).parent

ALLOWED = {
    "core": {"core"},
    "loops": {"loops", "core"},
    "config": {"config", "core"},
    "ports": {"ports", "core"},
    "backends": {"backends", "ports", "loops", "core"},
    "drivers": {"drivers", "ports", "loops", "core"},
    "api": {"api", "ports", "loops", "core"},
    "services": {"services", "api", "drivers", "backends", "config", "ports", "loops", "core"},
    "cli": {"cli", "services", "config", "core"},
}

CORE = {
    "timing": {"timing"},
    "content": {"content"},
    "remembered": {"remembered"},
    "policy": {"policy", "timing"},
    "json": {"json", "policy"},
    "expr": {"expr", "json", "policy", "remembered"},
    "model": {"model", "json", "timing", "policy", "expr"},
    "sdk": {"sdk", "model", "json", "timing", "policy", "expr"},
    "decisions": {"decisions", "sdk", "model", "json", "timing", "policy", "expr", "remembered"},
}
"""The rooms of core; its errors are everybody's."""

PURE = {
    "asyncio",
    "socket",
    "time",
    "random",
    "os",
    "secrets",
    "threading",
    "aiohttp",
    "redis",
    "sqlite3",
    "structlog",
}
"""What core has no business with: I/O, clocks and randomness."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_depends_only_on_those_below_it(room: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports(path)
        if name.startswith("inngest.") and name.split(".")[1] not in ALLOWED[room]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", CORE)
def test_a_room_of_core_depends_only_on_those_below_it(room: str) -> None:
    place = PACKAGE / "core" / room
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
        for name in imports(path)
        if name.startswith("inngest.core.") and name.split(".")[2] not in CORE[room] | {"errors"}
    ]
    assert wrong == []


def test_every_room_of_core_is_known() -> None:
    found = {path.stem for path in (PACKAGE / "core").iterdir() if not path.name.startswith("__")}
    assert found == {*CORE, "errors"}


def test_every_room_is_known() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert rooms <= set(ALLOWED)


def test_core_is_pure() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / "core").rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] in PURE
    ]
    assert wrong == []


def test_no_file_is_longer_than_one_concept() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 620
    }
    assert long == {}
