"""The whole system, simulated: seeds, over each store.

scripts/test simulation                          the bounded number of CI
scripts/test simulation --seeds 5000             more
scripts/test simulation --store memory --seed 7  one, as it was
"""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from sim import seeds as many
from sim.plan import REDIS, STORES

DEFAULT = {"memory": 150, "sqlite": 50, "redis": 20}
"""About two minutes on two cores."""
REGRESSIONS = Path(__file__).with_name("regressions.txt")

pytestmark = pytest.mark.timeout(3600)


def _chosen(request: pytest.FixtureRequest, store: str) -> None:
    wanted = request.config.getoption("--store")
    if wanted and wanted != store:
        pytest.skip(f"only {wanted} was asked for")
    if store == REDIS and shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on this machine")


@pytest.mark.parametrize("store", STORES)
def test_seeds(
    store: str,
    request: pytest.FixtureRequest,
    workers: ProcessPoolExecutor,
    summaries: dict[str, many.Summary],
) -> None:
    """Nothing that must not be happens in any of them."""
    _chosen(request, store)
    seed = request.config.getoption("--seed")
    count = request.config.getoption("--seeds") or DEFAULT[store]
    chosen = [seed] if seed is not None else range(count)
    # Of one seed that was asked for, everything is said.
    summary = many.run_all(workers, many.jobs(store, chosen))
    summaries[store] = summary
    if summary.failed:
        most = 40 if seed is not None else 5
        told = "\n".join(many.explain(result, most) for result in summary.failed[:10])
        pytest.fail(
            f"{len(summary.failed)} of {summary.seeds} seeds over {store} failed\n{told}", pytrace=False
        )


def _regressions() -> list[tuple[str, int]]:
    found = []
    for line in REGRESSIONS.read_text().splitlines():
        if text := line.partition("#")[0].split():
            store, seed = text
            found.append((store, int(seed)))
    return found


@pytest.mark.parametrize(("store", "seed"), _regressions())
def test_regressions(
    store: str, seed: int, request: pytest.FixtureRequest, workers: ProcessPoolExecutor
) -> None:
    """Seeds that have found something once."""
    _chosen(request, store)
    if request.config.getoption("--seed") is not None:
        pytest.skip("another seed was asked for")
    summary = many.run_all(workers, many.jobs(store, [seed]))
    assert not summary.failed, many.explain(summary.failed[0])


@pytest.mark.parametrize("store", [store for store in STORES if store != REDIS])
def test_a_seed_repeats_itself(store: str) -> None:
    """In two processes, whatever ran before it in each: else no failure could be looked into. (A server of
    Redis gives the members of a set in an order of its own.)
    """
    digests = []
    for before in (3, 4):
        with many.pool(1) as executor:
            results = list(executor.map(many.run_job, many.jobs(store, [before, 5])))
            digests.append(results[0][1].digest)
    assert digests[0] == digests[1]
