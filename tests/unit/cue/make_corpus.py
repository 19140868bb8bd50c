"""Writes the golden corpus: runs every case of ``cases/*.txt`` through the reference implementation.

``go install cuelang.org/go/cmd/cue@v0.14.1`` builds it; CUE_BINARY or the PATH says where it is. Cases are
separated by lines of ``---``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import cue_reference as reference  # noqa: E402 - a neighbour of this script


def cases(area: Path) -> list[str]:
    return [part + "\n" for part in area.read_text().removesuffix("\n").split("\n---\n")]


def main() -> None:
    binary = reference.find()
    if binary is None:
        sys.exit("no cue binary: set CUE_BINARY")
    version = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout
    if reference.VERSION not in version:
        sys.exit(f"the corpus is made with {reference.VERSION}, this is {version.splitlines()[0]}")
    out = HERE / "corpus"
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference.prepare(folder)
        for area in sorted(reference.CASES.glob("*.txt")):
            sources = cases(area)
            with ThreadPoolExecutor(2) as pool:
                outcomes = list(pool.map(lambda source: reference.run(binary, source, folder), sources))
            entries = [
                {"source": source} | {k: v for k, v in asdict(outcome).items() if k == "export" or v}
                for source, outcome in zip(sources, outcomes, strict=True)
            ]
            for entry in entries:
                if entry.get("refused"):
                    del entry["export"]
            text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
            (out / f"{area.stem}.json").write_text(text)
            print(f"{area.stem}: {len(entries)} cases")


if __name__ == "__main__":
    main()
