"""One function, one engine store, and an application whose answers a test writes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import builders
import msgspec
from builders import NOW

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.decisions.advance import advance, begin, expire
from inngest.core.decisions.draft import Call
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import Event, decode_event
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.runs import CALLS, Item, Leased, Pause, Queue, Run
from inngest.core.model.transition import Committed, Transition, lease_of
from inngest.core.policy import LEASE, Policy
from inngest.core.sdk.responses import Answer, Failure, Op, Reported, Returned, Step

FN = "00000000-0000-0000-0000-00000000000f"
POLICY = Policy()


def function(id: str = FN, **fields: Any) -> Function:  # noqa: A002
    return builders.function(id, **({"slug": "app-fn", "name": "fn"} | fields))


def event(name: str = "app/go", data: Any = None, id: str = "event-1", **fields: Any) -> Event:  # noqa: A002
    return builders.event(name, data, id, **fields)


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
        self.now = NOW
        self.store = MemoryEngineStore(lambda: self.now)
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
        leased = await self.leased()
        chosen = next(one for one in leased if one.item.job.endswith(job))
        await self.store.hand_back([lease_of(one.item) for one in leased if one is not chosen])
        return chosen

    async def leased(self, queue: Queue = Queue.EXECUTOR) -> list[Leased]:
        """All that is due."""
        return (await self.store.lease(queue, 100, LEASE, "worker")).items

    async def answer(self, *steps: Step, job: str = "", version: int | None = 2, **fields: Any) -> Committed:
        return await self.reply(Reported(steps=list(steps), request_version=version, **fields), job=job)

    async def returned(self, output: bytes = b"null", *, job: str = "") -> Committed:
        return await self.reply(Returned(output=output, request_version=2), job=job)

    async def reply(self, answer: Answer, *, job: str = "", jitter: float = 0.0) -> Committed:
        leased = await self.lease(job)
        return await self.commit(self.decide(leased, answer, jitter=jitter))

    def decide(self, leased: Leased, answer: Answer, *, jitter: float = 0.0, seen: int = -1) -> Transition:
        """``seen``: how many steps had their results when the call was made; all that have one, if -1."""
        assert leased.run is not None
        seen = len(leased.run.stack) if seen < 0 else seen
        call = Call(started=self.now, ended=self.now, seen=seen)
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
        run = await self.store.run(self.fn.id, self.run_id)
        assert run is not None, "the run has ended"
        return run

    async def ended(self) -> bool:
        return await self.store.run(self.fn.id, self.run_id) is None

    async def items(self) -> dict[str, Item]:
        """By job id, without the run's."""
        return {
            item.job.removeprefix(f"{self.run_id}:"): item
            for item in await self.store.items(self.fn.id, self.run_id)
        }

    async def jobs(self) -> list[str]:
        return sorted(await self.items())

    async def steps(self) -> dict[str, Any]:
        return {step: msgspec.json.decode(value) for step, value in (await self.run()).steps.items()}

    async def events(self) -> list[Event]:
        box = await self.store.events.take(1000)
        await self.store.events.ack(box.token)
        return [decode_event(raw) for raw in box.entries]

    async def history(self) -> list[History]:
        box = await self.store.history.take(1000)
        await self.store.history.ack(box.token)
        return box.entries

    async def runs(self) -> list[Run]:
        """The runs of the function that have not ended."""
        return (await self.store.runs(self.fn.id, 0, 1 << 60, "", 1000)).found

    async def pauses(self, events: Sequence[Event]) -> list[Pause]:
        return [pause for page in await self.store.first_pauses(events, 1000) for pause in page.found]
