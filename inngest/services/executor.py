"""The executor: due items in, calls to applications out, transitions back.

Lease, call, decide, commit. All state is in the engine store; what is in here can be lost at any moment.
"""

from __future__ import annotations

import asyncio

import structlog

from inngest.core.advance import advance, begin, expire, gateway_result
from inngest.core.building import Call
from inngest.core.errors import StoreUnavailable
from inngest.core.functions import Function
from inngest.core.responses import failure
from inngest.core.runs import CALLS, Kind, Leased, Queue
from inngest.core.transition import Complete, Lease, Retry, Transition
from inngest.ports.driver import Driver, Gateway
from inngest.ports.engine import Take
from inngest.services.runtime import Observer, Runtime, backoff

log = structlog.get_logger("inngest.executor")

LEASE = 30_000
"""How long (ms) an item belongs to an executor that is not heard of."""
CAPACITY = 1000
"""Items that one executor works on at once."""
_IDLE_SECONDS = 30.0
_UNKNOWN_FUNCTION_RETRY = 60_000


class Executor:
    """One executor; any number of them may share an engine store.

    ``observe`` is called with each commit that happened, for the console.
    """

    def __init__(
        self,
        runtime: Runtime,
        driver: Driver,
        gateway: Gateway,
        *,
        capacity: int = CAPACITY,
        observe: Observer | None = None,
    ) -> None:
        self._runtime = runtime
        self._engine = runtime.engine
        self._driver = driver
        self._gateway = gateway
        self._capacity = capacity
        self._observe = observe
        self._working: dict[asyncio.Task[None], Lease] = {}
        self._room = asyncio.Event()
        self._stopping = False

    @property
    def in_flight(self) -> int:
        return len(self._working)

    async def run(self) -> None:
        """Work until cancelled. See `drain` for a stop that loses no time."""
        heartbeat = asyncio.create_task(self._heartbeat())
        failures = 0
        try:
            while not self._stopping:
                try:
                    await self._round()
                    failures = 0
                except StoreUnavailable as error:
                    log.warning("engine store does not answer", action="executor.lease", error=str(error))
                    failures += 1
                    await backoff(failures)
        finally:
            heartbeat.cancel()

    async def _round(self) -> None:
        free = self._capacity - len(self._working)
        if free <= 0:
            self._room.clear()
            await self._room.wait()
            return
        now = self._runtime.clock()
        work = await self._engine.lease(Queue.EXECUTOR, free, now, now + LEASE)
        for leased in work.items:
            self._start(leased)
        if not work.items and not self._stopping:
            seconds = _IDLE_SECONDS
            if work.next_due is not None:
                # Half a millisecond beyond, since a timer that fires a hair early would
                # only make another round.
                seconds = min(seconds, max(work.next_due - self._runtime.clock(), 0) / 1000 + 0.0005)
            await self._engine.wait(Queue.EXECUTOR, seconds)

    def _start(self, leased: Leased) -> None:
        task = asyncio.create_task(self._work(leased))
        self._working[task] = Lease(leased.item.job, leased.item.epoch)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.pop(task, None)
        self._room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work on an item failed", action="executor.work", exc_info=error)

    async def _heartbeat(self) -> None:
        """Prolong the leases of calls that take long."""
        while True:
            await asyncio.sleep(LEASE / 3000)
            leases = list(self._working.values())
            if not leases:
                continue
            try:
                lost = await self._engine.extend(leases, self._runtime.clock() + LEASE)
            except StoreUnavailable as error:
                log.warning("leases were not prolonged", action="executor.heartbeat", error=str(error))
                continue
            for lease in lost:
                # The call goes on, since the application works on it; its result will be refused as stale.
                log.warning("lease was lost", action="executor.heartbeat", job=lease.job)

    # -- one item --------------------------------------------------------------------------------------
    # ---------------

    async def _work(self, leased: Leased) -> None:
        """Work on an item, and on its continuations for as long as the store leases them back at once."""
        current: Leased | None = leased
        task = asyncio.current_task()
        assert task is not None
        while current is not None:
            self._working[task] = Lease(current.item.job, current.item.epoch)
            try:
                transition = await self._decide(current)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.error(
                    "item cannot be worked on", action="executor.decide", job=current.item.job, exc_info=error
                )
                transition = self._defect(current)
            current = await self._commit(current, transition)

    async def _commit(self, leased: Leased, transition: Transition) -> Leased | None:
        failures = 0
        while True:
            now = self._runtime.clock()
            take = None if self._stopping else Take(now=now, until=now + LEASE)
            try:
                committed = (await self._engine.commit([transition], take=take))[0]
            except StoreUnavailable as error:
                log.warning("commit failed", action="executor.commit", run=transition.run, error=str(error))
                failures += 1
                await backoff(failures)
                continue
            if committed.stale:
                if not failures:
                    log.warning(
                        "lease was lost, result refused", action="executor.commit", job=leased.item.job
                    )
                return None
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
            return Transition(fn=item.fn, run=item.run, effects=[retry], lease=Lease(item.job, item.epoch))
        if item.kind not in CALLS:
            return expire(run, fn, item, runtime.moment())
        instead = begin(run, fn, item, runtime.moment(), runtime.limits.of(fn.id))
        if instead is not None:
            return instead
        return await self._call(leased, fn)

    async def _call(self, leased: Leased, fn: Function) -> Transition:
        item, run, runtime = leased.item, leased.run, self._runtime
        assert run is not None
        started = runtime.clock()
        if item.kind is Kind.GATEWAY:
            reply = await self._gateway.fetch(item)
            call = Call(started=started, ended=runtime.clock())
            return gateway_result(
                run,
                fn,
                item,
                reply.value,
                reply.error,
                runtime.moment(),
                call=call,
                jitter=runtime.jitter(),
                policy=runtime.limits.of(fn.id),
            )
        answer = await self._driver.call(run, fn, item)
        call = Call(started=started, ended=runtime.clock())
        at = runtime.moment()
        policy = runtime.limits.of(fn.id)
        return advance(run, fn, item, answer, at, call=call, jitter=runtime.jitter(), policy=policy)

    def _defect(self, leased: Leased) -> Transition:
        """What becomes of an item on which this program itself failed: a failed attempt like any other."""
        item, run, runtime = leased.item, leased.run, self._runtime
        fn = runtime.registry.functions.get(item.fn)
        if run is None or fn is None or item.kind not in CALLS:
            return Transition(
                fn=item.fn, run=item.run, effects=[Complete()], lease=Lease(item.job, item.epoch)
            )
        now = runtime.clock()
        answer = failure("The server could not process this step; its log says why.")
        policy = runtime.limits.of(fn.id)
        return advance(run, fn, item, answer, runtime.moment(), call=Call(now, now), policy=policy)

    # -- the end ---------------------------------------------------------------------------------------
    # ---------------

    async def drain(self, grace: float) -> None:
        """Take no more work; let what is in flight end within ``grace`` seconds; hand the rest back to the
        queue.
        """
        self._stopping = True
        self._room.set()
        if self._working:
            await asyncio.wait(list(self._working), timeout=grace)
        rest = dict(self._working)
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(list(rest))
            try:
                await self._engine.hand_back(list(rest.values()), self._runtime.clock())
            except StoreUnavailable as error:
                log.warning(
                    "unfinished items wait for their lease to run out",
                    action="executor.drain",
                    error=str(error),
                )
