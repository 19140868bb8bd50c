"""Transitions: what a decision changes, as data.

A `Transition` is a list of effects on one function's part of the engine store. The store applies all of them
at once or none. Most effects are conditional by nature ("save this result unless there is one"): each says
below when it *wins*. An effect whose ``when`` names an earlier effect (by its place in the list) happens only
if that one won; ``unless``, only if it lost. An effect that does not happen has lost. With these two, a
decision that was made on a view of the run which is outdated by the time of the commit still does the right
thing, and the store needs no logic of its own beyond the effects.

Effects name no run: all of them concern ``Transition.run``. If that run does not exist (any more), those
marked [run] lose.

Every store implements these effects with exactly this meaning; ``tests/conformance`` is the judge.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from inngest.core.model.history import History
from inngest.core.model.runs import Item, Leased, Partition, Pause, Run, RunStatus
from inngest.core.timing.gcra import Gcra


class _Effect(Struct, tag_field="op", omit_defaults=True, kw_only=True, gc=False):
    when: int = -1
    unless: int = -1


# -- what happens once --


class Once(_Effect, tag="once"):
    """The function has decided on an event, ``key``, which was accepted at ``at``. Wins if it had not before.

    The store remembers it until the event stream is done with all that was accepted up to then: ``forget`` is
    the time before which nothing is delivered again. What was accepted before that has been decided on. With
    ``mark`` unset it only looks.
    """

    key: str
    at: int
    forget: int = 0
    mark: bool = True


class Remember(_Effect, tag="remember"):
    """Keep an event that cancels runs of this function for ``ttl`` ms, for the runs of earlier events that
    other runners are still starting: see `Recall`. Wins always.
    """

    name: str
    event: bytes
    at: int  # when it was accepted
    ttl: int


class Recall(_Effect, tag="recall"):
    """[run] Wins, and queues ``item``, if one of the events of ``names`` that are remembered was accepted at
    ``since`` or later.
    """

    names: list[str]
    since: int
    item: Item


# -- starting runs --


class Unclaimed(_Effect, tag="unclaimed"):
    """Wins if no run holds the idempotency key (which stays unclaimed)."""

    key: str


class Admit(_Effect, tag="admit"):
    """A rate limit (section 4.4). Wins if admitted, and then counts."""

    key: str
    params: Gcra


class TakeLock(_Effect, tag="lock"):
    """A singleton lock (section 4.9) for this run. Wins if it is free; a lock is free when its holder has
    ended or was evicted.

    With ``evict``, a holder of an earlier ``order`` is evicted as by `Evict`, and ``evict`` queued for it:
    the store gives that item the holder's run and job id.
    """

    key: str
    order: str
    evict: Item | None = None


class CreateRun(_Effect, tag="create"):
    """Begin a run. Wins if the run id is unused and, with ``claim`` ms, the key is unclaimed; it then claims
    ``run.key`` for so long.
    """

    run: Run
    claim: int = 0


class Collect(_Effect, tag="collect"):
    """Add an event to the open collector of ``key``, or open one with ``item`` (sections 4.5 and 4.6).

    ``item.payload`` is a JSON array of encoded events. A collector closes when its item is leased, or when it
    is full; the next event then opens another. Wins if the event was taken in.

    ``last``: keep only the newest by ``ts`` (debounce); the item moves to ``item.due``, at most to the time
    of its opening and ``bound`` if bound > 0. Otherwise all are kept (batch), and the item is due at once
    when there are ``max_size`` events or ``max_bytes``.
    """

    key: str
    item: Item
    partition: Partition
    event: bytes
    ts: int
    last: bool = False
    bound: int = 0
    max_size: int = 0
    max_bytes: int = 0


# -- the queue --


class Enqueue(_Effect, tag="enqueue"):
    """[run, if item.run] Queue an item. Wins if its job id was never used in this run (or, without a run, is
    not queued now).
    """

    item: Item
    partition: Partition | None = None  # None: the run's own, by the item's kind


class EnqueueFirst(_Effect, tag="first"):
    """[run] Queue the first of these items whose job id was never used in this run. Wins if there is one."""

    items: list[Item]


class Drop(_Effect, tag="drop"):
    """Take back a queued item that nobody has leased. Wins if it was there."""

    job: str


class Complete(_Effect, tag="complete"):
    """The leased item is done: forget it and give its capacity back. Wins always."""


class Retry(_Effect, tag="retry"):
    """The leased item is to be worked on again at ``due``, with ``attempt``. Capacity is given back. Wins
    always.
    """

    due: int
    attempt: int
    payload: bytes | None = None


class ResetAttempts(_Effect, tag="reset"):
    """[run] Checkpointed progress: ``job``, if still leased under ``epoch``, has attempt 0 from now on, and
    its lease goes on for ``ms``.

    Wins if it is.
    """

    job: str
    epoch: int
    ms: int


# -- the run --


class Begin(_Effect, tag="begin"):
    """[run] The run is first called, at ``at``. Wins if it had not begun."""

    at: int


class Adopt(_Effect, tag="adopt"):
    """[run] The request version the SDK answered with first. Wins if none was known."""

    version: int


class ForcePlan(_Effect, tag="force"):
    """[run] From now on steps are planned, not run at once (``ctx.disable_immediate_execution``)."""


class SaveStep(_Effect, tag="save"):
    """[run] Keep a step's result; it leaves the pending set. Wins if it is the first."""

    step: str
    value: bytes


class Await(_Effect, tag="await"):
    """[run] Replace the pending set by those of ``steps`` that have no result yet. Wins if any is left; the
    reverse means that all are done.
    """

    steps: list[str]


class Discover(_Effect, tag="discover"):
    """[run] Queue a discovery call, unless steps are pending and ``item.race`` is not set. For request
    version 2 and up it also clears ForcePlan, unless that call is to be in plan mode (``planned``), too.

    Wins if the item was queued.
    """

    item: Item
    planned: bool = False


class PutPause(_Effect, tag="pause"):
    """[run] Wait. Wins if the step has neither a pause nor a result yet.

    ``exclusive``: the pause of a signal, of which there is one a name: "fail" loses if another run's pause
    exists, "replace" takes its place in the index.
    """

    pause: Pause
    exclusive: str = ""


class SignalTaken(_Effect, tag="signal-taken"):
    """Wins if the pause that ``name`` leads to is another run's, and this run has neither ``pause`` nor a
    result for ``step``.
    """

    name: str
    pause: str
    step: str


class TakePause(_Effect, tag="take"):
    """End a wait: the pause is gone, and its timeout item with it. Wins if it was there. The one winner
    between an event and a timeout.
    """

    id: str


class Evict(_Effect, tag="evict"):
    """[run] The run is to be cancelled: its queued items (leased ones excepted, until they complete), pauses
    and lock are gone, and from now on it does not exist for any effect but those under the lease of ``item``,
    which is queued to tell its end. Wins if it had neither ended nor been evicted.
    """

    item: Item


class EndRun(_Effect, tag="end"):
    """[run] The run is over: its state, queued items (leased ones excepted, until they complete), pauses,
    capacity and lock are gone; its key stays claimed. Wins if it had not ended.
    """

    status: RunStatus


# -- leaving the engine --


class Emit(_Effect, tag="emit"):
    """An internal event for the stream (``Event.encode``), by way of the outbox."""

    event: bytes


class Record(_Effect, tag="record"):
    """A line of history, by way of the outbox."""

    entry: History


# -- schedules --


class SetCrons(_Effect, tag="crons"):
    """Let the function's queued cron items be exactly these, by ``Item.name`` (the schedule's identity): an
    existing one stays as it is. Loses if they were set for a newer ``version`` of the registry.
    """

    items: list[Item]
    partition: Partition
    version: int


Effect: TypeAlias = (
    Once
    | Remember
    | Recall
    | Unclaimed
    | Admit
    | TakeLock
    | CreateRun
    | Collect
    | Enqueue
    | EnqueueFirst
    | Drop
    | Complete
    | Retry
    | ResetAttempts
    | Begin
    | Adopt
    | ForcePlan
    | SaveStep
    | Await
    | Discover
    | PutPause
    | SignalTaken
    | TakePause
    | Evict
    | EndRun
    | Emit
    | Record
    | SetCrons
)


class Lease(Struct, frozen=True, array_like=True, gc=False):
    """The fencing token of a leased item: a commit under it happens only while it is the newest lease of the
    function's job.
    """

    fn: str
    job: str
    epoch: int


def lease_of(item: Item) -> Lease:
    """The lease under which an item was handed out."""
    return Lease(item.fn, item.job, item.epoch)


class Transition(Struct, omit_defaults=True, gc=False):
    """Effects on one function (and at most one of its runs), to be committed at once. ``fn`` is never empty:
    it is what a store finds the function's shard by.
    """

    fn: str
    run: str
    effects: list[Effect]
    lease: Lease | None = None

    def weight(self) -> int:
        """The bytes of what it stores, about."""
        weight = 0
        for effect in self.effects:
            if isinstance(effect, SaveStep):
                weight += len(effect.value)
            elif isinstance(effect, Emit):
                weight += len(effect.event)
        return weight


class Committed(Struct, gc=False):
    """What became of a transition.

    ``stale``: the lease was not the newest any more, and nothing was changed. ``won`` tells of each effect.
    ``next`` is the follow-up item, leased to the same worker in the same commit, when the caller asked to
    take it; a commit that is repeated because its reply was lost is stale, and has it all the same.
    """

    won: list[bool]
    stale: bool = False
    next: Leased | None = None
