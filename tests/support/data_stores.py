"""Every data store under the one suite, and what tests feed them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.core.model.events import Event
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.ids import ulid
from inngest.core.model.runs import RunStatus
from inngest.ports.data import DataStore

Make = Callable[[Path], Awaitable[DataStore]]

_SERIAL = count()

T0 = 1_790_000_000_000


async def memory(_: Path) -> DataStore:
    return MemoryDataStore()


async def sqlite(folder: Path) -> DataStore:
    return SqliteDataStore(folder / "history.db")


STORES: dict[str, Make] = {"memory": memory, "sqlite": sqlite}


def name(at: int, number: int = 0) -> str:
    """A ULID."""
    return ulid(T0 + at, number.to_bytes(10))


def event(at: int, title: str = "app/x", **fields: Any) -> Event:
    fields.setdefault("data", Raw(b'{"a":  1}'))
    return Event(id=name(at), name=title, ts=T0 + at, received=T0 + at, **fields)


class Story:
    """The history of one run, as the engine would write it."""

    def __init__(
        self, at: int, *, events: list[str] | None = None, fn: str = "fn-1", app: str = "app"
    ) -> None:
        self.id = name(at, 7)
        self.fn = fn
        self.entries: list[History] = []
        info = {"app": app, "slug": f"{app}-{fn}", "events": events or [], "version": 3}
        self.add(What.SCHEDULED, at, info=info)

    def add(self, what: What, at: int, **fields: Any) -> Story:
        fields.setdefault("id", ulid(T0 + at, next(_SERIAL).to_bytes(10)))
        self.entries.append(History(what=what, run=self.id, fn=self.fn, at=T0 + at, **fields))
        return self

    def start(self, at: int) -> Story:
        return self.add(What.STARTED, at, started=T0 + at)

    def step(self, at: int, step: str, value: bytes = b"1", **fields: Any) -> Story:
        fields.setdefault("outcome", Outcome.OK)
        return self.add(What.ATTEMPT, at, step=step, name=step, op="steprun", value=value, **fields)

    def end(self, at: int, status: RunStatus = RunStatus.COMPLETED, value: bytes | None = b'"done"') -> Story:
        return self.add(What.ENDED, at, outcome=status.value, value=value)
