"""What is remembered is bounded by bytes."""

from __future__ import annotations

from inngest.core.remembered import Remembered


def test_the_oldest_make_way() -> None:
    known = Remembered[str, int](100)
    for number in range(10):
        assert known.put(str(number), number, 20) == number
    assert known.held == 100
    assert [known.get(str(number)) for number in range(10)] == [None] * 5 + [5, 6, 7, 8, 9]


def test_what_is_put_again_counts_once() -> None:
    known = Remembered[str, int](100)
    known.put("a", 1, 20)
    known.put("a", 2, 10)
    assert (known.get("a"), known.held) == (2, 10)


def test_what_is_too_large_drives_nothing_out() -> None:
    known = Remembered[str, int](100)
    known.put("a", 1, 20)
    assert known.put("b", 2, 26) == 2
    assert (known.get("a"), known.get("b"), known.held) == (1, None, 20)
