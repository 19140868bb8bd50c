"""The second decision: what an application's answer, or a timer, means for a run (wire protocol section 3.7).

The run that is given is a view: it may be older than the store's by the time of the commit. So nothing here
is concluded from it that the effects do not check again, except what can only make a call superfluous.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inngest.core.decisions.draft import Call, Draft, RunFails, error_json, is_race, pause_id
from inngest.core.decisions.finish import end
from inngest.core.decisions.later import LATER
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.starting import begun, eviction
from inngest.core.decisions.steps import DONE, StepTooLarge, saved, step_entry
from inngest.core.model.functions import Function
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import (
    UNSET_VERSION,
    Item,
    Kind,
    Pause,
    Run,
    RunStatus,
    digest,
    discover_job,
    score,
    start_job,
)
from inngest.core.model.transition import (
    Adopt,
    Await,
    Complete,
    Discover,
    Drop,
    Effect,
    Evict,
    ForcePlan,
    Record,
    Retry,
    SaveStep,
    TakePause,
    Transition,
    lease_of,
)
from inngest.core.policy import DEFAULT_POLICY, MAX_REQUESTS, MAX_STEP_OUTPUT, MIN_BUSY_RETRY, Policy
from inngest.core.sdk.responses import (
    ASYNC,
    FUNCTION,
    LAZY,
    Answer,
    Busy,
    Failure,
    Op,
    Reported,
    Returned,
    Step,
    error_object,
    failure,
)
from inngest.core.timing.backoff import retry_delay

_NULL = b"null"
_LATE_START = "it had not begun within timeouts.start"
_LATE_FINISH = "it had not ended within timeouts.finish"


# -- before a call --


def begin(
    run: Run, fn: Function, item: Item, at: Moment, policy: Policy = DEFAULT_POLICY
) -> Transition | None:
    """Whether the application may be called for ``item``: None if so, else what happens instead."""
    draft = Draft(run, fn, item, at, policy)
    if len(run.steps) >= policy.max_steps:
        message = f"The function run exceeded the step limit of {policy.max_steps} steps."
        draft.fail("InngestErrFunctionOverflowed", message)
        return draft.done()
    if (
        fn.start_timeout
        and not run.started
        and not run.batch
        and at.now - max(run.created, run.starts) > fn.start_timeout
    ):
        draft.end(RunStatus.CANCELLED, reason=_LATE_START)
        return draft.done()
    if fn.finish_timeout and run.started and at.now - run.started > fn.finish_timeout:
        draft.end(RunStatus.CANCELLED, reason=_LATE_FINISH)
        return draft.done()
    if item.target and item.target in run.steps:
        # It has its result (from an attempt whose commit was not seen to succeed): only the
        # continuation may be missing.
        draft.add(Discover(item=draft.discovery(item.target, race=item.race, coalesce=item.coalesce)))
        return draft.done()
    return None


# -- a timer --


def expire(run: Run, fn: Function, item: Item, at: Moment) -> Transition:
    """A timer of a run is due: a sleep ends, a wait times out, or the run's own time is up."""
    draft = Draft(run, fn, item, at, DEFAULT_POLICY)
    match item.kind:
        case Kind.SLEEP:
            saved = draft.add(SaveStep(step=item.target, value=_NULL))
            draft.record(What.RESUMED, when=saved, step=item.target, name=item.name)
            # The call after the sleep that ends a group still plans (protocol additions 9.2).
            found = draft.discovery(item.target, race=item.race, coalesce=item.coalesce)
            draft.add(Discover(item=found, planned=True))
        case Kind.TIMEOUT:
            taken = draft.add(TakePause(id=pause_id(run.id, item.target)))
            value = item.payload or _NULL
            saved = draft.add(SaveStep(step=item.target, value=value, when=taken))
            draft.record(
                What.RESUMED,
                when=saved,
                step=item.target,
                name=item.name,
                value=value,
                info={"timed_out": True},
            )
            _continue(draft, item.target, race=item.race, coalesce=item.coalesce, when=saved)
        case Kind.START_TIMEOUT:
            if not run.started:
                # Not while the first call is under way: then the start item is leased and cannot be dropped.
                dropped = draft.add(Drop(job=start_job(run.id)))
                draft.end(RunStatus.CANCELLED, reason=_LATE_START, when=dropped)
        case Kind.FINISH_TIMEOUT:
            draft.end(RunStatus.CANCELLED, reason=_LATE_FINISH)
        case _:
            raise ValueError(f"{item.kind} is not a timer of a run")
    return draft.done()


def _continue(draft: Draft, step: str, *, race: bool, coalesce: str, when: int = -1) -> None:
    draft.add(Discover(item=draft.discovery(step, race=race, coalesce=coalesce), when=when))


# -- an event --


def resume(
    pause: Pause,
    value: bytes,
    at: Moment,
    *,
    info: dict[str, Any] | None = None,
    first: Effect | None = None,
) -> Transition:
    """A wait is over: ``value`` becomes the step's result, if nothing else was first, and ``first`` wins."""
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
        id=at.new_id(),
        what=What.RESUMED,
        run=pause.run,
        fn=pause.fn,
        at=at.now,
        step=pause.step,
        name=pause.name,
        value=value,
        info=info,
    )
    effects: list[Effect] = [first] if first is not None else []
    place = len(effects)
    effects += [
        TakePause(id=pause.id, when=place - 1),
        SaveStep(step=pause.step, value=value, when=place),
        Record(entry=entry, when=place + 1),
        Discover(item=item, when=place + 1),
    ]
    return Transition(fn=pause.fn, run=pause.run, effects=effects)


def cancel(run: Run, at: Moment) -> Transition:
    """End a run by decision of a person, an event or a newer run. A call under way is not interrupted; its
    answer is ignored.
    """
    return Transition(
        fn=run.fn, run=run.id, effects=end(run, RunStatus.CANCELLED, at.now, at.new_id, place=0)
    )


def evict(pause: Pause, at: Moment) -> Transition:
    """An event cancels the run of a pause, whose state is not known here: the end is told by whoever works
    off the item (`evicted`).
    """
    effects: list[Effect] = [Evict(item=eviction(pause.fn, pause.run, at.now))]
    return Transition(fn=pause.fn, run=pause.run, effects=effects)


def evicted(run: Run, item: Item, at: Moment) -> Transition:
    """Tell the end of an evicted run."""
    effects = end(run, RunStatus.CANCELLED, at.now, at.new_id, place=0)
    return Transition(fn=run.fn, run=run.id, effects=[*effects, Complete()], lease=lease_of(item))


# -- after a call --


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
    draft = Draft(run, fn, item, at, policy)
    if isinstance(answer, Busy):
        return _not_called(draft, answer, jitter)
    if not run.started:
        draft.effects += begun(run, call.started, at, fn.finish_timeout, place=len(draft.effects))
    if isinstance(answer, Failure):
        return _failed(draft, answer, call, jitter)
    if answer.request_version is not None and run.request_version == UNSET_VERSION:
        draft.add(Adopt(version=answer.request_version))
    if isinstance(answer, Returned):
        _attempt(draft, call, Outcome.OK, value=answer.output)
        draft.end(RunStatus.COMPLETED, output=answer.output)
        return draft.done()
    return _reported(draft, answer, call, jitter)


def _not_called(draft: Draft, answer: Busy, jitter: float) -> Transition:
    """The item goes back as it was. Those that come back together are spread over half of the time more."""
    delay = max(answer.retry_in, MIN_BUSY_RETRY)
    due = draft.at.now + delay + int(delay * jitter / 2)
    draft.add(Retry(due=due, attempt=draft.item.attempt))
    return draft.finish()


def _attempt(
    draft: Draft, call: Call, outcome: Outcome, *, value: bytes | None = None, **fields: Any
) -> None:
    """History of a call to the function's own code."""
    item = draft.item
    fields.setdefault("step", item.target)
    fields.setdefault("name", item.name)
    draft.record(
        What.ATTEMPT,
        attempt=item.attempt,
        outcome=outcome,
        queued=item.due,
        started=call.started,
        value=value,
        **fields,
    )


def _failed(draft: Draft, answer: Failure, call: Call, jitter: float) -> Transition:
    item = draft.item
    final = answer.no_retry or item.attempt + 1 >= item.max_attempts
    info = {"status": answer.status} if answer.status else None
    outcome = Outcome.FAILED if final else Outcome.RETRY
    _attempt(draft, call, outcome, value=answer.error, info=info)
    if not final:
        return _again(draft, answer.retry_at, jitter)
    draft.end(RunStatus.FAILED, error=answer.error, shown=answer.output or None)
    return draft.done()


def _again(draft: Draft, retry_at: int, jitter: float) -> Transition:
    item = draft.item
    due = retry_at or draft.at.latest + (draft.policy.retry_interval or retry_delay(item.attempt, jitter))
    draft.add(Retry(due=due, attempt=item.attempt + 1))
    return draft.finish()


def _reported(draft: Draft, answer: Reported, call: Call, jitter: float) -> Transition:
    run = draft.run
    moving = [step for step in answer.steps if step.op not in LAZY and step.op is not Op.NONE]
    size = run.size + sum(len(step.data) for step in moving)
    try:
        if size > draft.policy.max_state:
            allowed = draft.policy.max_state
            raise RunFails(
                "InngestErrStateOverflowed", f"The run's state would be {size} bytes; {allowed} are allowed."
            )
        for step in moving:
            if step.id == FUNCTION and step.op in {Op.ERROR, Op.FAILED}:
                return _threw(draft, answer, step, moving, call, jitter)
        if draft.item.kind is Kind.PLAN and not any(_answers(step, draft.item.target) for step in moving):
            # The job of a planned step exists once: letting it go without a result would leave
            # the run waiting for ever.
            message = f"The SDK was asked for step {draft.item.name!r} and answered with something else."
            return _failed(draft, failure(message, status=206, no_retry=answer.no_retry), call, jitter)
        for step in moving:
            if step.op in {Op.COMPLETE, Op.SYNC_COMPLETE}:
                return _complete(draft, step, moving, call)
        if reason := _no_progress(draft, moving, call):
            return _failed(draft, failure(reason, status=206, no_retry=answer.no_retry), call, jitter)
        return _steps(draft, answer, moving, call, jitter)
    except RunFails as reason:
        draft.fail(reason.name, reason.message)
        return draft.done()


def _answers(step: Step, target: str) -> bool:
    return step.op in {Op.COMPLETE, Op.SYNC_COMPLETE} or (
        step.id == target and (step.op in DONE or step.op is Op.ERROR)
    )


def _no_progress(draft: Draft, moving: list[Step], call: Call) -> str:
    """Why an answer moves nothing, so that the same call would be made for ever; empty if it does."""
    if not moving:
        return "The SDK answered 206 without a step to go on with"
    known = draft.run.stack[: call.seen]
    told = [step for step in moving if step.op is not Op.DISCOVERY]
    if told and all(step.id in known for step in told):
        return f"The SDK reported step {told[0].label!r} again, which has its result, and nothing else"
    if not told and _requests(draft, call) >= MAX_REQUESTS:
        return f"The SDK asked to be called again {MAX_REQUESTS} times without reporting a step"
    return ""


def _requests(draft: Draft, call: Call) -> int:
    """How many calls in a row have asked for the next one, while the run stayed as it is. The item tells."""
    size, _, count = draft.item.payload.partition(b" ")
    return int(count) if count.isdigit() and size == b"%d" % call.seen else 0


def _ask_again(draft: Draft, call: Call) -> None:
    item = draft.item
    # A job id of its own: the discovery after the last step may be this very item.
    job = discover_job(draft.run.id, digest(item.job, str(item.epoch)))
    again = draft.discovery(item.outgoing, race=item.race, coalesce="", job=job)
    again.payload = b"%d %d" % (call.seen, _requests(draft, call) + 1)
    draft.add(Discover(item=again))


def _threw(
    draft: Draft, answer: Reported, end_op: Step, moving: list[Step], call: Call, jitter: float
) -> Transition:
    """The function itself failed, told as an op since others travel with it (protocol additions 2.4)."""
    for step in moving:
        if step.op in DONE and step is not end_op:
            _save(draft, step, call)
    error = error_object(end_op.error or b"{}")
    final = answer.no_retry or end_op.op is Op.FAILED
    told = Failure(error=error, output=end_op.error, no_retry=final, retry_at=answer.retry_at, status=206)
    return _failed(draft, told, call, jitter)


def _complete(draft: Draft, end_op: Step, moving: list[Step], call: Call) -> Transition:
    """The function returned in checkpoint mode, possibly with its last steps beside (section 5.7)."""
    for step in moving:
        if step.op in DONE:
            _save(draft, step, call)
    output = end_op.data or _NULL
    _attempt(draft, call, Outcome.OK, value=output, step="", name="")
    draft.end(RunStatus.COMPLETED, output=output)
    return draft.done()


def _steps(draft: Draft, answer: Reported, moving: list[Step], call: Call, jitter: float) -> Transition:
    """Save what is done, arrange for what is to come, and see that exactly one continuation follows.

    Request version 1 has no pending set: each finished step asks for the next by itself, and job ids keep
    that from doubling. From version 2 on, the steps of one answer are awaited together, and the last of them
    asks, once.
    """
    run, item = draft.run, draft.item
    version = run.request_version if run.request_version != UNSET_VERSION else (answer.request_version or 0)
    last_try = answer.no_retry or item.attempt + 1 >= item.max_attempts
    done = [step for step in moving if step.op in DONE or (step.op is Op.ERROR and last_try)]
    failed = [step for step in moving if step.op is Op.ERROR and not last_try]
    later = [step for step in moving if step.op in ASYNC]
    coalesce = item.coalesce
    for step in done:
        _save(draft, step, call)
    if len(moving) > 1 and later:
        draft.add(ForcePlan())
        if version >= 2:
            ids = sorted({step.id for step in later})
            coalesce = digest(run.id, *ids)
            waiting = draft.add(Await(steps=ids))
            # Each may have its result by now, when another call was quicker: then nobody else would go on.
            draft.add(Discover(item=draft.discovery(ids[-1], race=False, coalesce=coalesce), unless=waiting))
    # Pauses before all that may cause the event they wait for (section 3.7).
    for step in sorted(later, key=lambda step: step.op is not Op.WAIT):
        LATER[step.op](draft, step, coalesce)
    if failed:
        # The same item is tried again, and it is the continuation of all that this answer finished.
        for step in failed:
            entry = step_entry(draft.run, draft.item, step, draft.at, call, Outcome.RETRY, step.error or None)
            draft.add(Record(entry=entry))
        return _again(draft, answer.retry_at, jitter)
    if done and (version < 2 or not later):
        # All of them came from one call, so one call follows.
        _continue(draft, done[-1].id, race=is_race(done[-1], item), coalesce=coalesce)
    elif done and any(is_race(step, item) for step in done):
        _continue(draft, done[-1].id, race=True, coalesce="")
    elif any(step.op is Op.DISCOVERY for step in moving):
        _ask_again(draft, call)
    return draft.done()


def _save(draft: Draft, step: Step, call: Call) -> None:
    try:
        kept = saved(draft.run, draft.item, step, draft.at, call)
    except StepTooLarge as error:
        raise RunFails("output_too_large", f"The {error}.") from None
    draft.effects += kept(len(draft.effects))


class _Asked(msgspec.Struct):
    op: Op


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
    draft = Draft(run, fn, item, at, policy)
    last_try = item.attempt + 1 >= item.max_attempts
    outcome = Outcome.OK if error is None else (Outcome.FAILED if last_try else Outcome.RETRY)
    saved = b'{"data":' + (value or _NULL) + b"}" if error is None else b'{"error":' + error + b"}"
    op = msgspec.json.decode(item.payload, type=_Asked).op
    _attempt(draft, call, outcome, value=value if error is None else error, op=op)
    if outcome is Outcome.RETRY:
        return _again(draft, 0, jitter)
    if len(saved) > MAX_STEP_OUTPUT:
        saved = (
            b'{"error":'
            + error_json("output_too_large", f"The response is {len(saved)} bytes; 4 MiB are allowed.")
            + b"}"
        )
    draft.add(SaveStep(step=item.target, value=saved))
    _continue(draft, item.target, race=item.race, coalesce=item.coalesce)
    return draft.done()
