"""Steps whose result comes later: each op's timer, pause or queue item (wire protocol sections 3.7 and 5)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import Encoder

from inngest.core.decisions.draft import Draft, RunFails, error_json, is_race, pause_id
from inngest.core.decisions.starting import timer
from inngest.core.errors import ExpressionError, InvalidEvent
from inngest.core.expr import bind, equality_terms, term_value
from inngest.core.model.events import FINISHED, INVOKED, internal_event, merged_sessions
from inngest.core.model.history import What
from inngest.core.model.ids import app_uuid
from inngest.core.model.runs import (
    Item,
    Kind,
    Pause,
    PauseKind,
    RunStatus,
    digest,
    gateway_job,
    plan_job,
    score,
    signal_name,
    sleep_job,
    timeout_job,
)
from inngest.core.model.transition import Emit, Enqueue, PutPause, SignalTaken
from inngest.core.policy import MAX_TIMER
from inngest.core.sdk.responses import Op, Step
from inngest.core.timing.durations import InvalidDuration, parse_sleep, parse_timeout
from inngest.core.timing.times import SECOND, YEAR

_encode = Encoder().encode

SIGNAL_CONFLICT = "Signal conflict; signal wait already exists for another run"


def _plan(draft: Draft, step: Step, coalesce: str) -> None:
    run, now = draft.run, draft.at.now
    gateway = step.op in {Op.GATEWAY, Op.AI_GATEWAY}
    draft.add(
        Enqueue(
            item=Item(
                job=gateway_job(run.id, step.id) if gateway else plan_job(run.id, step.id),
                kind=Kind.GATEWAY if gateway else Kind.PLAN,
                fn=run.fn,
                run=run.id,
                due=now,
                score=score(now, run.priority),
                partition=run.work.id,
                max_attempts=draft.fn.max_attempts,
                target=step.id,
                outgoing=draft.item.outgoing,
                name=step.label,
                race=is_race(step, draft.item),
                coalesce=coalesce,
                queued=now,
                payload=_encode({**step.opts, "op": step.op.value}) if gateway else b"",
            )
        )
    )


def _sleep(draft: Draft, step: Step, coalesce: str) -> None:
    duration = step.opts.get("duration")
    text = duration if isinstance(duration, str) else step.name
    try:
        due = parse_sleep(text, draft.at.latest)
    except InvalidDuration as error:
        raise RunFails("Error", f"Step {step.label!r} cannot sleep: {error}") from None
    _bounded(draft, step, due)
    item = timer(
        draft.run,
        Kind.SLEEP,
        sleep_job(draft.run.id, step.id),
        due,
        draft.at.now,
        target=step.id,
        name=step.label,
        race=is_race(step, draft.item),
        coalesce=coalesce,
    )
    queued = draft.add(Enqueue(item=item))
    _record_wait(draft, step, when=queued, until=due)


def _bounded(draft: Draft, step: Step, due: int) -> None:
    if due - draft.at.now > MAX_TIMER + SECOND:
        raise RunFails("InngestErrTimeoutTooLong", f"Step {step.label!r} would wait longer than 366 days.")


def _record_wait(draft: Draft, step: Step, *, when: int, **info: Any) -> None:
    draft.record(What.WAITING, when=when, step=step.id, name=step.label, op=step.op, info=info)


def _expiry(draft: Draft, step: Step) -> int:
    timeout = step.opts.get("timeout")
    if timeout is None:
        return draft.at.latest + YEAR
    try:
        due = parse_timeout(str(timeout), draft.at.latest)
    except InvalidDuration as error:
        raise RunFails("Error", f"Step {step.label!r} has no valid timeout: {error}") from None
    _bounded(draft, step, due)
    return due


def _pause(
    draft: Draft, step: Step, kind: PauseKind, event: str, expires: int, coalesce: str, **fields: Any
) -> Pause:
    run = draft.run
    return Pause(
        id=pause_id(run.id, step.id),
        kind=kind,
        fn=run.fn,
        run=run.id,
        event=event,
        step=step.id,
        name=step.label,
        created=draft.at.now,
        expires=expires,
        timeout_job=timeout_job(run.id, step.id),
        race=is_race(step, draft.item),
        coalesce=coalesce,
        max_attempts=draft.fn.max_attempts,
        partition=run.work.id,
        priority=run.priority,
        **fields,
    )


def _put(
    draft: Draft, step: Step, pause: Pause, *, exclusive: str = "", payload: bytes = b"", **info: Any
) -> int:
    """The pause with its timeout; the pause's place is returned."""
    put = draft.add(PutPause(pause=pause, exclusive=exclusive))
    item = timer(
        draft.run,
        Kind.TIMEOUT,
        pause.timeout_job,
        pause.expires,
        draft.at.now,
        target=step.id,
        name=step.label,
        race=pause.race,
        coalesce=pause.coalesce,
        payload=payload,
    )
    draft.add(Enqueue(item=item, when=put))
    _record_wait(draft, step, when=put, until=pause.expires, **info)
    return put


def _wait(draft: Draft, step: Step, coalesce: str) -> None:
    opts = step.opts
    event = opts.get("event") if isinstance(opts.get("event"), str) and opts.get("event") else step.name
    source = opts.get("if")
    condition, terms = "", []
    if isinstance(source, str) and source:
        try:
            bound = bind(source, msgspec.json.decode(draft.run.events[0]))
        except ExpressionError as error:
            raise RunFails(
                "InvalidExpression", f"Step {step.label!r} waits with an invalid expression: {error}"
            ) from None
        if bound.constant is not True:
            condition, terms = bound.source, list(equality_terms(bound))
    pause = _pause(
        draft,
        step,
        PauseKind.EVENT,
        str(event),
        _expiry(draft, step),
        coalesce,
        condition=condition,
        terms=terms,
        ignore=draft.run.event_ids[0],
    )
    _put(draft, step, pause, event=event, expression=source)


def _invoke(draft: Draft, step: Step, coalesce: str) -> None:
    run, now = draft.run, draft.at.now
    correlation = f"{run.id}.{step.id}"
    target = step.opts.get("function_id")
    expires = _expiry(draft, step)
    pause = _pause(
        draft,
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
        "source_app_id": app_uuid(run.app),
        "source_fn_id": run.fn,
        "source_fn_v": run.function_version,
        "fn_id": target,
        "correlation_id": correlation,
        "expire": expires,
        "gid": digest(correlation),
        "name": step.label,
    }
    data = payload.get("data")
    user = _encode(payload["user"] if isinstance(payload.get("user"), dict) else {})
    size, most = len(_encode(data if isinstance(data, dict) else {})) + len(user), draft.policy.max_event
    if size > most:
        message = f"Step {step.label!r} cannot invoke: event data is {size} bytes; {most} are allowed."
        raise RunFails("Error", message)
    event = internal_event(
        draft.at.new_id(),
        INVOKED,
        now,
        {**(data if isinstance(data, dict) else {}), "_inngest": meta},
        v=payload["v"] if isinstance(payload.get("v"), str) else None,
        user=Raw(user),
        sessions=_invoke_sessions(step, payload.get("meta")),
    )
    put = _put(draft, step, pause, payload=_INVOKE_TIMEOUT, function=target, event=event.id)
    draft.add(Emit(event=event.encode(), when=put))


def _invoke_sessions(step: Step, meta: Any) -> dict[str, str] | None:
    try:
        return merged_sessions(Raw(_encode(meta))) if meta else None
    except InvalidEvent as error:
        raise RunFails("Error", f"Step {step.label!r} cannot invoke: {error}") from None


CORRELATION = "data.correlation_id"


_TIMED_OUT = "Timed out waiting for invoked function to complete"


_INVOKE_TIMEOUT = b'{"error":' + error_json("InngestInvokeTimeoutError", _TIMED_OUT) + b"}"


def _signal(draft: Draft, step: Step, coalesce: str) -> None:
    signal = step.opts.get("signal")
    name = signal if isinstance(signal, str) and signal else step.name
    exclusive = "replace" if step.opts.get("conflict") == "replace" else "fail"
    pause = _pause(draft, step, PauseKind.SIGNAL, signal_name(name), _expiry(draft, step), coalesce)
    put = _put(draft, step, pause, exclusive=exclusive, signal=name)
    if exclusive == "fail":
        # A lost PutPause may also be this run's own, reported once more: that is no conflict.
        taken = draft.add(SignalTaken(name=pause.event, pause=pause.id, step=step.id, unless=put))
        draft.end(RunStatus.FAILED, error=error_json("Error", SIGNAL_CONFLICT), when=taken)


LATER = {
    Op.PLANNED: _plan,
    Op.GATEWAY: _plan,
    Op.AI_GATEWAY: _plan,
    Op.SLEEP: _sleep,
    Op.WAIT: _wait,
    Op.INVOKE: _invoke,
    Op.SIGNAL: _signal,
}
