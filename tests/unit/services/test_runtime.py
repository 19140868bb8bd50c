"""What services are given: entropy that is never given twice."""

from __future__ import annotations

import os

import pytest

from inngest.services.runtime import Entropy


def test_entropy_is_what_the_system_gives_and_never_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []

    def urandom(count: int, real=os.urandom) -> bytes:  # type: ignore[no-untyped-def]
        given.append(real(count))
        return given[-1]

    monkeypatch.setattr(os, "urandom", urandom)
    entropy = Entropy()
    taken = [entropy.take(10) for _ in range(1000)]
    assert all(len(each) == 10 for each in taken)
    assert len(set(taken)) == len(taken)
    assert 1 < len(given) < 10
    assert all(any(each in block for block in given) for each in taken)


def test_more_entropy_than_a_block_holds() -> None:
    assert len(Entropy().take(10_000)) == 10_000
