"""An engine store that is looked at: the words of its port and the invariants are checked at each call.

It stands between the real store and the networks of the processes, so that it sees what happened, whether or
not the caller learns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from inngest.core.model.events import decode_event
from inngest.core.model.functions import UNLIMITED, Function
from inngest.core.model.runs import CALLS, Item, Kind, Leased, Queue, Run
from inngest.core.model.transition import (
    Complete,
    CreateRun,
    Emit,
    EndRun,
    Evict,
    Once,
    PutPause,
    Recall,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    TakeLock,
    TakePause,
    Transition,
)
from sim import ports
from sim.process import EPOCH
from sim.truth import Ended, Registry, Started, Truth

Holder = tuple[str, int]
"""A worker, and the number of its request."""


class Held(NamedTuple):
    """A lease, as far as one can see from here."""

    epoch: int
    until: int
    holder: Holder


class Shadow:
    """What the store should know of leases and capacity, shared by all that look."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}  # by job
        self.signs: dict[str, int] = {}  # until when workers are known to be alive
        self.locks: dict[str, tuple[str, str]] = {}  # key -> run, order
        self.decided: dict[tuple[str, str], int] = {}  # function, key -> when
        self.epochs: dict[str, int] = {}
        self.cells: dict[str, dict[str, int]] = {}  # cell -> job -> until
        self.run_cells: dict[str, set[str]] = {}
        self.cell_of_run: dict[str, str] = {}
        self.throttled: set[str] = set()
        self.functions: dict[str, Function] = {}
        self.registering: dict[str, int] = {}  # since when, by app
        self.foreseen: set[tuple[str, str]] = set()
        """Runs, and steps of runs, whose commit must have happened, although it has not returned yet."""

    def forget(self) -> None:
        """The store has started anew: nobody holds anything."""
        self.held.clear()
        self.signs.clear()
        self.cells.clear()


class Watch:
    """See `inngest.ports.engine.EngineStore`.

    Args:
        engine: the real one.
        truth: what is found is written there.
        shadow: shared by all watches of one world.
        clock: the store's, in ms.
        ordered: whether answers come in the order in which the store did what they tell of. Else what depends
            on that order is not checked.

    """

    def __init__(
        self, engine: Any, truth: Truth, shadow: Shadow, clock: Callable[[], int], *, ordered: bool
    ) -> None:
        self._engine = engine
        self._truth = truth
        self._shadow = shadow
        self._clock = clock
        self._ordered = ordered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _violate(self, rule: int, code: str, text: str) -> None:
        self._truth.violate(rule, code, text, self._clock() - EPOCH)

    # -- the registry --

    async def put_app(self, app: Any, functions: Sequence[Function]) -> None:
        shadow = self._shadow
        # Who tries again may have succeeded before, and died of it.
        begun = shadow.registering.setdefault(app.id, self._clock() - EPOCH)
        await self._engine.put_app(app, functions)
        known = await self._engine.registry()
        shadow.registering.pop(app.id, None)
        if all(each.version < known.version for each in self._truth.registered):
            shadow.functions = known.functions
        live = {fn.id: fn for fn in known.functions.values() if not fn.archived}
        self._truth.registered.append(Registry(known.version, begun, self._clock() - EPOCH, live))
        self._truth.registered.sort(key=lambda registry: registry.version)

    # -- leases --

    async def lease(
        self, queue: Queue, limit: int, ms: int, worker: str, *, request: int = 0, again: bool = False
    ) -> Any:
        work = await self._engine.lease(queue, limit, ms, worker, request=request, again=again)
        holder = (worker, request)
        known = [self._given(leased, holder) for leased in work.items]
        if len(work.items) - sum(known) > limit:
            self._violate(0, "lease-too-many", f"{len(work.items)} items, {limit} were asked for")
        if any(known) and not again:
            self._violate(0, "given-again", f"{worker} did not ask for request {request} again")
        for leased in work.items:
            if leased.item.queue is not queue:
                self._violate(0, "wrong-queue", f"{leased.item.job} in {queue}")
            self._leased(leased, ms, holder)
        return ports.work_of(work)

    def _given(self, leased: Leased, holder: Holder) -> bool:
        """Whether this request was given this lease before."""
        held = self._shadow.held.get(leased.item.job)
        return held is not None and held.epoch == leased.item.epoch and held.holder == holder

    def _leased(self, leased: Leased, ms: int, holder: Holder) -> None:
        item, run, now, shadow = leased.item, leased.run, self._clock(), self._shadow
        if item.due > now:
            self._violate(6, "item-early", f"{item.job} {item.kind} is due in {item.due - now} ms")
        if self._ordered and not self._given(leased, holder):
            before = shadow.held.get(item.job)
            if before is not None and before.until > now:
                self._violate(12, "leased-twice", f"{item.job}: the lease {before} is still held")
            if item.epoch <= shadow.epochs.get(item.job, 0):
                self._violate(12, "epoch-not-new", f"{item.job}: epoch {item.epoch} once more")
        shadow.held[item.job] = Held(item.epoch, now + ms, holder)
        shadow.epochs[item.job] = item.epoch
        if item.run:
            self._exists(item.run)
            if self._ordered and item.run in self._truth.ended:
                self._violate(4, "item-after-end", f"{item.job} {item.kind} of a run that has ended")
            if self._ordered and item.run in self._truth.evicted and item.kind is not Kind.EVICT:
                self._violate(4, "item-after-eviction", f"{item.job} {item.kind}")
            if run is not None:
                self._compare(run)
                if self._ordered and item.kind in CALLS:
                    self._count(item, run, now + ms, now)

    async def alive(self, worker: str, ms: int) -> None:
        await self._engine.alive(worker, ms)
        shadow, now = self._shadow, self._clock()
        if ms:
            shadow.signs[worker] = now + ms
        else:
            shadow.signs.pop(worker, None)
        silent = {name for name, until in shadow.signs.items() if until <= now}
        for name in silent:
            del shadow.signs[name]
        for job in [job for job, held in shadow.held.items() if held.holder[0] in silent]:
            self._release(job)

    def _compare(self, run: Run) -> None:
        saved = self._truth.saved
        for step, value in run.steps.items():
            known = saved.get((run.id, step))
            if known is None:
                known = saved[run.id, step] = (value, self._clock() - EPOCH)
                self._shadow.foreseen.add((run.id, step))
            if known[0] != value:
                self._violate(
                    3, "result-changed", f"{run.id} {step}: {known[0][:80]!r} became {value[:80]!r}"
                )

    def _count(self, item: Item, run: Run, until: int, now: int) -> None:
        shadow = self._shadow
        partition = run.partition(item.kind)
        fn = shadow.functions.get(item.fn)
        limits = fn.limits if fn is not None else ()
        for cell in partition.cells:
            holders = shadow.cells.setdefault(cell.key, {})
            holders[item.job] = until
            if len(holders) > 1:
                for job in [job for job, end in holders.items() if end <= now]:
                    del holders[job]
            limit = limits[cell.index] if cell.index < len(limits) else UNLIMITED
            if limit != UNLIMITED and len(holders) > limit:
                self._violate(
                    9, "over-concurrency", f"{len(holders)} calls in {cell.key}, {limit} are allowed"
                )
        if item.kind is not Kind.START or run.id in shadow.throttled:
            return
        shadow.throttled.add(run.id)
        if partition.run_cell is not None:
            key = partition.run_cell.key
            runs = shadow.run_cells.setdefault(key, set())
            runs.add(run.id)
            shadow.cell_of_run[run.id] = key
            limit = limits[-1] if limits else UNLIMITED
            if limit != UNLIMITED and len(runs) > limit:
                self._violate(9, "over-run-concurrency", f"{len(runs)} runs in {key}, {limit} are allowed")
        if partition.throttle:
            self._truth.starts[partition.throttle].append(now - EPOCH)

    def _release(self, job: str) -> None:
        shadow = self._shadow
        shadow.held.pop(job, None)
        for holders in shadow.cells.values():
            holders.pop(job, None)

    async def extend(self, leases: Sequence[Any], ms: int) -> Any:
        lost = await self._engine.extend(leases, ms)
        held = self._shadow.held
        for lease in leases:
            known = held.get(lease.job)
            if lease in lost or not self._ordered:
                continue
            if known is None or known.epoch != lease.epoch:
                self._violate(12, "stale-extended", f"{lease.job}: epoch {lease.epoch}, held is {known}")
            else:
                self._prolong(lease.job, self._clock() + ms)
        return lost

    def _prolong(self, job: str, until: int) -> None:
        shadow = self._shadow
        held = shadow.held[job]
        shadow.held[job] = Held(held.epoch, max(held.until, until), held.holder)
        for holders in shadow.cells.values():
            if job in holders:
                holders[job] = max(holders[job], until)

    async def hand_back(self, leases: Sequence[Any]) -> None:
        for lease in leases:
            known = self._shadow.held.get(lease.job)
            if known is not None and known.epoch == lease.epoch:
                self._release(lease.job)
        await self._engine.hand_back(leases)

    # -- commits --

    async def commit(self, transitions: Sequence[Transition], *, take: Any = None) -> Any:
        truth = self._truth
        at = self._clock() - EPOCH
        for transition in transitions:
            for effect in transition.effects:
                if type(effect) is CreateRun:
                    truth.intended[effect.run.id] = effect.run
                elif type(effect) is EndRun:
                    truth.ending.setdefault(transition.run, Ended(effect.status, at))
        results = await self._engine.commit(transitions, take=take)
        if len(results) != len(transitions):
            self._violate(0, "commit-results", f"{len(results)} results of {len(transitions)}")
        for transition, committed in zip(transitions, results, strict=True):
            if committed.stale:
                truth.counts["stale commits"] += 1
                if transition.lease is None or any(committed.won):
                    self._violate(12, "stale-won", f"{transition.run}: {committed}")
                if committed.next is not None:
                    if self._ordered and not self._given(committed.next, (take.worker, 0)):
                        self._violate(12, "stale-leased", f"{transition.run}: {committed.next.item}")
                    self._continued(committed, take)
                continue
            self._committed(transition, committed.won)
            if committed.next is not None:
                self._continued(committed, take)
        return results

    def _continued(self, committed: Any, take: Any) -> None:
        self._leased(committed.next, take.ms, (take.worker, 0))
        committed.next = ports.snapshot(committed.next)

    def _exists(self, run: str) -> None:
        truth = self._truth
        if run not in truth.created:
            known = truth.intended.get(run)
            if known is None:
                self._violate(0, "run-invented", f"nobody created {run}")
            else:
                # Its creation happened; whoever committed it has not learned of that yet, or never will.
                truth.created[run] = Started(known, self._clock() - EPOCH)
                self._shadow.foreseen.add((run, ""))

    def _committed(self, transition: Transition, won: Sequence[bool]) -> None:
        truth, shadow, run = self._truth, self._shadow, transition.run
        at = self._clock() - EPOCH
        if transition.lease is not None and transition.lease.job == f"{run}:recall":
            truth.recalls[run] = at
        if transition.lease is not None and self._ordered:
            known = shadow.held.get(transition.lease.job)
            if known is None or known.epoch != transition.lease.epoch:
                self._violate(
                    12, "fence-passed", f"{transition.lease.job}: {transition.lease.epoch}, held is {known}"
                )
        for effect, wins in zip(transition.effects, won, strict=True):
            if not wins:
                continue
            kind = type(effect)
            if kind is SaveStep:
                self._exists(run)
                if (run, effect.step) in shadow.foreseen:
                    shadow.foreseen.discard((run, effect.step))
                elif (run, effect.step) in truth.saved:
                    self._violate(3, "second-result", f"{run} {effect.step}")
                elif (run in truth.ended or run in truth.evicted) and self._ordered:
                    self._violate(4, "saved-after-end", f"{run} {effect.step}")
                truth.saved[run, effect.step] = (effect.value, at)
            elif kind is Record:
                truth.history.append(effect.entry)
            elif kind is Complete or kind is Retry:
                if transition.lease is not None:
                    self._release(transition.lease.job)
            elif kind is CreateRun:
                if (run, "") in shadow.foreseen:
                    shadow.foreseen.discard((run, ""))
                elif run in truth.created:
                    self._violate(4, "created-twice", run)
                truth.created[run] = Started(effect.run, at)
            elif kind is EndRun:
                self._exists(run)
                if run in truth.ended:
                    self._violate(4, "ended-twice", f"{run}: {truth.ended[run].status}, then {effect.status}")
                truth.ended[run] = Ended(effect.status, at)
                if (cell := shadow.cell_of_run.pop(run, None)) is not None:
                    shadow.run_cells[cell].discard(run)
            elif kind is PutPause:
                self._exists(run)
                if (run in truth.ended or run in truth.evicted) and self._ordered:
                    self._violate(4, "pause-after-end", f"{run}: {effect.pause.id}")
                truth.pauses[effect.pause.id] = (effect.pause, at)
            elif kind is TakePause:
                if effect.id in truth.taken:
                    self._violate(7, "resumed-twice", effect.id)
                truth.taken[effect.id] = at
            elif kind is Emit:
                event = decode_event(effect.event)
                truth.emitted[event.id] = event
            elif kind is ResetAttempts and effect.job in shadow.held:
                self._prolong(effect.job, self._clock() + effect.ms)
            elif kind is Evict:
                self._evicted(run, at)
            elif kind is TakeLock:
                self._locked(run, effect, at)
            elif kind is Recall:
                truth.recalls[run] = 0
            elif kind is Once and effect.mark and self._ordered:
                key = (transition.fn, effect.key)
                if key in shadow.decided:
                    self._violate(1, "decided-twice", f"{key} at {shadow.decided[key]} too")
                shadow.decided[key] = at

    def _evicted(self, run: str, at: int) -> None:
        truth = self._truth
        if self._ordered and (run in truth.ended or run in truth.evicted):
            self._violate(4, "evicted-after-end", run)
        truth.evicted[run] = at

    def _locked(self, run: str, effect: TakeLock, at: int) -> None:
        """Who held the lock must have ended, or is evicted by this, being older."""
        truth, shadow = self._truth, self._shadow
        before = shadow.locks.get(effect.key)
        shadow.locks[effect.key] = (run, effect.order)
        if before is None or before[0] == run or not self._ordered:
            return
        holder, order = before
        if holder in truth.ended or holder in truth.evicted or holder not in truth.created:
            return
        if effect.evict is None or order >= effect.order:
            self._violate(9, "lock-taken", f"{effect.key}: {run} while {holder} has it")
        self._evicted(holder, at)
