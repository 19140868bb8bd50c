"""How long a failed call waits before it is tried again."""

from __future__ import annotations

RETRY_DELAYS_MS = (
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    1_200_000,
    2_400_000,
    3_600_000,
    7_200_000,
)
"""By the 0-based attempt that failed; the last repeats (wire protocol section 3.7, "Retry delay")."""

MAX_JITTER_MS = 30_000


def retry_delay(attempt: int, jitter: float) -> int:
    """The milliseconds to wait after the 0-based ``attempt`` failed.

    ``jitter``, at least 0 and below 1, is the caller's random share of the 30 seconds by which retries are
    spread. Raises ValueError outside these bounds.
    """
    if attempt < 0:
        raise ValueError(f"attempt must not be negative: {attempt}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be at least 0 and below 1: {jitter}")
    return RETRY_DELAYS_MS[min(attempt, len(RETRY_DELAYS_MS) - 1)] + int(jitter * MAX_JITTER_MS)
