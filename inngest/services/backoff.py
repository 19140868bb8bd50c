"""How services wait for a backing system that does not answer."""

from __future__ import annotations

import asyncio
import random


async def backoff(failures: int) -> None:
    """Wait before the next try at a backing system: from 50 ms, doubling, to 5 s."""
    spread = 0.5 + random.random() / 2  # noqa: S311 -- nobody gains by guessing it
    await asyncio.sleep(min(0.05 * 2 ** min(failures, 10), 5.0) * spread)
