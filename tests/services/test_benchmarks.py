"""The load harness measures what it says it does: every scenario, on very little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = Path(__file__).parents[2] / "benchmarks" / "load.py"
SCENARIOS = {
    "idle", "accept", "arrays", "stepless", "steps", "parallel", "sleep", "wait", "held", "planned",
}  # fmt: skip
LITTLE = {
    "--runs": 20,
    "--events": 100,
    "--samples": 5,
    "--few": 10,
    "--many": 100,
    "--idle-seconds": 0.5,
    "--pace": 50,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_scenario_measures_something(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    options = [str(word) for option in LITTLE.items() for word in option]
    command = [sys.executable, str(LOAD), *options, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(file.read_text())
    assert results["machine"]["cores"] >= 1
    measures = results["measures"]
    assert {measure["scenario"] for measure in measures} == SCENARIOS
    assert all(measure["value"] >= 0 for measure in measures)
    # What took place cannot have taken no time, nor cost nothing.
    timed = [measure for measure in measures if measure["unit"] in {"ms", "events/s", "runs/s", "MiB"}]
    assert len(timed) > 30
    assert all(measure["value"] > 0 for measure in timed), timed
