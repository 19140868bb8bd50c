"""Which driver makes a call: the one for the scheme of the function's URL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Run
from inngest.core.sdk.responses import Answer, failure
from inngest.ports.driver import Driver

_SHOWN = 40


class SchemeDriver:
    """See `inngest.ports.driver.Driver`. Leaves each call to another driver.

    Args:
        drivers: by lower-case scheme; one may stand for several.

    """

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._drivers = dict(drivers)

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        scheme, colon, _ = fn.url.partition(":")
        driver = self._drivers.get(scheme.lower())
        if driver is not None and colon:
            return await driver.call(run, fn, item)
        known = ", ".join(sorted(self._drivers))
        what = f"the scheme {scheme[:_SHOWN]!r}" if colon else "no scheme"
        # Another executor may know it, or the application register with another URL.
        return failure(f"The URL of {fn.slug} has {what}; this server calls {known}")

    async def close(self) -> None:
        await asyncio.gather(*(driver.close() for driver in set(self._drivers.values())))
