"""Flow control: concurrency, throttle, rate limit, debounce, batches, priority, singletons."""

from __future__ import annotations

import itertools
import time

import pytest
from harness import Line, Run, eventually


def finished(line: Line, ids: list[str]) -> list[Run]:
    return [line.server.wait_run(event) for event in ids]


def test_concurrency_of_one_never_overlaps(line: Line) -> None:
    ids = line.server.send(*(line.event("concurrency") for _ in range(4)))
    runs = finished(line, ids)
    assert [run.status for run in runs] == ["Completed"] * 4
    spans = sorted((line.app.times(run.id, "begin")[0], line.app.times(run.id, "end")[0]) for run in runs)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    for run in runs:
        line.executed(run, "begin", "end")


@pytest.mark.slow
def test_throttled_runs_start_later_and_none_is_lost(line: Line) -> None:
    sent = time.time()
    ids = line.server.send(*(line.event("throttle") for _ in range(3)))
    runs = finished(line, ids)
    assert [run.status for run in runs] == ["Completed"] * 3
    starts = sorted(line.app.times(run.id, "body")[0] for run in runs)
    # A slow machine delays each call by itself, but none comes before its time.
    assert all(start >= sent + 2 * place for place, start in enumerate(starts))


def test_runs_over_the_rate_limit_are_dropped(line: Line) -> None:
    ids = line.server.send(*(line.event("rate-limit") for _ in range(3)))
    assert line.server.wait_run(ids[0]).status == "Completed"
    line.barrier()
    assert [line.server.runs(event) for event in ids[1:]] == [[], []]


def test_a_debounced_function_runs_once_with_the_last_event(line: Line) -> None:
    ids = [line.send("debounce", n=n) for n in (1, 2, 3)]
    run = line.server.wait_run(ids[-1])
    assert (run.status, run.output) == ("Completed", {"n": 3})
    line.executed(run, "body")
    assert [line.server.runs(event) for event in ids[:-1]] == [[], []]


def test_a_full_batch_runs_at_once(line: Line) -> None:
    ids = line.server.send(*(line.event("batch", n=n) for n in (1, 2, 3)))
    run = line.server.wait_run(ids[0])
    assert (run.status, run.output) == ("Completed", [1, 2, 3])
    assert {line.server.wait_run(event).id for event in ids} == {run.id}


def test_a_batch_runs_when_its_time_is_up(line: Line) -> None:
    ids = line.server.send(*(line.event("batch-timeout", n=n) for n in (1, 2)))
    run = line.server.wait_run(ids[0])
    assert (run.status, run.output) == ("Completed", [1, 2])


@pytest.mark.slow
@pytest.mark.sdk("py", "ts3", "ts4")
def test_priority_lets_runs_overtake(line: Line) -> None:
    """While the first run holds the only place, the later high-priority run overtakes the low one."""
    first = line.send("priority", priority=0, hold=2)
    line.wait_executed(line.server.wait_started(first).id, "body")
    low = line.send("priority", priority=0, hold=0)
    line.server.wait_started(low)
    high = line.send("priority", priority=600, hold=0)
    low_run, high_run = finished(line, [low, high])
    assert line.app.times(high_run.id, "body")[0] < line.app.times(low_run.id, "body")[0]


@pytest.mark.slow
def test_a_singleton_skips_while_one_runs(line: Line) -> None:
    first = line.server.wait_started(line.send("singleton-skip"))
    line.wait_executed(first.id, "before")
    second = line.run("singleton-skip")
    assert second.status == "Skipped"
    assert not line.app.executions(second.id)
    assert line.server.wait_ended(first.id).status == "Completed"
    assert line.completed("singleton-skip").output == "done"


@pytest.mark.slow
def test_a_singleton_cancels_its_predecessor(line: Line) -> None:
    first = line.server.wait_started(line.send("singleton-cancel"))
    line.wait_executed(first.id, "before")
    second = line.send("singleton-cancel")
    assert line.server.wait_ended(first.id).status == "Cancelled"
    assert line.server.wait_run(second).status == "Completed"


@pytest.mark.slow
@pytest.mark.sdk("py", "ts3", "ts4")
def test_a_run_that_starts_too_late_is_cancelled(line: Line) -> None:
    first = line.send("start-timeout")
    line.wait_executed(line.server.wait_started(first).id, "body")
    late = line.run("start-timeout")
    assert late.status == "Cancelled"
    assert not line.app.executions(late.id)
    assert line.server.wait_run(first).status == "Completed"


def test_different_keys_do_not_wait_for_each_other(line: Line) -> None:
    """Both hold their own place at the same time: each key has a limit of its own."""
    events = [
        {**line.event("concurrency", hold=1.5), "data": {"k": f"{line.key}-{n}", "hold": 1.5}} for n in (1, 2)
    ]
    first, second = (line.server.wait_started(event) for event in line.server.send(*events))

    def both_begun() -> bool:
        return all(line.app.times(run.id, "begin") for run in (first, second))

    eventually(both_begun, "both keys to begin")
    begins = [line.app.times(run.id, "begin")[0] for run in (first, second)]
    ends = [line.app.times(line.server.wait_ended(run.id).id, "end")[0] for run in (first, second)]
    assert max(begins) < min(ends)
