"""What tests are made of: functions, events, runs, items, and a process's runtime on memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.model.events import Event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.runs import Item, Kind, Partition, Pause, PauseKind, Run, start_job, timeout_job
from inngest.ports.engine import EngineStore
from inngest.services.loop import Stopped
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner
from inngest.services.runtime import Runtime

NOW = 1_700_000_000_000
FN = "fn"
HOUR = 3_600_000
APP = App(id="app", name="app", url="http://app.test")

_serial = itertools.count(1)


def function(id: str = FN, **fields: Any) -> Function:  # noqa: A002
    """A function of `APP` that ``app/go`` triggers."""
    values: dict[str, Any] = {
        "slug": f"app-{id}", "name": id, "app": APP.name, "app_id": APP.id, "url": APP.url,
        "triggers": [Trigger(event="app/go")],
    }  # fmt: skip
    return Function(id=id, **(values | fields))


def event(name: str = "app/go", data: Any = None, id: str = "", *, at: int = NOW, **fields: Any) -> Event:  # noqa: A002
    """An event that was accepted ``at``. ``data`` may be JSON text."""
    text = data if isinstance(data, bytes) else msgspec.json.encode(data or {})
    values: dict[str, Any] = {"ts": at, "received": at}
    return Event(id=id or f"event-{next(_serial):06}", name=name, data=Raw(text), **(values | fields))


def run(id: str = "", fn: str = FN, *, at: int = NOW, **fields: Any) -> Run:  # noqa: A002
    number = next(_serial)
    values: dict[str, Any] = {
        "slug": fn, "app": APP.name, "events": [b'{"name":"a","data":{}}'], "event_ids": [f"event-{number}"],
        "key": f"key-{number}", "created": at,
        "start": Partition(id=f"{fn}/s", fn=fn), "work": Partition(id=f"{fn}/w", fn=fn),
    }  # fmt: skip
    return Run(id=id or f"run-{number:06}", fn=fn, **(values | fields))


def item(
    run: Run | None, kind: Kind = Kind.DISCOVER, job: str = "", *, at: int = NOW, fn: str = FN, **fields: Any
) -> Item:
    """An item that is due ``at``. Those of a run go where the run's items of this kind go."""
    if run is not None:
        fn = run.fn
    default = start_job(run.id) if run is not None and kind is Kind.START else f"job-{next(_serial)}"
    values: dict[str, Any] = {
        "due": at, "score": at, "queued": at,
        "partition": run.partition(kind).id if run is not None else f"{fn}/r",
    }  # fmt: skip
    return Item(
        job=job or default, kind=kind, fn=fn, run=run.id if run is not None else "", **(values | fields)
    )


def pause(run: Run, step: str = "s1", event: str = "app/go", *, at: int = NOW, **fields: Any) -> Pause:
    values: dict[str, Any] = {
        "kind": PauseKind.EVENT, "created": at, "expires": at + HOUR,
        "timeout_job": timeout_job(run.id, step), "partition": run.work.id,
    }  # fmt: skip
    return Pause(id=f"{run.id}:{step}", fn=run.fn, run=run.id, event=event, step=step, **(values | fields))


def memory_runtime(
    engine: EngineStore | None = None, *, clock: Callable[[], int] | None = None, **fields: Any
) -> Runtime:
    """Everything in memory, but for what is given."""
    if engine is None:
        engine = MemoryEngineStore(clock) if clock is not None else MemoryEngineStore()
    values: dict[str, Any] = {
        # On the clock of the engine store: what is compared is told by one clock.
        "stream": MemoryEventStream(clock=engine.now),
        "data": MemoryDataStore(),
        "registry": RegistryCache(engine),
    }
    return Runtime(engine=engine, **(values | fields))


async def register(runtime: Runtime, *functions: Function, app: App = APP) -> None:
    """The functions of an app, known to the runtime at once."""
    await runtime.engine.put_app(app, list(functions))
    await runtime.registry.refresh()


async def work_off(runner: Runner) -> None:
    """Let a runner work off the items that are due, until none is."""
    runner._firing.stop()
    with contextlib.suppress(Stopped):
        while True:
            await runner._items()
