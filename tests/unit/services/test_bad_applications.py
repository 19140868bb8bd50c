"""Applications that answer garbage, or nothing: a clear error each, and nothing lost.

The real services run over stores in memory; the application is a raw socket that says what a test says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from streams import publish

from inngest.api.context import Limits
from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.history import Outcome, What
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.model.records import RunRecord
from inngest.core.model.runs import RunStatus
from inngest.core.policy import MAX_DEPTH, Policy
from inngest.drivers.application import HttpDriver
from inngest.drivers.gateway import HttpGateway
from inngest.drivers.http import HttpClient
from inngest.services.executor import Executor
from inngest.services.indexer import Indexer
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime

PATIENCE = 60.0
FN = function_uuid("shop", "shop-order")


def http(status: int, body: bytes, *headers: bytes, sdk: bool = True) -> bytes:
    lines = [b"HTTP/1.1 %d Whatever" % status, b"Content-Length: %d" % len(body), *headers]
    if sdk:
        lines += [b"X-Inngest-SDK: test:v1", b"x-inngest-req-version: 2"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


DONE = http(200, b'"done"')
CLOSED = b""
"""The connection ends without an answer."""


class World:
    """All services but the APIs, and an application that gives its answers in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.requests: list[Any] = []
        self.data = MemoryDataStore()
        engine = MemoryEngineStore()
        self.runtime = Runtime(
            engine=engine,
            stream=MemoryEventStream(),
            data=self.data,
            registry=RegistryCache(engine),
            limits=Limits(Policy(retry_interval=1)),
        )
        self.driver = HttpDriver(
            HttpClient(max_body=100_000),
            clock=self.runtime.clock,
            new_id=self.runtime.new_id,
            timeout=1.0,
        )

    async def open(self, tasks: contextlib.AsyncExitStack) -> None:
        server = await tasks.enter_async_context(await asyncio.start_server(self._answer, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/api/inngest"
        app = App(id=app_uuid("shop"), name="shop", url=url)
        fn = Function(
            id=FN,
            slug="shop-order",
            name="Order",
            app="shop",
            app_id=app.id,
            url=f"{url}?fnId=shop-order",
            triggers=[Trigger(event="order")],
            retries=2,
        )
        await self.runtime.engine.put_app(app, [fn])
        await self.runtime.registry.refresh()
        executor = Executor(self.runtime, self.driver, HttpGateway(HttpClient()))
        for service in (Runner(self.runtime), executor, Indexer(self.runtime)):
            running = asyncio.create_task(service.run())
            tasks.push_async_callback(_cancel, running)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(msgspec.json.decode(await reader.readexactly(int(length))))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)
                await writer.drain()
                if not answer.endswith(DONE) or b"Content-Length" not in answer:
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def run(self, *answers: bytes, data: bytes = b"{}") -> RunRecord:
        """The run of one event, when it has ended."""
        self.answers = list(answers)
        now = self.runtime.clock()
        event = Event(id=self.runtime.new_id(), name="order", ts=now, received=now, data=Raw(data))
        await publish(self.runtime.stream, event)
        async with asyncio.timeout(PATIENCE):
            while True:
                for record in (await self.data.runs_of([event.id]))[event.id]:
                    run = await self.data.run(record.id)
                    if run is not None and run.ended:
                        return run
                await asyncio.sleep(0.01)

    async def attempts(self, run: RunRecord) -> list[tuple[str, dict[str, Any]]]:
        history = await self.data.history([run.id])
        return [
            (entry.outcome, msgspec.json.decode(entry.value or b"null"))
            for entry in history[run.id]
            if entry.what is What.ATTEMPT
        ]


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as tasks:
        made = World()
        await made.open(tasks)
        yield made
        await made.driver.close()


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (CLOSED, "closed"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "closed"),
    "half a body": (http(200, b"[1,2,3]")[:-3], "closed"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP"),
    "a page": (http(200, b"<html>hello</html>", sdk=False), "did not come from an Inngest SDK"),
    "a proxy's error": (http(502, b"Bad Gateway", sdk=False), "returned HTTP 502 before the SDK responded"),
    "an error without a body": (http(500, b""), "Function execution error"),
    "an error of another shape": (http(500, b"[1]"), "[1]"),
    "steps that are no JSON": (http(206, b"<html>"), "not a list of steps"),
    "steps that are no list": (http(206, b"7"), "not a list of steps"),
    "no steps": (http(206, b""), "206 without a body"),
    "an unknown op": (http(206, b'[{"id":"a","op":"Teleport"}]'), "unknown op 'Teleport' at index 0"),
    "a step without an id": (http(206, b'[{"op":"StepRun"}]'), "op StepRun at index 0 has no id"),
    "a number that is none": (
        http(206, b'[{"id":"a","op":"StepRun","data":{"v":1e400}}]'),
        "steps[0].data.v: the number 1e400 is beyond the range of doubles",
    ),
    "an error with an endless number": (
        http(206, b'[{"id":"a","op":"StepFailed","error":{"data":%b}}]' % (b"9" * 400)),
        "steps[0].error.data: the number 999",
    ),
    "a result that is not UTF-8": (http(200, b'{"v":"\xff"}'), "output.v: text that is not UTF-8"),
    "a result that is too deep": (http(200, b"[" * 129 + b"]" * 129), "nested deeper than 128 levels"),
    "an end that is too deep": (
        http(206, b'[{"id":"a","op":"RunComplete","data":%b}]' % (b"[" * 129 + b"]" * 129)),
        "nested deeper than 128 levels",
    ),
    "an error that cannot be shown": (http(500, b'{"cause":1e400}'), "cause: the number 1e400 is beyond"),
    "a target that is no text": (
        http(206, b'[{"id":"a","op":"InvokeFunction","opts":{"function_id":{}}}]'),
        "steps[0].opts.function_id: must be a string, not an object",
    ),
    "an id with a line end": (
        http(206, b'[{"id":"a\\nb","op":"StepPlanned"}]'),
        "steps[0].id: must be at most",
    ),
    "a stream that is not UTF-8": (http(201, b' {"status":200,"body":"\xff"}'), "stream"),
    "a stream's status that is none": (http(201, b' {"status":%b,"body":""}' % (b"9" * 30)), "stream"),
    "a stream that is cut": (http(201, b"      "), "stream"),
    "a stream of garbage": (http(201, b"   [1]"), "stream"),
    "a stream's own error": (http(201, b' {"error":"worker died"}'), "worker died"),
    "a signature refused": (http(401, b'{"message":"Unauthorized"}'), "Unauthorized"),
}


@pytest.mark.parametrize(("answer", "says"), BAD.values(), ids=list(BAD))
async def test_every_bad_answer_is_tried_again_and_then_ends_the_run(
    world: World, answer: bytes, says: str
) -> None:
    run = await world.run(answer)
    assert run.status is RunStatus.FAILED
    assert says in (run.output or b"").decode()
    attempts = await world.attempts(run)
    assert [outcome for outcome, _ in attempts] == [Outcome.RETRY, Outcome.RETRY, Outcome.FAILED]
    assert all(says in attempt["message"] for _, attempt in attempts)
    assert all({"error", "name", "message"} <= attempt.keys() for _, attempt in attempts)


@pytest.mark.parametrize("answer", [answer for answer, _ in BAD.values()], ids=list(BAD))
async def test_nothing_is_lost_when_the_application_comes_to_its_senses(world: World, answer: bytes) -> None:
    run = await world.run(answer, answer, DONE)
    assert (run.status, run.output) == (RunStatus.COMPLETED, b'"done"')


async def test_an_answer_that_is_too_large_ends_the_run_at_once(world: World) -> None:
    run = await world.run(http(200, b'"' + b"x" * 200_000 + b'"'))
    assert run.status is RunStatus.FAILED
    assert b"100000" in (run.output or b"").replace(b",", b"").replace(b" ", b"")
    assert len(await world.attempts(run)) == 1


async def test_too_many_steps_at_once_end_the_run_at_once(world: World) -> None:
    ops = [{"id": f"s{n}", "op": "StepPlanned"} for n in range(1001)]
    run = await world.run(http(206, msgspec.json.encode(ops)))
    assert run.status is RunStatus.FAILED
    assert b"1001 steps at once; 1000 are allowed" in (run.output or b"")
    assert len(await world.attempts(run)) == 1


async def test_an_application_that_is_not_there_fails_its_run(world: World) -> None:
    (fn,) = world.runtime.registry.functions.values()
    fn.url = "http://127.0.0.1:1/api/inngest"
    run = await world.run(DONE)
    assert run.status is RunStatus.FAILED
    assert b"127.0.0.1:1" in (run.output or b"")
    assert len(await world.attempts(run)) == 3


@pytest.mark.parametrize(
    ("op", "says"),
    [
        ({"id": "s", "op": "Sleep", "name": "soon"}, b"soon"),
        ({"id": "s", "op": "Sleep", "opts": {"duration": "400d"}}, b"366"),
        (
            {"id": "w", "op": "WaitForEvent", "opts": {"event": "e", "timeout": "1h", "if": "event.data.("}},
            b"event.data.(",
        ),
        ({"id": "w", "op": "WaitForEvent", "opts": {"event": "e", "timeout": "later"}}, b"later"),
    ],
    ids=["sleep", "sleep too long", "condition", "timeout"],
)
async def test_a_step_that_cannot_be_done_is_named(world: World, op: dict[str, Any], says: bytes) -> None:
    run = await world.run(http(206, msgspec.json.encode([op])))
    assert run.status is RunStatus.FAILED
    assert says in (run.output or b""), run.output
    assert len(world.requests) == 1


async def test_an_invocation_of_nobody_fails_its_step(world: World) -> None:
    op = {"id": "i", "op": "InvokeFunction", "opts": {"function_id": "no-such", "payload": {}}}
    run = await world.run(http(206, msgspec.json.encode([op])), DONE)
    assert run.status is RunStatus.COMPLETED
    (error,) = world.requests[1]["steps"]["i"].values()
    assert error["message"] == "could not find function with ID: no-such"


async def test_a_run_of_too_many_steps_is_ended(world: World) -> None:
    world.runtime.limits.set_max_steps(FN, 2)
    steps = [http(206, msgspec.json.encode([{"id": f"s{n}", "op": "StepRun", "data": n}])) for n in range(3)]
    run = await world.run(*steps)
    assert run.status is RunStatus.FAILED
    error = msgspec.json.decode(run.output or b"null")
    assert (error["name"], len(world.requests)) == ("InngestErrFunctionOverflowed", 2)


async def test_a_run_of_too_much_state_is_ended(world: World) -> None:
    world.runtime.limits.set_max_state(FN, 1000)
    step = {"id": "s", "op": "StepRun", "data": "x" * 2000}
    run = await world.run(http(206, msgspec.json.encode([step])))
    assert run.status is RunStatus.FAILED
    error = msgspec.json.decode(run.output or b"null")
    assert (error["name"], len(world.requests)) == ("InngestErrStateOverflowed", 1)


async def test_what_nests_as_deep_as_may_be_comes_all_the_way(world: World) -> None:
    """There and back: an event, its trigger's expression, a step, an error, and the events that tell of the
    end.
    """
    deep = b'{"k":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    fn = world.runtime.registry.functions[FN]
    fn.triggers[0].expression = "event.data == event.data && event.data.k != 1"
    op = b'[{"id":"s","op":"StepRun","data":%b,"opts":{"input":[%b]}}]' % (deep, deep)
    run = await world.run(http(206, op), http(200, deep), data=deep)
    assert (run.status, run.output) == (RunStatus.COMPLETED, deep)
    assert msgspec.json.encode(world.requests[1]["event"]["data"]) == deep
    assert msgspec.json.encode(world.requests[1]["steps"]["s"]["data"]) == deep


async def test_odd_numbers_come_all_the_way(world: World) -> None:
    numbers = b"[20000000000000000000,1e308,-0.0,%b]" % (b"9" * 300)
    op = b'[{"id":"s","op":"StepRun","data":%b,"opts":{"input":%b},"timing":{"a":%b,"b":1}}]'
    run = await world.run(
        http(206, op % (numbers, numbers, b"9" * 32)), http(200, numbers), data=b'{"n":%b}' % numbers
    )
    assert (run.status, run.output) == (RunStatus.COMPLETED, numbers)
    (entry,) = [each for each in (await world.data.history([run.id]))[run.id] if each.step == "s"]
    assert (entry.value, (entry.info or {})["input"]) == (numbers, numbers.decode())
    sent = world.requests[1]
    assert sent["event"]["data"]["n"] == sent["steps"]["s"]["data"] == msgspec.json.decode(numbers)
