"""Every feature of the Python SDK, one function a scenario, each execution recorded in a log served at /log.

Function ids are the scenario names, triggered by the event `<app>/<scenario>`. The environment decides
the rest:
PORT (where to listen), APP_ID, STUB_URL (a stand-in for other people's APIs) and the SDK's own INNGEST_*.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import inngest.fast_api
import uvicorn
from inngest.experimental.ai import openai
from starlette.types import ASGIApp, Receive, Scope, Send

import inngest

APP = os.environ.get("APP_ID", "py")
STUB_URL = os.environ.get("STUB_URL", "http://127.0.0.1:9")

client = inngest.Inngest(app_id=APP)
streaming_client = inngest.Inngest(app_id=f"{APP}-stream")
log: list[dict[str, Any]] = []
functions: list[inngest.Function[Any]] = []

Handler = Callable[[inngest.Context], Awaitable[Any]]


def seconds(number: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=number)


def record(ctx: inngest.Context, step: str, **extra: object) -> int:
    """Append an execution to the log and return how often this run has recorded this step."""
    entry = {
        "kind": "step",
        "run": ctx.run_id,
        "step": step,
        "attempt": ctx.attempt,
        "at": time.time(),
        **extra,
    }
    log.append(entry)
    return sum(
        other["kind"] == "step" and (other["run"], other["step"]) == (ctx.run_id, step) for other in log
    )


async def do(ctx: inngest.Context, name: str, value: Any = None) -> Any:
    """Run a recorded step that returns `value`."""

    async def handler() -> Any:
        record(ctx, name)
        return value

    return await ctx.step.run(name, handler)


def scenario(
    name: str, *, expression: str | None = None, event: str | None = None, **options: Any
) -> Callable[[Handler], inngest.Function[Any]]:
    """Register a function whose id is `name`, triggered by `<app>/<name>` unless told otherwise."""
    trigger = options.pop(
        "trigger", inngest.TriggerEvent(event=f"{APP}/{event or name}", expression=expression)
    )

    def register(handler: Handler) -> inngest.Function[Any]:
        function = client.create_function(fn_id=name, trigger=trigger, **{"retries": 0, **options})(handler)
        functions.append(function)
        return function

    return register


# Steps


@scenario("sequential")
async def sequential(ctx: inngest.Context) -> Any:
    one = await do(ctx, "one", 1)
    two = await do(ctx, "two", one + 1)
    three = await do(ctx, "three", two + ctx.event.data.get("n", 0))
    return {"total": one + two + three}


@scenario("repeated-ids")
async def repeated_ids(ctx: inngest.Context) -> Any:
    return [await do(ctx, "same", index) for index in range(3)]


@scenario("nulls")
async def nulls(ctx: inngest.Context) -> Any:
    value = await do(ctx, "nothing")
    return {"value": value, "after": await do(ctx, "after", "done")}


@scenario("null-output")
async def null_output(ctx: inngest.Context) -> None:
    await do(ctx, "only")


@scenario("echo")
async def echo(ctx: inngest.Context) -> Any:
    return {"step": await do(ctx, "data", ctx.event.data), "event": ctx.event.data}


@scenario("many")
async def many(ctx: inngest.Context) -> Any:
    count = int(str(ctx.event.data["n"]))
    return sum([await do(ctx, f"step {index}", 1) for index in range(count)])


@scenario("large-state")
async def large_state(ctx: inngest.Context) -> Any:
    parts = [await do(ctx, f"part {index}", str(index) * 2**21) for index in range(3)]
    return {"length": len("".join(parts)), "ends": [part[-1] for part in parts]}


# Errors


@scenario("step-retry", retries=3)
async def step_retry(ctx: inngest.Context) -> Any:
    async def flaky() -> dict[str, int]:
        executions = record(ctx, "flaky")
        if executions <= int(str(ctx.event.data["failures"])):
            raise ValueError(f"failure {executions}")
        return {"executions": executions}

    return await ctx.step.run("flaky", flaky)


@scenario("step-caught", retries=1)
async def step_caught(ctx: inngest.Context) -> Any:
    async def fails() -> None:
        record(ctx, "fails")
        raise ValueError("boom")

    try:
        await ctx.step.run("fails", fails)
    except inngest.StepError as err:
        return {"caught": err.message, "after": await do(ctx, "compensate", "compensated")}


async def order_lost(ctx: inngest.Context) -> Any:
    await do(ctx, "failure-handler", ctx.event.data["error"])
    return {"handled": str(ctx.event.data["run_id"])}


@scenario("on-failure", on_failure=order_lost)
async def on_failure(ctx: inngest.Context) -> None:
    await do(ctx, "before")
    raise ValueError("order lost")


@scenario("function-retry", retries=2)
async def function_retry(ctx: inngest.Context) -> Any:
    await do(ctx, "before")
    executions = record(ctx, "body")
    if executions == 1:
        raise ValueError("not yet")
    return {"executions": executions}


@scenario("non-retriable", retries=3)
async def non_retriable(ctx: inngest.Context) -> None:
    record(ctx, "body")
    raise inngest.NonRetriableError("bad input")


@scenario("non-retriable-step", retries=3)
async def non_retriable_step(ctx: inngest.Context) -> None:
    async def fails() -> None:
        record(ctx, "fails")
        raise inngest.NonRetriableError("bad input")

    await ctx.step.run("fails", fails)


@scenario("retry-after", retries=1)
async def retry_after(ctx: inngest.Context) -> Any:
    if record(ctx, "body") == 1:
        raise inngest.RetryAfterError("busy", seconds(3))
    return "done"


# Parallel steps


@scenario("parallel")
async def parallel(ctx: inngest.Context) -> Any:
    steps = tuple(functools.partial(do, ctx, name, name) for name in "abc")
    return {"results": list(await ctx.group.parallel(steps)), "after": await do(ctx, "after", "done")}


@scenario("parallel-sleep")
async def parallel_sleep(ctx: inngest.Context) -> Any:
    await ctx.group.parallel(
        (
            lambda: do(ctx, "a", "a"),
            lambda: ctx.step.sleep("nap", seconds(1)),
            lambda: do(ctx, "b", "b"),
        )
    )
    return {"after": await do(ctx, "after", "done")}


@scenario("parallel-chains")
async def parallel_chains(ctx: inngest.Context) -> Any:
    async def chain(name: str) -> Any:
        first = await do(ctx, f"{name}1", 1)
        return await do(ctx, f"{name}2", f"{name}{first + 1}")

    chains = tuple(functools.partial(chain, name) for name in "ab")
    return list(await ctx.group.parallel(chains, parallel_mode=inngest.ParallelMode.RACE))


@scenario("parallel-failure")
async def parallel_failure(ctx: inngest.Context) -> Any:
    async def fails() -> None:
        record(ctx, "fails")
        raise ValueError("boom")

    async def guarded() -> str:
        try:
            await ctx.step.run("fails", fails)
        except inngest.StepError as err:
            return err.message
        return "unreachable"

    ok, caught = await ctx.group.parallel((lambda: do(ctx, "ok", "ok"), guarded))
    return {"ok": ok, "caught": caught, "after": await do(ctx, "after", "done")}


# Time


@scenario("sleep")
async def sleep(ctx: inngest.Context) -> Any:
    await do(ctx, "before")
    await ctx.step.sleep("nap", seconds(1))
    return await do(ctx, "after", "woke")


@scenario("sleep-until")
async def sleep_until(ctx: inngest.Context) -> Any:
    now = datetime.datetime.now(datetime.UTC)
    await ctx.step.sleep_until("past", now - seconds(3600))
    await do(ctx, "before")
    await ctx.step.sleep_until("future", now + seconds(2))
    return await do(ctx, "after", "woke")


@scenario("long-sleep", cancel=[inngest.Cancel(event=f"{APP}/cancel", if_exp="event.data.k == async.data.k")])
async def long_sleep(ctx: inngest.Context) -> Any:
    await do(ctx, "before")
    await ctx.step.sleep("night", seconds(3600))
    return await do(ctx, "after")


@scenario("finish-timeout", timeouts=inngest.Timeouts(finish=seconds(1)))
async def finish_timeout(ctx: inngest.Context) -> Any:
    await do(ctx, "before")
    await ctx.step.sleep("night", seconds(3600))
    return await do(ctx, "after")


# Events, invocations


@scenario("wait-match")
async def wait_match(ctx: inngest.Context) -> Any:
    await do(ctx, "before")
    event = await ctx.step.wait_for_event(
        "wait", event=f"{APP}/answer", if_exp="event.data.k == async.data.k", timeout=seconds(60)
    )
    return {"answer": event and event.data["answer"], "after": await do(ctx, "after", "done")}


@scenario("wait-timeout")
async def wait_timeout(ctx: inngest.Context) -> Any:
    event = await ctx.step.wait_for_event("wait", event=f"{APP}/never", timeout=seconds(1))
    return {"event": event and event.name, "after": await do(ctx, "after", "done")}


@scenario("double")
async def double(ctx: inngest.Context) -> Any:
    return {"doubled": await do(ctx, "double", int(str(ctx.event.data["n"])) * 2)}


@scenario("always-fails")
async def always_fails(ctx: inngest.Context) -> None:
    raise ValueError("target failed")


async def caught(call: Awaitable[object]) -> dict[str, object]:
    try:
        return {"result": await call}
    except (inngest.StepError, inngest.NonRetriableError) as err:
        return {"caught": err.message}


@scenario("invoke-ok")
async def invoke_ok(ctx: inngest.Context) -> Any:
    result = await ctx.step.invoke("call", function=double, data={"n": 21})
    return {"result": result, "after": await do(ctx, "after", "done")}


@scenario("invoke-fails")
async def invoke_fails(ctx: inngest.Context) -> Any:
    return await caught(ctx.step.invoke("call", function=always_fails))


@scenario("invoke-timeout")
async def invoke_timeout(ctx: inngest.Context) -> Any:
    return await caught(ctx.step.invoke("call", function=long_sleep, timeout=seconds(1)))


@scenario("invoke-unknown")
async def invoke_unknown(ctx: inngest.Context) -> Any:
    return await caught(ctx.step.invoke_by_id("call", function_id="no-such-function"))


@scenario("send-event")
async def send_event(ctx: inngest.Context) -> Any:
    events = [inngest.Event(name=f"{APP}/fan-in", data={"k": ctx.event.data["k"], "n": n}) for n in (1, 2)]
    return {"ids": await ctx.step.send_event("send", events), "after": await do(ctx, "after", "done")}


@scenario("fan-in")
async def fan_in(ctx: inngest.Context) -> Any:
    return {"n": await do(ctx, "received", ctx.event.data["n"])}


@scenario("filtered", expression="event.data.n > 10")
async def filtered(ctx: inngest.Context) -> Any:
    return await do(ctx, "only", "big")


@scenario("wildcard", event="tree/*")
async def wildcard(ctx: inngest.Context) -> Any:
    return await do(ctx, "only", ctx.event.name)


# Flow control, keyed by event.data.k so that tests do not meet each other


@scenario("concurrency", concurrency=[inngest.Concurrency(limit=1, key="event.data.k")])
async def concurrency(ctx: inngest.Context) -> Any:
    async def work() -> None:
        record(ctx, "begin")
        await asyncio.sleep(float(str(ctx.event.data.get("hold", 0.2))))
        record(ctx, "end")

    await ctx.step.run("work", work)


@scenario(
    "start-timeout",
    concurrency=[inngest.Concurrency(limit=1, key="event.data.k")],
    timeouts=inngest.Timeouts(start=seconds(1)),
)
async def start_timeout(ctx: inngest.Context) -> Any:
    record(ctx, "body")
    await asyncio.sleep(3)


@scenario(
    "priority",
    concurrency=[inngest.Concurrency(limit=1, key="event.data.k")],
    priority=inngest.Priority(run="event.data.priority"),
)
async def priority(ctx: inngest.Context) -> Any:
    record(ctx, "body", priority=ctx.event.data["priority"])
    await asyncio.sleep(float(str(ctx.event.data["hold"])))


@scenario("throttle", throttle=inngest.Throttle(limit=1, period=seconds(2), burst=0, key="event.data.k"))
async def throttle(ctx: inngest.Context) -> Any:
    return record(ctx, "body")


@scenario("rate-limit", rate_limit=inngest.RateLimit(limit=1, period=seconds(60), key="event.data.k"))
async def rate_limit(ctx: inngest.Context) -> Any:
    return record(ctx, "body")


@scenario("idempotent", idempotency="event.data.k")
async def idempotent(ctx: inngest.Context) -> Any:
    return record(ctx, "body")


@scenario("debounce", debounce=inngest.Debounce(period=seconds(1), key="event.data.k"))
async def debounce(ctx: inngest.Context) -> Any:
    record(ctx, "body")
    return {"n": ctx.event.data["n"]}


@scenario("batch", batch_events=inngest.Batch(max_size=3, timeout=seconds(60), key="event.data.k"))
async def batch(ctx: inngest.Context) -> Any:
    return [event.data["n"] for event in ctx.events]


@scenario("batch-timeout", batch_events=inngest.Batch(max_size=50, timeout=seconds(1), key="event.data.k"))
async def batch_timeout(ctx: inngest.Context) -> Any:
    return [event.data["n"] for event in ctx.events]


@scenario("singleton-skip", singleton=inngest.Singleton(mode="skip", key="event.data.k"))
async def singleton_skip(ctx: inngest.Context) -> Any:
    await do(ctx, "before")
    await ctx.step.sleep("hold", seconds(2))
    return "done"


@scenario("singleton-cancel", singleton=inngest.Singleton(mode="cancel", key="event.data.k"))
async def singleton_cancel(ctx: inngest.Context) -> Any:
    await do(ctx, "before")
    await ctx.step.sleep("hold", seconds(2))
    return "done"


@scenario("cron", trigger=inngest.TriggerCron(cron="* * * * *"))
async def cron(ctx: inngest.Context) -> Any:
    record(ctx, "cron", event=ctx.event.name, data=ctx.event.data)
    return "tick"


# Calls that the server makes for the application


@scenario("ai-infer")
async def ai_infer(ctx: inngest.Context) -> Any:
    adapter = openai.Adapter(auth_key="sk-test", base_url=f"{STUB_URL}/v1", model="stub")
    answer: Any = await ctx.step.ai.infer(
        "ask", adapter=adapter, body={"messages": [{"role": "user", "content": "ping"}]}
    )
    return {"content": answer["choices"][0]["message"]["content"], "authorization": answer["authorization"]}


@streaming_client.create_function(
    fn_id="streamed", trigger=inngest.TriggerEvent(event=f"{APP}-stream/streamed"), retries=1
)
async def streamed(ctx: inngest.Context) -> Any:
    first = await do(ctx, "first", 1)
    if record(ctx, "body") == 1:
        raise ValueError("once more")
    return {"first": first}


class RequestLog:
    """Records every call of the server, known by its X-Run-ID header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        run = dict(scope.get("headers", ())).get(b"x-run-id")
        if run:
            query = scope["query_string"].decode()
            log.append({"kind": "request", "run": run.decode(), "query": query, "at": time.time()})
        await self.app(scope, receive, send)


web = fastapi.FastAPI()


@web.get("/log")
async def read_log(run: str | None = None) -> list[dict[str, Any]]:
    return [entry for entry in log if run in (None, entry["run"])]


inngest.fast_api.serve(web, client, functions)
inngest.fast_api.serve(
    web, streaming_client, [streamed], serve_path="/api/stream", streaming=inngest.Streaming.FORCE
)
app = RequestLog(web)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), log_level="warning")
