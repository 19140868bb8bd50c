// An order-processing application on node:http and the official Inngest SDK.
//
// `shop/order.placed` starts `fulfil-order`, which reserves stock, charges the card, waits for the payment provider,
// has a receipt sent and returns a summary. Each step is kept by the server: when this process dies in the middle,
// the run goes on from its last finished step.

import { cron, eventType, Inngest, NonRetriableError, RetryAfterError, staticSchema } from "inngest";
import { createServer } from "inngest/node";

type Item = { sku: string; quantity: number; price: number };
type Payment = { order_id: string; amount: number };

const orderPlaced = eventType("shop/order.placed", {
  schema: staticSchema<{ order_id: string; customer: string; items: Item[] }>(),
});
const paymentRequested = eventType("shop/payment.requested", { schema: staticSchema<Payment>() });
const paymentConfirmed = eventType("shop/payment.confirmed", {
  schema: staticSchema<Payment & { provider: string }>(),
});
const receiptRequested = eventType("shop/receipt.requested", { schema: staticSchema<Payment>() });

const inngest = new Inngest({ id: "orders-typescript" });

// What a real shop would ask of its warehouse, its payment provider and its mailer

const reserve = async (orderId: string, { sku, quantity }: Item) => {
  console.log(`order ${orderId}: reserve ${quantity} x ${sku}`);
  return { sku, quantity };
};

const releaseStock = async (orderId: string) => {
  console.log(`order ${orderId}: release the reserved stock`);
};

/** Asks for the money; the provider is busy the first time, so that a retry can be watched. */
const requestPayment = async (orderId: string, amount: number, attempt: number) => {
  if (attempt === 0) throw new RetryAfterError("the payment provider is busy", "1s");
  console.log(`order ${orderId}: charge ${amount.toFixed(2)}`);
  return { amount, attempt };
};

const mailReceipt = async (orderId: string, amount: number) => {
  console.log(`order ${orderId}: mail a receipt over ${amount.toFixed(2)}`);
  return `receipt-${orderId}`;
};

// Functions

/** Invoked by `fulfil-order`; also runs by itself on its own event. */
const sendReceipt = inngest.createFunction(
  { id: "send-receipt", name: "Send a receipt", triggers: receiptRequested },
  ({ event, step }) => step.run("mail receipt", () => mailReceipt(event.data.order_id, event.data.amount)),
);

/** Stands in for the provider's webhook: takes a second, then tells that the payment went through. */
const confirmPayment = inngest.createFunction(
  { id: "confirm-payment", name: "Play the payment provider", triggers: paymentRequested },
  async ({ event, step }) => {
    await step.sleep("provider takes its time", "1s");
    await step.sendEvent("confirm", paymentConfirmed.create({ ...event.data, provider: "example" }));
  },
);

const fulfilOrder = inngest.createFunction(
  {
    id: "fulfil-order",
    name: "Fulfil an order",
    triggers: orderPlaced,
    retries: 3,
    concurrency: { limit: 2, key: "event.data.customer" },
    cancelOn: [{ event: "shop/order.cancelled", match: "data.order_id" }],
    // Runs once when an order has failed for good; its event carries the original one.
    onFailure: ({ event, step }) =>
      step.run("release stock", () => releaseStock(String(event.data.event.data?.order_id))),
  },
  async ({ event, step, attempt }) => {
    const { order_id, items } = event.data;
    if (!order_id || !items?.length) {
      throw new NonRetriableError("an order needs an order_id and at least one item");
    }
    const amount = items.reduce((sum, item) => sum + item.quantity * item.price, 0);

    const reserved = await Promise.all(
      items.map((item) => step.run(`reserve ${item.sku}`, () => reserve(order_id, item))),
    );
    const charge = await step.run("charge card", () => requestPayment(order_id, amount, attempt));
    await step.sendEvent("ask for confirmation", paymentRequested.create({ order_id, amount }));
    const payment = await step.waitForEvent("payment confirmed", {
      event: paymentConfirmed,
      match: "data.order_id",
      timeout: "1h",
    });
    if (payment === null) throw new NonRetriableError(`order ${order_id} was not paid for in time`);

    await step.sleep("pack the parcel", "1s");
    const receipt = await step.invoke("send receipt", { function: sendReceipt, data: { order_id, amount } });
    return { order_id, reserved, charged: charge.amount, paid_through: payment.data.provider, receipt };
  },
);

const countStock = inngest.createFunction(
  { id: "count-stock", name: "Count the stock every five minutes", triggers: cron("*/5 * * * *") },
  ({ step }) => step.run("count", () => ({ tea: 40, cup: 12 })),
);

const port = Number(process.env.PORT ?? 3000);
createServer({ client: inngest, functions: [fulfilOrder, confirmPayment, sendReceipt, countStock] }).listen(
  port,
  "127.0.0.1",
  () => console.log(`orders: http://127.0.0.1:${port}/api/inngest`),
);
