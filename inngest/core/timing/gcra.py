"""The generic cell rate algorithm, behind throttles and rate limits.

One number is kept a key: the *theoretical arrival time* (TAT), when the key would be back at rest. Each
admission moves it on by one *emission* interval; what would move it further than *tolerance* ahead of now is
refused.

All numbers are integer **microseconds**, instants since the Unix epoch: fine enough for 86 billion admissions
a day, and, unlike nanoseconds, below 2**53, so that a Redis script computes the same with its doubles.
"""

from __future__ import annotations

from typing import NamedTuple

_US_PER_MS = 1_000

# An instant, a tolerance and an emission have to add up to less than 2**53, until the year 2112.
_MAX_US = 1 << 51


class Gcra(NamedTuple):
    """The parameters of a limit: see `throttle` and `rate_limit`."""

    emission: int
    """Microseconds from one admission to the next at the sustained rate; at least 1."""

    tolerance: int
    """Microseconds the TAT may run ahead of now: ``tolerance // emission`` admissions at once."""


class Admission(NamedTuple):
    """The answer of `admit`."""

    admitted: bool

    tat: int | None
    """The TAT to store, worthless and to be forgotten once it has passed; None if what is stored stays."""

    retry_at: int
    """The first instant at which this is admitted; not after now if it was."""


def throttle(limit: int, period_ms: int, burst: int = 0) -> Gcra:
    """``limit + burst`` admissions at once, then one every ``period_ms / limit``.

    Wire protocol section 4.3. Raises ValueError if ``limit`` or ``period_ms`` is below 1, ``burst`` below
    0, or the interval longer than 71 years.
    """
    if burst < 0:
        raise ValueError(f"burst must not be negative: {burst}")
    return _parameters(limit, period_ms, at_once=limit + burst)


def rate_limit(limit: int, period_ms: int) -> Gcra:
    """``limit // 10 + 1`` admissions at once, then one every ``period_ms / limit``.

    Wire protocol section 4.4. Raises ValueError if ``limit`` or ``period_ms`` is below 1, or the interval
    longer than 71 years.
    """
    return _parameters(limit, period_ms, at_once=limit // 10 + 1)


def admit(params: Gcra, tat: int | None, now: int) -> Admission:
    """Whether one more is admitted at ``now``, given the stored ``tat`` (None for a key at rest).

    No admission before now, under these parameters, stores a TAT beyond ``now + tolerance``. One that is
    beyond comes from a slower limit, or from a clock that was set back, and is brought down to that.
    """
    stored = tat or 0
    tat = min(max(now, stored), now + params.tolerance)
    retry_at = tat + params.emission - params.tolerance
    if now >= retry_at:
        return Admission(admitted=True, tat=tat + params.emission, retry_at=retry_at)
    return Admission(admitted=False, tat=tat if tat < stored else None, retry_at=retry_at)


def _parameters(limit: int, period_ms: int, *, at_once: int) -> Gcra:
    if limit < 1:
        raise ValueError(f"limit must be at least 1: {limit}")
    if period_ms < 1:
        raise ValueError(f"period must be at least 1 ms: {period_ms}")
    emission = -(-period_ms * _US_PER_MS // limit)  # rounded up: never more than the rate asked for
    if emission > _MAX_US:
        raise ValueError(f"period is longer than {_MAX_US // _US_PER_MS} ms an admission: {period_ms}")
    return Gcra(emission, min(emission * at_once, _MAX_US))
