"""Waits of milliseconds in place of seconds, and nothing left over from other tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from inngest.loops import trouble


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """How long was waited each time: after how many failures, and for how much at most. Nobody waits."""
    waited: list[tuple[int, float]] = []

    async def backoff(failures: int, most: float) -> None:
        waited.append((failures, most))
        await asyncio.sleep(0)

    monkeypatch.setattr(trouble, "backoff", backoff)
    return waited


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    trouble.ERRORS.clear()
    yield
    assert trouble._outages == {}, "somebody still waits"
