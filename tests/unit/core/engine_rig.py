"""One function, one engine store, and an application whose answers a test writes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.decisions.advance import advance, begin, expire
from inngest.core.decisions.draft import Call
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import Event, decode_event
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.model.history import History
from inngest.core.model.runs import CALLS, Item, Leased, Pause, Queue, Run
from inngest.core.model.transition import Committed, Lease, Transition
from inngest.core.policy import Policy
from inngest.core.sdk.responses import Answer, Failure, Op, Reported, Returned, Step

NOW = 1_700_000_000_000
FN = "00000000-0000-0000-0000-00000000000f"
LEASE = 30_000
POLICY = Policy()


def function(**fields: Any) -> Function:
    values: dict[str, Any] = {
        "id": FN, "slug": "app-fn", "name": "fn", "app": "app", "app_id": "app", "url": "http://app.test",
        "triggers": [Trigger(event="app/go")],
    }  # fmt: skip
    return Function(**(values | fields))


def event(name: str = "app/go", data: Any = None, id: str = "event-1", **fields: Any) -> Event:  # noqa: A002
    raw = Raw(msgspec.json.encode(data or {}))
    return Event(id=id, name=name, data=raw, **({"ts": NOW, "received": NOW} | fields))


def op(
    kind: Op, step: str = "s1", *, data: bytes = b"", error: bytes = b"", name: str = "", **opts: Any
) -> Step:
    return Step(id=step, op=kind, label=step, name=name, opts=opts, data=data, error=error)


def ran(step: str = "s1", data: bytes = b"1") -> Step:
    return op(Op.RUN, step, data=data)


def planned(*steps: str, **opts: Any) -> list[Step]:
    return [op(Op.PLANNED, step, **opts) for step in steps]


def failure(**fields: Any) -> Failure:
    return Failure(error=b'{"error":"Error: x","name":"Error","message":"x"}', **fields)


class Rig:
    """``answer`` works off one item; the rest looks at what came of it."""

    def __init__(self, **fields: Any) -> None:
        self.fn = function(**fields)
        self.store = MemoryEngineStore()
        self.now = NOW
        self.ids = 0
        self.policy = POLICY
        self.run_id = ""

    def moment(self) -> Moment:
        def new_id() -> str:
            self.ids += 1
            return f"id-{self.ids:04}"

        return Moment(now=self.now, new_id=new_id)

    async def start(self, given: Event | None = None) -> Run:
        await self.store.put_app(App(id="app", name="app", url=""), [self.fn])
        transition = schedule(self.fn, given or event(), self.moment())
        self.run_id = transition.run
        await self.commit(transition)
        return await self.run()

    async def commit(self, transition: Transition) -> Committed:
        return (await self.store.commit([transition]))[0]

    async def lease(self, job: str = "") -> Leased:
        """The next item, or that of the job whose end is given."""
        leased = (await self.store.lease(Queue.EXECUTOR, 100, self.now, self.now + LEASE)).items
        chosen = next(one for one in leased if one.item.job.endswith(job))
        others = [Lease(one.item.job, one.item.epoch) for one in leased if one is not chosen]
        await self.store.hand_back(others, self.now)
        return chosen

    async def answer(self, *steps: Step, job: str = "", version: int | None = 2, **fields: Any) -> Committed:
        return await self.reply(Reported(steps=list(steps), request_version=version, **fields), job=job)

    async def returned(self, output: bytes = b"null", *, job: str = "") -> Committed:
        return await self.reply(Returned(output=output, request_version=2), job=job)

    async def reply(self, answer: Answer, *, job: str = "", jitter: float = 0.0) -> Committed:
        leased = await self.lease(job)
        return await self.commit(self.decide(leased, answer, jitter=jitter))

    def decide(self, leased: Leased, answer: Answer, *, jitter: float = 0.0) -> Transition:
        assert leased.run is not None
        call = Call(started=self.now, ended=self.now)
        return advance(
            leased.run,
            self.fn,
            leased.item,
            answer,
            self.moment(),
            call=call,
            jitter=jitter,
            policy=self.policy,
        )

    async def before(self, job: str = "") -> Transition | None:
        """What `begin` says of the next item; committed, if anything."""
        leased = await self.lease(job)
        assert leased.run is not None
        instead = begin(leased.run, self.fn, leased.item, self.moment(), self.policy)
        if instead is not None:
            await self.commit(instead)
        return instead

    async def tick(self, job: str = "") -> Committed:
        """Work off a timer that is due."""
        leased = await self.lease(job)
        assert leased.run is not None
        assert leased.item.kind not in CALLS
        return await self.commit(expire(leased.run, self.fn, leased.item, self.moment()))

    # -- what came of it --

    async def run(self) -> Run:
        run = await self.store.run(self.run_id)
        assert run is not None, "the run has ended"
        return run

    async def ended(self) -> bool:
        return await self.store.run(self.run_id) is None

    async def items(self) -> dict[str, Item]:
        """By job id, without the run's."""
        return {
            item.job.removeprefix(f"{self.run_id}:"): item for item in await self.store.items(self.run_id)
        }

    async def jobs(self) -> list[str]:
        return sorted(await self.items())

    async def steps(self) -> dict[str, Any]:
        return {step: msgspec.json.decode(value) for step, value in (await self.run()).steps.items()}

    async def events(self) -> list[Event]:
        box = await self.store.outbox_events(1000)
        await self.store.ack_events(box.token)
        return [decode_event(raw) for raw in box.events]

    async def history(self) -> list[History]:
        box = await self.store.outbox_history(1000)
        await self.store.ack_history(box.token)
        return box.entries

    async def pauses(self, events: Sequence[Event]) -> list[Pause]:
        return [pause for group in await self.store.pauses(events) for pause in group]
