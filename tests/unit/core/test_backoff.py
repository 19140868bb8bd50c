from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.timing.backoff import retry_delay


def test_the_table() -> None:
    seconds = [retry_delay(attempt, 0.0) / 1_000 for attempt in range(12)]
    assert seconds == [15, 30, 60, 120, 300, 600, 1_200, 2_400, 3_600, 7_200, 7_200, 7_200]


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_jitter_adds_up_to_half_a_minute(attempt: int, jitter: float) -> None:
    assert 0 <= retry_delay(attempt, jitter) - retry_delay(attempt, 0.0) < 30_000


def test_jitter_is_in_proportion() -> None:
    assert retry_delay(0, 0.5) == 30_000


@pytest.mark.parametrize(("attempt", "jitter"), [(-1, 0.0), (0, -0.1), (0, 1.0), (0, math.nan)])
def test_refuses_what_is_out_of_bounds(attempt: int, jitter: float) -> None:
    with pytest.raises(ValueError, match=r"attempt|jitter"):
        retry_delay(attempt, jitter)
