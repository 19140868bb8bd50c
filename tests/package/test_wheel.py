"""The wheel, installed as a user would: in an environment of its own, and by mistake beside the SDK."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from inngest import __version__

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


def succeed(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    succeed(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=True)
    programs = directory / "bin"
    succeed(programs / "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=directory)
    return programs


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"inngest", f"inngest_server-{__version__}.dist-info"}
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "inngest").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert sources <= set(names)
    assert "inngest/py.typed" in names


def test_the_command_works_where_it_is_installed(environment: Path, tmp_path: Path) -> None:
    assert succeed(environment / "inngest", "version", cwd=tmp_path).strip() == __version__
    refused = run(environment / "inngest", "serve", cwd=tmp_path)
    assert refused.returncode == 1
    assert "INNGEST_EVENT_KEY" in refused.stderr, "it would serve, had it keys"


def test_the_command_notices_the_sdk_in_its_environment(environment: Path, tmp_path: Path) -> None:
    """The two have the same import name. Last, since the environment is spoilt then."""
    pip = [environment / "pip", "install", "-q", "--disable-pip-version-check"]
    succeed(*pip, "inngest==0.5.19", cwd=tmp_path)
    refused = run(environment / "inngest", "version", cwd=tmp_path)
    assert refused.returncode == 2
    assert "in an environment of its own" in refused.stderr
    assert "pip install inngest-server" in refused.stderr
