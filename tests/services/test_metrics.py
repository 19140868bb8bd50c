"""What is counted, under which names, and that the page about it says the same."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families
from service_rig import until
from slow_app import EVENT, SlowApp

from inngest.api.intake import Intake
from inngest.core.errors import StoreUnavailable
from inngest.core.model.functions import Function
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Committed, EndRun, Record, Transition
from inngest.ports.engine import Stats
from inngest.ports.stream import Dead
from inngest.services.admission import Admission, bounds_for
from inngest.services.assembly import build
from inngest.services.counts import (
    MAX_FUNCTIONS,
    CommitCounts,
    Distribution,
    ExecutorCounts,
    IndexerCounts,
    RunnerCounts,
)
from inngest.services.metrics import Metrics
from inngest.services.settings import SERVICES, InMemory, Listen, Settings
from inngest.services.web import WebServer

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def _full() -> Metrics:
    """As of a process with all services."""
    metrics = Metrics()
    metrics.intake = Intake()
    metrics.executor, metrics.working = ExecutorCounts(), lambda: 0
    metrics.runner, metrics.indexer = RunnerCounts(), IndexerCounts()
    metrics.damaged = lambda: 0
    metrics.admission = Admission(bounds_for(1000))

    async def stats() -> Stats:
        return Stats(runs=1, queued=2, leased=3, pauses=4, outbox=5)

    async def backlog() -> int:
        return 7

    async def dead() -> Dead:
        return Dead(letters=8, bytes=9, dropped=10)

    metrics.stats, metrics.backlogs, metrics.dropped = stats, {"runner": backlog}, {"indexer": backlog}
    metrics.dead = dead
    return metrics


async def _values(metrics: Metrics) -> dict[str, float]:
    return _parsed((await metrics.render()).decode())


def _parsed(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


LABELS = "{slow}{slow-long}"


async def test_every_metric_is_documented_and_nothing_else_is() -> None:
    rows = re.findall(r"^\| `(inngest_\w+)` \| (\w+) \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    documented = {name: (kind, text.strip()) for name, kind, text in rows}
    metrics = _full()
    await metrics.render()
    exported = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in metrics.families()
    }
    assert documented == exported


async def test_names_have_units_and_help() -> None:
    text = (await _full().render()).decode()
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name
    assert "process_resident_memory_bytes" in text
    assert "process_cpu_seconds_total" in text


def test_a_value_is_counted_below_its_bound() -> None:
    counts = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.5, -3.0):
        counts.add(value)
    assert counts.counts == [3, 1, 1]
    assert counts.total == 5.5


def test_only_what_has_won_is_counted() -> None:
    counts = CommitCounts()
    entry = History(id="1", what=What.ATTEMPT, run="r", fn="f", at=1, outcome=Outcome.FAILED)
    started = History(id="2", what=What.STARTED, run="r", fn="f", at=1)
    transition = Transition(
        fn="f",
        run="r",
        effects=[EndRun(status=RunStatus.FAILED), Record(entry=entry), Record(entry=started)],
    )
    counts.observe(transition, Committed(won=[True, True, True]))
    counts.observe(transition, Committed(won=[False, False, False], stale=True))
    assert counts.ended == {"Completed": {}, "Failed": {"f": 1}, "Cancelled": {}}
    assert counts.steps == {"ok": {}, "retry": {}, "failed": {"f": 1}}


def test_only_what_did_not_go_well_is_told() -> None:
    told: list[str] = []
    counts = CommitCounts(lambda transition, _: told.append(transition.run))
    for run, effect in {
        "fine": EndRun(status=RunStatus.COMPLETED),
        "failed": EndRun(status=RunStatus.FAILED),
        "cancelled": EndRun(status=RunStatus.CANCELLED),
        "retried": Record(
            entry=History(id="1", what=What.ATTEMPT, run="r", fn="f", at=1, outcome=Outcome.RETRY)
        ),
        "step": Record(entry=History(id="2", what=What.ATTEMPT, run="r", fn="f", at=1, outcome=Outcome.OK)),
    }.items():
        transition = Transition(fn="f", run=run, effects=[effect])
        counts.observe(transition, Committed(won=[False]))
        counts.observe(transition, Committed(won=[True]))
    assert told == ["failed", "cancelled", "retried"]


async def test_counters_name_functions_from_the_start_on_and_not_without_bound() -> None:
    metrics = Metrics()
    functions = {
        name: Function(id=name, slug=f"shop-{name}", name=name, app="shop", app_id="s", url="u", triggers=[])
        for name in ("charge", "refund")
    }
    metrics.functions = lambda: functions
    for number in range(MAX_FUNCTIONS + 5):
        fn = "charge" if not number else f"gone-{number}"
        ended = Transition(fn=fn, run="r", effects=[EndRun(status=RunStatus.FAILED)])
        metrics.commits.observe(ended, Committed(won=[True]))
    values = await _values(metrics)
    assert values["inngest_runs_ended_total{shop}{shop-charge}{failed}"] == 1
    assert values["inngest_runs_ended_total{shop}{shop-refund}{failed}"] == 0
    assert values["inngest_runs_started_total{shop}{shop-refund}"] == 0
    assert values["inngest_runs_ended_total{}{others}{failed}"] == 5
    assert sum(name.endswith("{failed}") for name in values) == MAX_FUNCTIONS + 2 + 2, (
        "with others, refund, and steps of charge and refund"
    )


async def test_sizes_are_asked_for_once_in_a_while_and_left_out_when_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics, asked = _full(), 0

    async def stats() -> Stats:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise StoreUnavailable("gone")
        return Stats(runs=1, queued=2, leased=3, pauses=4, outbox=5)

    metrics.stats = stats
    first, _ = await asyncio.gather(_values(metrics), _values(metrics))
    assert first["inngest_engine_queued"] == 2
    assert first["inngest_stream_backlog{runner}"] == 7
    assert first["inngest_stream_dropped{indexer}"] == 7
    assert first["inngest_dead_letters"] == 8
    assert asked == 1
    monkeypatch.setattr("inngest.services.metrics.SAMPLE_SECONDS", 0.0)
    assert "inngest_engine_queued" not in await _values(metrics)


async def test_a_server_counts_what_it_does(app: SlowApp) -> None:
    settings = Settings(
        services=SERVICES,
        dev=True,
        engine=InMemory(),
        stream=InMemory(),
        data=InMemory(),
        event_api=Listen("127.0.0.1", 0),
        max_events_body_bytes=1000,
    )
    supervisor = build(settings)
    running = asyncio.create_task(supervisor.run())
    (listener,) = [service for service in supervisor.services if isinstance(service, WebServer)]
    async with ClientSession() as session:

        async def metrics() -> dict[str, float]:
            async with session.get(f"{url}/metrics") as response:
                assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                return _parsed(await response.text())

        async def send(path: str, body: bytes) -> int:
            async with session.post(f"{url}{path}", data=body) as response:
                return response.status

        async def ready() -> bool:
            async with session.get(f"{url}/health/ready") as response:
                return response.status == 200

        await until(lambda: listener.listening, "the server listens")
        url = f"http://127.0.0.1:{listener.port}"
        await until(ready, "the server is ready")
        await app.register(url)
        event = b'{"name":"%b","data":{}}' % EVENT.encode()
        assert await send("/e/key", event) == 200
        await until(app.called.is_set, "the step is called")
        during = await metrics()
        assert await send("/e/", event) == 401
        assert await send("/e/key", b"no") == 400
        assert await send("/e/key", b" " * 1001) == 413
        app.go.set()

        async def ended() -> bool:
            return (await metrics())[f"inngest_runs_ended_total{LABELS}{{completed}}"] == 1

        await until(ended, "the run ends")
        after = await metrics()
    supervisor.stop()
    assert await running == 0

    assert (during["inngest_calls_in_flight"], after["inngest_calls_in_flight"]) == (1, 0)
    assert during["inngest_executor_items"] == 1
    assert after["inngest_events_accepted_total"] == 1
    assert after["inngest_event_bytes_total"] == len(event)
    for reason in ("key", "invalid", "size"):
        assert after[f"inngest_event_requests_refused_total{{{reason}}}"] == 1
    assert after["inngest_dead_letters"] == after["inngest_stream_dropped{indexer}"] == 0
    assert after["inngest_events_refused_total{runner}{undecodable}"] == 0
    assert after[f"inngest_runs_started_total{LABELS}"] == 1
    assert after[f"inngest_steps_total{LABELS}{{ok}}"] == 2, "the step, and the function itself"
    assert after["inngest_call_duration_seconds_count"] == 2
    assert after["inngest_queue_lateness_seconds_count"] == 2
    assert after["inngest_event_lag_seconds_count"] >= 1
