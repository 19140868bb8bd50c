"""A server without services: stores in memory, a clock that a test moves, and the core API in front."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import builders
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestClient
from served import client_of

from inngest.api.context import ApiContext
from inngest.api.routes import core_routes
from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.decisions.advance import advance
from inngest.core.decisions.draft import Call
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import FINISHED, Event, decode_event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.ids import UlidFactory, app_uuid, function_uuid
from inngest.core.model.runs import Leased, Queue, Run
from inngest.core.model.transition import CreateRun
from inngest.core.sdk.responses import Failure, Reported, Returned, Step, error_object, read_steps
from inngest.services.registry import RegistryCache
from inngest.services.runner import Runner

T0 = 1_790_000_000_000
APP = App(id=app_uuid("shop"), name="shop", url="http://localhost:3000/api/inngest", sdk_language="py")
ORDER = Function(
    id=function_uuid("shop", "shop-order"),
    slug="shop-order",
    name="Order",
    app="shop",
    app_id=APP.id,
    url="http://localhost:3000/api/inngest?fnId=shop-order&stepId=step",
    triggers=[Trigger(event="order/placed")],
)


@dataclass
class Sync:
    ok: bool = True
    code: str = ""
    message: str = ""


class World:
    def __init__(self, **context: Any) -> None:
        self.now = T0
        self.engine = MemoryEngineStore(self.clock)
        self.stream = MemoryEventStream()
        self.data = MemoryDataStore()
        self.registry = RegistryCache(self.engine)
        self.synced: list[str] = []
        self.sync = Sync()
        ids = UlidFactory(clock=self.clock, random_bytes=lambda count: bytes(count))
        self.ctx = ApiContext(
            engine=self.engine,
            data=self.data,
            stream=self.stream,
            registry=self.registry,
            clock=self.clock,
            new_id=ids.new,
            sync_app=self._sync,
            version="1.2.3",
            **context,
        )
        runtime = builders.memory_runtime(
            self.engine, stream=self.stream, data=self.data, registry=self.registry, new_id=ids.new
        )
        self.runner = Runner(runtime)
        self.client: TestClient[web.Request, web.Application]

    def clock(self) -> int:
        return self.now

    async def _sync(self, url: str) -> Sync:
        self.synced.append(url)
        return self.sync

    async def open(self) -> None:
        await self.engine.put_app(APP, [ORDER])
        await self.registry.refresh()
        self.client = client_of(core_routes(self.ctx))
        await self.client.start_server()

    async def close(self) -> None:
        await self.client.close()

    # -- the API --

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and decoded answer."""
        content = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        data = io.BytesIO(content) if content is not None else None
        async with self.client.request(method, path, data=data, headers=headers) as answer:
            text = await answer.read()
            return answer.status, msgspec.json.decode(text) if text else None

    async def query(self, query: str, **variables: object) -> Any:
        status, answer = await self.ask("POST", "/v0/gql", {"query": query, "variables": variables})
        assert status == 200
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def error(self, query: str, **variables: object) -> str:
        _, answer = await self.ask("POST", "/v0/gql", {"query": query, "variables": variables})
        return str(answer["errors"][0]["message"])

    # -- what the other services do --

    def at(self) -> Moment:
        return Moment(now=self.now, new_id=self.ctx.new_id)

    def event(self, name: str = "order/placed", data: bytes = b'{"n":1}', **fields: Any) -> Event:
        internal = self.ctx.new_id()
        return builders.event(name, data, internal, at=self.now, **fields)

    async def start(self, event: Event | None = None) -> str:
        """A run of ORDER for an event, which is stored."""
        event = event or self.event()
        await self.data.put_events([event])
        transition = schedule(ORDER, event, self.at())
        await self.engine.commit([transition])
        (created,) = [effect for effect in transition.effects if isinstance(effect, CreateRun)]
        await self.index()
        return created.run.id

    async def lease(self) -> Leased:
        work = await self.engine.lease(Queue.EXECUTOR, 1, 60_000, "worker")
        return work.items[0]

    async def call(self, answer: Returned | Reported | Failure) -> None:
        """The next due call of a run, answered so. Takes 10 ms."""
        leased = await self.lease()
        assert leased.run is not None
        call = Call(self.now, self.now + 10)
        self.now += 10
        transition = advance(leased.run, ORDER, leased.item, answer, self.at(), call=call)
        await self.engine.commit([transition])
        await self.index()

    async def state(self, run: str) -> Run | None:
        """Of a run of ORDER."""
        return await self.engine.run(ORDER.id, run)

    async def runs(self) -> list[str]:
        """The runs of ORDER that have not ended."""
        return [run.id for run in (await self.engine.runs(ORDER.id, 0, 1 << 60, "", 100)).found]

    async def work_off(self) -> None:
        """What runners do with the items that are due."""
        await builders.work_off(self.runner)
        await self.index()

    async def derive(self) -> None:
        """What runners do when the registry has changed."""
        await self.runner._derive()

    async def ended(self) -> list[str]:
        """The runs of which an end was told to functions."""
        events = [decode_event(raw) for raw in (await self.engine.events.take(1000)).entries]
        return [event.value["data"]["run_id"] for event in events if event.name == FINISHED]

    async def index(self) -> None:
        box = await self.engine.history.take(1000)
        await self.data.put_history(box.entries)
        await self.engine.history.ack(box.token)


def returned(value: object) -> Returned:
    return Returned(output=msgspec.json.encode(value))


def reported(*ops: dict[str, Any]) -> Reported:
    return Reported(steps=steps(*ops))


def steps(*ops: dict[str, Any]) -> list[Step]:
    return read_steps(msgspec.json.encode(list(ops)))


def step_run(name: str, data: object, **more: Any) -> dict[str, Any]:
    return {"id": f"id-{name}", "op": "StepRun", "displayName": name, "data": data, **more}


def failed(message: str, *, no_retry: bool = True) -> Failure:
    error = {"name": "TypeError", "message": message, "stack": "at x"}
    return Failure(error=error_object(msgspec.json.encode(error)), no_retry=no_retry, status=500)
