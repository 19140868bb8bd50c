"""How services wait for a backing system that does not answer."""

from __future__ import annotations

import asyncio
import random


async def backoff(failures: int) -> None:
    """Wait before the next try at a backing system: from a few ms, doubling, to 5 s: a lost reply costs
    next to nothing, and an outage is not hammered.
    """
    spread = 0.5 + random.random() / 2  # noqa: S311 -- nobody gains by guessing it
    await asyncio.sleep(min(0.005 * 2 ** min(failures, 10), 5.0) * spread)
