"""A batch that fills up one event at a time writes each event once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import ENGINES
from engine_bench import FN, Bench, runner_partition
from redis import Redis
from redis_places import server

from inngest.core.model.runs import Kind, Queue
from inngest.core.model.transition import Collect

EVENTS, SIZE = 300, 10_000
ONCE = EVENTS * SIZE
IO = Path("/proc/self/io")


def _collect(engine: Bench, number: int, size: int = SIZE) -> Collect:
    event = msgspec.json.encode({"n": number, "x": "y" * size})
    item = engine.item(
        None, Kind.BATCH, f"batch-{number}", due=engine.now + 60_000, payload=b"[" + event + b"]"
    )
    return Collect(
        key="k", item=item, partition=runner_partition(FN), event=event, ts=engine.now, max_size=10 * EVENTS
    )


async def _fill(engine: Bench) -> None:
    for number in range(EVENTS):
        assert await engine.won(_collect(engine, number)) == [True]


async def _numbers(engine: Bench) -> list[Any]:
    engine.now += 60_000
    leased = await engine.one(queue=Queue.RUNNER)
    return [event["n"] for event in msgspec.json.decode(leased.item.payload)]


def _written() -> int:
    """Bytes that this process has written, to whatever."""
    return int(IO.read_text().partition("wchar:")[2].split()[0])


@pytest.mark.skipif(not IO.exists(), reason="counts of what is written are the kernel's")
async def test_sqlite_writes_each_event_once(tmp_path: Path) -> None:
    async with ENGINES["sqlite"].place(tmp_path) as place:
        engine = Bench(place)
        await engine.start()
        before = _written()
        await _fill(engine)
        written = _written() - before
        # Into the log ahead, and from there into the file, by the page; 150 times that if anew each time.
        assert ONCE < written < 8 * ONCE
        await engine.reopen(crash=True)
        assert await engine.won(_collect(engine, EVENTS)) == [True]
        await engine.reopen()
        assert await _numbers(engine) == list(range(EVENTS + 1))
        await engine.store.close()


async def test_redis_appends_each_event(tmp_path: Path) -> None:
    async with ENGINES["redis"].place(tmp_path) as place:
        engine = Bench(place)
        await engine.start()
        with Redis.from_url(server()) as client:
            client.config_resetstat()
            await _fill(engine)
            stats, traffic = client.info("commandstats"), client.info("stats")
        assert stats["cmdstat_append"]["calls"] == EVENTS - 1
        assert stats["cmdstat_set"]["calls"] == 1
        assert "cmdstat_get" not in stats
        # An event and, as the one that would open another batch, its item.
        assert traffic["total_net_input_bytes"] < 4 * ONCE
        assert traffic["total_net_output_bytes"] < ONCE
        await engine.reopen(crash=True)
        assert await _numbers(engine) == list(range(EVENTS))
        await engine.store.close()
