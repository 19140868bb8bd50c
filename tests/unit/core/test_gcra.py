from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inngest.core.timing.gcra import Gcra, admit, rate_limit, throttle

NOW = 1_790_000_000_000_000
SECOND = 1_000_000


def admitted_at(params: Gcra, times: list[int]) -> list[int]:
    tat = None
    admitted = []
    for now in times:
        answer = admit(params, tat, now)
        assert (answer.tat is not None) == answer.admitted == (answer.retry_at <= now)
        if answer.admitted:
            admitted.append(now)
            tat = answer.tat
    return admitted


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (throttle(1, 1_000), Gcra(SECOND, SECOND)),
        (throttle(1, 1_000, burst=1), Gcra(SECOND, 2 * SECOND)),
        (throttle(10, 60_000, burst=5), Gcra(6 * SECOND, 90 * SECOND)),
        (throttle(3, 1_000), Gcra(333_334, 1_000_002)),
        (throttle(10**12, 1), Gcra(1, 10**12)),
        (rate_limit(1, 86_400_000), Gcra(86_400 * SECOND, 86_400 * SECOND)),
        (rate_limit(9, 9_000), Gcra(SECOND, SECOND)),
        (rate_limit(10, 10_000), Gcra(SECOND, 2 * SECOND)),
        (rate_limit(25, 25_000), Gcra(SECOND, 3 * SECOND)),
    ],
)
def test_parameters(params: Gcra, expected: Gcra) -> None:
    assert params == expected


@pytest.mark.parametrize(
    ("limit", "period_ms", "burst", "named"),
    [(0, 1, 0, "limit"), (1, 0, 0, "period"), (1, 1, -1, "burst"), (1, 10**16, 0, "period")],
)
def test_refuses_what_makes_no_limit(limit: int, period_ms: int, burst: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        throttle(limit, period_ms, burst)
    if burst == 0:
        with pytest.raises(ValueError, match=named):
            rate_limit(limit, period_ms)


def test_a_burst_then_one_an_interval() -> None:
    params = throttle(2, 2_000, burst=1)
    times = [NOW] * 5 + [NOW + SECOND - 1, NOW + SECOND, NOW + SECOND, NOW + 2 * SECOND]
    assert admitted_at(params, times) == [NOW] * 3 + [NOW + SECOND, NOW + 2 * SECOND]


def test_a_key_at_rest_has_its_whole_burst_again() -> None:
    params = throttle(3, 3_000)
    later = NOW + 3 * SECOND
    assert admitted_at(params, [NOW] * 9 + [later] * 9) == [NOW] * 3 + [later] * 3


def test_a_refusal_says_when() -> None:
    params = throttle(1, 1_000)
    first = admit(params, None, NOW)
    refused = admit(params, first.tat, NOW + 1)
    assert refused == (False, None, NOW + SECOND)
    assert admit(params, first.tat, refused.retry_at).admitted


def test_what_a_slower_limit_has_stored_holds_up_no_longer_than_this_one() -> None:
    slow, fast = throttle(1, 3_600_000), throttle(2, 2_000)
    stored = admit(slow, None, NOW).tat
    refused = admit(fast, stored, NOW)
    assert refused == (False, NOW + 2 * SECOND, NOW + SECOND)
    assert admit(fast, refused.tat, NOW + SECOND - 1) == (False, None, NOW + SECOND)
    assert admit(fast, refused.tat, NOW + SECOND).admitted


PARAMS = st.builds(throttle, st.integers(1, 50), st.integers(1, 10_000), st.integers(0, 20))


@given(PARAMS | st.builds(rate_limit, st.integers(1, 100), st.integers(1, 10_000)), st.data())
def test_no_window_holds_more_than_burst_and_rate(params: Gcra, data: st.DataObject) -> None:
    gaps = data.draw(st.lists(st.integers(0, params.emission * 2), min_size=1, max_size=150))
    times = [NOW]
    for gap in gaps:
        times.append(times[-1] + gap)
    at = admitted_at(params, times)
    at_once = params.tolerance // params.emission
    for first, start in enumerate(at):
        for count, end in enumerate(at[first:], start=1):
            assert count <= at_once + (end - start) // params.emission


@given(st.integers(1, 50), st.integers(1, 10_000), st.integers(0, 20))
def test_at_once_there_are_limit_and_burst(limit: int, period_ms: int, burst: int) -> None:
    assert len(admitted_at(throttle(limit, period_ms, burst), [NOW] * 100)) == limit + burst


@given(PARAMS, st.lists(st.integers(-(10**6), 10**6), max_size=30))
def test_a_clock_that_steps_back_never_admits_more(params: Gcra, steps: list[int]) -> None:
    tat = None
    now = highest = NOW
    for step in steps:
        now += step
        highest = max(highest, now)
        answer = admit(params, tat, now)
        if answer.admitted:
            assert tat is None or (answer.tat or 0) > tat
            assert (answer.tat or 0) <= highest + params.tolerance
            tat = answer.tat


@given(st.integers(1, 2**40), st.integers(1, 366 * 86_400_000), st.integers(0, 2**40))
@example(1, 366 * 86_400_000, 2**40)
def test_doubles_hold_every_number_exactly(limit: int, period_ms: int, burst: int) -> None:
    params = throttle(limit, period_ms, burst)
    tat = NOW + params.tolerance
    answer = admit(params, tat, NOW)
    numbers = [*params, tat, tat + params.emission, answer.retry_at]
    assert all(abs(number) < 2**53 and int(float(number)) == number for number in numbers)
