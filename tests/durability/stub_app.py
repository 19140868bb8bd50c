"""An application that speaks the wire protocol, and watches what the server does to it.

Each execution of a step returns a value that never was before. So a memoised value tells which execution it
comes from, and a step that changes its value, or is called once more than it should be, shows.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from aiohttp import ClientSession, web

APP = "stub"
Json = dict[str, Any]


class Report(Exception):
    """The call ends here, with these operations."""

    def __init__(self, ops: list[Json]) -> None:
        super().__init__()
        self.ops = ops


def step_id(name: str) -> str:
    return sha1(name.encode()).hexdigest()


class Steps:
    """What a function does its steps with, during one call."""

    def __init__(self, app: StubApp, target: str, body: Json) -> None:
        self._app = app
        self._memo: Json = body["steps"]
        self._target = target
        self._plan = bool(body["ctx"]["disable_immediate_execution"])
        self.attempt = int(body["ctx"]["attempt"])
        self.run_id = str(body["ctx"]["run_id"])

    def run(self, name: str, *, flaky: bool = False) -> Any:
        return self.all(name, flaky=flaky)[0]

    def all(self, *names: str, flaky: bool = False) -> list[Any]:
        """Steps side by side."""
        missing = [name for name in names if step_id(name) not in self._memo]
        if not missing:
            return [self._memo[step_id(name)]["data"] for name in names]
        if self._target != "step":
            named = [name for name in missing if step_id(name) == self._target]
            raise Report([self._execute(name, flaky=flaky) for name in named])
        if len(names) == 1 and not self._plan:
            raise Report([self._execute(names[0], flaky=flaky)])
        raise Report([_op(name, "StepPlanned") for name in missing])

    def _execute(self, name: str, *, flaky: bool) -> Json:
        if flaky and self.attempt == 0:
            return _op(name, "StepError", error={"name": "Error", "message": "not at the first try"})
        return _op(name, "StepRun", data=self._app.executed(self.run_id, name))

    def sleep(self, name: str, duration: str) -> None:
        self._later(name, "Sleep", duration=duration)

    def wait(self, name: str, event: str, condition: str, timeout: str) -> Any:
        if step_id(name) not in self._memo:
            self._app.waiting.add(self.run_id)
        return self._later(name, "WaitForEvent", event=event, timeout=timeout, **{"if": condition})

    def invoke(self, name: str, function: str, data: Json) -> Any:
        value = self._later(name, "InvokeFunction", function_id=f"{APP}-{function}", payload={"data": data})
        return value["data"]

    def _later(self, name: str, op: str, **opts: Any) -> Any:
        if step_id(name) in self._memo:
            return self._memo[step_id(name)]
        raise Report([_op(name, op, opts=opts)] if self._target == "step" else [])


def _op(name: str, op: str, **fields: Any) -> Json:
    return {"id": step_id(name), "op": op, "name": name, "displayName": name, **fields}


# -- functions


def sequential(steps: Steps, event: Json) -> Any:
    return [steps.run("a"), steps.run("b"), steps.run("c")]


def parallel(steps: Steps, event: Json) -> Any:
    return [steps.run("before"), *steps.all("p1", "p2", "p3", "p4"), steps.run("after")]


def sleeping(steps: Steps, event: Json) -> Any:
    before = steps.run("before")
    steps.sleep("nap", "300ms")
    return [before, steps.run("after")]


def waiting(steps: Steps, event: Json) -> Any:
    before = steps.run("before")
    found = steps.wait("go", "test/go", f"async.data.run == '{steps.run_id}'", "5m")
    return [before, found["data"]["serial"], steps.run("after")]


def invoking(steps: Steps, event: Json) -> Any:
    before = steps.run("before")
    return [before, steps.invoke("call", "child", {"n": event["data"]["n"]}), steps.run("after")]


def child(steps: Steps, event: Json) -> Any:
    return steps.run("only")


def flaky(steps: Steps, event: Json) -> Any:
    return steps.run("stumble", flaky=True)


FUNCTIONS: dict[str, Callable[[Steps, Json], Any]] = {
    "sequential": sequential,
    "parallel": parallel,
    "parallel-1": parallel,
    "sleeping": sleeping,
    "waiting": waiting,
    "invoking": invoking,
    "flaky": flaky,
    "child": child,
}
VERSIONS = {"parallel-1": "1"}
"""Functions whose SDK has another request version than 2."""


class StubApp:
    """The application, its HTTP server, and the record of all that happened."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._serial = 0
        self._runner: web.AppRunner | None = None
        self.url = ""
        self.waiting: set[str] = set()
        self.executions: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self.memoised: dict[tuple[str, str], str] = {}
        self.outputs: dict[str, str] = {}
        """By run: the output with which it ended, as JSON."""
        self.runs: dict[str, str] = {}
        """Function of each run that was called."""
        self.runs_of: dict[int, set[str]] = defaultdict(set)
        """Runs that were called for an event, by the event's number; an invoked child has its parent's."""
        self.told: dict[str, set[str]] = defaultdict(set)
        """By run: the runs of the function that is told of ends."""
        self.violations: list[str] = []
        self.calls = 0

    def executed(self, run: str, name: str) -> Json:
        """The result of an execution, which must not happen once the server knows a result of the step."""
        if (run, step_id(name)) in self.memoised:
            self.violations.append(f"run {run}: step {name} is executed, though its result was known")
        self._serial += 1
        value = {"run": run, "step": name, "serial": self._serial}
        self.executions[run, step_id(name)].append(value)
        return value

    # -- the protocol

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 24)
        app.add_routes([web.post("/api/inngest", self._handle)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api/inngest"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def register(self, session: ClientSession, server: str, bearer: str) -> None:
        functions = [self._config(name, f"test/{name}") for name in FUNCTIONS]
        functions.append(self._config("told", "inngest/function.finished"))
        body = {"url": self.url, "deployType": "ping", "appName": APP, "functions": functions, "v": "0.1"}
        headers = {"Authorization": f"Bearer {bearer}", "X-Inngest-SDK": "stub:v1"}
        async with session.post(f"{server}/fn/register", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()

    def _config(self, name: str, event: str) -> Json:
        runtime = {"type": "http", "url": f"{self.url}?fnId={APP}-{name}&stepId=step"}
        step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": 3}}
        return {
            "id": f"{APP}-{name}",
            "name": name,
            "triggers": [{"event": event}],
            "steps": {"step": step},
        }

    async def _handle(self, request: web.Request) -> web.Response:
        self.calls += 1
        name = request.query["fnId"].removeprefix(f"{APP}-")
        body = json.loads(await request.read())
        # Long enough for a kill to come between a call and its answer.
        await asyncio.sleep(self._rng.random() * 0.02)
        headers = {"X-Inngest-SDK": "stub:v1", "x-inngest-req-version": VERSIONS.get(name, "2")}
        try:
            output = self._call(name, request.query["stepId"], body)
        except Report as report:
            if not report.ops:
                self.violations.append(
                    f"{name}: call for a step that is not to be found: {request.query_string}"
                )
                return web.json_response({"message": "step not found"}, status=500, headers=headers)
            return web.json_response(report.ops, status=206, headers=headers)
        return web.json_response(output, headers=headers)

    def _call(self, name: str, target: str, body: Json) -> Any:
        run, event = body["ctx"]["run_id"], body["event"]
        if name == "told":
            self.told[event["data"]["run_id"]].add(run)
            return None
        self.runs[run] = name
        self.runs_of[event["data"]["n"]].add(run)
        self._check_memory(run, body["steps"])
        output = FUNCTIONS[name](Steps(self, target, body), event)
        text = json.dumps(output)
        if self.outputs.setdefault(run, text) != text:
            self.violations.append(f"{name}: run {run} ended with {self.outputs[run]}, then with {text}")
        return output

    def _check_memory(self, run: str, steps: Json) -> None:
        for step, value in steps.items():
            text = json.dumps(value, sort_keys=True)
            if self.memoised.setdefault((run, step), text) != text:
                self.violations.append(f"run {run}: step {step} was {self.memoised[run, step]}, then {text}")
            executed = self.executions.get((run, step))
            if executed is not None and value not in [{"data": each} for each in executed]:
                self.violations.append(f"run {run}: step {step} never returned {text}")
