"""Errors that nobody foresaw, anywhere in a process: it goes on, and tells; or it ends with exit code 1."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from processes import Server
from service_rig import until
from slow_app import EVENT, SlowApp
from structlog.testing import capture_logs

from inngest.backends.memory.boxes import MemoryOutbox
from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.backends.sqlite.journal import Journal, Statement
from inngest.core.errors import StoreUnavailable
from inngest.loops.trouble import ERRORS
from inngest.services import assembly, metrics
from inngest.services.assembly import build
from inngest.services.console import Console
from inngest.services.settings import SERVICES, InMemory, Listen, Settings, Sqlite
from inngest.services.supervisor import Supervisor
from inngest.services.web import WebServer


def settings(**fields: Any) -> Settings:
    return Settings(
        services=SERVICES,
        dev=True,
        **{"engine": InMemory(), "stream": InMemory(), "data": InMemory(), **fields},
        event_api=Listen("127.0.0.1", 0),
        retention_seconds=3600,
        grace_seconds=2,
    )


class World:
    """A whole server in this process."""

    def __init__(self, supervisor: Supervisor, running: asyncio.Task[int]) -> None:
        self.supervisor = supervisor
        self.running = running
        (listener,) = [service for service in supervisor.services if isinstance(service, WebServer)]
        self.url = f"http://127.0.0.1:{listener.port}"

    async def get(self, path: str) -> tuple[int, str]:
        async with ClientSession() as session, session.get(f"{self.url}{path}") as response:
            return response.status, await response.text()

    async def send(self, event: object = {"name": EVENT, "data": {}}) -> int:
        async with ClientSession() as session, session.post(f"{self.url}/e/key", json=event) as response:
            return response.status

    async def stop(self) -> int:
        self.supervisor.stop()
        return await asyncio.wait_for(self.running, 60)


@asynccontextmanager
async def serving(with_settings: Settings) -> AsyncIterator[World]:
    supervisor = build(with_settings)
    running = asyncio.create_task(supervisor.run())
    (listener,) = [service for service in supervisor.services if isinstance(service, WebServer)]
    await until(lambda: listener.listening or running.done(), "the server listens")
    world = World(supervisor, running)

    async def ready() -> bool:
        return (await world.get("/health/live"))[0] == 200 and (await world.get("/health/ready"))[0] == 200

    try:
        await until(ready, "the server is ready")
        yield world
    finally:
        await world.stop()


def fail_once(monkeypatch: pytest.MonkeyPatch, kind: Any, name: str, error: BaseException) -> list[str]:
    """Let the next call of a method raise. What was raised is in the list."""
    real, raised = getattr(kind, name), []

    async def method(self: object, *args: Any, **kwargs: Any) -> Any:
        if not raised:
            raised.append(name)
            raise error
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, method)
    return raised


CALLS = [
    (MemoryEngineStore, "lease"),
    (MemoryEngineStore, "wait"),
    (MemoryEngineStore, "registry"),
    (MemoryEngineStore, "wait_registry"),
    (MemoryEngineStore, "alive"),
    (MemoryOutbox, "take"),
    (MemoryOutbox, "ack"),
    (MemoryOutbox, "wait"),
    (MemoryEventStream, "fetch"),
    (MemoryEventStream, "backlog"),
    (MemoryEngineStore, "stats"),
    (MemoryEngineStore, "ping"),
    (MemoryDataStore, "put_history"),
    (MemoryDataStore, "ping"),
]


@pytest.mark.parametrize(
    "error", [RuntimeError("anything"), asyncio.CancelledError()], ids=["error", "cancelled"]
)
@pytest.mark.parametrize(("kind", "name"), CALLS, ids=[name for _, name in CALLS])
async def test_one_unexpected_error_of_a_store_ends_nothing(
    kind: type, name: str, error: BaseException, app: SlowApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_SECONDS", 0.0)
    before = ERRORS.total()
    raised = fail_once(monkeypatch, kind, name, error)
    app.go.set()
    async with serving(settings()) as world:
        await app.register(world.url)
        assert await world.send() == 200
        await until(lambda: app.ended, "the run ends")
        _, told = await world.get("/metrics")
        await until(lambda: raised, "it is called")
        # The indexer asks at once which entry it is: none, this time.
        borne = name == "put_history" and isinstance(error, RuntimeError)
        _, told = await world.get("/metrics")
        assert borne or 'inngest_loop_errors_total{loop="' in told
        assert not world.running.done()
        assert await world.stop() == 0
    assert ERRORS.total() == before + (not borne)


async def test_a_terminal_that_went_away_ends_nothing(app: SlowApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Console, *args: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Console, "_line", gone)
    app.go.set()
    async with serving(settings(console=True)) as world:
        await app.register(world.url)
        assert await world.send() == 200
        await until(lambda: app.ended, "the run ends")
        assert await world.stop() == 0
    assert ERRORS["console.accepted"] > 0
    assert ERRORS["console.committed"] > 0


async def test_an_error_that_nobody_waits_for_is_heard_of() -> None:
    async def fail() -> None:
        raise RuntimeError("anything")

    before = ERRORS["unheard"]
    async with serving(settings()):
        task = asyncio.create_task(fail())
        await asyncio.wait({task})
        del task
        await until(lambda: ERRORS["unheard"] > before, "somebody hears of it")


# -- a journal that cannot go on


@pytest.fixture
def journals(monkeypatch: pytest.MonkeyPatch) -> list[Journal]:
    """Those that the server makes."""
    made: list[Journal] = []

    class Kept(Journal):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            made.append(self)

    monkeypatch.setattr(assembly, "Journal", Kept)
    return made


def _fails() -> Iterator[Statement]:
    yield "INSERT INTO locks VALUES (?, ?)", [("a", object())]


async def test_a_journal_that_cannot_go_on_ends_the_process_with_1(
    app: SlowApp, journals: list[Journal], tmp_path: Path
) -> None:
    files = Sqlite(tmp_path)
    with capture_logs() as lines:
        async with serving(settings(engine=files, stream=files, data=files)) as world:
            await app.register(world.url)
            journal = next(each for each in journals if each._opened)
            journal.add_source(_fails)
            assert await world.send() == 503, "nothing is accepted that is not on disk"
            assert await asyncio.wait_for(world.running, 60) == 1
    ends = [line for line in lines if line["action"] == "supervisor.end"]
    assert "backends" in {line["service"] for line in ends}
    assert all("engine.db cannot be written: ProgrammingError" in line["error"] for line in ends)


def _fill(journal: Journal) -> None:
    """Let the disk be full: the file cannot have another page."""
    db = journal._connection()
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")


async def test_changes_that_are_lost_at_the_end_make_it_1(
    app: SlowApp, journals: list[Journal], tmp_path: Path
) -> None:
    files = Sqlite(tmp_path)
    with capture_logs() as lines:
        async with serving(settings(engine=files, stream=files, data=files)) as world:
            await app.register(world.url)
            journal = next(each for each in journals if each._opened)
            _fill(journal)
            # More than fits into the pages that there are.
            event = {"name": "test/large", "data": {"text": "x" * 500_000}}
            assert await world.send(event) == 503
            with pytest.raises(StoreUnavailable):
                journal.check()
            assert not world.running.done(), "a full disk is waited for"
            assert await world.stop() == 1
    assert any("the last changes are lost" in line.get("error", "") for line in lines)


# -- a log that cannot be written


class Mute(Server):
    """A server whose log is on a full disk."""

    @property
    def log(self) -> Path:
        return Path("/dev/full")

    def tail(self) -> str:
        return ""


@pytest.mark.slow
async def test_a_full_disk_under_the_log_ends_nothing(app: SlowApp, tmp_path: Path) -> None:
    server = Mute(tmp_path / "server", None, config={"log": {"level": "debug"}})
    app.go.set()
    try:
        await server.start()
        await app.register(server.url, server.signing_key)
        assert await server.send(EVENT) == 200
        await until(lambda: app.ended, "the run ends")
        assert await server.end(signal.SIGTERM) == 0
    finally:
        await server.end()
