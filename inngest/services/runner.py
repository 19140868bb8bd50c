"""The runner: the event stream in; runs, resumed waits, batches, debounces and cron ticks out.

A loop like the executor's: fetch, decide, commit, acknowledge. What is decided is in `core.decisions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import TypeAlias

import msgspec
import structlog
from msgspec.structs import replace

from inngest.core.decisions.advance import evicted
from inngest.core.decisions.collectors import collected
from inngest.core.decisions.crons import crons, scheduled, tick
from inngest.core.decisions.events import Problem, marks, met, recall_names, recalled, remembered, started
from inngest.core.decisions.finish import bare_end
from inngest.core.decisions.meeting import Conditions
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.oversize import substitute
from inngest.core.decisions.repair import repair
from inngest.core.decisions.starting import lost_to
from inngest.core.decisions.sweeps import order_sweep, sweep, sweep_job, sweep_of
from inngest.core.errors import StoreDefect, StoreRefused, StoreUnavailable, StoreUnusable
from inngest.core.expr import EvaluationError
from inngest.core.model.events import Event
from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Kind, Leased, Queue, RunStatus, accepted_at
from inngest.core.model.transition import Complete, Effect, Retry, TakeLock, Transition, lease_of
from inngest.core.policy import DEAD, LEASE, MAX_ITEM_FAILURES, PAGE, SETTLING
from inngest.core.timing.backoff import retry_delay
from inngest.core.timing.times import MINUTE
from inngest.loops.trouble import unexpected
from inngest.ports.stream import Entry
from inngest.services.counts import RunnerCounts
from inngest.services.loop import Loop, Stopped
from inngest.services.reader import Reader, Rest, reason_of, sift
from inngest.services.runtime import Observer, Runtime

log = structlog.get_logger("inngest.runner")

GROUP = "runner"
ITEM = "item"
"""The kind of dead letters that are queue items."""
_FETCH = 500
_ITEMS = 100
_IDLE_SECONDS = 30.0
_REAP_SECONDS = 60.0
_SETTLE_SECONDS = 10.0
_ORPHAN_AGE = 5 * MINUTE
_KNOWN_FAILURES = 10_000
_MAX_WIDE = 4
"""Deliveries with events that very many wait for, which are worked off beside the others."""


_Refusal: TypeAlias = tuple[Transition, Exception]


class Runner:
    """One runner; any number of them may share the stream and the engine store.

    ``unused`` is told of each event that starts nothing and that nobody waits for, for the console.
    """

    def __init__(
        self,
        runtime: Runtime,
        observe: Observer | None = None,
        unused: Callable[[Event], None] | None = None,
    ) -> None:
        self._runtime = runtime
        self._observe = observe
        self._unused = unused
        self._engine = runtime.engine
        self._worker = runtime.worker
        self._request = 1
        self._again = False
        self._conditions = Conditions()
        self._failing: set[tuple[str, str]] = set()
        self._derived: dict[str, tuple[tuple[str, int], ...]] = {}
        self._derived_version = -1
        self._relayed = False
        self._settled = 0
        self._tasks: asyncio.TaskGroup
        self._wide: set[asyncio.Task[None]] = set()
        self._reader = Reader(runtime.stream, GROUP, _FETCH)
        self.counts = RunnerCounts(self._reader.counts)
        self._eventing = Loop("runner.events", self._events)
        self._firing = Loop("runner.items", self._items)
        self._relaying = Loop("runner.relay", self._relay)
        self._reaping = Loop("runner.reap", self._reap)
        self._deriving = Loop("runner.crons", self._crons)
        self._settling = Loop("runner.settle", self._settle)
        self._beating = Loop("runner.alive", self._beat)
        self._loops = (
            self._eventing,
            self._firing,
            self._relaying,
            self._reaping,
            self._deriving,
            self._settling,
            self._beating,
        )
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Work until `drain`, or until cancelled: what is under way then is acknowledged only when committed,
        and so delivered again.
        """
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for loop in self._loops:
                    self._tasks.create_task(loop.run())
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
                await self._engine.alive(self._worker, 0)
        except TimeoutError:
            log.warning("the rest is left to the next runner", action="runner.drain")
        except StoreUnavailable as error:
            log.warning("internal events wait in the outbox", action="runner.drain", error=str(error))

    def _moment(self) -> Moment:
        return self._runtime.moment(self._settled)

    # -- events --

    async def _events(self) -> None:
        await self._reader.read(self._eventing, self._take, aside=self._set_aside)

    async def _take(self, events: Sequence[Event]) -> Rest | None:
        # News of a registration may be slower than the events that were sent after it.
        await self._runtime.registry.catch_up()
        rest = await self._process(events)
        return partial(self._meet_many, rest) if rest else None

    async def _set_aside(self, finish: Rest) -> None:
        """Events that very many wait for are worked off beside the others."""
        while len(self._wide) >= _MAX_WIDE:
            await asyncio.wait(self._wide, return_when=asyncio.FIRST_COMPLETED)
        task = self._tasks.create_task(self._finish(finish))
        self._wide.add(task)
        task.add_done_callback(self._wide.discard)

    async def _finish(self, finish: Rest) -> None:
        try:
            await finish()
        except Stopped:
            pass
        except StoreUnusable:
            raise
        except Exception as error:  # noqa: BLE001 -- what is not acknowledged is delivered again
            unexpected("runner.events", error)

    async def process(self, events: Sequence[Event]) -> None:
        """Decide on events and commit. Repeating it changes nothing more."""
        for event, cursor, functions in await self._process(events):
            await self._meet_rest(event, cursor, functions)

    async def _process(self, events: Sequence[Event]) -> list[tuple[Event, str, set[str]]]:
        """What is left: events that more wait for than one page holds, and where the next begins."""
        registry, engine = self._runtime.registry, self._engine
        await self._commit_parts([(event, kept) for event in events for kept in remembered(event, registry)])
        pages = await engine.first_pauses(events, PAGE)
        at = self._moment()
        lag = self.counts.lag
        parts: list[tuple[Event, Transition]] = []
        rest: list[tuple[Event, str, set[str]]] = []
        for event, page in zip(events, pages, strict=True):
            lag.add((at.now - event.received) / 1000)
            report = self._reporter(event)
            parts += [(event, one) for one in started(event, registry, at, report, self._trigger_failed)]
            meetings = met(event, page.found, self._conditions, at, report, last=not page.cursor)
            parts += [(event, one) for one in meetings]
            if self._unused is not None and not page.cursor and (not parts or parts[-1][0] is not event):
                self._unused(event)
            if page.cursor:
                rest.append((event, page.cursor, {each.fn for each in meetings}))
        await self._name_holders([transition for _, transition in parts])
        await self._commit_parts(parts)
        return rest

    async def _meet_many(self, rest: Sequence[tuple[Event, str, set[str]]]) -> None:
        for event, cursor, functions in rest:
            try:
                await self._meet_rest(event, cursor, functions)
            except (StoreUnavailable, Stopped):
                raise
            except Exception as error:  # noqa: BLE001 -- reported; the others have their waits
                self._reporter(event)(Problem("the waits of an event", "", error))
                await self._set_apart(event, error)

    async def _meet_rest(self, event: Event, cursor: str, functions: set[str]) -> None:
        report = self._reporter(event)
        while cursor:
            page = await self._engine.pauses(event, cursor, PAGE)
            at = self._moment()
            meetings = met(event, page.found, self._conditions, at, report, last=False)
            functions |= {each.fn for each in meetings}
            await self._commit_parts([(event, one) for one in meetings])
            cursor = page.cursor
        await self._commit_parts([(event, mark) for mark in marks(event, functions, self._moment())])

    async def _set_apart(self, event: Event, error: Exception) -> None:
        """To the dead letters, for what could not be done: if it is delivered again from there, nothing else
        of it happens twice.
        """
        self.counts.reader.refused += 1
        letter = Entry(body=event.encode(), at=event.received, id=event.id)
        await self._runtime.stream.bury(GROUP, [letter], reason_of(error))

    def _reporter(self, event: Event) -> _Report:
        return _Report(event, self.counts)

    async def _commit(self, transitions: Sequence[Transition]) -> list[_Refusal]:
        """Commit, page by page. What a store refuses, or fails on, keeps nothing else from it; it is
        returned.
        """
        refusals: list[_Refusal] = []
        for start in range(0, len(transitions), PAGE):
            page = transitions[start : start + PAGE]
            try:
                await self._commit_page(page)
            except (StoreRefused, StoreDefect) as error:
                if len(page) == 1:
                    refusals.append((page[0], error))
                    continue
                for transition in page:
                    try:
                        await self._commit_page([transition])
                    except (StoreRefused, StoreDefect) as own:
                        refusals.append((transition, own))
        self.counts.refused += len(refusals)
        for transition, reason in refusals:
            log.error(
                "the engine store does not take a change",
                action="runner.commit",
                fn=transition.fn,
                run=transition.run,
                error=str(reason),
            )
        return refusals

    async def _commit_parts(self, parts: Sequence[tuple[Event, Transition]]) -> None:
        """Commit what comes of events. One of which something is refused is set apart for that alone."""
        causes = {id(transition): event for event, transition in parts}
        apart: dict[str, tuple[Event, Exception]] = {}
        for transition, error in await self._commit([transition for _, transition in parts]):
            event = causes[id(transition)]
            apart.setdefault(event.id, (event, error))
        for event, error in apart.values():
            await self._set_apart(event, error)

    async def _commit_page(self, transitions: Sequence[Transition]) -> None:
        results = await self._engine.commit(transitions)
        if self._observe is not None:
            for transition, committed in zip(transitions, results, strict=True):
                self._observe(transition, committed)

    def _trigger_failed(self, fn: Function, source: str, error: EvaluationError) -> None:
        """Said once of an expression: it may fail on every event."""
        if (fn.id, source) not in self._failing:
            if len(self._failing) >= _KNOWN_FAILURES:
                self._failing.clear()
            self._failing.add((fn.id, source))
            log.warning(
                "trigger expression fails, which is no match",
                action="runner.trigger",
                fn=fn.slug,
                expression=source,
                error=str(error),
            )

    async def _name_holders(self, transitions: Sequence[Transition]) -> None:
        """For history: in favour of which run one would be skipped."""
        wanting = [
            (transition, effect.key)
            for transition in transitions
            for effect in transition.effects
            if type(effect) is TakeLock and effect.evict is None
        ]
        if wanting:
            holders = await self._engine.lock_holders([(each.fn, key) for each, key in wanting])
            for (transition, _), holder in zip(wanting, holders, strict=True):
                if holder is not None:
                    lost_to(transition, holder)

    # -- items of functions --

    async def _items(self) -> None:
        # Until all of it is done, the next look gives again what this one gave.
        again, self._again = self._again, True
        work = await self._engine.lease(
            Queue.RUNNER, _ITEMS, LEASE, self._worker, request=self._request, again=again
        )
        if any(leased.item.kind is Kind.CRON for leased in work.items):
            await self._runtime.registry.catch_up()
        transitions: list[Transition] = []
        for leased in work.items:
            transitions += await self._fire_safely(leased)
        await self._name_holders(transitions)
        leases = {lease_of(leased.item): leased.item for leased in work.items}
        for transition, error in await self._commit(transitions):
            if transition.lease is not None and (item := leases.get(transition.lease)) is not None:
                await self._commit([await self._failed(item, error)])
        self._request, self._again = self._request + 1, False
        if not work.items:
            seconds = _IDLE_SECONDS
            if work.next_in is not None:
                seconds = min(seconds, work.next_in + 0.0005)
            await self._firing.rest(self._engine.wait(Queue.RUNNER, seconds))

    async def _fire_safely(self, leased: Leased) -> list[Transition]:
        try:
            return await self._fire(leased)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 -- it is told of, and no other item waits for this one
            return [await self._failed(leased.item, error)]

    async def _failed(self, item: Item, error: Exception) -> Transition:
        """An item on which this program or the store has failed is tried again, later and later; when it was
        often enough it is a dead letter. An evicted run ends all the same: nothing else would ever end it.
        """
        log.error(
            "item cannot be processed",
            action="runner.item",
            job=item.job,
            kind=item.kind,
            fn=item.fn,
            attempt=item.attempt,
            exc_info=error,
        )
        effects: list[Effect]
        if item.attempt + 1 < MAX_ITEM_FAILURES:
            due = self._engine.now() + retry_delay(item.attempt, 0.0)
            effects = [Retry(due=due, attempt=item.attempt + 1)]
        else:
            await self._bury(item, error)
            effects = [Complete()]
            if item.kind is Kind.EVICT:
                now, new_id = self._engine.now(), self._runtime.new_id
                effects = [*bare_end(item.run, item.fn, RunStatus.CANCELLED, now, new_id()), Complete()]
        return Transition(fn=item.fn, run=item.run, effects=effects, lease=lease_of(item))

    async def _bury(self, item: Item, error: Exception) -> None:
        self.counts.letters += 1
        letter = Entry(body=msgspec.json.encode(item), at=self._engine.now(), id=item.job)
        await self._runtime.stream.bury(GROUP, [letter], reason_of(error), kind=ITEM)

    async def _fire(self, leased: Leased) -> list[Transition]:
        item, run, at = leased.item, leased.run, self._moment()
        match item.kind:
            case Kind.SWEEP:
                return await self._sweep(item, at)
            case Kind.EVICT if run is not None:
                return [evicted(run, item, at)]
            case Kind.RECALL if run is not None:
                events = await self._engine.remembered(run.fn, recall_names(item), accepted_at(run.order))
                return [recalled(run, item, events, at)]
            case _:
                pass
        fn = await self._function(item.fn)
        if fn is None or fn.archived:
            log.warning(
                "function is gone, its item is dropped", action="runner.item", job=item.job, fn=item.fn
            )
            return [Transition(fn=item.fn, run="", effects=[Complete()], lease=lease_of(item))]
        transition = tick(fn, item, at) if item.kind is Kind.CRON else collected(fn, item, at)
        transition.lease = lease_of(item)
        return [transition]

    async def _function(self, fn_id: str) -> Function | None:
        registry = self._runtime.registry
        if fn_id not in registry.functions:
            await registry.refresh()
        return registry.functions.get(fn_id)

    async def _sweep(self, item: Item, at: Moment) -> list[Transition]:
        this = sweep_of(item)
        order = this.order
        listed = next((each for each in await self._engine.cancellations() if each.id == order.id), None)
        if listed is None:
            return [Transition(fn=item.fn, run="", effects=[Complete()], lease=lease_of(item))]
        if not listed.begun:
            await self._engine.put_cancellation(replace(listed, begun=True))
        page = await self._engine.runs(
            order.fn, order.started_after, order.started_before + 1, this.cursor, _ITEMS
        )
        return sweep(item, page.found, page.cursor, at)

    # -- internal events --

    async def _relay(self) -> None:
        """Bring the events that transitions emit from the outbox to the stream."""
        if not await self._relay_some():
            self._relayed = True
            await self._relaying.rest(self._engine.events.wait(_IDLE_SECONDS))

    async def _relay_some(self) -> bool:
        """Whether there were any."""
        box = await self._engine.events.take(_FETCH)
        if not box.entries:
            return False
        await sift(box.entries, self._runtime.stream.publish, self._refuse_event, on=StoreRefused)
        await self._engine.events.ack(box.token)
        return True

    async def _refuse_event(self, body: bytes, error: Exception) -> None:
        """No other internal event may wait for one that the stream does not take; and who waits for that one
        hears what the stream does take of it.
        """
        if (told := self._substitute(body)) is not None:
            await self._runtime.stream.publish([told])
            log.warning(
                "internal event is larger than the stream takes, and shortened",
                action="runner.relay",
                reason=str(error),
                bytes=len(told),
            )
            return
        letter = Entry(body=body, at=self._engine.now(), id=sha256(body).hexdigest())
        await self._runtime.stream.bury(GROUP, [letter], reason_of(error))
        self.counts.reader.refused += 1
        log.error("internal event goes to the dead letters", action="runner.relay", reason=str(error))

    def _substitute(self, body: bytes) -> bytes | None:
        largest = self._runtime.stream.largest
        if len(body) <= largest:  # it is refused for something else
            return None
        try:
            return substitute(body, largest)
        except Exception as error:
            log.error("internal event cannot be shortened", action="runner.relay", exc_info=error)
            return None

    # -- what is derived --

    async def _crons(self) -> None:
        """Keep the queued ticks of all schedules as the registry has them: nothing else writes them."""
        await self._derive()
        await self._deriving.rest(self._runtime.registry.newer(self._derived_version))

    async def _derive(self, *, all_of_them: bool = False) -> None:
        registry, at = self._runtime.registry, self._moment()
        version, functions = registry.version, list(registry.functions.values())
        wanted = {fn.id: scheduled(fn) for fn in functions}
        changed = [fn for fn in functions if all_of_them or self._derived.get(fn.id, ()) != wanted[fn.id]]
        changed = [fn for fn in changed if wanted[fn.id] or self._derived.get(fn.id)]
        await self._commit([Transition(fn=fn.id, run="", effects=[crons(fn, version, at)]) for fn in changed])
        self._derived, self._derived_version = wanted, version

    async def _settle(self) -> None:
        """Learn from when on events may be delivered again, those included that wait in the outbox."""
        settled = await self._runtime.stream.settled(GROUP)
        if self._relayed:
            self._settled = max(settled - SETTLING, self._settled)
        await self._settling.rest(asyncio.sleep(_SETTLE_SECONDS))

    async def _beat(self) -> None:
        await self._engine.alive(self._worker, DEAD)
        await self._beating.rest(asyncio.sleep(DEAD / 4000))

    # -- the reaper --

    async def _reap(self) -> None:
        await self._reaping.rest(asyncio.sleep(_REAP_SECONDS))
        await self.reap()

    async def reap(self) -> None:
        """No run may be left that nothing moves. There should be none; if there is, it is called again. And
        no schedule without its next tick, no bulk cancellation without what carries it out.
        """
        await self._derive(all_of_them=True)
        await self._order_again()
        cursor = ""
        while True:
            page = await self._engine.orphans(_ORPHAN_AGE, cursor, _ITEMS)
            at = self._moment()
            for run in page.found:
                self.counts.orphans += 1
                log.error("run had been left behind", action="runner.reap", run=run.id, fn=run.slug)
            functions = self._runtime.registry.functions
            await self._commit([repair(run, functions.get(run.fn), at) for run in page.found])
            cursor = page.cursor
            if not cursor:
                return

    async def _order_again(self) -> None:
        """A bulk cancellation is listed before its item is queued: whoever orders it may die in between."""
        for order in await self._engine.cancellations():
            if order.begun or await self._engine.item(order.fn, sweep_job(order.id)) is not None:
                continue
            log.warning("bulk cancellation had been left behind", action="runner.reap", id=order.id)
            await self._commit([order_sweep(order, self._moment())])


class _Report:
    """Says what of an event could not be decided, where people look."""

    def __init__(self, event: Event, counts: RunnerCounts) -> None:
        self._event = event
        self._counts = counts

    def __call__(self, problem: Problem) -> None:
        self._counts.undecided += 1
        log.error(
            f"{problem.what} cannot be decided; the rest of the event was",
            action="runner.event",
            id=self._event.id,
            name=self._event.name,
            fn=problem.fn,
            exc_info=problem.error,
        )
