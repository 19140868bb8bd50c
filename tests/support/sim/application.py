"""An application: the functions behind one URL, what it answers, and what it knows to have happened.

It speaks the wire protocol in bytes, as an SDK does. What it was asked and what its steps gave is the truth
that the auditor compares with what the engine says.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from sim.process import EPOCH
from sim.programs import (
    FETCH,
    LATER,
    RUN,
    SIGNAL,
    SLEEP,
    WAIT,
    Fails,
    Leaf,
    Program,
    View,
    explore,
    leaves,
    op_of,
)

if TYPE_CHECKING:
    from sim.world import World

_encode = msgspec.json.encode
_decode = msgspec.json.decode

Answer = tuple[int, dict[str, str], bytes]

BAD_VALUES = (
    b"12345678901234567890123",
    b"-9223372036854775809",
    b"1e400",
    b"18446744073709551616",
    b'"\\ud800"',
    b'{"a":1,"a":2}',
    b'{"\\u0000":null}',
    b"[" * 60 + b"]" * 60,
    b'{"data":{"error":{}}}',
    b'"' + b"x" * 20_000 + b'"',
    b"0.1000000000000000055511151231257827",
)
"""JSON that is valid and that somebody may trip over."""


@dataclass
class Definition:
    """A function of an application: its code, and its configuration as it is registered."""

    slug: str
    program: Program
    config: dict[str, Any] = field(default_factory=dict)
    bad: float = 0.0
    """The chance of a step to give a value of `BAD_VALUES`."""


class Application:
    """See above.

    Args:
        world: where it lives.
        name: of the app.
        random: draws how long its code takes, and its bad values.

    """

    def __init__(self, world: World, name: str, random: Random) -> None:
        self.world = world
        self.name = name
        self.host = f"{name}.test"
        self.functions: dict[str, Definition] = {}
        self._random = random

    def registration(self) -> bytes:
        """The body of ``POST /fn/register`` for the present functions."""
        functions = []
        for fn in self.functions.values():
            url = f"http://{self.host}/api/inngest?fnId={fn.slug}&stepId=step"
            step = {
                "id": "step",
                "name": "step",
                "runtime": {"type": "http", "url": url},
                "retries": {"attempts": fn.program.retries},
            }
            functions.append({"id": fn.slug, "name": fn.slug, "steps": {"step": step}, **fn.config})
        return _encode(
            {
                "url": f"http://{self.host}/api/inngest",
                "deployType": "ping",
                "framework": "sim",
                "appName": self.name,
                "sdk": "py:v0.5.0",
                "v": "0.1",
                "functions": functions,
            }
        )

    async def answer(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """One call."""
        query = parse_qs(url.partition("?")[2])
        fn = self.functions.get(query["fnId"][0])
        if fn is None:
            return _reply(410, {"message": "function not found"}, 2)
        request = _read(body)
        call = _Call(self, fn, request, query["stepId"][0])
        self.world.truth.calls[fn.slug] += 1
        call.look()
        try:
            return await call.make()
        except Fails as fails:
            error = {"name": "Error", "message": "the function fails"}
            if fails.retryable and call.attempt + 1 < call.most:
                return _reply(500, error, fn.program.version)
            return _reply(500, error, fn.program.version, no_retry=not fails.retryable)

    async def work(self) -> None:
        """Time that code takes."""
        if self._random.random() < 0.3:
            await asyncio.sleep(self._random.random() * self._random.choice((0.01, 0.2, 2.0)))

    def spoil(self, fn: Definition, run: str, op: dict[str, Any]) -> None:
        """Let a step tell of itself what nobody needs and somebody may trip over."""
        if fn.bad and self._random.random() < fn.bad:
            raw = msgspec.Raw(self._random.choice(BAD_VALUES))
            self.world.truth.mistreated.add(run)  # what cannot be read fails, by right
            match self._random.randint(0, 2):
                case 0:
                    op["opts"]["input"] = [raw]
                case 1:
                    op["timing"] = {"a": raw, "b": raw}
                case _:
                    op["opts"]["type"] = raw
                    op["userland"] = raw

    def value(self, fn: Definition, run: str, step: str) -> bytes:
        """What a step gives: never the same twice, so that it can be told which call's result was kept."""
        made = self.world.truth.computed[run, step]
        if fn.bad and self._random.random() < fn.bad:
            raw = self._random.choice(BAD_VALUES)
            made.append("bad")
            self.world.truth.mistreated.add(run)  # what cannot be read fails, by right
            return raw
        text = f"{run}/{step}/{len(made)}"
        made.append(text)
        return _encode(text)


class _Call:
    """One call of a function, as an SDK carries it out."""

    def __init__(self, app: Application, fn: Definition, request: dict[str, Any], step: str) -> None:
        ctx = request["ctx"]
        self.app = app
        self.fn = fn
        self.program = fn.program
        self.run: str = ctx["run_id"]
        self.attempt: int = ctx["attempt"]
        self.most: int = ctx["max_attempts"]
        self.force: bool = ctx["disable_immediate_execution"]
        self.job: str = ctx["qi_id"]
        self.epoch: int = ctx["generation_id"]
        self.fn_id: str = ctx["fn_id"]
        self.stack: list[str] = ctx["stack"]["stack"]
        self.steps: dict[str, Any] = request["steps"]
        self.events: list[dict[str, Any]] = request["events"]
        self.target = step
        self.began = app.world.now()

    def look(self) -> None:
        """Compare what this call is told with what was told before, and with what is possible."""
        world, run = self.app.world, self.run
        truth = world.truth
        for step, value in self.steps.items():
            text = repr(value)
            before = truth.seen.setdefault((run, step), text)
            if before != text:
                world.violate(3, "step-changed", f"{run} {step}: {before[:80]} became {text[:80]}")
            asked = truth.reported.get((run, step))
            if asked is not None and asked[1] is not None:
                at, leaf = asked
                if leaf.op == SLEEP and self.began < at + leaf.seconds * 1000:
                    early = at + leaf.seconds * 1000 - self.began
                    world.violate(6, "sleep-early", f"{run} {step} is {early} ms early")
        if sorted(self.stack) != sorted(self.steps):
            world.violate(3, "stack-differs", f"{run}: stack {self.stack}, steps {sorted(self.steps)}")
        if self.target != "step" and self.target in self.steps:
            world.violate(3, "asked-again", f"{run} {self.target} is requested although it has a result")

    async def make(self) -> Answer:
        program, version = self.program, self.program.version
        view = View(dict(self.steps), self.attempt)
        if self.target != "step":
            leaf = next((leaf for leaf in leaves(program.body) if leaf.id == self.target), None)
            if leaf is None:
                return _reply(500, {"error": "Could not find step", "requestedStep": self.target}, version)
            return _report([await self._step(leaf)], version)
        await self.app.work()
        budget = 0 if self.force else program.checkpoint
        if self.attempt:
            budget = min(budget, 1)
        ran: list[dict[str, Any]] = []
        unsent: list[dict[str, Any]] = []
        while True:
            done, found = explore(program.body, view)
            if done:
                output = f"{self.run}/done/{len(self.app.world.truth.returned[self.run])}"
                self.app.world.truth.returned[self.run].append(output)
                if not ran:
                    return _reply(200, output, version)
                return _report([*unsent, {"id": "end", "op": "RunComplete", "data": output}], version)
            only = found[0][0] if len(found) == 1 else None
            if only is None or only.op != RUN or self.force:
                ops = [self._later(leaf, race=race) for leaf, race in found]
                return _report([*unsent, *ops], version)
            if ran and len(ran) >= budget:
                return _report([*unsent, {"id": "more", "op": "DiscoveryRequest"}], version)
            op = await self._step(only)
            if not budget or op["op"] != "StepRun":
                return _report([*unsent, op], version)
            ran.append(op)
            view.steps[only.id] = {"data": None}
            if program.buffer:
                unsent.append(op)
            elif not await self._checkpoint(op):
                return _report([op], version)

    async def _step(self, leaf: Leaf) -> dict[str, Any]:
        """Run a step's code."""
        await self.app.work()
        error = {"name": "Error", "message": f"{leaf.id} fails"}
        if self.attempt < leaf.errors:
            if self.attempt + 1 >= self.most:
                self.app.world.truth.computed[self.run, leaf.id].append("error")
                return op_of(leaf, "StepFailed", error=error)
            return op_of(leaf, "StepError", error=error)
        if not leaf.ok:
            self.app.world.truth.computed[self.run, leaf.id].append("error")
            return op_of(leaf, "StepFailed", error=error)
        op = op_of(leaf, "StepRun", data=msgspec.Raw(self.app.value(self.fn, self.run, leaf.id)))
        self.app.spoil(self.fn, self.run, op)
        return op

    def _later(self, leaf: Leaf, *, race: bool) -> dict[str, Any]:
        world = self.app.world
        if leaf.op != RUN and (self.run, leaf.id) not in world.truth.reported:
            world.truth.reported[self.run, leaf.id] = (world.now(), leaf)
            if leaf.op in {WAIT, SIGNAL}:
                world.people.waited(self.run, leaf)
        return op_of(leaf, LATER[leaf.op], race=race, key=self.run)

    async def _checkpoint(self, op: dict[str, Any]) -> bool:
        """Report a step while the call goes on; whether the call may go on."""
        body = {
            "run_id": self.run,
            "fn_id": self.fn_id,
            "qi_id": self.job,
            "generation_id": self.epoch,
            "request_started_at": EPOCH + self.began,
            "ts": EPOCH + self.app.world.now(),
            "steps": [op],
        }
        for number in range(3):
            status, _ = await self.app.world.people.ask(
                "core-api", "POST", f"/v1/checkpoint/{self.run}/async", _encode(body)
            )
            if status in {409, 410, 404}:
                raise Stale
            if 200 <= status < 300:
                return True
            await asyncio.sleep(0.1 * 2**number)
        return False


class Stale(Exception):
    """The call was given up by the server: the SDK ends it without an answer that counts."""


def _read(body: bytes) -> dict[str, Any]:
    """JSON as an application reads it: with numbers of any size."""
    try:
        value: dict[str, Any] = _decode(body)
    except msgspec.DecodeError:
        value = json.loads(body)
    return value


def _reply(status: int, value: Any, version: int, *, no_retry: bool = False) -> Answer:
    headers = {"x-inngest-sdk": "sim:v1", "x-inngest-req-version": str(version)}
    if no_retry:
        headers["x-inngest-no-retry"] = "true"
    return status, headers, _encode(value)


def _report(ops: list[dict[str, Any]], version: int) -> Answer:
    return _reply(206, ops, version)


__all__ = ["BAD_VALUES", "FETCH", "Application", "Definition", "Stale"]
