"""What everything that comes after the border does with JSON that has passed it. Each of these must not raise
but for what it says.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from inngest.backends.redis import wire
from inngest.core.decisions.finish import finished
from inngest.core.decisions.moment import Moment
from inngest.core.expr import (
    EvaluationError,
    ExpressionError,
    bind,
    compile_bound,
    compile_expression,
    equality_terms,
    term_value,
)
from inngest.core.json.jcs import canonicalise
from inngest.core.model.events import Event, decode_event
from inngest.core.model.functions import Function
from inngest.core.model.history import History, decode_history
from inngest.core.model.records import RunRecord
from inngest.core.model.runs import Item, Pause, Run, RunStatus
from inngest.core.model.transition import (
    Collect,
    CreateRun,
    Discover,
    Emit,
    Enqueue,
    PutPause,
    Record,
    SaveStep,
    Transition,
)
from inngest.core.sdk.calls import call_request
from inngest.core.sdk.traces import assemble

NOW = 1_700_000_000_000
_KEYS = (
    "event.data.k",
    "event.data",
    "[event.data.k, event.data.id]",
    "event.data.k + event.data.id",
    "string(event.data.k) + 'x'",
    "date(event.data.k)",
    "json_parse(event.data.k)",
    "event.data.k == event.data.id || event.data.k < 3 || event.data.k in event.data",
    "event.data.k.map(x, x + x)",
)
_CONDITIONS = (
    "event.data.k == async.data.k",
    "event.data == async.data",
    "async.data.id in [event.data.id, 1]",
)


def goes_through(text: bytes) -> None:
    """JSON text: decoded, encoded, canonicalised, the same value all along."""
    value = msgspec.json.decode(text)
    assert msgspec.json.decode(msgspec.json.encode(value)) == value
    canonical = canonicalise(text)
    assert canonicalise(canonical) == canonical
    assert canonicalise(b'{"ctx":[{"steps":{"s":{"data":' + text + b"}}}]}")


def event_goes_through(event: Event) -> None:
    """Over the stream, into calls, and through every kind of expression."""
    again = decode_event(event.encode())
    assert again == event
    assert again.payload == event.payload
    goes_through(event.payload)
    assert isinstance(event.meta, dict)
    given = {"event": event.value}
    for source in _KEYS:
        expression = compile_expression(source)
        for evaluate in (expression.key, expression.truthy, expression.is_true, expression.evaluate):
            with suppress(EvaluationError):
                evaluate(given, NOW)
    for value in event.value["data"].values():
        term_value(value)
    for source in _CONDITIONS:
        try:
            bound = bind(source, event.value)
        except ExpressionError:
            continue
        assert all(msgspec.msgpack.encode(term) for term in equality_terms(bound))
        again_bound = compile_bound(bound.source)
        assert equality_terms(again_bound) == equality_terms(bound)
        with suppress(EvaluationError):
            again_bound.is_true({"async": event.value}, NOW)


def transition_goes_through(transition: Transition) -> list[Event]:
    """Onto the wire of Redis and into rows of SQLite, and back; the events that it emits are returned."""
    assert wire.encode_transition(transition)
    told: list[Event] = []
    for effect in transition.effects:
        match effect:
            case CreateRun(run):
                _packs(run, Run)
            case Enqueue(item) | Discover(item) | Collect(item=item):
                _packs(item, Item)
            case PutPause(pause):
                _packs(pause, Pause)
            case Record(entry):
                _packs(entry, History)
                assert decode_history(msgspec.msgpack.encode(entry)) == entry
                if entry.value is not None:
                    goes_through(entry.value)
            case SaveStep(_, value):
                goes_through(value)
            case Emit(raw):
                told.append(decode_event(raw))
                goes_through(told[-1].payload)
    return told


def run_goes_through(run: Run, fn: Function, item: Item, at: Moment) -> None:
    """A run is called, and its end is told of."""
    goes_through(call_request(run, fn, item, "request", at.now).body)
    for value in run.steps.values():
        for status, results in (
            (RunStatus.COMPLETED, {"output": value}),
            (RunStatus.FAILED, {"error": value}),
        ):
            for event in finished(run, at.now, at.new_id, status=status, **results):
                goes_through(event.payload)


def trace_goes_through(history: list[History]) -> None:
    """The trace that is read from it can be shown."""
    record = RunRecord(
        id="run", fn="fn", slug="fn", app="app", status=RunStatus.RUNNING, queued=NOW, events=["event"]
    )
    for span in assemble(record, history).walk():
        for text in (span.input, span.output, span.error):
            if text is not None:
                goes_through(text)


def _packs(thing: Any, kind: type) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(thing), type=kind) == thing
