"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import asyncio
import random

MOST_SECONDS = 5.0


async def backoff(failures: int, most: float = MOST_SECONDS) -> None:
    """Wait before the next try: from a few ms, since a lost reply is to cost next to nothing, doubling, to
    ``most`` seconds.
    """
    spread = 0.5 + random.random() / 2  # noqa: S311 -- nobody gains by guessing it
    await asyncio.sleep(min(0.005 * 2 ** min(failures, 10), most) * spread)
