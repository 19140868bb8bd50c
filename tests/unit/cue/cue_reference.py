"""The reference implementation, where its binary is at hand: what it exports, or why it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSION = "v0.14.1"
CASES = Path(__file__).parent / "cases"
BUILT = Path(__file__).parents[3] / ".cache" / "cue" / "bin" / "cue"
SCHEMA = (CASES / "schema.cue").read_text()
PACKAGES = {"example.com/schema": SCHEMA}

#: The classes of refusal, by the wording of the reference implementation; the first match of a line counts.
_CLASSES = (
    ("conflict", r"conflicting values"),
    ("length", r"incompatible list lengths"),
    ("bound", r"out of bound|incompatible \w+ bounds"),
    ("not-allowed", r"field not allowed"),
    ("required", r"field is required but not present"),
    ("structural-cycle", r"structural cycle"),
    ("cycle", r"cycle with field"),
    ("undefined", r"undefined field|cannot reference optional field"),
    ("reference", r'reference "[^"]*" not found'),
    ("explicit", r"explicit error"),
    ("unused", r"unreferenced alias or let|imported and not used"),
    ("import", r"import failed|cannot find package"),
    ("evaluation", r"division by zero|out of range|empty list in call|invalid slice|Repeat count"),
    ("incomplete", r"incomplete value|unresolved disjunction|non-concrete value"),
    ("syntax", r"cannot use _ as label"),
    ("operand", r"invalid operand|invalid operation|cannot use|cannot call|arguments in call|cannot convert"),
    ("operand", r"superseded|invalid regexp|error parsing regexp|invalid interpolation|invalid index"),
    ("operand", r"invalid value .* for bound|cannot range|integer fields not supported"),
)
_IGNORED = re.compile(r"\d+ errors in empty disjunction|previous declaration|^\s*\S+:\d+:\d+$")


@dataclass(frozen=True)
class Outcome:
    """Either exported data, or a refusal with the classes of its problems and the paths they are about."""

    export: object = None
    refused: bool = False
    classes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def find() -> str | None:
    """The binary named by CUE_BINARY, or the one on the PATH, or the one that scripts/test builds."""
    built = BUILT if os.access(BUILT, os.X_OK) else None
    return os.environ.get("CUE_BINARY") or shutil.which("cue") or (built and str(built))


def prepare(folder: Path) -> None:
    """Make ``folder`` a module in which the packages of the corpus can be imported."""
    for path, source in PACKAGES.items():
        target = folder / "cue.mod" / "pkg" / path
        target.mkdir(parents=True)
        (target / "package.cue").write_text(source)
    (folder / "cue.mod" / "module.cue").write_text('module: "test.example"\nlanguage: version: "v0.14.0"\n')


def run(binary: str, source: str, folder: Path) -> Outcome:
    """What the reference implementation makes of ``source`` in a prepared folder."""
    command = [binary, "export", "--out", "json", "cue:", "-"]
    done = subprocess.run(
        command, cwd=folder, input=source, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode == 0:
        return Outcome(export=json.loads(done.stdout))
    return refusal(done.stderr)


def refusal(text: str) -> Outcome:
    classes: list[str] = []
    paths: list[str] = []
    for line in text.splitlines():
        line = line.strip().removesuffix(":")
        if not line or _IGNORED.search(line):
            continue
        classes.append(next((name for name, words in _CLASSES if re.search(words, line)), "syntax"))
        path, colon, _ = line.partition(": ")
        if colon and re.fullmatch(r'(?:[\w$#-]+|"[^"]*")(?:\.(?:[\w$#-]+|"[^"]*"))*', path):
            paths.append(path)
    return Outcome(refused=True, classes=tuple(sorted(set(classes))), paths=tuple(dict.fromkeys(paths)))
