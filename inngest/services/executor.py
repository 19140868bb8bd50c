"""The executor: due items in, calls to applications out, transitions back.

Lease, call, decide, commit. All state is in the engine store; what is in here can be lost at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from inngest.core.decisions.advance import advance, begin, expire, gateway_result
from inngest.core.decisions.draft import Call, error_json
from inngest.core.decisions.finish import bare_end
from inngest.core.errors import StoreUnavailable, StoreUnusable
from inngest.core.model.functions import Function
from inngest.core.model.runs import CALLS, Item, Kind, Leased, Queue, RunStatus
from inngest.core.model.transition import Complete, Effect, EndRun, Lease, Retry, Transition, lease_of
from inngest.core.policy import ANSWER_BYTES, CAPACITY, DEAD, LEASE, MAX_ITEM_FAILURES, WORK_BYTES
from inngest.core.sdk.responses import failure, has_failed
from inngest.core.timing.backoff import retry_delay
from inngest.loops.background import Watched
from inngest.loops.backoff import backoff
from inngest.loops.room import Room
from inngest.ports.driver import Driver, Gateway
from inngest.ports.engine import Take
from inngest.services.counts import ExecutorCounts
from inngest.services.loop import Loop
from inngest.services.runtime import Observer, Runtime

log = structlog.get_logger("inngest.executor")

_IDLE_SECONDS = 30.0
_BEAT_SECONDS = DEAD / 4000
_BEATS_A_LEASE = max(int(LEASE / 3000 / _BEAT_SECONDS), 1)
_DEFECT = "The server could not process this step; its log says why."
_MAX_REASON = 1000
_UNKNOWN_FUNCTION_RETRY = 60_000
_REGISTRY_FAILURES = 5
"""As which failure in a row one of the registry counts, for the wait before the next try: about a second."""


class Executor:
    """One executor; any number of them may share an engine store.

    ``observe`` is called with each commit that happened, for the console. ``answers``: the room that answers
    share, in which they are until they are stored.
    """

    def __init__(
        self,
        runtime: Runtime,
        driver: Driver,
        gateway: Gateway,
        *,
        capacity: int = CAPACITY,
        observe: Observer | None = None,
        answers: Room | None = None,
    ) -> None:
        self._runtime = runtime
        self._answers = answers if answers is not None else Room(ANSWER_BYTES)
        self._weights: dict[asyncio.Task[None], int] = {}  # of the runs that are worked on
        self._weight = 0
        self._engine = runtime.engine
        self._driver = driver
        self._gateway = gateway
        self._capacity = capacity
        self._observe = observe
        self._working: dict[asyncio.Task[None], Lease] = {}
        self._committing: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._loop = Loop("executor.lease", self._round)
        self._ended = asyncio.Event()
        self._heart = Watched("executor.heartbeat", self._beat)
        self._beats = 0
        self._worker = runtime.worker
        self._request = 1
        self._again = False
        self.counts = ExecutorCounts()

    @property
    def in_flight(self) -> int:
        """Items that are worked on, calls of applications for the most part."""
        return len(self._working)

    async def run(self) -> None:
        """Work until `drain`, or until cancelled, which loses time: see `drain`."""
        self._ended.clear()
        self._heart.start()
        try:
            await self._loop.run()
        except asyncio.CancelledError:
            await self._heart.stop()
            raise
        finally:
            self._ended.set()

    async def _round(self) -> None:
        free = self._capacity - len(self._working)
        if free <= 0 or self._weight >= WORK_BYTES:
            self._freed.clear()
            await self._loop.rest(self._freed.wait())
            return
        try:
            work = await self._engine.lease(
                Queue.EXECUTOR, free, LEASE, self._worker, request=self._request, again=self._again
            )
        except StoreUnavailable:
            self._again = True
            raise
        self._request, self._again = self._request + 1, False
        if self._loop.stopping:
            await self._hand_back([lease_of(leased.item) for leased in work.items])
            return
        for leased in work.items:
            self._start(leased)
        if not work.items:
            seconds = _IDLE_SECONDS
            if work.next_in is not None:
                # Half a millisecond beyond, since a timer that fires a hair early would
                # only make another round.
                seconds = min(seconds, work.next_in + 0.0005)
            await self._loop.rest(self._engine.wait(Queue.EXECUTOR, seconds))

    def _start(self, leased: Leased) -> None:
        task = asyncio.create_task(self._work(leased))
        self._working[task] = lease_of(leased.item)
        self._weigh(task, leased.run.weight() if leased.run is not None else 0)
        task.add_done_callback(self._done)

    def _weigh(self, task: asyncio.Task[None], weight: int) -> None:
        """The run that the task works on takes so much."""
        self._weight += weight - self._weights.get(task, 0)
        self._weights[task] = weight

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.pop(task, None)
        self._weight -= self._weights.pop(task)
        self._freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work on an item failed", action="executor.work", exc_info=error)

    async def _beat(self) -> None:
        """Give a sign of life, and now and then prolong the leases of calls that take long."""
        await self._engine.alive(self._worker, DEAD)
        self._beats += 1
        if self._beats % _BEATS_A_LEASE == 0:
            await self._prolong()
        await asyncio.sleep(_BEAT_SECONDS)

    async def _prolong(self) -> None:
        leases = self._held()
        if not leases:
            return
        lost = await self._engine.extend(leases, LEASE)
        # A commit under way may have given the lease up, though it is not durable yet; else it tells itself.
        held = [
            lease for task, lease in self._working.items() if not task.done() and task not in self._committing
        ]
        lost = [lease for lease in lost if lease in held]
        self.counts.lost += len(lost)
        for lease in lost:
            # The call goes on, since the application works on it; its result will be refused as stale.
            log.warning("lease was lost", action="executor.heartbeat", job=lease.job)

    def _held(self) -> list[Lease]:
        """The leases under which something is done. A task that has ended is forgotten a moment later."""
        return [lease for task, lease in self._working.items() if not task.done()]

    # -- one item --

    async def _work(self, leased: Leased) -> None:
        """Work on an item, and on its continuations for as long as the store leases them back at once."""
        current: Leased | None = leased
        task = asyncio.current_task()
        assert task is not None
        while current is not None:
            item = current.item
            self._working[task] = lease_of(item)
            self.counts.lateness.add((self._runtime.clock() - item.due) / 1000)
            try:
                transition = await self._decide(current)
            except StoreUnusable:
                raise
            except StoreUnavailable as error:
                log.warning("item has to wait", action="executor.decide", run=item.run, error=str(error))
                await backoff(_REGISTRY_FAILURES)
                continue
            except Exception as error:
                log.error(
                    "item cannot be worked on",
                    action="executor.decide",
                    run=item.run,
                    job=item.job,
                    exc_info=error,
                )
                transition = self._defect(current)
            self._committing.add(task)
            weight = transition.weight()
            # What the run has, and what comes to it: so much it takes until its next item ends.
            self._weigh(task, weight + (current.run.weight() if current.run is not None else 0))
            self._answers.take(weight)
            try:
                current = await self._commit(current, transition)
            finally:
                self._answers.give(weight)
                self._committing.discard(task)
            if current is not None and self._loop.stopping:
                await self._hand_back([lease_of(current.item)])
                return

    async def _commit(self, leased: Leased, transition: Transition) -> Leased | None:
        """Commit, whatever it takes; the continuation, if the store leased it at once.

        What the store refuses, or fails on, is a failed attempt like any other; if it cannot take even that,
        the run ends.
        """
        failures = 0
        others = [self._defect, self._last_resort, self._in_silence]
        while True:
            take = None if self._loop.stopping or self._weight >= WORK_BYTES else Take(self._worker, LEASE)
            try:
                committed = (await self._engine.commit([transition], take=take))[0]
            except StoreUnusable:
                raise
            except StoreUnavailable as error:
                if not failures:
                    log.warning(
                        "commit failed", action="executor.commit", run=transition.run, error=str(error)
                    )
                failures += 1
                await backoff(failures)
                continue
            except Exception as error:
                log.error(
                    "result cannot be stored",
                    action="executor.commit",
                    run=transition.run,
                    job=leased.item.job,
                    exc_info=error,
                )
                if not others:
                    return None  # its lease runs out
                transition = others.pop(0)(leased, f"The result of this step cannot be stored: {error}")
                continue
            if committed.stale:
                if not failures:
                    self.counts.stale += 1
                    log.warning(
                        "lease was lost, result refused",
                        action="executor.commit",
                        run=transition.run,
                        job=leased.item.job,
                    )
                return committed.next
            if self._observe is not None:
                self._observe(transition, committed)
            return committed.next

    async def _decide(self, leased: Leased) -> Transition:
        item, run, runtime = leased.item, leased.run, self._runtime
        assert run is not None, "executor items belong to runs"
        fn = runtime.registry.functions.get(item.fn)
        if fn is None:
            await runtime.registry.refresh()
            fn = runtime.registry.functions.get(item.fn)
        if fn is None:
            log.error("function is not registered", action="executor.decide", fn=item.fn, run=item.run)
            due = runtime.clock() + _UNKNOWN_FUNCTION_RETRY
            retry = Retry(due=due, attempt=item.attempt)
            return Transition(fn=item.fn, run=item.run, effects=[retry], lease=lease_of(item))
        if item.kind not in CALLS:
            return expire(run, fn, item, runtime.moment())
        instead = begin(run, fn, item, runtime.moment(), runtime.limits.of(fn.id))
        if instead is not None:
            return instead
        return await self._call(leased, fn)

    async def _call(self, leased: Leased, fn: Function) -> Transition:
        item, run, runtime = leased.item, leased.run, self._runtime
        assert run is not None
        started, seen, began = runtime.clock(), len(run.stack), self.counts.called()
        reply, answer = None, None
        try:
            if item.kind is Kind.GATEWAY:
                reply = await self._gateway.fetch(item)
            else:
                answer = await self._driver.call(run, fn, item)
        finally:
            self.counts.answered(began)
        call = Call(started=started, ended=runtime.clock(), seen=seen)
        at, jitter, policy = runtime.moment(), runtime.jitter(), runtime.limits.of(fn.id)
        if answer is not None:
            if item.attempt and has_failed(answer):
                item = await self._newest(item)
            return advance(run, fn, item, answer, at, call=call, jitter=jitter, policy=policy)
        assert reply is not None
        return gateway_result(
            run, fn, item, reply.value, reply.error, at, call=call, jitter=jitter, policy=policy
        )

    async def _newest(self, item: Item) -> Item:
        """The item as steps that were checkpointed during its call have left it: with its attempts set back
        (section 5.7).
        """
        try:
            newest = await self._engine.item(item.fn, item.job)
        except StoreUnavailable:
            return item  # the call is not to be made again for that
        return newest if newest is not None and newest.epoch == item.epoch else item

    def _defect(self, leased: Leased, reason: str = _DEFECT) -> Transition:
        """What becomes of an item on which this program itself failed: a failed attempt like any other."""
        item, run, runtime = leased.item, leased.run, self._runtime
        fn = runtime.registry.functions.get(item.fn)
        if run is None or fn is None or item.kind not in CALLS:
            effects: list[Effect] = [Complete()]
            if item.attempt + 1 < MAX_ITEM_FAILURES:
                due = runtime.clock() + retry_delay(item.attempt, 0.0)
                effects = [Retry(due=due, attempt=item.attempt + 1)]
            return Transition(fn=item.fn, run=item.run, effects=effects, lease=lease_of(item))
        now = runtime.clock()
        answer = failure(reason[:_MAX_REASON])
        policy = runtime.limits.of(fn.id)
        return advance(run, fn, item, answer, runtime.moment(), call=Call(now, now), policy=policy)

    def _last_resort(self, leased: Leased, reason: str) -> Transition:
        """The run ends, and nothing more is said than that."""
        item, at = leased.item, self._runtime.moment()
        error = error_json("Error", _DEFECT)
        effects = bare_end(item.run, item.fn, RunStatus.FAILED, at.now, at.new_id(), error=error)
        return Transition(fn=item.fn, run=item.run, effects=[*effects, Complete()], lease=lease_of(item))

    def _in_silence(self, leased: Leased, reason: str) -> Transition:
        """The run ends, and not even that is said."""
        item = leased.item
        effects: list[Effect] = [EndRun(status=RunStatus.FAILED), Complete()]
        return Transition(fn=item.fn, run=item.run, effects=effects, lease=lease_of(item))

    # -- the end --

    async def drain(self, grace: float) -> None:
        """Take no more work; let what is in flight end and be committed within ``grace`` seconds; hand the
        rest back to the queue, where any executor finds it at once.
        """
        self._loop.stop()
        until = asyncio.get_running_loop().time() + grace
        try:
            async with asyncio.timeout_at(until):
                await self._ended.wait()
                while self._working:
                    await asyncio.wait(list(self._working))
        except TimeoutError:
            pass
        finally:
            await self._heart.stop()
        rest = dict(self._working)
        for task in rest:
            task.cancel()
        if rest:
            log.warning("steps are handed back unfinished", action="executor.drain", count=len(rest))
            await asyncio.wait(list(rest))
            await self._hand_back(list(rest.values()))
        with contextlib.suppress(StoreUnavailable):
            await self._engine.alive(self._worker, 0)

    async def _hand_back(self, leases: Sequence[Lease]) -> None:
        try:
            await self._engine.hand_back(leases)
        except StoreUnavailable as error:
            log.warning(
                "unfinished items wait for their lease to run out",
                action="executor.hand_back",
                error=str(error),
            )
