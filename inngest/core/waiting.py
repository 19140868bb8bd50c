"""Steps whose result comes later: each op's timer, pause or queue item (wire protocol sections 3.7 and 5)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import Encoder

from inngest.core.building import Build, RunFails, error_json, is_race, pause_id
from inngest.core.durations import InvalidDuration, parse_sleep, parse_timeout
from inngest.core.errors import ExpressionError, InvalidEvent
from inngest.core.events import FINISHED, INVOKED, internal_event, merged_sessions
from inngest.core.expr import bind, equality_terms, term_value
from inngest.core.history import What
from inngest.core.ids import app_uuid
from inngest.core.responses import Op, Step
from inngest.core.runs import (
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
from inngest.core.schedule import MAX_TIMER, timer
from inngest.core.times import SECOND, YEAR
from inngest.core.transition import Emit, Enqueue, PutPause, SignalTaken

_encode = Encoder().encode

SIGNAL_CONFLICT = "Signal conflict; signal wait already exists for another run"


def _plan(build: Build, step: Step, coalesce: str) -> None:
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
                race=is_race(step, build.item),
                coalesce=coalesce,
                queued=now,
                payload=_encode({**step.opts, "op": step.op.value}) if gateway else b"",
            )
        )
    )


def _sleep(build: Build, step: Step, coalesce: str) -> None:
    duration = step.opts.get("duration")
    text = duration if isinstance(duration, str) else step.name
    try:
        due = parse_sleep(text, build.at.now)
    except InvalidDuration as error:
        raise RunFails("Error", f"Step {step.label!r} cannot sleep: {error}") from None
    _bounded(build, step, due)
    item = timer(
        build.run,
        Kind.SLEEP,
        sleep_job(build.run.id, step.id),
        due,
        build.at.now,
        target=step.id,
        name=step.label,
        race=is_race(step, build.item),
        coalesce=coalesce,
    )
    queued = build.add(Enqueue(item=item))
    _record_wait(build, step, when=queued, until=due)


def _bounded(build: Build, step: Step, due: int) -> None:
    if due - build.at.now > MAX_TIMER + SECOND:
        raise RunFails("InngestErrTimeoutTooLong", f"Step {step.label!r} would wait longer than 366 days.")


def _record_wait(build: Build, step: Step, *, when: int, **info: Any) -> None:
    build.record(What.WAITING, when=when, step=step.id, name=step.label, op=step.op, info=info)


def _expiry(build: Build, step: Step) -> int:
    timeout = step.opts.get("timeout")
    if timeout is None:
        return build.at.now + YEAR
    try:
        due = parse_timeout(str(timeout), build.at.now)
    except InvalidDuration as error:
        raise RunFails("Error", f"Step {step.label!r} has no valid timeout: {error}") from None
    _bounded(build, step, due)
    return due


def _pause(
    build: Build, step: Step, kind: PauseKind, event: str, expires: int, coalesce: str, **fields: Any
) -> Pause:
    run = build.run
    return Pause(
        id=pause_id(run.id, step.id),
        kind=kind,
        fn=run.fn,
        run=run.id,
        event=event,
        step=step.id,
        name=step.label,
        created=build.at.now,
        expires=expires,
        timeout_job=timeout_job(run.id, step.id),
        race=is_race(step, build.item),
        coalesce=coalesce,
        max_attempts=build.fn.max_attempts,
        partition=run.work.id,
        priority=run.priority,
        **fields,
    )


def _put(
    build: Build, step: Step, pause: Pause, *, exclusive: str = "", payload: bytes = b"", **info: Any
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


def _wait(build: Build, step: Step, coalesce: str) -> None:
    opts = step.opts
    event = opts.get("event") if isinstance(opts.get("event"), str) and opts.get("event") else step.name
    source = opts.get("if")
    condition, terms = "", []
    if isinstance(source, str) and source:
        try:
            bound = bind(source, msgspec.json.decode(build.run.events[0]))
        except ExpressionError as error:
            raise RunFails(
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


def _invoke(build: Build, step: Step, coalesce: str) -> None:
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
    user = payload.get("user")
    event = internal_event(
        build.at.new_id(),
        INVOKED,
        now,
        {**(data if isinstance(data, dict) else {}), "_inngest": meta},
        v=payload["v"] if isinstance(payload.get("v"), str) else None,
        user=Raw(_encode(user if isinstance(user, dict) else {})),
        sessions=_invoke_sessions(step, payload.get("meta")),
    )
    put = _put(build, step, pause, payload=_INVOKE_TIMEOUT, function=target, event=event.id)
    build.add(Emit(event=event.encode(), when=put))


def _invoke_sessions(step: Step, meta: Any) -> dict[str, str] | None:
    try:
        return merged_sessions(Raw(_encode(meta))) if meta else None
    except InvalidEvent as error:
        raise RunFails("Error", f"Step {step.label!r} cannot invoke: {error}") from None


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


def _signal(build: Build, step: Step, coalesce: str) -> None:
    signal = step.opts.get("signal")
    name = signal if isinstance(signal, str) and signal else step.name
    exclusive = "replace" if step.opts.get("conflict") == "replace" else "fail"
    pause = _pause(build, step, PauseKind.SIGNAL, signal_name(name), _expiry(build, step), coalesce)
    put = _put(build, step, pause, exclusive=exclusive, signal=name)
    if exclusive == "fail":
        # A lost PutPause may also be this run's own, reported once more: that is no conflict.
        taken = build.add(SignalTaken(name=pause.event, pause=pause.id, step=step.id, unless=put))
        build.end(RunStatus.FAILED, error=error_json("Error", SIGNAL_CONFLICT), when=taken)


LATER = {
    Op.PLANNED: _plan,
    Op.GATEWAY: _plan,
    Op.AI_GATEWAY: _plan,
    Op.SLEEP: _sleep,
    Op.WAIT: _wait,
    Op.INVOKE: _invoke,
    Op.SIGNAL: _signal,
}
