"""Every combination of services serves in one process, tells of its health, and stops when asked."""

from __future__ import annotations

import asyncio
import signal
from itertools import combinations

import pytest
from processes import ALL, Server
from service_rig import Launch

COMBINATIONS = [names for count in range(1, 5) for names in combinations(ALL, count)]
GROUP = 3


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(COMBINATIONS), GROUP))
async def test_every_combination_becomes_ready_and_stops(server: Launch, first: int) -> None:
    group = COMBINATIONS[first : first + GROUP]
    servers = [server("-".join(names), services=names) for names in group]
    await asyncio.gather(*(each.start() for each in servers))
    await asyncio.gather(*map(_check, servers))
    codes = await asyncio.gather(*(each.end(signal.SIGTERM) for each in servers))
    assert codes == [0] * len(servers), "\n".join(each.tail() for each in servers)


def test_there_are_fifteen() -> None:
    assert len(COMBINATIONS) == 15


async def _check(server: Server) -> None:
    ports = [server.port]
    if server.services == ("runner", "executor"):
        ports.append(server.second)
    for port in ports:
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert await server.status(path, port=port) == 200, (server.services, port, path)
    metrics = await server.get("/metrics")
    assert "inngest_build_info" in metrics
    assert ("inngest_events_accepted_total" in metrics) == ("event-api" in server.services)
    assert ("inngest_calls_in_flight" in metrics) == ("executor" in server.services)
    assert ("inngest_event_lag_seconds_count" in metrics) == ("runner" in server.services)
    assert ("inngest_indexer_lag_seconds_count" in metrics) == ("core-api" in server.services)
    assert all(line["service"] and line["action"] for line in server.lines())
