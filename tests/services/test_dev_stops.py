"""Ctrl-C while a step runs: what `inngest dev` says, and what it waits for."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession
from processes import Killable
from service_rig import until
from slow_app import EVENT, SlowApp


class Dev(Killable):
    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self._options = options

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        options = ["--port", str(self.port), "--no-discovery", "--no-poll", *self._options]
        return [sys.executable, "-m", "inngest.cli", "dev", *options]

    async def ready(self) -> bool:
        try:
            async with ClientSession() as session, session.get(f"{self.url}/health/ready") as response:
                return response.status == 200
        except (ClientError, OSError):
            return False

    async def work(self, app: SlowApp) -> None:
        """Start, and have a step of the application under way, which does not end by itself."""
        await self.start()
        await app.register(self.url)
        event = {"name": EVENT, "data": {}}
        async with ClientSession() as session, session.post(f"{self.url}/e/key", json=event) as response:
            assert response.status == 200
        await until(app.called.is_set, "the step is called")


@pytest.fixture
async def dev(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Dev]:
    made = Dev(tmp_path / "dev", *request.param)
    yield made
    await made.end()


@pytest.mark.parametrize("dev", [()], indirect=True)
async def test_in_memory_there_is_nothing_to_wait_for(dev: Dev, app: SlowApp) -> None:
    await dev.work(app)
    dev.tell(signal.SIGINT)
    assert await dev.wait() == 0
    assert "\nStopping.\n" in dev.log.read_text()
    assert app.ended == set()


@pytest.mark.parametrize("dev", [("--persist",)], indirect=True)
async def test_what_is_kept_is_waited_for_and_a_second_one_ends_that(dev: Dev, app: SlowApp) -> None:
    await dev.work(app)
    dev.tell(signal.SIGINT)
    told = "\nStopping, waiting for 1 step. Ctrl-C once more ends at once.\n"
    await until(lambda: told in dev.log.read_text(), "the console tells what is waited for")
    dev.tell(signal.SIGINT)
    assert await dev.wait() == 1
    assert app.ended == set()


@pytest.mark.parametrize("dev", [("--persist",)], indirect=True)
async def test_a_step_that_ends_in_time_ends_the_wait(dev: Dev, app: SlowApp) -> None:
    await dev.work(app)
    dev.tell(signal.SIGINT)
    await until(lambda: "waiting for 1 step" in dev.log.read_text(), "the console tells of the step")
    app.go.set()
    assert await dev.wait() == 0
    assert f"kept in {dev.folder / '.inngest'}" in dev.log.read_text()
