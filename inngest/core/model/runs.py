"""The durable things: runs, the queue items that move them, the pauses that hold them.

JSON values (step results, outputs, event payloads) are carried as the bytes of their text, so that what an
SDK sent is what an SDK gets back, to the byte, and nothing is decoded on the hot path that no decision needs.

All times are integer Unix epoch milliseconds.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b

from msgspec import Struct, field

_OVERHEAD = 2048  # bytes of a run in memory, beside its events and step results

UNSET_VERSION = -1
"""Request version of a run whose SDK has not answered yet (wire protocol section 3.1)."""


class RunStatus(StrEnum):
    QUEUED = "Scheduled"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SKIPPED = "Skipped"

    @property
    def ended(self) -> bool:
        return self not in {RunStatus.QUEUED, RunStatus.RUNNING}


class Kind(StrEnum):
    """What a queue item asks for."""

    START = "start"  # the first call of a run
    DISCOVER = "discover"  # call the function: which step is next?
    PLAN = "plan"  # call the function for one planned step
    GATEWAY = "gateway"  # make the HTTP request of step.fetch or step.ai.infer
    SLEEP = "sleep"  # a sleep is over
    TIMEOUT = "timeout"  # a pause expires
    START_TIMEOUT = "start-timeout"
    FINISH_TIMEOUT = "finish-timeout"
    DEBOUNCE = "debounce"
    BATCH = "batch"
    CRON = "cron"
    SWEEP = "sweep"  # a bulk cancellation goes on
    RECALL = "recall"  # events that may cancel the run came before it
    EVICT = "evict"  # the end of an evicted run is to be told


CALLS = frozenset({Kind.START, Kind.DISCOVER, Kind.PLAN, Kind.GATEWAY})
"""Kinds that occupy concurrency while they are worked on."""


class Queue(StrEnum):
    """Who works an item off."""

    EXECUTOR = "executor"
    RUNNER = "runner"


class Cell(Struct, frozen=True, array_like=True, gc=False):
    """A share of capacity: at most ``limit`` holders at once.

    The limit is read from the function's current configuration (``Function.limits[index]``) when an item is
    leased, so that a new limit holds for what is queued already; the key was evaluated when the run was
    scheduled.
    """

    key: str
    index: int


class Partition(Struct, frozen=True, gc=False):
    """The items that the same capacity admits, in one order. When its head has to wait, the whole partition
    does.
    """

    id: str
    fn: str
    cells: tuple[Cell, ...] = ()
    run_cell: Cell | None = None  # held by the run from its start to its end (``concurrency: {fn: …}``)
    throttle: str = ""  # key of the throttle's state; start items only


class Item(Struct, omit_defaults=True, gc=False):
    """One queued piece of work. ``job`` is unique for ever inside its run (or function, for items without a
    run).
    """

    job: str
    kind: Kind
    fn: str  # function UUID
    run: str = ""  # run id; empty for collectors and cron ticks
    due: int = 0
    score: int = 0  # order among the due ones: enqueue time less the priority factor
    partition: str = ""
    attempt: int = 0
    max_attempts: int = 1
    target: str = ""  # hashed id of the planned step, of the slept or paused one
    outgoing: str = ""  # hashed id of the step that caused this call
    name: str = ""  # the step's label
    race: bool = False
    coalesce: str = ""
    queued: int = 0  # when it was first enqueued
    payload: bytes = b""  # kind-specific JSON
    epoch: int = 0  # how often it was leased; a commit under an older lease is refused

    @property
    def queue(self) -> Queue:
        return Queue.RUNNER if self.kind in RUNNER_KINDS else Queue.EXECUTOR


RUNNER_KINDS = frozenset({Kind.DEBOUNCE, Kind.BATCH, Kind.CRON, Kind.SWEEP, Kind.RECALL, Kind.EVICT})


class Run(Struct, omit_defaults=True, gc=False):
    """A run that has not ended. What is above the line never changes once the run exists."""

    id: str
    fn: str  # function UUID
    slug: str
    app: str
    events: list[bytes]  # in the form the SDK sees, see Event.payload
    event_ids: list[str]  # internal ULIDs
    key: str  # idempotency key
    created: int
    start: Partition
    work: Partition
    cron: str = ""
    batch: str = ""
    lock: str = ""  # key of the singleton lock it holds
    priority: int = 0  # seconds
    function_version: int = 1
    original: str = ""  # the run this one repeats
    order: str = ""  # of arrival, see `arrival`
    starts: int = 0  # when it may start, if that was later than its creation
    # ---
    request_version: int = UNSET_VERSION
    force_plan: bool = False
    started: int = 0
    stack: list[str] = field(default_factory=list)
    steps: dict[str, bytes] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    size: int = 0  # bytes of all step results
    revision: int = 0  # counts the commits that changed the part below the line

    def partition(self, kind: Kind) -> Partition:
        return self.start if kind is Kind.START else self.work

    def save_step(self, step: str, value: bytes) -> bool:
        """Keep a step's result. The first one wins: False, and no change, if there is one already."""
        if step in self.steps:
            return False
        self.steps[step] = value
        self.stack.append(step)
        self.pending.discard(step)
        self.size += len(value)
        return True

    def await_steps(self, steps: list[str]) -> bool:
        """Let the pending set be those that have no result yet. Whether there are any."""
        self.pending = {step for step in steps if step not in self.steps}
        return bool(self.pending)

    def weight(self) -> int:
        """The bytes that it takes in memory, about."""
        return self.size + sum(map(len, self.events)) + _OVERHEAD

    def copy(self) -> Run:
        """A copy whose mutable parts are its own; step values and events are shared, being immutable."""
        from msgspec.structs import replace

        return replace(
            self,
            stack=list(self.stack),
            steps=dict(self.steps),
            pending=set(self.pending),
            events=list(self.events),
        )


class PauseKind(StrEnum):
    EVENT = "event"
    INVOKE = "invoke"
    SIGNAL = "signal"
    CANCEL = "cancel"


class Pause(Struct, omit_defaults=True, gc=False):
    """A run waits for an event (or is cancelled by one).

    ``event`` is the exact event name (for a signal: ``signal_name(...)``). ``condition`` is an expression
    over ``async`` alone, empty for none. ``terms`` are equalities that each matching event must fulfil, as
    ``(path, value)`` texts: the store indexes the pause by the first.
    """

    id: str
    kind: PauseKind
    fn: str
    run: str
    event: str
    step: str = ""
    name: str = ""
    condition: str = ""
    terms: list[tuple[str, str]] = field(default_factory=list)
    created: int = 0
    expires: int = 0
    timeout_job: str = ""
    race: bool = False
    coalesce: str = ""
    ignore: str = ""  # internal id of the run's own triggering event
    max_attempts: int = 1
    partition: str = ""
    priority: int = 0


class Leased(Struct, gc=False):
    """An item in the hands of one worker. ``run`` is the state as of the lease, to read and not to change."""

    item: Item
    run: Run | None


def signal_name(signal: str) -> str:
    """The name under which the pause of a signal is indexed; no event can have it."""
    return f"\x00signal/{signal}"


def digest(*parts: str) -> str:
    """A short stable hash for keys and job ids: 16 bytes of BLAKE2b, hex."""
    return blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


# One namespace of job ids for each purpose, so that no two of them meet (wire protocol section 3.7,
# implementation advice).


def start_job(run: str) -> str:
    return f"{run}:start"


def discover_job(run: str, outgoing: str) -> str:
    return f"{run}:discover:{outgoing}"


def plan_job(run: str, step: str) -> str:
    return f"{run}:plan:{step}"


def gateway_job(run: str, step: str) -> str:
    return f"{run}:gateway:{step}"


def sleep_job(run: str, step: str) -> str:
    return f"{run}:sleep:{step}"


def timeout_job(run: str, step: str) -> str:
    return f"{run}:timeout:{step}"


def evict_job(run: str) -> str:
    return f"{run}:evict"


def arrival(accepted: int, event_id: str) -> str:
    """A text that orders events as they arrived: by the time of acceptance, then by internal id."""
    return f"{accepted:014d}{event_id}"


def accepted_at(order: str) -> int:
    """The time in an `arrival`; 0 for none."""
    return int(order[:14] or 0)


def score(now: int, priority: int) -> int:
    """Queue order of an item that is enqueued now: each second of priority overtakes a second of waiting
    (section 4.7).
    """
    return now - priority * 1000


def timers(fn_id: str) -> Partition:
    """Where items wait that call nobody, and so need no capacity."""
    return Partition(id=f"{fn_id}/t", fn=fn_id)


def runner_items(fn_id: str) -> Partition:
    """Where the collectors and schedules of a function wait."""
    return Partition(id=f"{fn_id}/r", fn=fn_id)
