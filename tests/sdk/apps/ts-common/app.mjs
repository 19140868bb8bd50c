// Every feature of the TypeScript SDK, one function a scenario, each execution recorded in a log served at /log.
//
// Function ids are the scenario names, triggered by the event `<app>/<scenario>`. The environment decides the rest:
// PORT (where to listen), APP_ID, STUB_URL (a stand-in for other people's APIs) and the SDK's own INNGEST_* variables.
// `sdk` is the package of the line under test and `line` what differs between the lines, so that both run the same
// scenarios.

import http from "node:http";

export function start(sdk, line) {
  const { Inngest, NonRetriableError, RetryAfterError, referenceFunction } = sdk;
  const APP = process.env.APP_ID ?? line.id;
  const STUB_URL = process.env.STUB_URL ?? "http://127.0.0.1:9";
  const client = new Inngest({ id: APP });
  const streamingClient = new Inngest({ id: `${APP}-stream` });
  const log = [];
  const functions = {};

  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

  /** Append an execution to the log and return how often this run has recorded this step. */
  const record = (ctx, step, extra = {}) => {
    const run = ctx.runId;
    log.push({ kind: "step", run, step, attempt: ctx.attempt, at: Date.now() / 1000, ...extra });
    return log.filter((entry) => entry.kind === "step" && entry.run === run && entry.step === step).length;
  };

  /** Run a recorded step that returns `value`. */
  const doStep = (ctx, name, value) =>
    ctx.step.run(name, () => {
      record(ctx, name);
      return value;
    });

  /** Register a function whose id is `name`, triggered by `<app>/<name>` unless told otherwise. */
  const scenario = (name, handler, { trigger, ...options } = {}) => {
    const full = { id: name, retries: 0, ...options };
    functions[name] = line.createFunction(client, full, trigger ?? { event: `${APP}/${name}` }, handler);
  };

  const caught = (call) =>
    call.then(
      (result) => ({ result }),
      (error) => ({ caught: error.message }),
    );

  // Steps

  const sequential = async (ctx) => {
    const one = await doStep(ctx, "one", 1);
    const two = await doStep(ctx, "two", one + 1);
    const three = await doStep(ctx, "three", two + (ctx.event.data.n ?? 0));
    return { total: one + two + three };
  };
  scenario("sequential", sequential);
  for (const [name, options] of Object.entries(line.variants.sequential)) scenario(name, sequential, options);

  scenario("repeated-ids", async (ctx) => {
    const values = [];
    for (const index of [0, 1, 2]) values.push(await doStep(ctx, "same", index));
    return values;
  });

  scenario("nulls", async (ctx) => {
    const value = await doStep(ctx, "nothing", undefined);
    return { value, after: await doStep(ctx, "after", "done") };
  });

  scenario("null-output", async (ctx) => {
    await doStep(ctx, "only");
  });

  scenario("echo", async (ctx) => ({
    step: await doStep(ctx, "data", ctx.event.data),
    event: ctx.event.data,
  }));

  scenario("many", async (ctx) => {
    let total = 0;
    for (let index = 0; index < ctx.event.data.n; index++) total += await doStep(ctx, `step ${index}`, 1);
    return total;
  });

  scenario("large-state", async (ctx) => {
    const parts = [];
    for (const index of [0, 1, 2]) parts.push(await doStep(ctx, `part ${index}`, `${index}`.repeat(2 ** 21)));
    // A wait ends the request, so that the state has to come back from the server.
    await ctx.step.sleep("come back", "1s");
    return { length: parts.join("").length, ends: parts.map((part) => part.at(-1)) };
  });

  // Errors

  scenario(
    "step-retry",
    (ctx) =>
      ctx.step.run("flaky", () => {
        const executions = record(ctx, "flaky");
        if (executions <= ctx.event.data.failures) throw new Error(`failure ${executions}`);
        return { executions };
      }),
    { retries: 3 },
  );

  const fails = (ctx, error = new Error("boom")) =>
    ctx.step.run("fails", () => {
      record(ctx, "fails");
      throw error;
    });

  scenario(
    "step-caught",
    async (ctx) => {
      try {
        return await fails(ctx);
      } catch (error) {
        return { caught: error.message, after: await doStep(ctx, "compensate", "compensated") };
      }
    },
    { retries: 1 },
  );

  scenario(
    "on-failure",
    async (ctx) => {
      await doStep(ctx, "before");
      throw new Error("order lost");
    },
    {
      onFailure: async (ctx) => {
        await doStep(ctx, "failure-handler", ctx.error.message);
        return { handled: ctx.event.data.run_id };
      },
    },
  );

  scenario(
    "function-retry",
    async (ctx) => {
      await doStep(ctx, "before");
      const executions = record(ctx, "body");
      if (executions === 1) throw new Error("not yet");
      return { executions };
    },
    { retries: 2 },
  );

  scenario(
    "non-retriable",
    (ctx) => {
      record(ctx, "body");
      throw new NonRetriableError("bad input");
    },
    { retries: 3 },
  );

  scenario("non-retriable-step", (ctx) => fails(ctx, new NonRetriableError("bad input")), { retries: 3 });

  scenario(
    "retry-after",
    (ctx) => {
      if (record(ctx, "body") === 1) throw new RetryAfterError("busy", "3s");
      return "done";
    },
    { retries: 1 },
  );

  // Parallel steps

  const parallel = async (ctx) => ({
    results: await Promise.all(["a", "b", "c"].map((name) => doStep(ctx, name, name))),
    after: await doStep(ctx, "after", "done"),
  });
  scenario("parallel", parallel);
  for (const [name, options] of Object.entries(line.variants.parallel)) scenario(name, parallel, options);

  scenario("parallel-sleep", async (ctx) => {
    await Promise.all([doStep(ctx, "a", "a"), ctx.step.sleep("nap", "1s"), doStep(ctx, "b", "b")]);
    return { after: await doStep(ctx, "after", "done") };
  });

  scenario("parallel-chains", (ctx) => {
    const chain = async (name) => {
      const first = await doStep(ctx, `${name}1`, 1);
      return doStep(ctx, `${name}2`, `${name}${first + 1}`);
    };
    return line.race(ctx, () => Promise.all([chain("a"), chain("b")]));
  });

  scenario("parallel-failure", async (ctx) => {
    const [ok, failure] = await Promise.allSettled([doStep(ctx, "ok", "ok"), fails(ctx)]);
    return { ok: ok.value, caught: failure.reason.message, after: await doStep(ctx, "after", "done") };
  });

  scenario("race", async (ctx) => {
    const over = () => ctx.step.waitForEvent("slow", { event: `${APP}/race-over`, match: "data.k", timeout: "1h" });
    const winner = await line.race(ctx, () =>
      Promise.race([doStep(ctx, "fast", "fast"), over().then(() => "slow")]),
    );
    await doStep(ctx, "after", "done");
    return { winner, end: await doStep(ctx, "end", "done") };
  });

  // Time

  scenario("sleep", async (ctx) => {
    await doStep(ctx, "before");
    await ctx.step.sleep("nap", "1s");
    return doStep(ctx, "after", "woke");
  });

  scenario("sleep-until", async (ctx) => {
    await ctx.step.sleepUntil("past", new Date(Date.now() - 3600_000));
    await doStep(ctx, "before");
    await ctx.step.sleepUntil("future", new Date(Date.now() + 2000));
    return doStep(ctx, "after", "woke");
  });

  const sleepThroughTheNight = async (ctx) => {
    await doStep(ctx, "before");
    await ctx.step.sleep("night", "1h");
    return doStep(ctx, "after");
  };
  scenario("long-sleep", sleepThroughTheNight, { cancelOn: [{ event: `${APP}/cancel`, match: "data.k" }] });
  scenario("finish-timeout", sleepThroughTheNight, { timeouts: { finish: "1s" } });

  // Events, invocations, signals

  scenario("wait-match", async (ctx) => {
    await doStep(ctx, "before");
    const event = await ctx.step.waitForEvent("wait", {
      event: `${APP}/answer`,
      if: "event.data.k == async.data.k",
      timeout: "60s",
    });
    return { answer: event?.data.answer ?? null, after: await doStep(ctx, "after", "done") };
  });

  scenario("wait-timeout", async (ctx) => {
    const event = await ctx.step.waitForEvent("wait", { event: `${APP}/never`, timeout: "1s" });
    return { event, after: await doStep(ctx, "after", "done") };
  });

  scenario("double", async (ctx) => ({ doubled: await doStep(ctx, "double", ctx.event.data.n * 2) }));

  scenario("always-fails", () => {
    throw new Error("target failed");
  });

  scenario("invoke-ok", async (ctx) => {
    const result = await ctx.step.invoke("call", { function: functions.double, data: { n: 21 } });
    return { result, after: await doStep(ctx, "after", "done") };
  });

  scenario("invoke-fails", (ctx) => caught(ctx.step.invoke("call", { function: functions["always-fails"] })));

  scenario("invoke-timeout", (ctx) =>
    caught(ctx.step.invoke("call", { function: functions["long-sleep"], timeout: "1s" })),
  );

  scenario("invoke-unknown", (ctx) => {
    const nowhere = referenceFunction({ appId: APP, functionId: "no-such-function" });
    return caught(ctx.step.invoke("call", { function: nowhere }));
  });

  scenario("send-event", async (ctx) => {
    const { k } = ctx.event.data;
    const { ids } = await ctx.step.sendEvent("send", [
      { name: `${APP}/fan-in`, data: { k, n: 1 } },
      { name: `${APP}/fan-in`, data: { k, n: 2 } },
    ]);
    return { ids, after: await doStep(ctx, "after", "done") };
  });

  scenario("fan-in", async (ctx) => ({ n: await doStep(ctx, "received", ctx.event.data.n) }));

  scenario("filtered", (ctx) => doStep(ctx, "only", "big"), {
    trigger: { event: `${APP}/filtered`, if: "event.data.n > 10" },
  });

  scenario("wildcard", (ctx) => doStep(ctx, "only", ctx.event.name), { trigger: { event: `${APP}/tree/*` } });

  scenario("signal", async (ctx) => {
    await doStep(ctx, "before");
    const signal = await ctx.step.waitForSignal("wait", {
      signal: ctx.event.data.k,
      timeout: "60s",
      onConflict: "fail",
    });
    return { signal, after: await doStep(ctx, "after", "done") };
  });

  scenario("signal-timeout", async (ctx) => {
    const signal = await ctx.step.waitForSignal("wait", {
      signal: ctx.event.data.k,
      timeout: "1s",
      onConflict: "fail",
    });
    return { signal, after: await doStep(ctx, "after", "done") };
  });

  scenario("send-signal", async (ctx) => {
    await ctx.step.sendSignal("send", { signal: ctx.event.data.k, data: { from: "a step" } });
    return "sent";
  });

  // Flow control, keyed by event.data.k so that tests do not meet each other

  const oneByOne = [{ limit: 1, key: "event.data.k" }];

  scenario(
    "concurrency",
    (ctx) =>
      ctx.step.run("work", async () => {
        record(ctx, "begin");
        await pause(ctx.event.data.hold ?? 0.2);
        record(ctx, "end");
      }),
    { concurrency: oneByOne },
  );

  scenario(
    "start-timeout",
    async (ctx) => {
      record(ctx, "body");
      await pause(3);
    },
    { concurrency: oneByOne, timeouts: { start: "1s" } },
  );

  scenario(
    "priority",
    async (ctx) => {
      record(ctx, "body", { priority: ctx.event.data.priority });
      await pause(ctx.event.data.hold);
    },
    { concurrency: oneByOne, priority: { run: "event.data.priority" } },
  );

  scenario("throttle", (ctx) => record(ctx, "body"), { throttle: { limit: 1, period: "2s", key: "event.data.k" } });
  scenario("rate-limit", (ctx) => record(ctx, "body"), {
    rateLimit: { limit: 1, period: "60s", key: "event.data.k" },
  });
  scenario("idempotent", (ctx) => record(ctx, "body"), { idempotency: "event.data.k" });

  scenario(
    "debounce",
    (ctx) => {
      record(ctx, "body");
      return { n: ctx.event.data.n };
    },
    { debounce: { period: "1s", key: "event.data.k" } },
  );

  const numbers = (ctx) => ctx.events.map((event) => event.data.n);
  scenario("batch", numbers, { batchEvents: { maxSize: 3, timeout: "60s", key: "event.data.k" } });
  scenario("batch-timeout", numbers, { batchEvents: { maxSize: 50, timeout: "1s", key: "event.data.k" } });

  const hold = async (ctx) => {
    await doStep(ctx, "before");
    await ctx.step.sleep("hold", "2s");
    return "done";
  };
  scenario("singleton-skip", hold, { singleton: { mode: "skip", key: "event.data.k" } });
  scenario("singleton-cancel", hold, { singleton: { mode: "cancel", key: "event.data.k" } });

  scenario(
    "cron",
    (ctx) => {
      record(ctx, "cron", { event: ctx.event.name, data: ctx.event.data });
      return "tick";
    },
    { trigger: { cron: "* * * * *" } },
  );

  // Calls that the server makes for the application

  scenario("fetch", async (ctx) => {
    const response = await ctx.step.fetch(`${STUB_URL}/echo`, {
      method: "PUT",
      headers: { "x-trial": "yes" },
      body: "hello",
    });
    return { status: response.status, body: await response.json() };
  });

  scenario("fetch-503", async (ctx) => {
    const response = await ctx.step.fetch(`${STUB_URL}/status/503`);
    return { status: response.status };
  });

  scenario("ai-infer", async (ctx) => {
    const answer = await ctx.step.ai.infer("ask", {
      model: ctx.step.ai.models.openai({ model: "stub", apiKey: "sk-test", baseUrl: `${STUB_URL}/v1/` }),
      body: { messages: [{ role: "user", content: "ping" }] },
    });
    return { content: answer.choices[0].message.content, authorization: answer.authorization };
  });

  const streamed = line.createFunction(
    streamingClient,
    { id: "streamed", retries: 1 },
    { event: `${APP}-stream/streamed` },
    async (ctx) => {
      const first = await doStep(ctx, "first", 1);
      if (record(ctx, "body") === 1) throw new Error("once more");
      return { first };
    },
  );

  const routes = {
    "/api/inngest": line.serve({ client, functions: Object.values(functions) }),
    "/api/stream": line.serve({
      client: streamingClient,
      functions: [streamed],
      servePath: "/api/stream",
      streaming: line.streaming,
    }),
  };

  http
    .createServer((request, response) => {
      const url = new URL(request.url, "http://127.0.0.1");
      const run = request.headers["x-run-id"];
      if (run) log.push({ kind: "request", run, query: url.search.slice(1), at: Date.now() / 1000 });
      if (url.pathname in routes) return routes[url.pathname](request, response);
      if (url.pathname !== "/log") return response.writeHead(404).end();
      const only = url.searchParams.get("run");
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(log.filter((entry) => only === null || entry.run === only)));
    })
    .listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
}
