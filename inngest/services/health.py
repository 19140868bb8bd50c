"""What a process tells of itself: whether it lives, whether it is ready, and its numbers.

``/health/live``, ``/health/ready`` and, unless it has a token, ``/metrics`` ask for no key: probes and
collectors have none to give, and what they are told is no secret. It is names of services and of backing
systems, counts, and settings that should be otherwise; why a system does not answer, and where it is, stands
in the log alone.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import StrEnum

import structlog
from aiohttp import web

from inngest.api.answers import ApiError, answer
from inngest.core.errors import StoreUnavailable
from inngest.loops.background import is_own
from inngest.loops.trouble import described, unexpected
from inngest.services.metrics import CONTENT_TYPE, Metrics
from inngest.services.needs import NEEDS, System, used

log = structlog.get_logger("inngest.health")

FRESH_SECONDS = 1.0
"""How long an answer of a backing system counts."""
PROBE_SECONDS = 2.0
"""How long a backing system may take to answer."""

HEALTH = "/health"
LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"
PATHS = frozenset({LIVE, READY, METRICS})
"""What is answered while a process starts and stops, too."""

Ping = Callable[[], Awaitable[None]]


class Phase(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class Health:
    """Asks the backing systems how they are, when somebody wants to know, and at most once a second each."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._pings: dict[System, Ping] = {}
        self._failing: dict[System, str] = {}
        self._asked: dict[System, float] = {}
        self._turns: dict[System, asyncio.Lock] = {}
        self._warnings: dict[System, Callable[[], Sequence[str]]] = {}

    def enter(self, phase: Phase) -> None:
        self.phase = phase

    def opened(self, system: System, ping: Ping) -> None:
        """From now on the system can be asked; until then it counts as missing."""
        self._turns[system] = asyncio.Lock()
        self._pings[system] = ping

    def warned(self, system: System, warnings: Callable[[], Sequence[str]]) -> None:
        """What should be set otherwise at the system, whenever somebody asks."""
        self._warnings[system] = warnings

    def warnings(self, systems: Collection[System]) -> list[str]:
        """What should be set otherwise at these systems."""
        return [
            f"{system}: {words}"
            for system, warnings in self._warnings.items()
            if system in systems
            for words in warnings()
        ]

    async def missing(self, systems: Sequence[System]) -> set[System]:
        """Which of the systems do not answer."""
        answers = await asyncio.gather(*map(self._answers, systems))
        return {system for system, well in zip(systems, answers, strict=True) if not well}

    async def _answers(self, system: System) -> bool:
        ping = self._pings.get(system)
        if ping is None:
            return False
        async with self._turns[system]:
            now = asyncio.get_running_loop().time()
            if now - self._asked.get(system, -FRESH_SECONDS) >= FRESH_SECONDS:
                self._note(system, await _reason(ping))
                self._asked[system] = asyncio.get_running_loop().time()
        return system not in self._failing

    def _note(self, system: System, reason: str) -> None:
        before = self._failing.pop(system, "")
        if reason:
            self._failing[system] = reason
            if not before:
                log.warning("backing system is missing", action="health.probe", backend=system, error=reason)
        elif before:
            log.info("backing system is back", action="health.probe", backend=system)


async def _reason(ping: Ping) -> str:
    """Why a system does not answer; empty if it does."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await ping()
    except StoreUnavailable as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:.0f} s"
    except (Exception, asyncio.CancelledError) as error:
        if is_own(error):
            raise
        unexpected("health.probe", error)
        return described(error)
    return ""


class HealthRoutes:
    """The paths of one listener, for the services that it stands for."""

    def __init__(self, health: Health, services: Sequence[str]) -> None:
        self._health = health
        self._services = tuple(services)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(HEALTH, self.health),
            web.get(LIVE, self.live),
            web.get(READY, self.ready),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """As load balancers know it of old (wire protocol section 2.5): 200 once all services run. If a
        backing system is set up so that it can lose something, ``warnings`` says what to set.
        """
        body: dict[str, object] = {"status": 200, "message": "OK"}
        if warnings := self._health.warnings(used(self._services)):
            body["warnings"] = warnings
        return answer(body)

    async def live(self, request: web.Request) -> web.Response:
        """200 as long as the process can answer at all."""
        return answer({"status": "live", "services": self._services})

    async def ready(self, request: web.Request) -> web.Response:
        """200 if work can be given to the services here, else 503.

        ``missing`` names each backing system that is waited for, and the services that cannot work without
        it; ``degraded`` those that work without it, but not in full.
        """
        phase = self._health.phase
        if phase is Phase.STOPPING:
            return answer({"status": phase, "services": self._services, "missing": {}, "degraded": {}}, 503)
        missing = await self._without({name: NEEDS[name].required for name in self._services})
        degraded = await self._without({name: NEEDS[name].wanted for name in self._services})
        if phase is Phase.STARTING:
            status = phase.value
        else:
            status = "unready" if missing else "degraded" if degraded else "ready"
        body = {"status": status, "services": self._services, "missing": missing, "degraded": degraded}
        return answer(body, 200 if status in {"ready", "degraded"} else 503)

    async def _without(self, needs: Mapping[str, Sequence[System]]) -> dict[str, list[str]]:
        """The services by what they have to do without."""
        systems = [system for system in System if any(system in some for some in needs.values())]
        missing = await self._health.missing(systems)
        return {
            system.value: [name for name, some in needs.items() if system in some]
            for system in systems
            if system in missing
        }


class MetricsRoute:
    """The numbers of a process, for those who have the token if there is one."""

    def __init__(self, metrics: Metrics, token: str = "") -> None:
        self._metrics = metrics
        self._expected = f"Bearer {token}".encode() if token else b""

    def routes(self) -> list[web.RouteDef]:
        return [web.get(METRICS, self.metrics)]

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format."""
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogatepass")
        if self._expected and not hmac.compare_digest(given, self._expected):
            raise ApiError(401, "The numbers are for those who have the token", code="unauthorized")
        return web.Response(body=await self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
