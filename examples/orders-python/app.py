"""An order-processing application on FastAPI and the official Inngest SDK.

`shop/order.placed` starts `fulfil-order`, which reserves stock, charges the card, waits for the payment
provider, has a receipt sent and returns a summary. Each step is kept by the server: when this process dies in
the middle, the run goes on from its last finished step.
"""

from __future__ import annotations

import datetime
import functools
import logging
import os
from typing import Any, TypedDict

import fastapi
import inngest.fast_api
import uvicorn

import inngest

logger = logging.getLogger("orders")
client = inngest.Inngest(app_id="orders", logger=logger)


class Item(TypedDict):
    sku: str
    quantity: int
    price: float


class Reservation(TypedDict):
    sku: str
    quantity: int


# What a real shop would ask of its warehouse, its payment provider and its mailer


async def reserve(order_id: str, item: Item) -> Reservation:
    logger.info("order %s: reserve %d x %s", order_id, item["quantity"], item["sku"])
    return {"sku": item["sku"], "quantity": item["quantity"]}


async def release_stock(order_id: str) -> None:
    logger.info("order %s: release the reserved stock", order_id)


async def request_payment(order_id: str, amount: float, attempt: int) -> dict[str, Any]:
    """Ask for the money; the provider is busy the first time, so that a retry can be watched."""
    if attempt == 0:
        raise inngest.RetryAfterError("the payment provider is busy", datetime.timedelta(seconds=1))
    logger.info("order %s: charge %.2f", order_id, amount)
    return {"amount": amount, "attempt": attempt}


async def mail_receipt(order_id: str, amount: float) -> str:
    logger.info("order %s: mail a receipt over %.2f", order_id, amount)
    return f"receipt-{order_id}"


# Functions


@client.create_function(
    fn_id="send-receipt",
    name="Send a receipt",
    trigger=inngest.TriggerEvent(event="shop/receipt.requested"),
)
async def send_receipt(ctx: inngest.Context) -> str:
    """Invoked by `fulfil-order`; also runs by itself on its own event."""
    data: Any = ctx.event.data
    return await ctx.step.run("mail receipt", mail_receipt, data["order_id"], data["amount"])


@client.create_function(
    fn_id="confirm-payment",
    name="Play the payment provider",
    trigger=inngest.TriggerEvent(event="shop/payment.requested"),
)
async def confirm_payment(ctx: inngest.Context) -> None:
    """Stands in for the provider's webhook: takes a second, then tells that the payment went through."""
    await ctx.step.sleep("provider takes its time", datetime.timedelta(seconds=1))
    confirmed = inngest.Event(name="shop/payment.confirmed", data={**ctx.event.data, "provider": "example"})
    await ctx.step.send_event("confirm", confirmed)


async def give_back(ctx: inngest.Context) -> None:
    """Runs once when an order has failed for good; its event carries the original one."""
    original: Any = ctx.event.data["event"]
    await ctx.step.run("release stock", release_stock, str(original["data"].get("order_id")))


@client.create_function(
    fn_id="fulfil-order",
    name="Fulfil an order",
    trigger=inngest.TriggerEvent(event="shop/order.placed"),
    retries=3,
    concurrency=[inngest.Concurrency(limit=2, key="event.data.customer")],
    cancel=[
        inngest.Cancel(event="shop/order.cancelled", if_exp="event.data.order_id == async.data.order_id")
    ],
    on_failure=give_back,
)
async def fulfil_order(ctx: inngest.Context) -> dict[str, Any]:
    order: Any = ctx.event.data
    order_id, items = order.get("order_id"), order.get("items")
    if not order_id or not items:
        raise inngest.NonRetriableError("an order needs an order_id and at least one item")
    amount = sum(item["quantity"] * item["price"] for item in items)

    reserved = await ctx.group.parallel(
        tuple(
            functools.partial(ctx.step.run, f"reserve {item['sku']}", reserve, order_id, item)
            for item in items
        )
    )

    async def charge() -> dict[str, Any]:
        return await request_payment(order_id, amount, ctx.attempt)

    charge_made = await ctx.step.run("charge card", charge)
    await ctx.step.send_event(
        "ask for confirmation",
        inngest.Event(name="shop/payment.requested", data={"order_id": order_id, "amount": amount}),
    )
    payment = await ctx.step.wait_for_event(
        "payment confirmed",
        event="shop/payment.confirmed",
        if_exp="event.data.order_id == async.data.order_id",
        timeout=datetime.timedelta(hours=1),
    )
    if payment is None:
        raise inngest.NonRetriableError(f"order {order_id} was not paid for in time")

    await ctx.step.sleep("pack the parcel", datetime.timedelta(seconds=1))
    receipt = await ctx.step.invoke(
        "send receipt", function=send_receipt, data={"order_id": order_id, "amount": amount}
    )
    return {
        "order_id": order_id,
        "reserved": list(reserved),
        "charged": charge_made["amount"],
        "paid_through": payment.data["provider"],
        "receipt": receipt,
    }


@client.create_function(
    fn_id="count-stock",
    name="Count the stock every five minutes",
    trigger=inngest.TriggerCron(cron="*/5 * * * *"),
)
async def count_stock(ctx: inngest.Context) -> dict[str, int]:
    async def count() -> dict[str, int]:
        return {"tea": 40, "cup": 12}

    return await ctx.step.run("count", count)


app = fastapi.FastAPI(title="Orders")
inngest.fast_api.serve(app, client, [fulfil_order, confirm_payment, send_receipt, count_stock])

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="orders  %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), log_level="warning")
