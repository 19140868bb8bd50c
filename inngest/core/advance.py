"""The second decision: what an application's answer, or a timer, means for a run (wire protocol section 3.7).

The run that is given is a view: it may be older than the store's by the time of the commit. So nothing here
is concluded from it that the effects do
not check again, except what can only make a call superfluous.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from inngest.core.backoff import retry_delay
from inngest.core.durations import InvalidDuration, parse_sleep, parse_timeout
from inngest.core.errors import ExpressionError
from inngest.core.events import FINISHED, INVOKED, internal_event
from inngest.core.expr import bind, equality_terms, term_value
from inngest.core.finish import end
from inngest.core.functions import Function
from inngest.core.history import History, Outcome, What
from inngest.core.responses import ASYNC, LAZY, Answer, Failure, Op, Reported, Returned, Step, failure
from inngest.core.runs import (
    UNSET_VERSION,
    Item,
    Kind,
    Pause,
    PauseKind,
    Run,
    RunStatus,
    digest,
    discover_job,
    gateway_job,
    plan_job,
    score,
    signal_name,
    sleep_job,
    start_job,
    timeout_job,
)
from inngest.core.schedule import MAX_TIMER, Moment, timer
from inngest.core.times import SECOND, YEAR
from inngest.core.transition import (
    Adopt,
    Await,
    Begin,
    Complete,
    Discover,
    Drop,
    Effect,
    Emit,
    Enqueue,
    ForcePlan,
    Lease,
    PutPause,
    Record,
    ResetAttempts,
    Retry,
    SaveStep,
    SignalTaken,
    TakePause,
    Transition,
)

MAX_STEPS = 1000
MAX_STATE = 32 * 1024 * 1024
MAX_STEP_OUTPUT = 4 * 1024 * 1024
SIGNAL_CONFLICT = "Signal conflict; signal wait already exists for another run"
_NULL = b"null"
_encode = msgspec.json.Encoder().encode


class Policy(Struct, frozen=True):
    """What an operator may set about retries and limits."""

    retry_interval: int = 0  # ms; a fixed delay in place of the table
    max_steps: int = MAX_STEPS
    max_state: int = MAX_STATE


DEFAULT_POLICY = Policy()


class Call(Struct):
    """When a call was made: for history only."""

    started: int
    ended: int


class _Build:
    """A transition under construction."""

    __slots__ = ("at", "effects", "fn", "item", "policy", "run")

    def __init__(self, run: Run, fn: Function, item: Item, at: Moment, policy: Policy) -> None:
        self.run = run
        self.fn = fn
        self.item = item
        self.at = at
        self.policy = policy
        self.effects: list[Effect] = []

    def add(self, effect: Effect) -> int:
        """Append; the effect's place is returned."""
        self.effects.append(effect)
        return len(self.effects) - 1

    def finish(self) -> Transition:
        return Transition(
            fn=self.run.fn, run=self.run.id, effects=self.effects, lease=Lease(self.item.job, self.item.epoch)
        )

    def done(self) -> Transition:
        self.effects.append(Complete())
        return self.finish()

    def record(self, what: What, *, when: int = -1, unless: int = -1, **fields: Any) -> None:
        entry = History(what=what, run=self.run.id, fn=self.run.fn, at=self.at.now, **fields)
        self.effects.append(Record(entry=entry, when=when, unless=unless))

    def discovery(self, outgoing: str, *, race: bool, coalesce: str, job: str = "") -> Item:
        """The item that calls the function again after ``outgoing`` got its result."""
        now = self.at.now
        by = coalesce if coalesce and not race else outgoing
        return Item(
            job=job or discover_job(self.run.id, by),
            kind=Kind.DISCOVER,
            fn=self.run.fn,
            run=self.run.id,
            due=now,
            score=score(now, self.run.priority),
            partition=self.run.work.id,
            max_attempts=self.fn.max_attempts,
            outgoing=outgoing,
            race=race,
            queued=now,
        )

    def end(
        self, status: RunStatus, *, output: bytes | None = None, error: bytes | None = None, when: int = -1
    ) -> None:
        self.effects += end(
            self.run,
            status,
            self.at.now,
            self.at.new_id,
            output=output,
            error=error,
            place=len(self.effects),
            when=when,
        )

    def fail(self, name: str, message: str) -> None:
        self.end(RunStatus.FAILED, error=_error(name, message))


def _error(name: str, message: str) -> bytes:
    return _encode(
        {"error": f"{name}: {message}" if name != "Error" else message, "name": name, "message": message}
    )


# -- before a call
# ----------------------------------------------------------------------------------------------------


def begin(
    run: Run, fn: Function, item: Item, at: Moment, policy: Policy = DEFAULT_POLICY
) -> Transition | None:
    """Whether the application may be called for ``item``: None if so, else what happens instead."""
    build = _Build(run, fn, item, at, policy)
    if len(run.steps) >= policy.max_steps:
        message = f"The function run exceeded the step limit of {policy.max_steps} steps."
        build.fail("InngestErrFunctionOverflowed", message)
        return build.done()
    if fn.start_timeout and not run.started and not run.batch and at.now - run.created > fn.start_timeout:
        build.end(RunStatus.CANCELLED)
        return build.done()
    if fn.finish_timeout and run.started and at.now - run.started > fn.finish_timeout:
        build.end(RunStatus.CANCELLED)
        return build.done()
    if item.target and item.target in run.steps:
        # It has its result (from an attempt whose commit was not seen to succeed): only the
        # continuation may be missing.
        build.add(Discover(item=build.discovery(item.target, race=item.race, coalesce=item.coalesce)))
        return build.done()
    return None


# -- a timer
# ----------------------------------------------------------------------------------------------------------


def expire(run: Run, fn: Function, item: Item, at: Moment) -> Transition:
    """A timer of a run is due: a sleep ends, a wait times out, or the run's own time is up."""
    build = _Build(run, fn, item, at, DEFAULT_POLICY)
    match item.kind:
        case Kind.SLEEP:
            saved = build.add(SaveStep(step=item.target, value=_NULL))
            build.record(What.RESUMED, when=saved, step=item.target, name=item.name)
            _continue(build, item.target, race=item.race, coalesce=item.coalesce)
        case Kind.TIMEOUT:
            taken = build.add(TakePause(id=_pause_id(run.id, item.target)))
            value = item.payload or _NULL
            saved = build.add(SaveStep(step=item.target, value=value, when=taken))
            build.record(
                What.RESUMED,
                when=saved,
                step=item.target,
                name=item.name,
                value=value,
                info={"timed_out": True},
            )
            _continue(build, item.target, race=item.race, coalesce=item.coalesce, when=saved)
        case Kind.START_TIMEOUT:
            if not run.started:
                # Not while the first call is under way: then the start item is leased and cannot be dropped.
                dropped = build.add(Drop(job=start_job(run.id)))
                build.end(RunStatus.CANCELLED, when=dropped)
        case Kind.FINISH_TIMEOUT:
            build.end(RunStatus.CANCELLED)
        case _:
            raise ValueError(f"{item.kind} is not a timer of a run")
    return build.done()


def _continue(build: _Build, step: str, *, race: bool, coalesce: str, when: int = -1) -> None:
    build.add(Discover(item=build.discovery(step, race=race, coalesce=coalesce), when=when))


def _pause_id(run: str, step: str) -> str:
    return f"{run}:{step}"


# -- an event
# ---------------------------------------------------------------------------------------------------------


def resume(pause: Pause, value: bytes, at: Moment, *, info: dict[str, Any] | None = None) -> Transition:
    """A wait is over: ``value`` becomes the step's result, if nothing else was first."""
    item = Item(
        job=discover_job(pause.run, pause.coalesce if pause.coalesce and not pause.race else pause.step),
        kind=Kind.DISCOVER,
        fn=pause.fn,
        run=pause.run,
        due=at.now,
        score=score(at.now, pause.priority),
        partition=pause.partition,
        max_attempts=pause.max_attempts,
        outgoing=pause.step,
        race=pause.race,
        queued=at.now,
    )
    entry = History(
        what=What.RESUMED,
        run=pause.run,
        fn=pause.fn,
        at=at.now,
        step=pause.step,
        name=pause.name,
        value=value,
        info=info,
    )
    effects: list[Effect] = [
        TakePause(id=pause.id),
        SaveStep(step=pause.step, value=value, when=0),
        Record(entry=entry, when=1),
        Discover(item=item, when=1),
    ]
    return Transition(fn=pause.fn, run=pause.run, effects=effects)


def cancel(run: Run, at: Moment) -> Transition:
    """End a run by decision of a person, an event or a newer run. A call under way is not interrupted; its
    answer is ignored.
    """
    return Transition(
        fn=run.fn, run=run.id, effects=end(run, RunStatus.CANCELLED, at.now, at.new_id, place=0)
    )


# -- after a call
# -----------------------------------------------------------------------------------------------------


def advance(
    run: Run,
    fn: Function,
    item: Item,
    answer: Answer,
    at: Moment,
    *,
    call: Call,
    jitter: float = 0.0,
    policy: Policy = DEFAULT_POLICY,
) -> Transition:
    """What the application's answer to ``item`` changes.

    Args:
        run: as of the lease.
        item: leased; the transition completes it or puts it back.
        answer: see ``responses.read``.
        call: when the call was made.
        jitter: in [0, 1), for the delay of a retry.

    """
    build = _Build(run, fn, item, at, policy)
    if not run.started:
        begun = build.add(Begin(at=call.started))
        build.record(What.STARTED, when=begun, started=call.started)
        if fn.finish_timeout:
            due = call.started + fn.finish_timeout
            build.add(
                Enqueue(
                    item=timer(run, Kind.FINISH_TIMEOUT, f"{run.id}:finish-timeout", due, at.now), when=begun
                )
            )
    if isinstance(answer, Failure):
        return _failed(build, answer, call, jitter)
    if answer.request_version is not None and run.request_version == UNSET_VERSION:
        build.add(Adopt(version=answer.request_version))
    if isinstance(answer, Returned):
        _attempt(build, call, Outcome.OK, value=answer.output)
        build.end(RunStatus.COMPLETED, output=answer.output)
        return build.done()
    return _reported(build, answer, call, jitter)


def _attempt(
    build: _Build, call: Call, outcome: Outcome, *, value: bytes | None = None, **fields: Any
) -> None:
    """History of a call to the function's own code."""
    item = build.item
    fields.setdefault("step", item.target)
    fields.setdefault("name", item.name)
    build.record(
        What.ATTEMPT,
        attempt=item.attempt,
        outcome=outcome,
        queued=item.due,
        started=call.started,
        value=value,
        **fields,
    )


def _failed(build: _Build, answer: Failure, call: Call, jitter: float) -> Transition:
    item = build.item
    final = answer.no_retry or item.attempt + 1 >= item.max_attempts
    info = {"status": answer.status} if answer.status else None
    outcome = Outcome.FAILED if final else Outcome.RETRY
    _attempt(build, call, outcome, value=answer.error, info=info)
    if not final:
        return _again(build, answer.retry_at, jitter)
    build.end(RunStatus.FAILED, error=answer.error)
    return build.done()


def _again(build: _Build, retry_at: int, jitter: float) -> Transition:
    item, now = build.item, build.at.now
    due = retry_at or now + (build.policy.retry_interval or retry_delay(item.attempt, jitter))
    build.add(Retry(due=due, attempt=item.attempt + 1))
    return build.finish()


def _reported(build: _Build, answer: Reported, call: Call, jitter: float) -> Transition:
    run = build.run
    moving = [step for step in answer.steps if step.op not in LAZY and step.op is not Op.NONE]
    size = run.size + sum(len(step.data) for step in moving)
    try:
        if size > build.policy.max_state:
            allowed = build.policy.max_state
            raise _RunFails(
                "InngestErrStateOverflowed", f"The run's state would be {size} bytes; {allowed} are allowed."
            )
        if build.item.kind is Kind.PLAN and not any(_answers(step, build.item.target) for step in moving):
            # The job of a planned step exists once: letting it go without a result would leave
            # the run waiting for ever.
            message = f"The SDK was asked for step {build.item.name!r} and answered with something else."
            return _failed(build, failure(message, status=206, no_retry=answer.no_retry), call, jitter)
        if not moving:
            # Nothing but empty or lazy ops: ask again.
            _ask_again(build)
            return build.done()
        for step in moving:
            if step.op in {Op.COMPLETE, Op.SYNC_COMPLETE}:
                return _complete(build, step, moving, call)
        return _steps(build, answer, moving, call, jitter)
    except _RunFails as reason:
        build.fail(reason.name, reason.message)
        return build.done()


def _answers(step: Step, target: str) -> bool:
    return step.op in {Op.COMPLETE, Op.SYNC_COMPLETE} or (
        step.id == target and (step.op in DONE or step.op is Op.ERROR)
    )


class _RunFails(Exception):
    """An op that cannot be carried out ends the run."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


def _ask_again(build: _Build) -> None:
    item = build.item
    # A job id of its own: the discovery after the last step may be this very item.
    job = discover_job(build.run.id, digest(item.job, str(item.epoch)))
    build.add(Discover(item=build.discovery(item.outgoing, race=True, coalesce="", job=job)))


def _complete(build: _Build, end_op: Step, moving: list[Step], call: Call) -> Transition:
    """The function returned in checkpoint mode, possibly with its last steps beside (section 5.7)."""
    for step in moving:
        if step.op in DONE:
            _save(build, step, call)
    output = end_op.data or _NULL
    _attempt(build, call, Outcome.OK, value=output, step="", name="")
    build.end(RunStatus.COMPLETED, output=output)
    return build.done()


def _steps(build: _Build, answer: Reported, moving: list[Step], call: Call, jitter: float) -> Transition:
    """Save what is done, arrange for what is to come, and see that exactly one continuation follows.

    Request version 1 has no pending set: each finished step asks for the next by itself, and job ids keep
    that from doubling. From version 2 on, the
    steps of one answer are awaited together, and the last of them asks, once.
    """
    run, item = build.run, build.item
    version = run.request_version if run.request_version != UNSET_VERSION else (answer.request_version or 0)
    last_try = answer.no_retry or item.attempt + 1 >= item.max_attempts
    done = [step for step in moving if step.op in DONE or (step.op is Op.ERROR and last_try)]
    failed = [step for step in moving if step.op is Op.ERROR and not last_try]
    later = [step for step in moving if step.op in ASYNC]
    coalesce = item.coalesce
    for step in done:
        _save(build, step, call)
    if len(moving) > 1 and later:
        build.add(ForcePlan())
        if version >= 2:
            ids = sorted({step.id for step in later})
            coalesce = digest(run.id, *ids)
            waiting = build.add(Await(steps=ids))
            # Each may have its result by now, when another call was quicker: then nobody else would go on.
            build.add(Discover(item=build.discovery(ids[-1], race=False, coalesce=coalesce), unless=waiting))
    # Pauses before all that may cause the event they wait for (section 3.7).
    for step in sorted(later, key=lambda step: step.op is not Op.WAIT):
        _LATER[step.op](build, step, coalesce)
    if failed:
        # The same item is tried again, and it is the continuation of all that this answer finished.
        for step in failed:
            _record_step(build, step, call, Outcome.RETRY, step.error or None)
        return _again(build, answer.retry_at, jitter)
    if done and (version < 2 or not later):
        # All of them came from one call, so one call follows.
        _continue(build, done[-1].id, race=_race(done[-1], item), coalesce=coalesce)
    elif done and any(_race(step, item) for step in done):
        _continue(build, done[-1].id, race=True, coalesce="")
    elif any(step.op is Op.DISCOVERY for step in moving):
        _ask_again(build)
    return build.done()


DONE = frozenset({Op.RUN, Op.STEP, Op.FAILED})


def _race(step: Step, item: Item) -> bool:
    return item.race or step.opts.get("parallelMode") == "race"


def _record_step(
    build: _Build, step: Step, call: Call, outcome: Outcome, value: bytes | None, *, when: int = -1
) -> None:
    started = step.started or call.started
    info = {"type": step.opts["type"]} if isinstance(step.opts.get("type"), str) else {}
    if isinstance(step.opts.get("input"), list):
        info["input"] = step.opts["input"]
    entry = History(
        what=What.ATTEMPT,
        run=build.run.id,
        fn=build.run.fn,
        at=started + step.duration if step.duration else call.ended,
        step=step.id,
        name=step.label,
        op=Op.RUN,
        attempt=build.item.attempt,
        outcome=outcome,
        queued=build.item.due,
        started=started,
        value=value,
        info=info or None,
    )
    build.effects.append(Record(entry=entry, when=when))


def _save(build: _Build, step: Step, call: Call) -> None:
    saved, outcome, value = saved_value(step)
    if len(saved) > MAX_STEP_OUTPUT:
        raise _RunFails(
            "output_too_large", f"The output of step {step.label!r} is {len(saved)} bytes; 4 MiB are allowed."
        )
    place = build.add(SaveStep(step=step.id, value=saved))
    _record_step(build, step, call, outcome, value, when=place)


def saved_value(step: Step) -> tuple[bytes, Outcome, bytes]:
    """What is remembered of a finished step (section 3.4), and its history: memoised value, outcome, shown
    value.
    """
    if step.op is Op.STEP:
        value = step.data or _NULL
        return value, Outcome.OK, value
    if step.op is Op.RUN:
        value = step.data or _NULL
        return b'{"data":' + value + b"}", Outcome.OK, value
    error = step.error or _error("Error", "Step failed")
    return b'{"error":' + error + b"}", Outcome.FAILED, error


def _plan(build: _Build, step: Step, coalesce: str) -> None:
    run, now = build.run, build.at.now
    gateway = step.op in {Op.GATEWAY, Op.AI_GATEWAY}
    build.add(
        Enqueue(
            item=Item(
                job=gateway_job(run.id, step.id) if gateway else plan_job(run.id, step.id),
                kind=Kind.GATEWAY if gateway else Kind.PLAN,
                fn=run.fn,
                run=run.id,
                due=now,
                score=score(now, run.priority),
                partition=run.work.id,
                max_attempts=build.fn.max_attempts,
                target=step.id,
                outgoing=build.item.outgoing,
                name=step.label,
                race=_race(step, build.item),
                coalesce=coalesce,
                queued=now,
                payload=_encode({"op": step.op.value, **step.opts}) if gateway else b"",
            )
        )
    )


def _sleep(build: _Build, step: Step, coalesce: str) -> None:
    duration = step.opts.get("duration")
    text = duration if isinstance(duration, str) else step.name
    try:
        due = parse_sleep(text, build.at.now)
    except InvalidDuration as error:
        raise _RunFails("Error", f"Step {step.label!r} cannot sleep: {error}") from None
    _bounded(build, step, due)
    item = timer(
        build.run,
        Kind.SLEEP,
        sleep_job(build.run.id, step.id),
        due,
        build.at.now,
        target=step.id,
        name=step.label,
        race=_race(step, build.item),
        coalesce=coalesce,
    )
    queued = build.add(Enqueue(item=item))
    _record_wait(build, step, when=queued, until=due)


def _bounded(build: _Build, step: Step, due: int) -> None:
    if due - build.at.now > MAX_TIMER + SECOND:
        raise _RunFails("InngestErrTimeoutTooLong", f"Step {step.label!r} would wait longer than 366 days.")


def _record_wait(build: _Build, step: Step, *, when: int, **info: Any) -> None:
    build.record(What.WAITING, when=when, step=step.id, name=step.label, op=step.op, info=info)


def _expiry(build: _Build, step: Step) -> int:
    timeout = step.opts.get("timeout")
    if timeout is None:
        return build.at.now + YEAR
    try:
        due = parse_timeout(str(timeout), build.at.now)
    except InvalidDuration as error:
        raise _RunFails("Error", f"Step {step.label!r} has no valid timeout: {error}") from None
    _bounded(build, step, due)
    return due


def _pause(
    build: _Build, step: Step, kind: PauseKind, event: str, expires: int, coalesce: str, **fields: Any
) -> Pause:
    run = build.run
    return Pause(
        id=_pause_id(run.id, step.id),
        kind=kind,
        fn=run.fn,
        run=run.id,
        event=event,
        step=step.id,
        name=step.label,
        created=build.at.now,
        expires=expires,
        timeout_job=timeout_job(run.id, step.id),
        race=_race(step, build.item),
        coalesce=coalesce,
        max_attempts=build.fn.max_attempts,
        partition=run.work.id,
        priority=run.priority,
        **fields,
    )


def _put(
    build: _Build, step: Step, pause: Pause, *, exclusive: str = "", payload: bytes = b"", **info: Any
) -> int:
    """The pause with its timeout; the pause's place is returned."""
    put = build.add(PutPause(pause=pause, exclusive=exclusive))
    item = timer(
        build.run,
        Kind.TIMEOUT,
        pause.timeout_job,
        pause.expires,
        build.at.now,
        target=step.id,
        name=step.label,
        race=pause.race,
        coalesce=pause.coalesce,
        payload=payload,
    )
    build.add(Enqueue(item=item, when=put))
    _record_wait(build, step, when=put, until=pause.expires, **info)
    return put


def _wait(build: _Build, step: Step, coalesce: str) -> None:
    opts = step.opts
    event = opts.get("event") if isinstance(opts.get("event"), str) and opts.get("event") else step.name
    source = opts.get("if")
    condition, terms = "", []
    if isinstance(source, str) and source:
        try:
            bound = bind(source, msgspec.json.decode(build.run.events[0]))
        except ExpressionError as error:
            raise _RunFails(
                "InvalidExpression", f"Step {step.label!r} waits with an invalid expression: {error}"
            ) from None
        if bound.constant is not True:
            condition, terms = bound.source, list(equality_terms(bound))
    pause = _pause(
        build,
        step,
        PauseKind.EVENT,
        str(event),
        _expiry(build, step),
        coalesce,
        condition=condition,
        terms=terms,
        ignore=build.run.event_ids[0],
    )
    _put(build, step, pause, event=event, expression=source)


def _invoke(build: _Build, step: Step, coalesce: str) -> None:
    run, now = build.run, build.at.now
    correlation = f"{run.id}.{step.id}"
    target = step.opts.get("function_id")
    expires = _expiry(build, step)
    pause = _pause(
        build,
        step,
        PauseKind.INVOKE,
        FINISHED,
        expires,
        coalesce,
        terms=[(CORRELATION, term_value(correlation) or "")],
    )
    given = step.opts.get("payload")
    payload: dict[str, Any] = given if isinstance(given, dict) else {}
    meta = {
        "source_app_id": run.app,
        "source_fn_id": run.fn,
        "source_fn_v": run.function_version,
        "fn_id": target,
        "correlation_id": correlation,
        "expire": expires,
        "gid": digest(correlation),
        "name": step.label,
    }
    data = payload.get("data")
    user = payload.get("user")
    event = internal_event(
        build.at.new_id(),
        INVOKED,
        now,
        {**(data if isinstance(data, dict) else {}), "_inngest": meta},
        v=payload["v"] if isinstance(payload.get("v"), str) else None,
        user=Raw(_encode(user if isinstance(user, dict) else {})),
    )
    put = _put(build, step, pause, payload=_INVOKE_TIMEOUT, function=target, event=event.id)
    build.add(Emit(event=event.encode(), when=put))


CORRELATION = "data.correlation_id"
_TIMED_OUT = "Timed out waiting for invoked function to complete"
_INVOKE_TIMEOUT = _encode(
    {
        "error": {
            "error": f"InngestInvokeTimeoutError: {_TIMED_OUT}",
            "name": "InngestInvokeTimeoutError",
            "message": _TIMED_OUT,
        }
    }
)


def _signal(build: _Build, step: Step, coalesce: str) -> None:
    signal = step.opts.get("signal")
    name = signal if isinstance(signal, str) and signal else step.name
    exclusive = "replace" if step.opts.get("conflict") == "replace" else "fail"
    pause = _pause(build, step, PauseKind.SIGNAL, signal_name(name), _expiry(build, step), coalesce)
    put = _put(build, step, pause, exclusive=exclusive, signal=name)
    if exclusive == "fail":
        # A lost PutPause may also be this run's own, reported once more: that is no conflict.
        taken = build.add(SignalTaken(name=pause.event, pause=pause.id, step=step.id, unless=put))
        build.end(RunStatus.FAILED, error=_error("Error", SIGNAL_CONFLICT), when=taken)


_LATER = {
    Op.PLANNED: _plan,
    Op.GATEWAY: _plan,
    Op.AI_GATEWAY: _plan,
    Op.SLEEP: _sleep,
    Op.WAIT: _wait,
    Op.INVOKE: _invoke,
    Op.SIGNAL: _signal,
}


def gateway_result(
    run: Run,
    fn: Function,
    item: Item,
    value: bytes | None,
    error: bytes | None,
    at: Moment,
    *,
    call: Call,
    jitter: float,
    policy: Policy = DEFAULT_POLICY,
) -> Transition:
    """What the answer to a request of ``step.fetch`` or ``step.ai.infer`` changes: ``value`` is its JSON, or
    ``error`` that of an error object.
    """
    build = _Build(run, fn, item, at, policy)
    last_try = item.attempt + 1 >= item.max_attempts
    outcome = Outcome.OK if error is None else (Outcome.FAILED if last_try else Outcome.RETRY)
    saved = b'{"data":' + (value or _NULL) + b"}" if error is None else b'{"error":' + error + b"}"
    _attempt(build, call, outcome, value=value if error is None else error, op=Op.GATEWAY)
    if outcome is Outcome.RETRY:
        return _again(build, 0, jitter)
    if len(saved) > MAX_STEP_OUTPUT:
        saved = (
            b'{"error":'
            + _error("output_too_large", f"The response is {len(saved)} bytes; 4 MiB are allowed.")
            + b"}"
        )
    build.add(SaveStep(step=item.target, value=saved))
    _continue(build, item.target, race=item.race, coalesce=item.coalesce)
    return build.done()


def checkpoint(run: Run, item: Item, steps: list[Step], at: Moment, until: int) -> Transition:
    """Steps that an application reports while its call goes on (section 5.7): kept, without a continuation.

    Raises:
        ValueError: an op that cannot be reported this way; nothing is to be committed.

    """
    effects: list[Effect] = []
    for step in steps:
        if step.op in DONE:
            saved, outcome, value = saved_value(step)
            if len(saved) > MAX_STEP_OUTPUT:
                raise StepTooLarge(f"output of step {step.label!r} is {len(saved)} bytes; 4 MiB are allowed")
            effects.append(SaveStep(step=step.id, value=saved))
            entry = History(
                what=What.ATTEMPT,
                run=run.id,
                fn=run.fn,
                at=(step.started + step.duration) or at.now,
                step=step.id,
                name=step.label,
                op=Op.RUN,
                attempt=item.attempt,
                outcome=outcome,
                queued=item.due,
                started=step.started or at.now,
                value=value,
            )
            effects.append(Record(entry=entry, when=len(effects) - 1))
        elif step.op not in LAZY and step.op is not Op.PLANNED:
            raise ValueError(f"cannot checkpoint async steps: {step.op} {step.label!r}")
    effects.append(ResetAttempts(job=item.job, epoch=item.epoch, until=until))
    return Transition(fn=run.fn, run=run.id, effects=effects, lease=Lease(item.job, item.epoch))


class StepTooLarge(ValueError):
    """A reported step result is over the limit."""
