"""What a runner does with events that one of its functions cannot judge (wire protocol section 2.7)."""

from __future__ import annotations

from builders import function
from runner_world import World
from structlog.testing import capture_logs

from inngest.core.model.functions import Trigger

FAILING = "event.data.n / 0 > 1"


async def test_a_failing_expression_is_logged_once_and_stops_nobody_else() -> None:
    world = World()
    await world.register(
        function("bad", triggers=[Trigger(event="app/go", expression=FAILING)]),
        function("good", triggers=[Trigger(event="app/go", expression="event.data.n > 0")]),
    )
    with capture_logs() as lines:
        for number in (1, 2):
            await world.process(world.event(data={"n": number}))
    assert [len(await world.runs(fn)) for fn in ("bad", "good")] == [0, 2]
    [warning] = [line for line in lines if line["log_level"] == "warning"]
    assert (warning["action"], warning["fn"], warning["expression"]) == ("runner.trigger", "app-bad", FAILING)
    assert "zero" in warning["error"]
