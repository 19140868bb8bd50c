"""How many seeds, which, and over what: see test_seeds.py."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from sim import seeds as many

SUMMARIES: dict[str, many.Summary] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=0, help="how many seeds to simulate over each store")
    group.addoption("--seed", type=int, default=None, help="simulate this seed alone")
    group.addoption("--store", default="", help="over this store alone: memory, sqlite or redis")


@pytest.fixture(scope="session")
def workers() -> Iterator[ProcessPoolExecutor]:
    with many.pool() as executor:
        yield executor


@pytest.fixture
def summaries() -> dict[str, many.Summary]:
    return SUMMARIES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for store, summary in SUMMARIES.items():
        terminalreporter.write_line(f"simulation over {store}: {summary.line()}")
