"""Whatever is killed whenever: an acknowledged event has its run, and each run ends once.

The seed of all randomness is printed; ``DURABILITY_SEED`` repeats one, as far as processes repeat themselves.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from processes import Redis, Server
from stub_app import FUNCTIONS, StubApp

from inngest.core.sdk.signing import hashed_key
from inngest.ports.engine import EngineStore

KILLS = 12
SENDERS = 6
GO_AGAIN_SECONDS = 0.3
END_SECONDS = 90
"""A lease that a killed server left behind on Redis lasts half a minute."""

Headers = dict[str, str]


@dataclass
class Traffic:
    """Events and what became of them, by number."""

    session: ClientSession
    server: Server
    app: StubApp
    rng: random.Random
    acknowledged: dict[int, str] = field(default_factory=dict)
    named: set[int] = field(default_factory=set)
    sent: int = 0
    over: bool = False

    async def send(self) -> None:
        """Send events until it is over, in the three ways that senders have."""
        kinds = [name for name in FUNCTIONS if name != "child"]
        while not self.over:
            numbers = list(range(self.sent, self.sent + self.rng.randint(1, 3)))
            self.sent += len(numbers)
            name = f"test/{self.rng.choice(kinds)}"
            events = [{"name": name, "data": {"n": n}} for n in numbers]
            match self.rng.choice(("seed", "id", "once")):
                case "seed":
                    await self._until_acknowledged(events, numbers, {"x-inngest-event-id-seed": self._seed()})
                case "id":
                    for event, number in zip(events, numbers, strict=True):
                        event["id"] = f"own-{number}"
                    self.named.update(numbers)
                    await self._until_acknowledged(events, numbers, {})
                case _:
                    # A sender that does not try again has no claim unless it was answered.
                    await self._post(events, numbers, {})
            await asyncio.sleep(self.rng.random() * 0.2)

    async def wake(self) -> None:
        """Send what runs wait for, again and again: the first one counts."""
        serial = 0
        while True:
            for run in sorted(self.app.waiting - self.app.outputs.keys()):
                serial += 1
                await self._post([{"name": "test/go", "data": {"run": run, "serial": serial}}], [], {})
            await asyncio.sleep(GO_AGAIN_SECONDS)

    async def _until_acknowledged(
        self, events: list[Any], numbers: list[int], headers: dict[str, str]
    ) -> None:
        while not await self._post(events, numbers, headers):
            await asyncio.sleep(0.05)

    async def _post(self, events: list[Any], numbers: list[int], headers: Headers) -> bool:
        url = f"{self.server.url}/e/{self.server.event_key}"
        try:
            async with self.session.post(url, json=events, headers=headers) as response:
                if response.status >= 500:
                    return False
                answer = await response.json()
        except (ClientError, OSError, TimeoutError):
            return False
        assert answer["status"] == 200, answer
        self.acknowledged.update(zip(numbers, answer["ids"], strict=False))
        return True

    def _seed(self) -> str:
        return f"{time.time_ns() // 1_000_000},{base64.b64encode(self.rng.randbytes(10)).decode()}"


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("DURABILITY_SEED") or random.randrange(1 << 32))
    print(f"DURABILITY_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
async def redis(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Redis | None]:
    if request.param == "sqlite":
        yield None
        return
    redis = Redis(tmp_path / "redis")
    await redis.start()
    yield redis
    await redis.end()


@pytest.fixture
async def server(redis: Redis | None, tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "server", redis)
    await server.start()
    yield server
    await server.end()
    print(server.tail())


@pytest.fixture
async def app(rng: random.Random) -> AsyncIterator[StubApp]:
    app = StubApp(rng)
    await app.start()
    yield app
    await app.stop()


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(total=60)) as session:
        yield session


def _has_redis() -> bool:
    return Redis.available() and all(
        importlib.util.find_spec(f"inngest.backends.{module}")
        for module in ("redis", "redis.engine", "redis.stream")
    )


needs_redis = pytest.mark.skipif(not _has_redis(), reason="needs redis-server")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("redis", ["sqlite", pytest.param("redis", marks=needs_redis)], indirect=True)
async def test_every_run_ends_once_whatever_is_killed(
    redis: Redis | None, server: Server, app: StubApp, session: ClientSession, rng: random.Random
) -> None:
    await app.register(session, server.url, hashed_key(server.signing_key))
    traffic = Traffic(session, server, app, rng)
    waking = asyncio.create_task(traffic.wake())
    async with asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(traffic.send())
        for _ in range(KILLS):
            await asyncio.sleep(rng.random() * 1.5)
            await _kill(rng, server, redis)
        traffic.over = True
    print(f"{traffic.sent} events, {len(traffic.acknowledged)} acknowledged, {app.calls} calls")
    assert len(traffic.acknowledged) > 100

    await _ends(app, traffic)
    waking.cancel()
    await asyncio.gather(waking, return_exceptions=True)
    assert not app.violations
    await _check_runs(session, server, app, traffic)
    assert await server.end(signal.SIGTERM) == 0, server.tail()
    await _check_store(server, redis)


async def _kill(rng: random.Random, server: Server, redis: Redis | None) -> None:
    if redis is not None and rng.random() < 0.6:
        if rng.random() < 0.5:
            await asyncio.gather(server.end(), redis.end())
            await redis.start()
            await server.start()
        else:
            await redis.end()
            await redis.start()
    else:
        await server.end()
        await server.start()


async def _ends(app: StubApp, traffic: Traffic) -> None:
    """Wait until each run that is to be has ended, and its end been told of."""

    def missing() -> list[str]:
        unstarted = [f"event {n}" for n in traffic.acknowledged if not app.runs_of[n]]
        return [*unstarted, *(app.runs.keys() - app.outputs.keys()), *(app.outputs.keys() - app.told.keys())]

    deadline = time.monotonic() + END_SECONDS
    while missing():
        assert not app.violations
        assert time.monotonic() < deadline, f"{len(missing())} did not come to an end: {missing()[:5]}"
        await asyncio.sleep(0.1)


async def _check_runs(session: ClientSession, server: Server, app: StubApp, traffic: Traffic) -> None:
    for number, runs in app.runs_of.items():
        # An event starts one run, which may invoke one.
        names = sorted(app.runs[run] for run in runs)
        assert len(names) == 1 or names == ["child", "invoking"], (number, names)
    for run, told in app.told.items():
        assert len(told) == 1, f"the end of {run} was told by {told}"
    for run, output in app.outputs.items():
        ended = await _until_completed(session, server, f"runs/{run}")
        assert [each["output"] for each in ended] == [json.loads(output)]
    for number, event in traffic.acknowledged.items():
        if number in traffic.named:
            continue  # its run may belong to an earlier event of the same name, whose answer was lost
        (run,) = await _until_completed(session, server, f"events/{event}/runs")
        assert run["run_id"] in app.runs_of[number]


async def _until_completed(session: ClientSession, server: Server, path: str) -> list[Any]:
    """The runs that the API tells of, which may lag behind."""
    headers = {"Authorization": f"Bearer {hashed_key(server.signing_key)}"}
    deadline = time.monotonic() + END_SECONDS
    while True:
        async with session.get(f"{server.url}/v1/{path}", headers=headers) as response:
            answer = await response.json()
        found = answer.get("data") or []
        found = found if isinstance(found, list) else [found]
        if found and all(run["status"] == "Completed" for run in found):
            return found
        assert time.monotonic() < deadline, f"{path}: {answer}"
        await asyncio.sleep(0.05)


async def _check_store(server: Server, redis: Redis | None) -> None:
    """Nothing is left behind, neither runs nor what belongs to them."""
    store: EngineStore
    if redis is None:
        from inngest.backends.sqlite.engine import SqliteEngineStore
        from inngest.backends.sqlite.journal import Journal

        store = SqliteEngineStore(Journal(server.data / "engine.db"))
    else:
        from inngest.backends.redis.engine import RedisEngineStore

        store = RedisEngineStore(redis.url)
    await store.open()
    stats = await store.stats()
    await store.close()
    assert (stats.runs, stats.queued, stats.leased, stats.pauses) == (0, 0, 0, 0)
