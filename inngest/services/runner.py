"""The runner: the event stream in; runs, resumed waits, batches, debounces and cron ticks out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from inngest.core.decisions.advance import cancel, resume
from inngest.core.decisions.collectors import collected
from inngest.core.decisions.crons import tick
from inngest.core.decisions.invocations import unknown_function
from inngest.core.decisions.matching import matches
from inngest.core.decisions.meeting import invoke_result, may_meet
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.repair import repair
from inngest.core.decisions.schedule import schedule
from inngest.core.errors import StoreUnavailable
from inngest.core.expr import EvaluationError, Expression, ExpressionError, compile_bound
from inngest.core.model.events import INVOKED, Event, decode_event
from inngest.core.model.functions import Function
from inngest.core.model.history import What
from inngest.core.model.runs import Item, Kind, Pause, PauseKind, Queue
from inngest.core.model.transition import Complete, CreateRun, Emit, Lease, Record, TakeLock, Transition
from inngest.core.policy import LEASE
from inngest.core.timing.times import MINUTE
from inngest.services.backoff import backoff
from inngest.services.counts import RunnerCounts
from inngest.services.loop import Loop
from inngest.services.runtime import Observer, Runtime

log = structlog.get_logger("inngest.runner")

GROUP = "runner"
_FETCH = 500
_IDLE_SECONDS = 30.0
_REAP_SECONDS = 60.0
_ORPHAN_AGE = 5 * MINUTE
_KNOWN_CONDITIONS = 10_000


class Runner:
    """One runner; any number of them may share the stream and the engine store."""

    def __init__(self, runtime: Runtime, observe: Observer | None = None) -> None:
        self._runtime = runtime
        self._observe = observe
        self._engine = runtime.engine
        self._conditions: dict[str, Expression | None] = {}
        self._failing: set[tuple[str, str]] = set()
        self.counts = RunnerCounts()
        self._eventing = Loop("runner.events", self._events)
        self._firing = Loop("runner.items", self._items)
        self._relaying = Loop("runner.relay", self._relay)
        self._reaping = Loop("runner.reap", self._reap)
        self._loops = (self._eventing, self._firing, self._relaying, self._reaping)
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Work until `drain`, or until cancelled: what is under way then is acknowledged only when committed,
        and so delivered again.
        """
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as group:
                for loop in self._loops:
                    group.create_task(loop.run())
        finally:
            self._ended.set()

    async def drain(self, grace: float) -> None:
        """Take no more; commit what is under way, and bring what the outbox holds to the stream, within
        ``grace`` seconds. Whatever does not come to its end is found again by the next runner.
        """
        for loop in self._loops:
            loop.stop()
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
                while await self._relay_some():
                    pass
        except TimeoutError:
            log.warning("the rest is left to the next runner", action="runner.drain")
        except StoreUnavailable as error:
            log.warning("internal events wait in the outbox", action="runner.drain", error=str(error))

    # -- events --

    async def _events(self) -> None:
        loop = self._eventing
        delivery = await loop.rest(self._runtime.stream.fetch(GROUP, _FETCH, _IDLE_SECONDS))
        if delivery is None:
            return
        failures = 0
        while True:
            try:
                # News of a registration may be slower than the events that were sent after it.
                await self._runtime.registry.catch_up()
                await self.process(delivery.events)
                await self._runtime.stream.ack(GROUP, delivery.token)
                return
            except StoreUnavailable as error:
                log.warning("events wait for the engine store", action="runner.events", error=str(error))
                failures += 1
                await loop.rest(backoff(failures))

    async def process(self, events: Sequence[Event]) -> None:
        """Decide on events and commit. Repeating it changes nothing more.

        Decisions are committed together, except that an event which may cancel what an earlier one of the
        batch starts must find it.
        """
        start = 0
        armed: set[str] = set()
        for place, event in enumerate(events):
            if event.name in armed:
                await self._process(events[start:place])
                start, armed = place, set()
            armed |= self._runtime.registry.cancelled_by(event)
        await self._process(events[start:])

    async def _process(self, events: Sequence[Event]) -> None:
        pauses = await self._engine.pauses(events)
        transitions: list[Transition] = []
        at = self._runtime.moment()
        lag = self.counts.lag
        for event, waiting in zip(events, pauses, strict=True):
            lag.add((at.now - event.received) / 1000)
            try:
                transitions += await self._decide(event, waiting, at)
            except StoreUnavailable:
                raise
            except Exception as error:
                log.error("event cannot be processed", action="runner.event", id=event.id, exc_info=error)
        await self._commit(transitions)

    async def _commit(self, transitions: Sequence[Transition]) -> None:
        if not transitions:
            return
        results = await self._engine.commit(transitions)
        if self._observe is not None:
            for transition, committed in zip(transitions, results, strict=True):
                self._observe(transition, committed)

    async def _decide(self, event: Event, waiting: Sequence[Pause], at: Moment) -> list[Transition]:
        transitions: list[Transition] = []
        if event.name == INVOKED:
            fn = self._runtime.registry.invoked(event)
            if fn is not None:
                transitions.append(await self._schedule(fn, event, at))
            elif answers := unknown_function(event, at):
                emits = [Emit(event=answer.encode()) for answer in answers]
                transitions.append(Transition(fn="", run="", effects=list(emits)))
        else:
            names, functions = self._runtime.registry.triggered(event)
            for fn in functions:
                if matches(fn, event, names, at.now, self._trigger_failed):
                    transitions.append(await self._schedule(fn, event, at))
        for pause in waiting:
            if may_meet(pause, event, at.now) and self._holds(pause, event, at.now):
                transition = await self._meet(pause, event, at)
                if transition is not None:
                    transitions.append(transition)
        return transitions

    def _trigger_failed(self, fn: Function, source: str, error: EvaluationError) -> None:
        """Said once of an expression: it may fail on every event."""
        if (fn.id, source) not in self._failing:
            if len(self._failing) >= _KNOWN_CONDITIONS:
                self._failing.clear()
            self._failing.add((fn.id, source))
            log.warning(
                "trigger expression fails, which is no match",
                action="runner.trigger",
                fn=fn.slug,
                expression=source,
                error=str(error),
            )

    async def _schedule(self, fn: Function, event: Event, at: Moment) -> Transition:
        return await self._make_way(fn, schedule(fn, event, at), at, event.received)

    async def _make_way(self, fn: Function, transition: Transition, at: Moment, received: int) -> Transition:
        """For a run that needs a singleton lock: cancel the run that holds it, if the function wants that,
        else tell in favour of which run the new one is skipped.
        """
        lock = next((effect for effect in transition.effects if isinstance(effect, TakeLock)), None)
        holder_id = await self._engine.lock_holder(lock.key) if lock is not None else None
        if fn.singleton is None or holder_id is None:
            return transition
        if fn.singleton.mode == "cancel":
            run = next(effect.run for effect in transition.effects if isinstance(effect, CreateRun))
            holder = await self._engine.run(holder_id)
            # An event that is delivered again must not cancel a run that came after its own. Its id alone
            # does not tell: that may be of a sender whose clock is slow.
            if (
                holder is not None
                and holder.key != run.key
                and (received > holder.created or run.event_ids[0] > holder.event_ids[0])
            ):
                await self._commit([cancel(holder, at)])
                return transition
        for effect in transition.effects:
            if isinstance(effect, Record) and effect.entry.what is What.SKIPPED:
                effect.entry.info = {**(effect.entry.info or {}), "existing": holder_id}
        return transition

    def _holds(self, pause: Pause, event: Event, now: int) -> bool:
        if not pause.condition:
            return True
        if pause.condition not in self._conditions:
            if len(self._conditions) >= _KNOWN_CONDITIONS:
                self._conditions.clear()
            try:
                self._conditions[pause.condition] = compile_bound(pause.condition)
            except ExpressionError as error:
                log.error(
                    "stored condition is not valid", action="runner.pause", pause=pause.id, error=str(error)
                )
                self._conditions[pause.condition] = None
        compiled = self._conditions[pause.condition]
        if compiled is None:
            return False
        try:
            return compiled.is_true({"async": event.value}, now)
        except EvaluationError:
            return False

    async def _meet(self, pause: Pause, event: Event, at: Moment) -> Transition | None:
        match pause.kind:
            case PauseKind.CANCEL:
                run = await self._engine.run(pause.run)
                return cancel(run, at) if run is not None else None
            case PauseKind.INVOKE:
                value, info = invoke_result(event)
                return resume(pause, value, at, info=info)
            case _:
                return resume(pause, event.payload, at, info={"event": event.id})

    # -- timers of functions --

    async def _items(self) -> None:
        now = self._runtime.clock()
        work = await self._engine.lease(Queue.RUNNER, 100, now, now + LEASE)
        transitions = []
        for leased in work.items:
            item = leased.item
            try:
                transition = await self._fire(item)
            except StoreUnavailable:
                raise
            except Exception as error:
                log.error("item cannot be processed", action="runner.item", job=item.job, exc_info=error)
                continue
            transition.lease = Lease(item.job, item.epoch)
            transitions.append(transition)
        await self._commit(transitions)
        if not work.items:
            seconds = _IDLE_SECONDS
            if work.next_due is not None:
                seconds = min(seconds, max(work.next_due - self._runtime.clock(), 0) / 1000 + 0.0005)
            await self._firing.rest(self._engine.wait(Queue.RUNNER, seconds))

    async def _fire(self, item: Item) -> Transition:
        fn = self._runtime.registry.functions.get(item.fn)
        if fn is None:
            await self._runtime.registry.refresh()
            fn = self._runtime.registry.functions.get(item.fn)
        if fn is None or fn.archived:
            log.warning(
                "function is gone, its item is dropped", action="runner.item", job=item.job, fn=item.fn
            )
            return Transition(fn=item.fn, run="", effects=[Complete()])
        at = self._runtime.moment()
        transition = tick(fn, item, at) if item.kind is Kind.CRON else collected(fn, item, at)
        return await self._make_way(fn, transition, at, at.now)

    # -- internal events --

    async def _relay(self) -> None:
        """Bring the events that transitions emit from the outbox to the stream."""
        if not await self._relay_some():
            await self._relaying.rest(self._engine.wait_events(_IDLE_SECONDS))

    async def _relay_some(self) -> bool:
        """Whether there were any."""
        box = await self._engine.outbox_events(_FETCH)
        if not box.events:
            return False
        await self._runtime.stream.publish([decode_event(event) for event in box.events])
        await self._engine.ack_events(box.token)
        return True

    # -- the reaper --

    async def _reap(self) -> None:
        """No run may be left that nothing moves. There should be none; if there is, it is called again."""
        await self._reaping.rest(asyncio.sleep(_REAP_SECONDS))
        at = self._runtime.moment()
        for run in await self._engine.orphans(at.now - _ORPHAN_AGE):
            fn = self._runtime.registry.functions.get(run.fn)
            self.counts.orphans += 1
            log.error("run had been left behind", action="runner.reap", run=run.id, fn=run.slug)
            await self._engine.commit([repair(run, fn, at)])
