"""What an event means: which runs it starts, which it cancels, which waits it ends.

Each function's part is decided for itself: what cannot be decided for one keeps no other from its own. The
steps that need the store lie between the functions here, in this order: `remembered` is committed, then the
pauses are read that an event can meet, and then what `started` and `met` say is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from inngest.core.decisions.advance import cancel, evict, resume
from inngest.core.decisions.invocations import unknown_function
from inngest.core.decisions.matching import matches
from inngest.core.decisions.meeting import Conditions, invoke_result, may_meet
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import once, schedule
from inngest.core.decisions.starting import undecided
from inngest.core.expr import EvaluationError
from inngest.core.model.events import INVOKED, Event, decode_event
from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Pause, PauseKind, Run
from inngest.core.model.transition import Complete, Effect, Once, Record, Remember, Transition, lease_of
from inngest.core.policy import REMEMBERED


class Catalogue(Protocol):
    """What is registered, by what events look for."""

    def triggered(self, event: Event) -> tuple[list[str], list[Function]]:
        """The trigger names that an event has, and the functions with one of them."""

    def invoked(self, event: Event) -> Function | None:
        """The target of an invocation."""

    def cancelled(self, event: Event) -> Sequence[Function]:
        """The functions whose runs an event of this name may cancel."""


class Problem(Struct):
    """A part of an event that could not be decided; the others were."""

    what: str
    fn: str
    error: Exception


Report = Callable[[Problem], None]
TriggerFailed = Callable[[Function, str, EvaluationError], None]


def remembered(event: Event, catalogue: Catalogue) -> list[Transition]:
    """What must be known of an event that cancels before the pauses are read that it meets: runs of earlier
    events may be on their way to the store.
    """
    functions = catalogue.cancelled(event)
    if not functions:
        return []
    kept = Remember(name=event.name, event=event.encode(), at=event.received, ttl=REMEMBERED)
    return [Transition(fn=fn.id, run="", effects=[kept]) for fn in functions]


def started(
    event: Event, catalogue: Catalogue, at: Moment, report: Report, trigger_failed: TriggerFailed
) -> Iterator[Transition]:
    """What an event starts."""
    if event.name == INVOKED:
        fn = catalogue.invoked(event)
        if fn is not None:
            yield _start(fn, event, at, report)
        elif (refusal := unknown_function(event, at)) is not None:
            yield refusal
        return
    names, functions = catalogue.triggered(event)
    for fn in functions:
        if matches(fn, event, names, at.now, trigger_failed):
            yield _start(fn, event, at, report)


def _start(fn: Function, event: Event, at: Moment, report: Report) -> Transition:
    try:
        return schedule(fn, event, at)
    except MemoryError:
        raise  # no fault of theirs
    except Exception as error:  # noqa: BLE001 -- reported; the others have their parts
        report(Problem("an event's run", fn.slug, error))
        entry = undecided(fn, event, at, error)
        return Transition(fn=fn.id, run=entry.run, effects=[once(event, at), Record(entry=entry, when=0)])


def met(
    event: Event, pauses: Sequence[Pause], conditions: Conditions, at: Moment, report: Report, *, last: bool
) -> list[Transition]:
    """What the event does to those who wait for it. ``pauses`` is a page of them; after the ``last`` the
    functions whose waits it has ended have done so: an event that is delivered again ends no later wait.
    """
    transitions: list[Transition] = []
    waits: dict[str, Transition] = {}
    for pause in pauses:
        try:
            if not may_meet(pause, event) or not conditions.hold(pause, event, at.now):
                continue
            if pause.kind is PauseKind.EVENT:
                look = Once(key=f"{event.id}:w", at=event.received, forget=at.settled, mark=False)
                told: dict[str, Any] = {"event": event.id}
                waits[pause.fn] = resume(pause, event.payload, at, info=told, first=look)
                transitions.append(waits[pause.fn])
            else:
                transitions.append(_meet(pause, event, at))
        except MemoryError:
            raise  # it would sleep through its event
        except Exception as error:  # noqa: BLE001 -- reported; the others have their parts
            report(Problem("a wait", pause.fn, error))
    if last:
        # Marked with the last of a function's waits, since they are committed in this order.
        for transition in waits.values():
            effect = transition.effects[0]
            assert isinstance(effect, Once)
            effect.mark = True
    return transitions


def _meet(pause: Pause, event: Event, at: Moment) -> Transition:
    if pause.kind is PauseKind.CANCEL:
        return evict(pause, at)
    value, info = invoke_result(event)
    return resume(pause, value, at, info=info)


def marks(event: Event, functions: Iterable[str], at: Moment) -> list[Transition]:
    """That all waits of these functions have met the event, when they were too many for one page."""
    mark = Once(key=f"{event.id}:w", at=event.received, forget=at.settled)
    return [Transition(fn=fn, run="", effects=[mark]) for fn in functions]


_decode_pauses = msgspec.json.Decoder(list[Pause]).decode


def recalled(run: Run, item: Item, events: Sequence[bytes], at: Moment) -> Transition:
    """Whether one of the remembered ``events`` cancels a run that was started after it had come. The item's
    payload are the pauses that would have met it.
    """
    pauses, conditions = _decode_pauses(item.payload), Conditions()
    effects: list[Effect] = []
    if any(
        pause.event == event.name and may_meet(pause, event) and conditions.hold(pause, event, at.now)
        for event in map(decode_event, events)
        for pause in pauses
    ):
        effects += cancel(run, at).effects
    return Transition(fn=run.fn, run=run.id, effects=[*effects, Complete()], lease=lease_of(item))


def recall_names(item: Item) -> list[str]:
    """The names of the events that a recall asks for."""
    return sorted({pause.event for pause in _decode_pauses(item.payload)})
