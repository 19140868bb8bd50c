"""Twenty ways to break the engine, one at a time, and in how many seeds each is found.

A simulation that finds nothing shows something only if it would have found these.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from msgspec.structs import replace

from inngest.api import events as events_api
from inngest.backends.memory import apply, engine, expiring, pauses, queue
from inngest.core.decisions import crons, schedule
from inngest.core.model import runs
from inngest.core.model.runs import Kind
from inngest.core.model.transition import Committed, Enqueue
from inngest.services import registry, runner


@dataclass(frozen=True)
class Mutation:
    """``target.name`` replaced by what ``broken`` makes of it. ``why``: what is broken."""

    why: str
    target: Any
    name: str
    broken: Callable[[Any], Any]

    @contextmanager
    def applied(self) -> Iterator[None]:
        with mock.patch.object(self.target, self.name, self.broken(getattr(self.target, self.name))):
            yield


MUTATIONS: dict[str, Mutation] = {}


def _mutation(why: str, target: Any, name: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    def add(broken: Callable[[Any], Any]) -> Callable[[Any], Any]:
        MUTATIONS[broken.__name__.strip("_").replace("_", "-")] = Mutation(why, target, name, broken)
        return broken

    return add


@_mutation("a commit under an old lease is taken", apply.EngineState, "_apply")
def _no_fence(real: Any) -> Any:
    def broken(self: Any, transition: Any, take: Any) -> Committed:
        lease = transition.lease
        entry = self._entries.get(lease.job) if lease is not None else None
        if entry is not None and entry.state == queue.State.LEASED:
            transition = replace(transition, lease=type(lease)(lease.job, entry.item.epoch))
        return real(self, transition, take)  # type: ignore[no-any-return]

    return broken


@_mutation("the runner acknowledges events before it has processed them", runner.Runner, "_events")
def _ack_before_commit(real: Any) -> Any:
    async def broken(self: Any) -> None:
        stream = self._runtime.stream
        delivery = await self._eventing.rest(stream.fetch(runner.GROUP, 500, 30.0))
        if delivery is not None:
            await stream.ack(runner.GROUP, delivery.token)
            await self._runtime.registry.catch_up()
            await self.process(delivery.events)

    return broken


@_mutation("capacity that returns wakes nobody", queue.MemoryQueue, "_wake")
def _forgotten_wake_up(_: Any) -> Any:
    return lambda self, key: None


@_mutation("a second result of a step replaces the first", runs.Run, "save_step")
def _second_result(real: Any) -> Any:
    def broken(self: Any, step: str, value: bytes) -> bool:
        if step in self.steps:
            self.steps[step] = value
            return True
        return real(self, step, value)  # type: ignore[no-any-return]

    return broken


@_mutation("a singleton lock is given to whoever asks", apply.EngineState, "_take_lock")
def _lost_lock(_: Any) -> Any:
    def broken(self: Any, scope: Any, effect: Any) -> bool:
        self._locks[effect.key] = scope.run_id
        self._note_lock(effect.key, scope.run_id)
        return True

    return broken


@_mutation("the end of an item does not give its capacity back", queue.MemoryQueue, "_release")
def _kept_capacity(_: Any) -> Any:
    return lambda self, entry: None


@_mutation("the end of a run does not give its place back", queue.MemoryQueue, "release_run")
def _kept_place(_: Any) -> Any:
    return lambda self, cell, run: None


@_mutation("concurrency limits are not looked at", queue.MemoryQueue, "_free")
def _no_limit(_: Any) -> Any:
    return lambda self, cell, fn, holder: True


@_mutation("idempotency keys are not looked at", apply.EngineState, "_create_run")
def _no_claim(real: Any) -> Any:
    def broken(self: Any, scope: Any, effect: Any) -> bool:
        self._claims.drop(effect.run.key)
        return real(self, scope, effect)  # type: ignore[no-any-return]

    return broken


@_mutation("timers fire a second early", queue.MemoryQueue, "_promote")
def _early_timers(real: Any) -> Any:
    return lambda self, which, now: real(self, which, now + 1000)


@_mutation("one in fifty timers is forgotten", apply.EngineState, "_push")
def _lost_timers(real: Any) -> Any:
    def broken(self: Any, scope: Any, item: Any, partition: Any) -> bool:
        if item.kind is Kind.SLEEP and self._outbox_seq % 5 == 0 and scope.state is not None:
            scope.state.jobs.add(item.job)
            return True
        return real(self, scope, item, partition)  # type: ignore[no-any-return]

    return broken


@_mutation("the end of a run leaves its waits behind", pauses.PauseIndex, "remove")
def _kept_pauses(_: Any) -> Any:
    return lambda self, pause: None


@_mutation("internal events leave the outbox before the stream has them", runner.Runner, "_relay_some")
def _outbox_acked_first(_: Any) -> Any:
    async def broken(self: Any) -> bool:
        box = await self._engine.outbox_events(500)
        if not box.events:
            return False
        await self._engine.ack_events(box.token)
        await self._runtime.stream.publish([runner.decode_event(event) for event in box.events])
        return True

    return broken


@_mutation("a collector stays open while its item is worked on", apply.EngineState, "_close_collector")
def _open_collector(real: Any) -> Any:
    def broken(self: Any, job: str) -> None:
        entry = self._entries.get(job)
        if entry is None or entry.state != queue.State.LEASED:
            real(self, job)

    return broken


@_mutation("a tick of a schedule does not queue the next one", crons, "_tick")
def _last_tick(real: Any) -> Any:
    def broken(fn: Any, trigger: Any, after: int, now: int) -> Any:
        item = real(fn, trigger, after, now)
        # Asked by `tick`, `after` is the time of the tick that fires; by a registration, it is now.
        return None if after % 60_000 == 0 else item

    return broken


@_mutation("throttles are not looked at", queue.MemoryQueue, "_throttle")
def _no_throttle(_: Any) -> Any:
    return lambda self, part, fn, now: True


@_mutation("rate limits forget what they admitted", expiring.Expiring, "put")
def _no_rate(real: Any) -> Any:
    def broken(self: Any, key: str, value: Any, until: int) -> None:
        if not key.startswith("rate:"):
            real(self, key, value, until)

    return broken


@_mutation("a step that is awaited is forgotten", apply.EngineState, "_await")
def _no_await(_: Any) -> Any:
    def broken(self: Any, scope: Any, effect: Any) -> bool:
        if scope.state is not None:
            scope.state.run.pending = set(effect.steps) | {"nobody"}
        return scope.state is not None

    return broken


@_mutation("events are accepted before the stream has them", events_api.EventApi, "handle")
def _accepted_too_early(real: Any) -> Any:
    async def broken(self: Any, request: Any) -> Any:
        from inngest.core.errors import StoreUnavailable

        stream = self._stream

        class Hasty:
            async def publish(self, events: Any) -> None:
                try:
                    await stream.publish(events)
                except StoreUnavailable:
                    return

        self._stream = Hasty()
        try:
            return await real(self, request)
        finally:
            self._stream = stream

    return broken


@_mutation("a lease that runs out loses its item", engine.MemoryEngineStore, "_unlease")
def _lost_with_lease(_: Any) -> Any:
    def broken(self: Any, entry: Any, now: int) -> None:
        self._forget(entry, self._states.get(entry.item.run), remember=False)

    return broken


@_mutation("the condition of a wait is not looked at", runner.Runner, "_holds")
def _no_condition(_: Any) -> Any:
    return lambda self, pause, event, now: True


@_mutation("the runner does not read the registry again", registry.RegistryCache, "catch_up")
def _no_catch_up(_: Any) -> Any:
    async def broken(self: Any) -> None:
        return None

    return broken


@_mutation("a wait may be ended twice", apply.EngineState, "_take_pause")
def _two_winners(real: Any) -> Any:
    def broken(self: Any, scope: Any, effect: Any) -> bool:
        real(self, scope, effect)
        return scope.state is not None

    return broken


@_mutation("the timeout of a wait is not queued", apply.EngineState, "_enqueue")
def _no_timeout(real: Any) -> Any:
    def broken(self: Any, scope: Any, effect: Enqueue) -> bool:
        return True if effect.item.kind is Kind.TIMEOUT else real(self, scope, effect)

    return broken


@_mutation("debounce keeps the first event", apply, "_collected_ts")
def _debounce_first(_: Any) -> Any:
    return lambda payload: 1 << 60


@_mutation("the runner drops what it fails to decide", schedule, "run_key")
def _undecided(real: Any) -> Any:
    def broken(fn: Any, key: str) -> str:
        if hash(key) % 40 == 0:
            raise ValueError(key)
        return real(fn, key)  # type: ignore[no-any-return]

    return broken


def check(names: Sequence[str], seeds: int, store: str = "memory") -> dict[str, tuple[int, int, set[str]]]:
    """For each mutation: in how many of how many seeds it was found, and as what."""
    from sim import seeds as many
    from sim.known import TOLERATED

    found: dict[str, tuple[int, int, set[str]]] = {}
    with many.pool() as executor_:
        for name in names or MUTATIONS:
            began = time.perf_counter()
            codes: set[str] = set()
            summary = many.run_all(executor_, many.jobs(store, range(seeds), mutation=name))
            for result in summary.failed:
                codes |= {each.code for each in result.violations} - set(TOLERATED)
            found[name] = (len(summary.failed), seeds, codes)
            seconds = time.perf_counter() - began
            print(f"{name:20} {len(summary.failed):5} of {seeds} in {seconds:.0f} s: {MUTATIONS[name].why}")
            print(f"{'':20} {', '.join(sorted(codes))}", flush=True)
    return found


if __name__ == "__main__":
    check(sys.argv[2:], int(sys.argv[1]))
