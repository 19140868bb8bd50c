"""Internal events that are larger than the stream takes: who waits for them hears of it, and soon."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders import function
from msgspec import Raw
from runner_world import World
from streams import take

from inngest.core.decisions.advance import advance
from inngest.core.decisions.draft import Call
from inngest.core.decisions.oversize import substitute
from inngest.core.model.events import CANCELLED, FAILED, FINISHED, INVOKED, Event, decode_event
from inngest.core.model.functions import Function, Trigger
from inngest.core.model.transition import Emit, Transition
from inngest.core.sdk.responses import Answer, Op, Reported, Returned, Step, failure
from inngest.ports.stream import Letter

LARGEST = 2000
CALLER = function("caller")
CHILD = function("child", triggers=[Trigger(event="app/child")])


class Bench(World):
    """Two functions, of which one invokes the other."""

    async def begin(self) -> Bench:
        self.runtime.stream.largest = LARGEST
        await self.register(CALLER, CHILD)
        await self.process(self.event())
        return self

    async def answer(self, fn: Function, answer: Answer) -> None:
        """To the call of ``fn`` that is due."""
        (leased,) = [each for each in await self.calls() if each.item.fn == fn.id]
        assert leased.run is not None
        at = self.runtime.moment()
        decided = advance(leased.run, fn, leased.item, answer, at, call=Call(self.now, self.now))
        await self.engine.commit([decided])

    async def invoke(self, data: Any) -> None:
        opts = {"function_id": CHILD.slug, "payload": {"data": data}}
        step = Step(id="i", op=Op.INVOKE, label="i", name="i", opts=opts, data=b"", error=b"")
        await self.answer(CALLER, Reported(steps=[step], request_version=2))

    async def relay(self) -> list[Event]:
        """What comes to the stream is processed, and returned."""
        while await self.runner._relay_some():
            pass
        events = [decode_event(body) for body in await take(self.runtime.stream, "runner")]
        await self.process(*events)
        return events

    async def result(self) -> Any:
        """Of the step that has invoked."""
        (run,) = await self.runs(CALLER.id)
        return msgspec.json.decode(run.steps["i"])

    async def letters(self) -> list[Letter]:
        return await self.runtime.stream.letters(limit=99)


async def test_an_invocation_fails_its_step() -> None:
    bench = await Bench().begin()
    await bench.invoke({"x": "x" * LARGEST})
    (told,) = await bench.relay()
    assert told.name == FINISHED
    error = (await bench.result())["error"]
    assert f"the event stream takes {LARGEST}" in error["message"]
    assert await bench.runs(CHILD.id) == []
    assert await bench.letters() == []
    assert (await bench.engine.events.take(9)).entries == []


async def test_the_end_of_a_run_goes_without_what_started_it() -> None:
    bench = await Bench().begin()
    await bench.invoke({"x": "x" * 1200})  # which the end of a run holds twice
    await bench.relay()
    await bench.answer(CHILD, Returned(output=b'{"n":1.0}'))
    (told,) = await bench.relay()
    assert await bench.result() == {"data": {"n": 1.0}}
    shown = told.value["data"]
    assert (shown["event"]["name"], shown["event"]["data"]) == (INVOKED, {})
    assert (shown["events"], shown["_inngest"]) == ([shown["event"]], {"status": "Completed"})
    assert shown["function_id"] == CHILD.slug


async def test_a_result_that_does_not_fit_fails_the_step() -> None:
    bench = await Bench().begin()
    await bench.invoke({})
    await bench.relay()
    await bench.answer(CHILD, Returned(output=b'"%b"' % (b"x" * LARGEST)))
    await bench.relay()
    error = (await bench.result())["error"]
    assert (error["name"], "The result does not fit" in error["message"]) == ("output_too_large", True)


async def test_an_error_that_does_not_fit_is_told_of() -> None:
    bench = await Bench().begin()
    await bench.invoke({})
    await bench.relay()
    await bench.answer(CHILD, failure("x" * LARGEST, no_retry=True))
    finished, failed = await bench.relay()
    assert (finished.name, failed.name) == (FINISHED, FAILED)
    assert failed.value["data"]["error"]["name"] == "output_too_large"
    assert "The error does not fit" in (await bench.result())["error"]["message"]
    assert await bench.letters() == []


def _internal(name: str, data: Any) -> Event:
    return Event(id=name, name=name, ts=1, received=1, data=Raw(msgspec.json.encode(data)))


async def test_what_cannot_be_shortened_keeps_no_other_waiting() -> None:
    bench = await Bench().begin()
    long = "x" * LARGEST
    odd = _internal(CANCELLED, {"event": 1, "x": long})
    none = _internal(INVOKED, {"x": long})
    names = _internal(FINISHED, {"function_id": long})
    good = bench.event("inngest/other")
    emits = [Emit(event=each.encode()) for each in (odd, none, names, good)]
    await bench.engine.commit([Transition(fn=CALLER.id, run="", effects=list(emits))])
    assert [each.id for each in await bench.relay()] == [good.id]
    assert [letter.body for letter in await bench.letters()] == [each.encode() for each in (odd, none, names)]


@pytest.mark.parametrize("size", [0, 500, 900, 1500, 5000])
def test_what_goes_in_its_place_fits_and_is_always_the_same(size: int) -> None:
    seen = {"name": "a", "id": "e", "ts": 5, "data": {"x": "x" * size}, "user": {}}
    fields = {"event": seen, "events": [seen] * 3, "result": "y" * size, "run_id": "r", "correlation_id": "c"}
    data = msgspec.json.encode(fields)
    told = Event(id="f", name=FINISHED, ts=1, received=1, data=Raw(data), sessions={"k": "v"})
    small = substitute(told.encode(), 1000)
    assert small is not None
    assert len(small) <= 1000
    assert small == substitute(told.encode(), 1000)
    event = decode_event(small)
    assert (event.id, event.sessions, event.value["data"]["correlation_id"]) == ("f", {"k": "v"}, "c")
    assert ("result" in event.value["data"]) == (size <= 500)
