"""What a runner does with events that one of its functions cannot judge (wire protocol section 2.7)."""

from __future__ import annotations

from typing import Any

import pytest
from builders import function
from runner_world import World

from inngest.core.model.functions import Trigger
from inngest.services import runner

FAILING = "event.data.n / 0 > 1"


class Warnings:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def warning(self, _: str, **fields: Any) -> None:
        self.told.append(fields)


async def test_a_failing_expression_is_logged_once_and_stops_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, log = World(), Warnings()
    monkeypatch.setattr(runner, "log", log)
    await world.register(
        function("bad", triggers=[Trigger(event="app/go", expression=FAILING)]),
        function("good", triggers=[Trigger(event="app/go", expression="event.data.n > 0")]),
    )
    for number in (1, 2):
        await world.process(world.event(data={"n": number}))
    assert [len(await world.runs(fn)) for fn in ("bad", "good")] == [0, 2]
    [warning] = log.told
    assert (warning["action"], warning["fn"], warning["expression"]) == ("runner.trigger", "app-bad", FAILING)
    assert "zero" in warning["error"]
