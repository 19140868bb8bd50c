"""Schedules: which items a function's crons are queued as, and what a tick starts."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from inngest.core.decisions.moment import Moment
from inngest.core.decisions.starting import new_run, run_key, start
from inngest.core.model.events import SCHEDULED, internal_event
from inngest.core.model.functions import Function, Trigger
from inngest.core.model.runs import Item, Kind, digest, runner_items
from inngest.core.model.transition import Complete, Effect, Enqueue, SetCrons, Transition
from inngest.core.policy import KEY_TTL
from inngest.core.timing.cron import jitter_offset, parse_cron
from inngest.core.timing.times import rfc3339


class Tick(Struct):
    """The payload of a cron item: the nominal time, and the schedule it belongs to."""

    cron: str
    jitter: int
    at: int


def crons(fn: Function, version: int, at: Moment) -> SetCrons:
    """The function's schedules as they have to be queued from now on, as of this version of the registry;
    none if it is archived.
    """
    items = []
    if not fn.archived:
        for trigger in fn.triggers:
            if trigger.cron and (item := _tick(fn, trigger, at.now, at.now)) is not None:
                items.append(item)
    return SetCrons(items=items, partition=runner_items(fn.id), version=version)


def scheduled(fn: Function) -> tuple[tuple[str, int], ...]:
    """What of a function its cron items are derived from: nothing for one without schedules."""
    return () if fn.archived else tuple((t.cron, t.jitter) for t in fn.triggers if t.cron)


def _tick(fn: Function, trigger: Trigger, after: int, now: int) -> Item | None:
    nominal = parse_cron(trigger.cron).next_after(after)
    if nominal is None:
        return None
    due = nominal + (jitter_offset(fn.id, trigger.cron, nominal, trigger.jitter) if trigger.jitter else 0)
    name = digest(trigger.cron, str(trigger.jitter))
    return Item(
        job=f"cron:{fn.id}:{name}:{nominal}",
        kind=Kind.CRON,
        fn=fn.id,
        name=name,
        due=due,
        score=due,
        partition=runner_items(fn.id).id,
        queued=now,
        payload=msgspec.json.encode(Tick(cron=trigger.cron, jitter=trigger.jitter, at=nominal)),
    )


def tick(fn: Function, item: Item, at: Moment) -> Transition:
    """A cron item is due: start the run of this tick and queue the next one, in one commit, so that neither
    is lost or doubled.

    After a downtime one overdue tick fires; the others in between are not made up for (section 4.12).
    """
    this = msgspec.json.decode(item.payload, type=Tick)
    effects: list[Effect] = []
    trigger = next((t for t in fn.triggers if t.cron == this.cron and t.jitter == this.jitter), None)
    run_id = ""
    if trigger is not None and not fn.archived:
        following = _tick(fn, trigger, max(this.at, at.now), at.now)
        if following is not None:
            effects.append(Enqueue(item=following, partition=runner_items(fn.id)))
        if not fn.paused:
            when = rfc3339(this.at)
            data = {"cron": this.cron, "scheduledAt": when, "fireAt": rfc3339(item.due)}
            event = internal_event(at.new_id(), SCHEDULED, at.now, data, external_id=when)
            event.ts = item.due  # however late it is
            run = new_run(fn, [event], at, key=run_key(fn, f"{this.cron}\x1f{when}"), cron=this.cron)
            start(fn, run, [event], at, effects, claim=KEY_TTL)
            run_id = run.id
    effects.append(Complete())
    return Transition(fn=fn.id, run=run_id, effects=effects)
