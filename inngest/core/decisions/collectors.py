"""Events that are gathered before they start a run: batches and debounces."""

from __future__ import annotations

import msgspec

from inngest.core.decisions.flow import key_text
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.starting import SkipReason, new_run, run_key, skipped, start
from inngest.core.model.events import Event, decode_event
from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Kind, digest, runner_items
from inngest.core.model.transition import Collect, Complete, Effect, Record, Transition
from inngest.core.policy import KEY_TTL, MAX_BATCH_BYTES


def _collector(fn: Function, kind: Kind, key: str, event: bytes, due: int, at: Moment) -> Item:
    return Item(
        job=f"{kind}:{key}:{at.new_id()}",
        kind=kind,
        fn=fn.id,
        due=due,
        score=due,
        partition=runner_items(fn.id).id,
        queued=at.now,
        payload=b"[" + event + b"]",
    )


def debounce(fn: Function, event: Event, at: Moment, *, when: int) -> Collect:
    assert fn.debounce is not None
    key = f"{fn.id}:{digest(key_text(fn, fn.debounce.key, event, at.now))}"
    text = event.encode()
    return Collect(
        key=f"debounce:{key}",
        item=_collector(fn, Kind.DEBOUNCE, key, text, at.latest + fn.debounce.period, at),
        partition=runner_items(fn.id),
        event=text,
        ts=event.ts,
        last=True,
        bound=fn.debounce.timeout,
        when=when,
    )


def batch(fn: Function, event: Event, at: Moment, *, when: int) -> Collect:
    assert fn.batch is not None
    key = f"{fn.id}:{digest(key_text(fn, fn.batch.key, event, at.now))}"
    text = event.encode()
    return Collect(
        key=f"batch:{key}",
        item=_collector(fn, Kind.BATCH, key, text, at.latest + fn.batch.timeout, at),
        partition=runner_items(fn.id),
        event=text,
        ts=event.ts,
        max_size=fn.batch.max_size,
        max_bytes=MAX_BATCH_BYTES,
        when=when,
    )


def collected(fn: Function, item: Item, at: Moment) -> Transition:
    """What a collector's leased item starts: one run, with the latest event, or with all of the batch; none
    if the function was paused or archived meanwhile.
    """
    raw = msgspec.json.decode(item.payload, type=list[msgspec.Raw])
    events = [decode_event(bytes(event)) for event in raw]
    effects: list[Effect] = []
    if fn.paused or fn.archived:
        if fn.paused:
            effects.append(Record(entry=skipped(fn, events, at, SkipReason.PAUSED)))
        return Transition(fn=fn.id, run="", effects=[*effects, Complete()])
    if item.kind is Kind.BATCH:
        run = new_run(fn, events, at, key=run_key(fn, item.job), batch=at.new_id())
        start(fn, run, events, at, effects)
    else:
        run = new_run(fn, events, at, key=run_key(fn, events[0].key))
        start(fn, run, events, at, effects, claim=KEY_TTL if events[0].external_id else 0)
    effects.append(Complete())
    return Transition(fn=fn.id, run=run.id, effects=effects)
