"""Readiness asks the backing systems, seldom, and each service depends only on those that it needs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from inngest.core.errors import StoreUnavailable
from inngest.services import health
from inngest.services.health import Health, HealthRoutes, Phase
from inngest.services.needs import NEEDS, System
from inngest.services.settings import SERVICES


class Systems:
    """Backing systems that are up, or not."""

    def __init__(self) -> None:
        self.down: set[System] = set()
        self.asked: list[System] = []
        self.health = Health()
        self.health.enter(Phase.SERVING)
        for system in System:
            self.health.opened(system, self._ping(system))

    def _ping(self, system: System) -> Any:
        async def ping() -> None:
            self.asked.append(system)
            await asyncio.sleep(0)
            if system in self.down:
                raise StoreUnavailable("redis secret-host:6379: gone")

        return ping

    async def ready(self, *services: str) -> tuple[int, Any]:
        app = web.Application()
        app.add_routes(HealthRoutes(self.health, services).routes())
        async with TestClient(TestServer(app)) as client, client.get("/health/ready") as response:
            text = await response.text()
            assert "secret-host" not in text, "where a system is stays in the log"
            return response.status, await response.json()


@pytest.fixture
def systems(monkeypatch: pytest.MonkeyPatch) -> Systems:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    return Systems()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("system", System)
async def test_each_service_depends_on_what_it_needs(systems: Systems, service: str, system: System) -> None:
    assert await systems.ready(service) == (
        200,
        {"status": "ready", "services": [service], "missing": {}, "degraded": {}},
    )
    systems.down = {system}
    status, body = await systems.ready(service)
    needs = NEEDS[service]
    expected = "unready" if system in needs.required else "degraded" if system in needs.wanted else "ready"
    assert (status, body["status"]) == (503 if expected == "unready" else 200, expected)
    assert body["missing"] == ({system: [service]} if system in needs.required else {})
    assert body["degraded"] == ({system: [service]} if system in needs.wanted else {})
    systems.down = set()
    assert (await systems.ready(service))[0] == 200


def test_nothing_but_the_core_api_has_to_do_with_the_data_store() -> None:
    assert [name for name in SERVICES if System.DATA in NEEDS[name].required + NEEDS[name].wanted] == [
        "core-api"
    ]
    assert System.DATA not in NEEDS["core-api"].required


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.STOPPING])
async def test_only_a_serving_process_is_ready(systems: Systems, phase: Phase) -> None:
    systems.health.enter(phase)
    status, body = await systems.ready("executor")
    assert (status, body["status"]) == (503, phase)


async def test_what_should_be_set_otherwise_is_told(systems: Systems) -> None:
    """By those who have to do with it, and as long as it is so."""
    words: list[str] = []
    systems.health.warned(System.ENGINE, lambda: words)

    async def health(*services: str) -> Any:
        app = web.Application()
        app.add_routes(HealthRoutes(systems.health, services).routes())
        async with TestClient(TestServer(app)) as client, client.get("/health") as response:
            return await response.json()

    well = {"status": 200, "message": "OK"}
    assert await health("executor") == well
    words.append("set it to yes")
    assert await health("executor") == {**well, "warnings": ["engine store: set it to yes"]}
    assert await health("event-api") == well
    words.clear()
    assert await health("executor") == well


async def test_a_system_that_is_not_open_yet_is_missing() -> None:
    assert await Health().missing([System.ENGINE]) == {System.ENGINE}


async def test_many_probes_are_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 3600.0)
    systems = Systems()
    await asyncio.gather(*(systems.health.missing([System.ENGINE, System.STREAM]) for _ in range(20)))
    assert sorted(systems.asked) == [System.ENGINE, System.STREAM]


async def test_a_system_that_does_not_answer_in_time_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.01)
    asked = Health()

    async def ping() -> None:
        await asyncio.Event().wait()

    asked.opened(System.ENGINE, ping)
    assert await asked.missing([System.ENGINE]) == {System.ENGINE}
