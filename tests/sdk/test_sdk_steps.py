"""Steps: order, ids, values, parallel branches, sleeps; each executed exactly once."""

from __future__ import annotations

import datetime
import time

import pytest
from harness import Line, eventually


def test_sequential_steps_run_once_each(line: Line) -> None:
    run = line.completed("sequential", n=4)
    assert run.output == {"total": 9}
    line.executed(run, "one", "two", "three")


@pytest.mark.sdk("ts4", "go", "ts3")
def test_a_checkpointing_function_takes_one_request(line: Line) -> None:
    run = line.completed("sequential" if line.name == "ts4" else "sequential-checkpointed")
    assert run.output == {"total": 5}
    line.executed(run, "one", "two", "three")
    assert line.app.requests(run.id) == 1


@pytest.mark.sdk("ts4")
def test_buffered_checkpoints_arrive_with_the_end_of_the_run(line: Line) -> None:
    run = line.completed("sequential-buffered")
    assert run.output == {"total": 5}
    line.executed(run, "one", "two", "three")
    steps = {span["name"] for span in line.server.trace(run.id)["trace"]["childrenSpans"]}
    assert {"one", "two", "three"} <= steps


@pytest.mark.sdk("ts4")
def test_without_checkpointing_each_step_takes_a_request(line: Line) -> None:
    run = line.completed("sequential-uncheckpointed")
    assert run.output == {"total": 5}
    line.executed(run, "one", "two", "three")
    assert line.app.requests(run.id) == 4


def test_repeated_step_ids_are_different_steps(line: Line) -> None:
    run = line.completed("repeated-ids")
    assert run.output == [0, 1, 2]
    assert line.app.executions(run.id) == {"same": 3}


def test_a_step_may_return_nothing(line: Line) -> None:
    run = line.completed("nulls")
    assert run.output == {"value": None, "after": "done"}
    line.executed(run, "nothing", "after")


def test_a_function_may_return_nothing(line: Line) -> None:
    run = line.completed("null-output")
    assert run.output is None
    line.executed(run, "only")


def test_data_passes_through_unchanged(line: Line) -> None:
    data = {
        "text": 'Grüße, 世界 🌍 \u2028 \\ " \u0007',
        "float": 0.1,
        "whole": 1e3,
        "tiny": 5e-324,
        "negative": -0.25,
        "safe": 2**53 - 1,
        "big": str(2**70),
        "nested": [[], {}, None, True, {"a.b": {"c d": ["é"]}}],
    }
    run = line.completed("echo", **data)
    expected = {"k": line.key, **data}
    assert run.output == {"step": expected, "event": expected}


def test_many_steps(line: Line) -> None:
    run = line.completed("many", n=40)
    assert run.output == 40
    line.executed(run, *(f"step {index}" for index in range(40)))


@pytest.mark.sdk("py", "ts4", "ts3")
def test_large_state_is_fetched_by_the_application(line: Line) -> None:
    run = line.completed("large-state")
    assert run.output == {"length": 3 * 2**21, "ends": ["0", "1", "2"]}
    line.executed(run, "part 0", "part 1", "part 2")


def test_parallel_steps_run_once_each(line: Line) -> None:
    run = line.completed("parallel")
    assert run.output == {"results": ["a", "b", "c"], "after": "done"}
    line.executed(run, "a", "b", "c", "after")


@pytest.mark.sdk("ts3", "ts4")
def test_parallel_steps_in_the_other_request_version(line: Line) -> None:
    run = line.completed("parallel-optimised" if line.name == "ts3" else "parallel-unoptimised")
    assert run.output == {"results": ["a", "b", "c"], "after": "done"}
    line.executed(run, "a", "b", "c", "after")


def test_a_sleep_among_parallel_steps(line: Line) -> None:
    run = line.completed("parallel-sleep")
    assert run.output == {"after": "done"}
    line.executed(run, "a", "b", "after")
    assert line.app.times(run.id, "after")[0] - line.app.times(run.id, "a")[0] >= 0.9


@pytest.mark.sdk("py", "ts3", "ts4")
def test_parallel_chains_advance_independently(line: Line) -> None:
    run = line.completed("parallel-chains")
    assert run.output == ["a2", "b2"]
    line.executed(run, "a1", "a2", "b1", "b2")


def test_a_parallel_step_that_fails_is_caught(line: Line) -> None:
    run = line.completed("parallel-failure")
    assert run.output == {"ok": "ok", "caught": "boom", "after": "done"}
    line.executed(run, "ok", "fails", "after")


@pytest.mark.sdk("ts3", "ts4")
def test_a_race_does_not_wait_for_the_loser(line: Line) -> None:
    """The steps after the race go on while the loser still waits; version 4 of the SDK ends only with it."""
    run = line.server.wait_started(line.send("race"))
    line.wait_executed(run.id, "end")
    line.send("race-over")
    run = line.server.wait_ended(run.id)
    assert (run.status, run.output) == ("Completed", {"winner": "fast", "end": "done"})
    line.executed(run, "fast", "after", "end")


def test_sleep(line: Line) -> None:
    run = line.completed("sleep")
    assert run.output == "woke"
    line.executed(run, "before", "after")
    (before,), (after,) = line.app.times(run.id, "before"), line.app.times(run.id, "after")
    assert after - before >= 0.9


@pytest.mark.slow
def test_sleep_until_past_and_future(line: Line) -> None:
    run = line.completed("sleep-until")
    assert run.output == "woke"
    line.executed(run, "before", "after")
    (before,), (after,) = line.app.times(run.id, "before"), line.app.times(run.id, "after")
    assert after - before >= 0.9


def test_streamed_answers(line: Line) -> None:
    """Streaming wraps results and errors alike: the first attempt fails, the second completes."""
    event = {"name": f"{line.name}-stream/streamed", "data": {"k": line.key}}
    run = line.server.wait_run(line.server.send(event)[0])
    assert (run.status, run.output) == ("Completed", {"first": 1})
    assert line.app.executions(run.id) == {"first": 1, "body": 2}


def test_an_event_of_the_future_starts_its_run_then(line: Line) -> None:
    due = time.time() + 2
    event = {**line.event("sequential"), "ts": int(due * 1000)}
    run = line.server.wait_run(line.server.send(event)[0])
    assert run.status == "Completed"
    assert line.app.times(run.id, "one")[0] >= due - 0.1


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_cron_fires_every_minute_once(line: Line) -> None:
    def ticks() -> list[dict[str, object]]:
        return [entry for entry in line.app.entries() if entry.get("step") == "cron"]

    tick = eventually(lambda: ticks()[-1:], "a cron tick", patience=90)[0]
    run = line.server.wait_ended(str(tick["run"]))
    assert (run.status, run.output, run.raw["cron"]) == ("Completed", "tick", "* * * * *")
    details = tick.get("extra", tick)
    assert isinstance(details, dict)
    assert details["event"] == "inngest/scheduled.timer"
    scheduled = datetime.datetime.fromisoformat(details["data"]["scheduledAt"])
    assert (scheduled.second, scheduled.microsecond) == (0, 0)
    assert len({entry["run"] for entry in ticks()}) == len(ticks())
