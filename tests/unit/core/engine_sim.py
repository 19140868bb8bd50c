"""A small world around the engine: functions as trees of steps, SDKs, executors that fail, and a clock.

Everything is driven by a list of numbers, so that Hypothesis can draw it and shrink it. The engine is the
real one: `schedule`, `begin`, `expire`, `resume` and `advance` decide, and the store in memory commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.memory.queue import State
from inngest.backends.memory.state import EngineState
from inngest.core.decisions.advance import advance, begin, cancel, expire, gateway_result, resume
from inngest.core.decisions.checkpoints import checkpoint
from inngest.core.decisions.draft import Call
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import FINISHED, Event, decode_event
from inngest.core.model.functions import App, Concurrency, Function, Trigger
from inngest.core.model.history import History, What
from inngest.core.model.runs import (
    CALLS,
    Item,
    Kind,
    Leased,
    Pause,
    PauseKind,
    Queue,
    Run,
    RunStatus,
    signal_name,
)
from inngest.core.model.transition import Committed, SaveStep, Transition, lease_of
from inngest.core.policy import Policy
from inngest.core.sdk.responses import Answer, Failure, Op, Reported, Returned, Step
from inngest.ports.engine import Take

T = TypeVar("T")
START = 1_700_000_000_000
LEASE = 30_000
WORKER = "worker"
SWEEP = 2_000
POLICY = Policy(retry_interval=5_000)


# -- functions --


@dataclass(frozen=True)
class Leaf:
    """One step. ``op`` is what it is; ``errors`` how many attempts fail before it ends, ``ok`` or not."""

    id: str
    op: Op = Op.RUN
    errors: int = 0
    ok: bool = True
    caught: bool = True  # a failed step is caught by the function


@dataclass(frozen=True)
class Par:
    """Branches at once: all of them, or with ``race`` until the first is done."""

    branches: tuple[Seq, ...]
    race: bool = False


@dataclass(frozen=True)
class Flaky:
    """The function's own code fails in the first so many attempts of a call that comes here."""

    errors: int


@dataclass(frozen=True)
class Seq:
    nodes: tuple[Leaf | Par | Flaky, ...]


@dataclass(frozen=True)
class Program:
    body: Seq
    version: int = 2  # the SDK's request version
    checkpoint: int = 0  # steps that one call may run before it ends; 0: none but a single one
    buffer: bool = False  # they are reported with the answer, and not while the call goes on
    retries: int = 2


class _Fails(Exception):
    """The function's code throws."""

    def __init__(self, *, retryable: bool) -> None:
        self.retryable = retryable


@dataclass
class _View:
    """What one call can see: the memoised steps, and the steps it has run itself."""

    steps: dict[str, bytes]
    attempt: int


def _explore(node: Seq, view: _View) -> tuple[bool, list[tuple[Leaf, bool]]]:
    """Whether the sequence is done, and the steps that it has come to and that have no result yet."""
    found: list[tuple[Leaf, bool]] = []
    for child in node.nodes:
        match child:
            case Flaky(errors):
                if view.attempt < errors:
                    raise _Fails(retryable=True)
                done = True
            case Leaf():
                value = view.steps.get(child.id)
                done = value is not None
                if value is None:
                    found.append((child, False))
                elif value.startswith(b'{"error"') and not child.caught:
                    raise _Fails(retryable=False)
            case Par(branches, race):
                ends = []
                for branch in branches:
                    end, more = _explore(branch, view)
                    ends.append(end)
                    found += [(leaf, race or in_race) for leaf, in_race in more]
                done = any(ends) if race and ends else all(ends)
        if not done:
            return False, found
    return True, found


def leaves(node: Seq) -> list[Leaf]:
    found: list[Leaf] = []
    for child in node.nodes:
        if isinstance(child, Leaf):
            found.append(child)
        elif isinstance(child, Par):
            for branch in child.branches:
                found += leaves(branch)
    return found


# -- the SDK --


def _op(leaf: Leaf, op: Op, *, race: bool = False, **fields: Any) -> Step:
    opts: dict[str, Any] = {"parallelMode": "race"} if race else {}
    match leaf.op:
        case Op.SLEEP if op is Op.SLEEP:
            opts["duration"] = "10s"
        case Op.WAIT if op is Op.WAIT:
            opts |= {"event": "go/" + leaf.id, "timeout": "20s"}
        case Op.SIGNAL if op is Op.SIGNAL:
            opts |= {"signal": "signal", "timeout": "20s", "conflict": "replace"}
        case Op.INVOKE if op is Op.INVOKE:
            opts |= {"function_id": "child", "payload": {"data": {}}, "timeout": "20s"}
    return Step(
        id=leaf.id, op=op, label=leaf.id, name=leaf.id, opts=opts, **{"data": b"", "error": b"", **fields}
    )


@dataclass
class Reply:
    answer: Answer
    ran: list[str] = field(default_factory=list)  # steps whose code ran and gave a result
    checkpointed: list[Step] = field(default_factory=list)  # reported before the answer


class Sdk:
    """Answers calls the way the SDKs do (wire protocol sections 3.5 to 3.7 and 5.7)."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.leaves = {leaf.id: leaf for leaf in leaves(program.body)}

    def call(self, run: Run, item: Item) -> Reply:
        version = self.program.version
        if item.kind is Kind.PLAN:
            assert item.target not in run.steps, f"step {item.target} is requested although it has a result"
            step = self._run(self.leaves[item.target], item)
            ran = [step.id] if step.op is not Op.ERROR else []
            return Reply(Reported(steps=[step], request_version=version), ran)
        view = _View(dict(run.steps), item.attempt)
        ran_steps: list[Step] = []
        budget = self.program.checkpoint if item.attempt == 0 and not run.force_plan else 0

        def report(*more: Step) -> Reply:
            ran = [step.id for step in (*ran_steps, *more) if step.op in {Op.RUN, Op.FAILED}]
            early, late = ([], ran_steps) if self.program.buffer else (ran_steps, [])
            return Reply(Reported(steps=[*late, *more], request_version=version), ran, early)

        while True:
            try:
                done, found = _explore(self.program.body, view)
            except _Fails as fails:
                # An SDK that fails reports nothing else: what it had buffered is lost.
                early = [] if self.program.buffer else ran_steps
                error = b'{"error":"x","name":"Error","message":"x"}'
                failed = Failure(error=error, no_retry=not fails.retryable)
                return Reply(failed, [step.id for step in early], early)
            if done:
                if not ran_steps:
                    return Reply(Returned(output=b'"done"', request_version=version))
                return report(
                    Step(id="end", op=Op.COMPLETE, label="", name="", opts={}, data=b'"done"', error=b"")
                )
            only = found[0][0] if len(found) == 1 else None
            if only is None or only.op is not Op.RUN or run.force_plan:
                return report(*[_op(leaf, _planned(leaf), race=race) for leaf, race in found])
            if ran_steps and len(ran_steps) >= budget:
                return report(
                    Step(id="more", op=Op.DISCOVERY, label="", name="", opts={}, data=b"", error=b"")
                )
            step = self._run(only, item)
            if not budget or step.op is not Op.RUN:
                return report(step)
            ran_steps.append(step)
            view.steps[step.id] = b'{"data":1}'

    def _run(self, leaf: Leaf, item: Item) -> Step:
        error = b'{"name":"Error","message":"x"}'
        if item.attempt < leaf.errors:
            final = item.attempt + 1 >= item.max_attempts
            return _op(leaf, Op.FAILED if final else Op.ERROR, error=error)
        return _op(leaf, Op.RUN, data=b"1") if leaf.ok else _op(leaf, Op.FAILED, error=error)


def _planned(leaf: Leaf) -> Op:
    return Op.PLANNED if leaf.op is Op.RUN else leaf.op


# -- the world --


@dataclass
class Hand:
    """An item in the hands of an executor. ``transition`` is decided and not committed yet."""

    leased: Leased
    view: Run
    transition: Transition | None = None
    ran: list[str] = field(default_factory=list)
    until: int = 0  # it has the item at least until then


def _name(leased: Leased | None) -> tuple[str, int] | None:
    return (leased.item.job, leased.item.epoch) if leased is not None else None


def _go(coroutine: Coroutine[Any, Any, T]) -> T:
    """The store in memory never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the store in memory has waited")


class World:
    """Runs, executors and time; each method is one thing that may happen."""

    def __init__(self, programs: Sequence[Program], *, limit: int = 0, run_limit: int = 0) -> None:
        self.now = START
        self.store = MemoryEngineStore(lambda: self.now)
        self.limit = limit
        self.run_limit = run_limit
        self.programs: dict[str, Program] = {}
        self.sdks: dict[str, Sdk] = {}
        self.functions: dict[str, Function] = {}
        self.hands: list[Hand] = []
        self.resumes: list[Transition] = []
        self.history: list[History] = []
        self.events: list[Event] = []
        self.saved: dict[str, dict[str, bytes]] = {}
        self.cancelled: set[str] = set()
        self.ids = 0
        for number, program in enumerate(programs):
            fn = Function(
                id=f"fn{number}", slug=f"fn{number}", name="", app="app", app_id="app", url="",
                triggers=[Trigger(event="start")], retries=program.retries,
                concurrency=[Concurrency(limit=limit, scope="env", key='"all"')] if limit else [],
                run_concurrency=Concurrency(limit=run_limit) if run_limit else None,
            )  # fmt: skip
            self.functions[fn.id] = fn
            self.sdks[fn.id] = Sdk(program)
            self.programs[fn.id] = program
        _go(self.store.put_app(App(id="app", name="app", url=""), list(self.functions.values())))

    def moment(self) -> Moment:
        return Moment(now=self.now, new_id=self._new_id)

    def _new_id(self) -> str:
        self.ids += 1
        return f"id{self.ids:06}"

    @property
    def state(self) -> EngineState:
        return self.store._state

    def _run(self, run: str) -> Run | None:
        fn = _go(self.store.locate(run))
        return _go(self.store.run(fn, run)) if fn is not None else None

    # -- what may happen --

    def start(self, fn: str) -> None:
        event = Event(id=self._new_id(), name="start", ts=self.now, received=self.now)
        self.commit(schedule(self.functions[fn], event, self.moment()))

    def lease(self, limit: int) -> bool:
        work = _go(self.store.lease(Queue.EXECUTOR, limit, LEASE, WORKER))
        for leased in work.items:
            self._take(leased)
        return bool(work.items)

    def _take(self, leased: Leased) -> None:
        assert leased.run is not None
        self.hands.append(Hand(leased, leased.run.copy(), until=self.now + LEASE))
        self._check_limit()

    def decide(self, hand: Hand) -> None:
        """Call the application, or see what a timer means; nothing is committed but checkpoints."""
        item, run, fn = hand.leased.item, hand.view, self.functions[hand.leased.item.fn]
        if item.kind not in CALLS:
            hand.transition = expire(run, fn, item, self.moment())
            return
        hand.transition = begin(run, fn, item, self.moment(), POLICY)
        if hand.transition is not None:
            return
        call = Call(started=self.now, ended=self.now)
        at = self.moment()
        if item.kind is Kind.GATEWAY:
            hand.ran = [item.target]
            hand.transition = gateway_result(
                run, fn, item, b"1", None, at, call=call, jitter=0, policy=POLICY
            )
            return
        reply = self.sdks[fn.id].call(run, item)
        hand.ran = reply.ran
        for step in reply.checkpointed:
            committed = self.commit(checkpoint(run, item, [step], at, LEASE), ran=[step.id])
            if committed.stale:  # the SDK stops
                self.hands.remove(hand)
                return
            hand.ran.remove(step.id)
        hand.transition = advance(run, fn, item, reply.answer, at, call=call, policy=POLICY)

    def finish(self, hand: Hand, *, reply_lost: bool = False, take: bool = False) -> None:
        """Commit what was decided. With ``reply_lost`` the executor does not hear of it, and repeats it."""
        assert hand.transition is not None
        self.hands.remove(hand)
        entry = self.state.entries.get(hand.leased.item.job)
        valid = (
            entry is not None and entry.state == State.LEASED and entry.item.epoch == hand.leased.item.epoch
        )
        committed = self.commit(hand.transition, ran=hand.ran, take=take)
        assert committed.stale is not valid, "only the newest lease may commit"
        if reply_lost:
            again = self.commit(hand.transition, take=take)
            assert again.stale, "a repeated commit is refused"
            assert _name(again.next) == _name(committed.next), "a repeated commit has the continuation"
        if committed.next is not None:
            self._take(committed.next)

    def crash(self, hand: Hand) -> None:
        """The executor is gone; the lease will run out."""
        self.hands.remove(hand)

    def hand_back(self, hand: Hand) -> None:
        self.crash(hand)
        _go(self.store.hand_back([lease_of(hand.leased.item)]))

    def extend(self) -> None:
        leases = [lease_of(hand.leased.item) for hand in self.hands]
        lost = _go(self.store.extend(leases, LEASE))
        for hand in self.hands:
            if lease_of(hand.leased.item) not in lost:
                hand.until = max(hand.until, self.now + LEASE)

    def wake(self, pause: Pause) -> None:
        """What a pause waits for comes; the runner decides, and commits later."""
        value = b'{"data":2}' if pause.kind is PauseKind.INVOKE else b'{"name":"go"}'
        self.resumes.append(resume(pause, value, self.moment()))

    def pauses(self) -> list[Pause]:
        """Those that something can end, as the index knows them."""
        names = [
            "go/" + leaf.id
            for sdk in self.sdks.values()
            for leaf in sdk.leaves.values()
            if leaf.op is Op.WAIT
        ]
        asked = [Event(id="e", name=name, ts=self.now, received=self.now) for name in dict.fromkeys(names)]
        found = [pause for page in _go(self.store.first_pauses(asked, 2)) for pause in page.found]
        for event in self.events:
            correlation = event.value["data"].get("_inngest", {}).get("correlation_id")
            if correlation:
                data = Raw(msgspec.json.encode({"correlation_id": correlation}))
                done = Event(id="e", name=FINISHED, ts=self.now, received=self.now, data=data)
                found += _go(self.store.pauses(done, "", 100)).found
        signalled = _go(self.store.signal(signal_name("signal")))
        return found + ([signalled] if signalled is not None else [])

    def resume(self, place: int, *, twice: bool = False) -> None:
        transition = self.resumes[place]
        if not twice:
            del self.resumes[place]
        self.commit(transition)

    def cancel(self, run: str) -> None:
        state = self._run(run)
        if state is not None and all(self.commit(cancel(state, self.moment())).won[:1]):
            self.cancelled.add(run)

    def advance(self, ms: int) -> None:
        self.now += ms

    def to_next_due(self) -> bool:
        coming = _go(self.store.lease(Queue.EXECUTOR, 0, LEASE, WORKER)).next_in
        if not coming:
            return False
        self.now += round(coming * 1000)
        return True

    # -- what must hold --

    def commit(self, transition: Transition, *, ran: Sequence[str] = (), take: bool = False) -> Committed:
        taking = Take(WORKER, LEASE) if take else None
        alive = transition.run in self.state.runs
        (committed,) = _go(self.store.commit([transition], take=taking))
        if alive and not committed.stale:
            won = dict.fromkeys(ran, False)
            for effect, wins in zip(transition.effects, committed.won, strict=True):
                if isinstance(effect, SaveStep) and effect.step in won:
                    won[effect.step] |= wins
            doubled = [step for step, first in won.items() if not first]
            assert not doubled, f"{doubled} of {transition.run} ran twice, each under a valid lease"
        self._drain_outbox()
        self._check(transition.run)
        return committed

    def _drain_outbox(self) -> None:
        events = _go(self.store.events.take(1000))
        self.events += [decode_event(raw) for raw in events.entries]
        _go(self.store.events.ack(events.token))
        history = _go(self.store.history.take(1000))
        self.history += history.entries
        _go(self.store.history.ack(history.token))

    def _check(self, run_id: str) -> None:
        orphans = [run.id for run in _go(self.store.orphans(-1, "", 100)).found]
        assert not orphans, f"nothing will ever move {orphans}"
        state = self._run(run_id)
        if state is None:
            return
        before = self.saved.setdefault(run_id, {})
        for step, value in before.items():
            assert state.steps.get(step) == value, f"the result of {step} has changed"
        before.update(state.steps)
        assert sorted(state.stack) == sorted(state.steps)
        assert not state.pending & set(state.steps), "a step with a result is awaited"
        self._check_continuations(state)

    def _check_continuations(self, state: Run) -> None:
        """With a pending set and no race, at most one item asks what comes next."""
        program = self.programs[state.fn]
        if program.version < 2 or has_race(program.body):
            return
        asking = [
            i.job for i in _go(self.store.items(state.fn, state.id)) if i.kind in {Kind.START, Kind.DISCOVER}
        ]
        assert len(asking) <= 1, f"several continuations: {asking}"
        assert not (asking and state.pending), f"{asking} although {state.pending} are awaited"

    def _check_limit(self) -> None:
        held = [h.leased for h in self.hands if h.leased.item.kind in CALLS and h.until > self.now]
        if self.limit:
            # Leases that were extended or ran out and were not taken up are not counted: a lower bound.
            assert len(held) <= self.limit, f"{len(held)} calls at once, {self.limit} are allowed"
        if self.run_limit:
            for fn in self.functions:
                runs = {leased.item.run for leased in held if leased.item.fn == fn}
                runs = {run for run in runs if run in self.state.runs}
                assert len(runs) <= self.run_limit, f"{len(runs)} runs of {fn} at once"

    def drain(self) -> None:
        """Let everything happen without faults, until nothing is left to do."""
        for hand in list(self.hands):
            self.crash(hand)
        for transition in self.resumes:
            self.commit(transition)
        self.resumes.clear()
        for _ in range(5_000):
            self.lease(100)
            for hand in list(self.hands):
                self.decide(hand)
                if hand in self.hands:
                    self.finish(hand)
            if not self.hands and not _go(self.store.lease(Queue.EXECUTOR, 0, LEASE, WORKER)).items:
                stats = _go(self.store.stats())
                if not stats.runs and not stats.leased:
                    break
                if not self.lease(100) and not self.to_next_due():
                    break
        self.check_end()

    def check_end(self) -> None:
        store = self.store
        stuck = {
            run: [item.job for item in _go(store.items(state.run.fn, run))]
            for run, state in self.state.runs.items()
        }
        assert not stuck, f"runs that never end: {stuck}"
        assert not self.lease(1)
        stats = _go(store.stats())
        assert (stats.runs, stats.queued, stats.leased, stats.pauses) == (0, 0, 0, 0)
        cells = {
            key: cell.holders for key, cell in self.state.queue._cells.items() if cell.holders or cell.lines
        }
        assert not cells, f"capacity was lost: {cells}"
        assert not self.state.queue._parts, "partitions are left"
        ends = Counter(entry.run for entry in self.history if entry.what is What.ENDED)
        begun = {entry.run for entry in self.history if entry.what is What.SCHEDULED}
        assert ends == dict.fromkeys(begun, 1), "each run ends once"
        assert len({entry.id for entry in self.history}) == len(self.history), "an identity is used twice"
        told = Counter(e.value["data"]["run_id"] for e in self.events if e.name == FINISHED)
        assert told == ends, "each end is told once"
        for entry in self.history:
            if entry.what is What.ENDED:
                self._check_outcome(entry)

    def _check_outcome(self, entry: History) -> None:
        program = self.programs[entry.fn]
        if entry.run in self.cancelled:
            assert entry.outcome == RunStatus.CANCELLED
            return
        failing = can_fail(program.body, program.retries)
        assert entry.outcome == RunStatus.COMPLETED or failing, f"{entry.outcome}: {entry.value!r}"


def can_fail(node: Seq, retries: int) -> bool:
    """Whether a run of the program may end with an error by its own doing."""
    for child in node.nodes:
        match child:
            case Flaky(errors) if errors > retries:
                return True
            case Leaf(caught=False) if child.op is Op.INVOKE or not child.ok or child.errors > retries:
                return True
            case Par(branches) if any(can_fail(branch, retries) for branch in branches):
                return True
    return False


def has_race(node: Seq) -> bool:
    return any(
        isinstance(child, Par) and (child.race or any(has_race(branch) for branch in child.branches))
        for child in node.nodes
    )
