"""Many seeds, on all cores, and what came of them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from sim.plan import draw
from sim.truth import Violation
from sim.world import Result, simulate

CHUNK = 10


@dataclass(frozen=True)
class Job:
    """Seeds of one store."""

    store: str
    seeds: tuple[int, ...]
    mutation: str = ""


@dataclass
class Summary:
    """What came of many seeds."""

    seeds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    """In how many seeds each kind of violation was found."""
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.counts.update(result.counts)
        self.codes.update({each.code for each in result.violations})
        if result.violations:
            self.failed.append(result)

    def line(self) -> str:
        counts = self.counts
        return (
            f"{self.seeds} seeds, {counts['events']} events, {counts['runs']} runs, {counts['calls']} calls, "
            f"{counts['faults']} faults in {self.seconds:.0f} s"
        )


def command(result: Result) -> str:
    """What repeats a seed."""
    return f"scripts/test simulation --store {result.store} --seed {result.seed}"


def explain(result: Result, most: int = 5) -> str:
    """A failed seed, for people."""
    lines = [f"seed {result.seed} over {result.store}: {len(result.violations)} violations"]
    lines += [f"  {each}" for each in result.violations[:most]]
    lines.append(f"  repeat it: {command(result)}")
    return "\n".join(lines)


def run_job(job: Job) -> list[Result]:
    """In a process of its own; see `run_all`."""
    if job.mutation:
        from sim.mutations import MUTATIONS

        with MUTATIONS[job.mutation].applied():
            return list(_run(job))
    return list(_run(job))


def _run(job: Job) -> Iterator[Result]:
    for seed in job.seeds:
        gc.disable()  # what it ends, it would end at any time
        try:
            yield simulate(draw(seed, job.store))
        except Exception as error:  # noqa: BLE001 -- the simulation itself has failed: that is a result too
            text = "".join(traceback.format_exception(error))
            yield Result(seed, job.store, [Violation(0, "simulation", text[-2000:], 0)])
        finally:
            gc.enable()
            gc.collect()


@contextmanager
def pool(workers: int = 0) -> Iterator[ProcessPoolExecutor]:
    """Processes in which a seed gives the same every time: strings have the same hashes in all of them."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers or os.cpu_count() or 1, mp_context=context) as executor:
            yield executor
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def jobs(store: str, seeds: Sequence[int], mutation: str = "") -> list[Job]:
    return [Job(store, tuple(seeds[at : at + CHUNK]), mutation) for at in range(0, len(seeds), CHUNK)]


def run_all(
    executor: ProcessPoolExecutor,
    work: Sequence[Job],
    *,
    told: Callable[[Result], None] | None = None,
) -> Summary:
    """Run all of it; ``told`` of each result."""
    began = time.perf_counter()
    summary = Summary()
    for results in executor.map(run_job, work):
        for result in results:
            summary.add(result)
            if told is not None:
                told(result)
    summary.seconds = time.perf_counter() - began
    return summary


def main(arguments: Sequence[str]) -> int:
    """``python -m sim.seeds STORE FIRST COUNT``: many seeds, outside of pytest."""
    store, first, count = arguments
    work = jobs(store, range(int(first), int(first) + int(count)))
    examples: dict[str, str] = {}
    seeds: defaultdict[str, list[int]] = defaultdict(list)

    def told(result: Result) -> None:
        for each in result.violations:
            examples.setdefault(each.code, f"seed {result.seed}: {each}")
        for code in {each.code for each in result.violations}:
            seeds[code].append(result.seed)
        if result.violations:
            print(explain(result, 2), flush=True)

    with pool() as executor:
        summary = run_all(executor, work, told=told)
    for code, found in summary.codes.most_common():
        print(f"{found:6} {code}: {seeds[code][:12]}\n       {examples[code][:600]}")
    print(summary.line())
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
