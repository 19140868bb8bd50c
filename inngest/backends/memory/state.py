"""All that an engine store in memory knows, and the changes that several effects share.

Everything here is synchronous, and so atomic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from inngest.backends.memory.boxes import MemoryOutbox
from inngest.backends.memory.collector import Collector
from inngest.backends.memory.expiring import Expiring
from inngest.backends.memory.notes import Notes
from inngest.backends.memory.order import Order
from inngest.backends.memory.pauses import PauseIndex
from inngest.backends.memory.queue import Entry, MemoryQueue, State
from inngest.backends.memory.seen import Remembered, Seen
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.functions import App, Function
from inngest.core.model.history import History
from inngest.core.model.runs import (
    CALLS,
    Cell,
    Item,
    Kind,
    Partition,
    Pause,
    PauseKind,
    Queue,
    Run,
    evict_job,
    runner_items,
    timers,
)
from inngest.core.model.transition import Lease, Transition
from inngest.core.policy import MAX_HISTORY_WAITING

RUN_TIMEOUTS = frozenset({Kind.START_TIMEOUT, Kind.FINISH_TIMEOUT})
"""Items that ask for no call."""


class RunState:
    """A run that has not ended, and what belongs to it.

    A run may *rest*: what only its own transitions need, the run itself and the job ids it has used, is then
    not in memory, and is fetched before one of them is applied.

    ``weight_at_rest``: the bytes that it took, or will take when it wakes, about.
    ``taken``: the lease under which the last commit leased its continuation at once, and that continuation:
    (job, epoch, job, epoch). ``revision`` is that of a resting run, if it is known.
    """

    __slots__ = (
        "_jobs",
        "_run",
        "created",
        "entries",
        "evicted",
        "fn",
        "id",
        "pauses",
        "revision",
        "run_cell",
        "taken",
        "weight_at_rest",
    )

    def __init__(self, id_: str, fn: str, created: int, run_cell: Cell | None) -> None:
        self.id = id_
        self.fn = fn
        self.created = created
        self.run_cell = run_cell
        self._run: Run | None = None
        self._jobs: set[str] | None = None
        self.revision = -1
        self.weight_at_rest = 0
        self.entries: dict[str, Entry] = {}
        self.pauses: dict[str, Pause] = {}
        self.evicted = False
        self.taken: tuple[str, int, str, int] | None = None

    @property
    def run(self) -> Run:
        assert self._run is not None, f"run {self.id} rests"
        return self._run

    @property
    def jobs(self) -> set[str]:
        assert self._jobs is not None, f"run {self.id} rests"
        return self._jobs

    @property
    def rests(self) -> bool:
        return self._run is None

    @property
    def weight(self) -> int:
        """The bytes that it takes in memory while it does not rest, about."""
        return self._run.weight() if self._run is not None else self.weight_at_rest

    def wake(self, run: Run, jobs: set[str]) -> None:
        if self.revision >= 0:
            run.revision = self.revision
        self._run, self._jobs = run, jobs

    def rest(self) -> None:
        self.revision, self.weight_at_rest = self.run.revision, self.run.weight()
        self._run = self._jobs = None


def running(run: Run) -> RunState:
    """The state of a new run."""
    state = RunState(run.id, run.fn, run.created, run.start.run_cell)
    state.wake(run, set())
    return state


class Scope:
    """What the effects of one transition work on."""

    __slots__ = ("fn", "last", "leased", "now", "run_id", "state")

    def __init__(
        self, transition: Transition, state: RunState | None, leased: Entry | None, now: int
    ) -> None:
        self.fn = transition.fn
        self.run_id = transition.run
        self.state = state
        self.leased = leased
        self.last: Entry | None = None  # the newest queued call
        self.now = now


class EngineState:
    """The state of one engine store; ``notes`` is told of each change.

    ``settle`` returns when all changes so far are durable.
    """

    def __init__(self, notes: Notes, settle: Callable[[], Awaitable[None]], clock: Callable[[], int]) -> None:
        self.notes = notes
        self.clock = clock
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.version = 0
        self.runs: dict[str, RunState] = {}
        self.run_order = Order()
        self.entries: dict[str, Entry] = {}
        self.claims: Expiring[int] = Expiring()
        self.tats: Expiring[int] = Expiring()
        self.seen: dict[str, Seen] = {}  # by function
        self.new_seen: Callable[[str], Seen] = lambda _: Seen()
        self.remembered: dict[tuple[str, str], Remembered] = {}  # by function and event name
        self.locks: dict[str, tuple[str, str]] = {}  # key -> run, order
        self.collectors: dict[str, Collector] = {}  # the open ones, by key
        self.collected: dict[str, Collector] = {}  # by job, open or not
        self.crons: dict[str, dict[str, Entry]] = {}  # partition -> schedule -> its newest item
        self.crons_version: dict[str, int] = {}  # partition -> version of the registry they were set for
        self.cancellations: dict[str, Cancellation] = {}
        self.pauses = PauseIndex()
        self.events: MemoryOutbox[bytes] = MemoryOutbox(settle, notes.events_acked)
        self.history: MemoryOutbox[History] = MemoryOutbox(settle, notes.history_acked, MAX_HISTORY_WAITING)
        self.outbox_seq = 0
        self.epoch_base = 0
        self.ready = {queue: asyncio.Event() for queue in Queue}
        self.registered = asyncio.Event()
        self.queue = MemoryQueue(self.functions.get, lambda queue: self.ready[queue].set())

    def alive(self, run_id: str) -> bool:
        """Whether the run has neither ended nor been evicted."""
        state = self.runs.get(run_id)
        return state is not None and not state.evicted

    def leased(self, lease: Lease) -> Entry | None:
        """The item of a lease, if that is the newest one."""
        entry = self.entries.get(lease.job)
        if entry is None or entry.state != State.LEASED or entry.item.epoch != lease.epoch:
            return None
        return entry if entry.item.fn == lease.fn else None

    def seen_by(self, fn: str) -> Seen:
        seen = self.seen.get(fn)
        if seen is None:
            seen = self.seen[fn] = self.new_seen(fn)
        return seen

    # Items

    def push(self, scope: Scope, item: Item, partition: Partition | None) -> bool:
        """Queue an item, unless its job id was ever used in its run (or, without a run, is queued)."""
        job = item.job
        if item.run:
            state = scope.state
            if state is None or job in state.jobs:
                return False
            if partition is None:
                if item.kind in CALLS:
                    partition = state.run.partition(item.kind)
                else:
                    partition = self.implied(item)
        elif job in self.entries:
            return False
        else:
            state = None
        self.insert(scope, item, partition or runner_items(item.fn), state)
        return True

    def implied(self, item: Item) -> Partition:
        """Where an item goes that calls nobody."""
        return timers(item.fn) if item.queue is Queue.EXECUTOR else runner_items(item.fn)

    def insert(self, scope: Scope, item: Item, partition: Partition, state: RunState | None) -> None:
        item = replace(item)
        job = item.job
        entry = self.queue.add(
            item,
            partition,
            scope.now,
            admitted=state.run.work if state is not None and item.kind is Kind.START else None,
        )
        self.entries[job] = entry
        if state is not None:
            state.jobs.add(job)
            state.entries[job] = entry
        elif item.kind is Kind.CRON:
            self.crons.setdefault(entry.part.definition.id, {})[item.name] = entry
        if item.kind in CALLS:
            scope.last = entry
        self.notes.item(item, entry.part.definition)

    def forget(self, entry: Entry, *, remember: bool) -> None:
        """The item is gone; ``remember``: its job id stays used in its run."""
        item = entry.item
        state = self.runs.get(item.run) if item.run else None  # also that of an evicted run
        self.queue.remove(entry)
        del self.entries[item.job]
        if state is not None:
            state.entries.pop(item.job, None)
        elif item.kind is Kind.CRON:
            crons = self.crons.get(entry.part.definition.id, {})
            if crons.get(item.name) is entry:
                del crons[item.name]
        elif item.job in self.collected:
            self.close_collector(item.job)
            self.notes.collector_gone(self.collected.pop(item.job))
        self.notes.item_gone(item, remember=remember and state is not None)

    def is_over(self, item: Item) -> bool:
        """Whether the item's run has ended, or is about to by the word of another item."""
        return bool(item.run) and not self.alive(item.run) and item.kind is not Kind.EVICT

    def unlease(self, entry: Entry, now: int) -> None:
        """Back to the queue, unless its run is over."""
        item = entry.item
        if self.is_over(item):
            self.forget(entry, remember=False)
        else:
            item.due = min(item.due, now)  # it was due, whatever the clock has been set to since
            self.queue.unlease(entry, now)

    def weigh(self, entry: Entry) -> int:
        """The bytes of the item's run."""
        state = self.runs.get(entry.item.run) if entry.item.run else None
        return state.weight if state is not None else 0

    def stamp(self, entry: Entry) -> None:
        """The entry was leased: epochs go on above those of before a restart."""
        if entry.item.epoch <= self.epoch_base:
            entry.item.epoch = self.epoch_base + 1
        definition = entry.part.definition
        if entry.admitted is not None and (definition.throttle or definition.run_cell is not None):
            # Even where leases are not kept, that a start has passed its gates is: it waits for them once.
            self.notes.item(entry.item, entry.admitted)

    def close_collector(self, job: str) -> bool:
        """No event joins the item any more. Whether one might have."""
        collector = self.collected.get(job)
        if collector is None or self.collectors.get(collector.key) is not collector:
            return False
        del self.collectors[collector.key]
        return True

    def complete_item(self, item: Item) -> Item:
        """A copy to hand out, with the events that it has collected."""
        collector = self.collected.get(item.job)
        if collector is None or collector.last or item.payload:
            return replace(item)
        return replace(item, payload=collector.payload())

    # Runs

    def changed(self, run: Run) -> None:
        run.revision += 1
        self.notes.head(run)

    def alone(self, state: RunState, leased: Entry | None) -> bool:
        """Whether nothing but the leased item can ask for another call: a step that is run at once, and not
        planned, must not be found by two.
        """
        return all(
            entry is leased or entry.item.kind in RUN_TIMEOUTS for entry in state.entries.values()
        ) and all(pause.kind is PauseKind.CANCEL for pause in state.pauses.values())

    def evict(self, scope: Scope, state: RunState, form: Item) -> None:
        """Nothing of the run goes on but ``form``, which is made its own and queued to tell the end."""
        run = state.run
        state.evicted = True
        for pause in state.pauses.values():
            self.pauses.remove(pause)
            self.notes.pause_gone(pause)
        state.pauses.clear()
        for entry in list(state.entries.values()):
            if entry.state != State.LEASED:
                self.forget(entry, remember=True)
        self.release_lock(run)
        self.notes.evicted(run)
        item = replace(form, run=run.id, job=evict_job(run.id))
        self.insert(scope, item, runner_items(run.fn), state)

    def end_run(self, state: RunState) -> None:
        """The run is over, and all that belongs to it is gone, its leased items excepted."""
        del self.runs[state.id]
        self.run_order.removed(len(self.runs))
        for pause in state.pauses.values():
            self.pauses.remove(pause)
        for entry in list(state.entries.values()):
            if entry.state != State.LEASED:
                self.queue.remove(entry)
                del self.entries[entry.item.job]
        if state.run_cell is not None:
            self.queue.release_run(state.run_cell, state.id)
        self.notes.run_ended(state.id)

    def record(self, entry: History) -> None:
        """Let the history tell of it."""
        self.outbox_seq += 1
        self.notes.history(self.outbox_seq, entry)
        self.history.put(self.outbox_seq, entry)

    def release_lock(self, run: Run) -> None:
        if run.lock and self.locks.get(run.lock, ("", ""))[0] == run.id:
            del self.locks[run.lock]
            self.notes.lock(run.lock, None)
