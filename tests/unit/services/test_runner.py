"""What a runner does with events that one of its functions cannot judge (wire protocol section 2.7)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.services import runner
from inngest.services.registry import RegistryCache
from inngest.services.runtime import Runtime

FAILING = "event.data.n / 0 > 1"


def _function(slug: str, expression: str) -> Function:
    return Function(
        id=function_uuid("app", slug),
        slug=slug,
        name=slug,
        app="app",
        app_id=app_uuid("app"),
        url="http://127.0.0.1:3000/api/inngest",
        triggers=[Trigger(event="app/go", expression=expression)],
    )


class Warnings:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def warning(self, _: str, **fields: Any) -> None:
        self.told.append(fields)


async def test_a_failing_expression_is_logged_once_and_stops_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, log = MemoryEngineStore(), Warnings()
    monkeypatch.setattr(runner, "log", log)
    runtime = Runtime(
        engine=engine, stream=MemoryEventStream(), data=MemoryDataStore(), registry=RegistryCache(engine)
    )
    functions = [_function("app-bad", FAILING), _function("app-good", "event.data.n > 0")]
    await engine.put_app(App(id=app_uuid("app"), name="app", url=functions[0].url), functions)
    await runtime.registry.refresh()
    running = runner.Runner(runtime)
    for number in (1, 2):
        now = runtime.clock()
        event = Event(
            id=runtime.new_id(), name="app/go", ts=now, received=now, data=Raw(b'{"n":%d}' % number)
        )
        await running.process([event])
    counts = [len(await engine.runs(fn.id, 0, 1 << 60)) for fn in functions]
    assert counts == [0, 2]
    [warning] = log.told
    assert (warning["action"], warning["fn"], warning["expression"]) == ("runner.trigger", "app-bad", FAILING)
    assert "zero" in warning["error"]
