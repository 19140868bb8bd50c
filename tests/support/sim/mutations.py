"""Ways to break the engine, one at a time, and how many seeds it takes to find each.

A simulation that finds nothing shows something only if it would have found these.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from msgspec.structs import replace

from inngest.api import events as events_api
from inngest.backends.memory import effects_start, engine, expiring, pauses, queue, seen, state
from inngest.backends.memory.apply import HANDLERS
from inngest.core.decisions import meeting, moment, schedule
from inngest.core.errors import StoreUnavailable
from inngest.core.model import runs
from inngest.core.model import transition as t
from inngest.core.model.runs import Kind
from inngest.services import reader, registry, runner
from sim import ports


@dataclass(frozen=True)
class Mutation:
    """``name`` of ``target``, a mapping or anything with attributes, replaced by what ``broken`` makes of it.
    ``why``: what is broken.
    """

    why: str
    target: Any
    name: Any
    broken: Callable[[Any], Any]

    @contextmanager
    def applied(self) -> Iterator[None]:
        if isinstance(self.target, dict):
            with mock.patch.dict(self.target, {self.name: self.broken(self.target[self.name])}):
                yield
        else:
            with mock.patch.object(self.target, self.name, self.broken(getattr(self.target, self.name))):
                yield


MUTATIONS: dict[str, Mutation] = {}


def _mutation(why: str, target: Any, name: Any) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    def add(broken: Callable[[Any], Any]) -> Callable[[Any], Any]:
        MUTATIONS[broken.__name__.strip("_").replace("_", "-")] = Mutation(why, target, name, broken)
        return broken

    return add


# -- leases and time --


@_mutation("a commit under an old lease is taken", state.EngineState, "leased")
def _no_fence(_: Any) -> Any:
    def broken(self: Any, lease: Any) -> Any:
        entry = self.entries.get(lease.job)
        return entry if entry is not None and entry.state == queue.State.LEASED else None

    return broken


@_mutation("a lease that runs out loses its item", state.EngineState, "unlease")
def _lost_with_lease(_: Any) -> Any:
    return lambda self, entry, now: self.forget(entry, remember=False)


@_mutation("workers that give signs of life are taken for dead", engine.MemoryEngineStore, "alive")
def _dead_too_soon(real: Any) -> Any:
    async def broken(self: Any, worker: str, ms: int) -> None:
        await real(self, worker, min(ms, 500))

    return broken


@_mutation("the reply to a lost request is given to whoever asks", queue.MemoryQueue, "held_by")
def _anyones_reply(real: Any) -> Any:
    def broken(self: Any, holder: Any, which: Any) -> Any:
        return [each for each in self._leased if each.part.queue is which and each.until < queue.NEVER]

    return broken


@_mutation("timers fire a second early", queue.MemoryQueue, "_promote")
def _early_timers(real: Any) -> Any:
    return lambda self, which, now: real(self, which, now + 1000)


@_mutation("what a client does not know of the store's time is not allowed for", moment.Moment, "latest")
def _no_slack(_: Any) -> Any:
    return property(lambda self: self.now)


@_mutation("one in five sleeps is forgotten", state.EngineState, "push")
def _lost_timers(real: Any) -> Any:
    def broken(self: Any, scope: Any, item: Any, partition: Any) -> bool:
        if item.kind is Kind.SLEEP and self.outbox_seq % 5 == 0 and scope.state is not None:
            scope.state.jobs.add(item.job)
            return True
        return real(self, scope, item, partition)  # type: ignore[no-any-return]

    return broken


# -- capacity --


@_mutation("capacity that returns wakes nobody", queue.MemoryQueue, "_wake")
def _forgotten_wake_up(_: Any) -> Any:
    return lambda self, key: None


@_mutation("the end of an item does not give its capacity back", queue.MemoryQueue, "_release")
def _kept_capacity(_: Any) -> Any:
    return lambda self, entry: None


@_mutation("the end of a run does not give its place back", queue.MemoryQueue, "release_run")
def _kept_place(_: Any) -> Any:
    return lambda self, cell, run: None


@_mutation("concurrency limits are not looked at", queue.MemoryQueue, "_free")
def _no_limit(_: Any) -> Any:
    return lambda self, cell, fn, holder: True


@_mutation("throttles are not looked at", queue.MemoryQueue, "_throttle")
def _no_throttle(_: Any) -> Any:
    return lambda self, part, fn, now: True


@_mutation("rate limits forget what they admitted", expiring.Expiring, "put")
def _no_rate(real: Any) -> Any:
    def broken(self: Any, key: str, value: Any, until: int) -> None:
        if not key.startswith("rate:"):
            real(self, key, value, until)

    return broken


# -- events --


@_mutation("events are accepted before the stream has them", events_api.EventApi, "handle")
def _accepted_too_early(real: Any) -> Any:
    async def broken(self: Any, request: Any) -> Any:
        stream = self._stream

        class Hasty:
            largest = stream.largest

            async def publish(self, bodies: Any) -> None:
                try:
                    await stream.publish(bodies)
                except StoreUnavailable:
                    return

        self._stream = Hasty()
        try:
            return await real(self, request)
        finally:
            self._stream = stream

    return broken


@_mutation("events are acknowledged before they are processed", reader.Reader, "read")
def _ack_before_commit(_: Any) -> Any:
    async def broken(self: Any, loop: Any, work: Any, *, aside: Any = None) -> None:
        delivery = await loop.rest(self._stream.fetch(self._group, self._limit, 30.0))
        if delivery is not None:
            await self._stream.ack(self._group, delivery.token)
            rest = await work([event for entry in delivery.entries if (event := ports.received(entry))])
            if rest is not None:
                await rest()

    return broken


@_mutation("an event is decided on as often as it is delivered", HANDLERS, t.Once)
def _no_once(_: Any) -> Any:
    return lambda store, scope, effect: True


@_mutation("what was decided on is forgotten at once", seen.Seen, "forget")
def _forgotten_decisions(_: Any) -> Any:
    def broken(self: Any, before: int) -> None:
        while self._order:
            self._keys.discard(self._order.popleft()[1])

    return broken


@_mutation("the stream is taken to be done with all that it was given", runner.Runner, "_settle")
def _settled_too_soon(_: Any) -> Any:
    async def broken(self: Any) -> None:
        self._settled = max(self._engine.now() - 1000, self._settled)
        await self._settling.rest(asyncio.sleep(10))

    return broken


@_mutation("idempotency keys are not looked at", HANDLERS, t.CreateRun)
def _no_claim(real: Any) -> Any:
    def broken(store: Any, scope: Any, effect: Any) -> bool:
        store.claims.drop(effect.run.key)
        return real(store, scope, effect)  # type: ignore[no-any-return]

    return broken


@_mutation("internal events leave the outbox before the stream has them", runner.Runner, "_relay_some")
def _outbox_acked_first(_: Any) -> Any:
    async def broken(self: Any) -> bool:
        box = await self._engine.events.take(500)
        if not box.entries:
            return False
        await self._engine.events.ack(box.token)
        await self._runtime.stream.publish(box.entries)
        return True

    return broken


@_mutation("the runner drops what it fails to decide", schedule, "run_key")
def _undecided(real: Any) -> Any:
    def broken(fn: Any, key: str) -> str:
        if hash(key) % 40 == 0:
            raise ValueError(key)
        return real(fn, key)  # type: ignore[no-any-return]

    return broken


@_mutation("the runner does not read the registry again", registry.RegistryCache, "catch_up")
def _no_catch_up(_: Any) -> Any:
    async def broken(self: Any) -> None:
        return None

    return broken


# -- runs --


@_mutation("a second result of a step replaces the first", runs.Run, "save_step")
def _second_result(real: Any) -> Any:
    def broken(self: Any, step: str, value: bytes) -> bool:
        if step in self.steps:
            self.steps[step] = value
            return True
        return real(self, step, value)  # type: ignore[no-any-return]

    return broken


@_mutation("a step that is awaited is forgotten", HANDLERS, t.Await)
def _no_await(_: Any) -> Any:
    def broken(store: Any, scope: Any, effect: Any) -> bool:
        if scope.state is not None:
            scope.state.run.pending = set(effect.steps) | {"nobody"}
        return scope.state is not None

    return broken


@_mutation("a singleton lock is given to whoever asks", HANDLERS, t.TakeLock)
def _lost_lock(_: Any) -> Any:
    def broken(store: Any, scope: Any, effect: Any) -> bool:
        store.locks[effect.key] = (scope.run_id, effect.order)
        return True

    return broken


@_mutation("an older event takes a singleton lock from a newer one", HANDLERS, t.TakeLock)
def _lock_for_the_oldest(real: Any) -> Any:
    def broken(store: Any, scope: Any, effect: Any) -> bool:
        if effect.key in store.locks:
            store.locks[effect.key] = (store.locks[effect.key][0], "")
        return real(store, scope, effect)  # type: ignore[no-any-return]

    return broken


# -- waits and cancellations --


@_mutation("the end of a run leaves its waits behind", pauses.PauseIndex, "remove")
def _kept_pauses(_: Any) -> Any:
    return lambda self, pause: None


@_mutation("the condition of a wait is not looked at", meeting.Conditions, "hold")
def _no_condition(_: Any) -> Any:
    return lambda self, pause, event, now: True


@_mutation("a wait may be ended twice", HANDLERS, t.TakePause)
def _two_winners(real: Any) -> Any:
    def broken(store: Any, scope: Any, effect: Any) -> bool:
        real(store, scope, effect)
        return scope.state is not None

    return broken


@_mutation("the timeout of a wait is not queued", HANDLERS, t.Enqueue)
def _no_timeout(real: Any) -> Any:
    def broken(store: Any, scope: Any, effect: Any) -> bool:
        return True if effect.item.kind is Kind.TIMEOUT else real(store, scope, effect)

    return broken


@_mutation("events that cancel are not remembered", HANDLERS, t.Remember)
def _no_memory(_: Any) -> Any:
    return lambda store, scope, effect: True


# -- what is gathered, and schedules --


@_mutation("a collector stays open while its item is worked on", state.EngineState, "close_collector")
def _open_collector(real: Any) -> Any:
    def broken(self: Any, job: str) -> bool:
        entry = self.entries.get(job)
        if entry is None or entry.state != queue.State.LEASED:
            return real(self, job)  # type: ignore[no-any-return]
        return False

    return broken


@_mutation("debounce keeps the first event", effects_start, "collected_ts")
def _debounce_first(_: Any) -> Any:
    return lambda payload: 1 << 60


@_mutation("a schedule ticks a minute late", runner, "tick")
def _late_ticks(real: Any) -> Any:
    def broken(fn: Any, item: Any, at: Any) -> Any:
        transition = real(fn, item, at)
        for effect in transition.effects:
            if isinstance(effect, t.Enqueue) and effect.item.kind is Kind.CRON:
                effect.item.due += 60_000
        return transition

    return broken


@_mutation("schedules are not derived from the registry", runner, "crons")
def _no_crons(real: Any) -> Any:
    return lambda fn, version, at: replace(real(fn, version, at), items=[])


# -- finding them --


def find(name: str, store: str, most: int) -> tuple[str, int, list[str]]:
    """In a process of its own: how many seeds it takes to find a mutation, 0 if ``most`` do not; and as
    what.
    """
    from sim import seeds as many

    for seed in range(most):
        result = many.run_job(many.Job(store, (seed,), name))[0]
        if result.violations:
            return name, seed + 1, sorted({each.code for each in result.violations})
    return name, 0, []


def check(names: Sequence[str], most: int, store: str = "memory") -> bool:
    """Look for each, and tell. Whether all were found."""
    from sim import seeds as many

    missed = 0
    with many.pool() as processes:
        found = [processes.submit(find, name, store, most) for name in names or MUTATIONS]
        for future in as_completed(found):
            name, seeds, codes = future.result()
            missed += not seeds
            told = f"seed {seeds - 1}" if seeds else f"NOT in {most} seeds"
            print(f"| {name} | {MUTATIONS[name].why} | {told} | {', '.join(codes[:4])} |", flush=True)
    return not missed


if __name__ == "__main__":
    sys.exit(0 if check(sys.argv[2:], int(sys.argv[1])) else 1)
