"""What an older release kept elsewhere: taken over once, at the start."""

from __future__ import annotations

import structlog

from inngest.core.decisions.sweeps import order_sweep
from inngest.core.errors import StoreUnavailable
from inngest.core.model.cancellations import Cancellation
from inngest.ports.data import Predecessor
from inngest.services.runtime import Runtime

log = structlog.get_logger("inngest.predecessor")


async def take_over_cancellations(store: Predecessor, runtime: Runtime) -> None:
    """Bring bulk cancellations from the data store to the engine store, where they are listed and done;
    for one that was carried out already there is nothing left to do.

    It may end anywhere and be repeated: an order keeps its id, and is forgotten last.

    Raises:
        StoreUnavailable: some are left.

    """
    left = await store.left_cancellations()
    listed = {each.id for each in await runtime.engine.cancellations()} if left else set()
    for order in left:
        try:
            if order.id not in listed:
                await runtime.engine.put_cancellation(order)
                await runtime.engine.commit([order_sweep(order, runtime.moment())])
            await store.forget_cancellation(order.id)
        except StoreUnavailable:
            raise
        except Exception as error:
            # Nobody else knows of it: who ordered it has to hear what it was.
            log.error("bulk cancellation is not taken over", **_facts(order), exc_info=error)
        else:
            log.info("bulk cancellation of an older release is taken over", **_facts(order))


def _facts(order: Cancellation) -> dict[str, object]:
    return {
        "action": "predecessor.cancellation",
        "id": order.id,
        "fn": order.slug,
        "created": order.created,
        "started_after": order.started_after,
        "started_before": order.started_before,
        "condition": order.condition,
    }
