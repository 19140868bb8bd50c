"""Installs what each SDK's application needs, once per lock file, under `.cache/sdk/` of the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"
CACHE = ROOT / ".cache" / "sdk"


class UnavailableError(Exception):
    """What an SDK line needs is not on this machine; the message says what."""


@dataclass(frozen=True)
class Program:
    """A command ready to run in its directory."""

    command: tuple[str, ...]
    directory: Path


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} in {cwd} failed:\n{done.stdout}{done.stderr}")


def prepared(name: str, keys: Iterable[bytes], prepare: Callable[[Path], None]) -> Path:
    """Return the cache directory for this content, filled by `prepare` when it is new."""
    digest = hashlib.sha256(b"\0".join(keys)).hexdigest()[:12]
    directory = CACHE / f"{name}-{digest}"
    stamp = directory / ".complete"
    if not stamp.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        prepare(directory)
        stamp.touch()
    return directory


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"{name} is not installed")
    return found


def python_environment(requirements: Path) -> Path:
    """A virtual environment with these requirements; returns its interpreter."""

    def prepare(directory: Path) -> None:
        venv.create(directory, with_pip=True)
        run(directory / "bin" / "python", "-m", "pip", "install", "-q", "-r", requirements, cwd=directory)

    keys = [requirements.read_bytes(), sys.version.encode()]
    return prepared("python", keys, prepare) / "bin" / "python"


def node_environment(source: Path) -> Path:
    """A copy of a Node.js application's directory with its locked dependencies installed beside it."""
    tool("node")
    npm = tool("npm")
    manifests = [source / "package.json", source / "package-lock.json"]

    def prepare(directory: Path) -> None:
        for manifest in manifests:
            shutil.copy(manifest, directory)
        run(npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=directory)

    directory = prepared(source.name, [path.read_bytes() for path in manifests], prepare)
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(source, directory, dirs_exist_ok=True, ignore=ignored)
    return directory


def python_app() -> Program:
    directory = APPS / "python"
    interpreter = python_environment(directory / "requirements.txt")
    return Program((str(interpreter), "app.py"), directory)


def node_app(line: str) -> Program:
    directory = node_environment(APPS / line)
    shutil.copytree(APPS / "ts-common", directory / "common", dirs_exist_ok=True)
    return Program(("node", "app.mjs"), directory)


def go_app() -> Program:
    go = tool("go")
    source = APPS / "go"
    keys = [path.read_bytes() for path in sorted(source.iterdir())]

    def prepare(directory: Path) -> None:
        run(go, "build", "-o", directory / "app", ".", cwd=source)

    toolchain = subprocess.run(
        [go, "env", "GOVERSION"],
        cwd=source,
        capture_output=True,
        text=True,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    if toolchain.returncode:
        raise UnavailableError(f"go is too old for the SDK: {toolchain.stderr.strip()}")
    return Program((str(prepared("go", keys, prepare) / "app"),), source)


PROGRAMS: dict[str, Callable[[], Program]] = {
    "py": python_app,
    "ts4": lambda: node_app("ts-v4"),
    "ts3": lambda: node_app("ts-v3"),
    "go": go_app,
}
"""How to prepare the application of each SDK line, by the name that is also its app id."""


def main() -> None:
    """Prepare every SDK line now, so that no test's time limit pays for it."""
    for name, prepare in PROGRAMS.items():
        try:
            print(f"{name}: {' '.join(prepare().command)}", flush=True)
        except UnavailableError as reason:
            print(f"{name}: skipped, {reason}", flush=True)
    for example in sorted((ROOT / "examples").iterdir()):
        try:
            if (example / "requirements.txt").exists():
                python_environment(example / "requirements.txt")
            elif (example / "package-lock.json").exists():
                node_environment(example)
        except UnavailableError as reason:
            print(f"{example.name}: skipped, {reason}", flush=True)


if __name__ == "__main__":
    main()
