"""Numbers, as a table for people and as JSON for the next comparison, with the machine they hold for."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_MORE_IS_BETTER = frozenset({"events/s", "runs/s"})


@dataclass(frozen=True)
class Measure:
    """One number. ``target`` is the most that is allowed; of rates, the least."""

    setup: str
    scenario: str
    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        return self.setup, self.scenario, self.name

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.unit in _MORE_IS_BETTER else self.value <= self.target


@dataclass
class Results:
    """All measures, printed as they come; beside each, its ratio to the one of ``earlier``."""

    earlier: dict[tuple[str, str, str], Measure] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    _begun: tuple[str, str] = ("", "")

    def add(self, measure: Measure) -> None:
        self.measures.append(measure)
        if (measure.setup, measure.scenario) != self._begun:
            self._begun = (measure.setup, measure.scenario)
            print(f"\n{measure.setup}: {measure.scenario}")
        print(f"  {self._line(measure)}".rstrip(), flush=True)

    def _line(self, measure: Measure) -> str:
        ratio = target = ""
        before = self.earlier.get(measure.place)
        if before is not None and before.value:
            ratio = f"x {measure.value / before.value:.2f}"
        if measure.target is not None:
            bound = "at least" if measure.unit in _MORE_IS_BETTER else "at most"
            target = f"{bound} {_number(measure.target)}: {'met' if measure.met else 'MISSED'}"
        return f"{measure.name:<38}{_number(measure.value):>12} {measure.unit:<12}{ratio:<9}{target}"

    def write(self, path: Path) -> None:
        content = {"machine": machine(), "measures": [asdict(measure) for measure in self.measures]}
        path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: Path) -> dict[tuple[str, str, str], Measure]:
    """The measures of a file that `Results.write` wrote, by place. Raises ValueError if it is none."""
    try:
        measures = [Measure(**each) for each in json.loads(path.read_text())["measures"]]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no results of this harness: {error!r}") from None
    return {measure.place: measure for measure in measures}


def percentile(values: Sequence[int], share: int) -> int:
    """The nearest rank: the least value that ``share`` per cent are not above."""
    return sorted(values)[max(math.ceil(len(values) * share / 100) - 1, 0)]


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
