"""Which functions an event starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inngest.core.expr import EvaluationError
from inngest.core.model.events import Event
from inngest.core.model.functions import Function


def trigger_names(name: str) -> list[str]:
    """The trigger names that match an event name: itself, and a wildcard for each of its prefixes (section
    2.7).
    """
    names = [name]
    for at, char in enumerate(name):
        if char in "/.":
            names.append(name[: at + 1] + "*")
    return names


def matches(
    fn: Function,
    event: Event,
    names: Sequence[str],
    now: int,
    failed: Callable[[Function, str, EvaluationError], None],
) -> bool:
    """Whether one of the function's triggers takes the event. An expression that fails is no match, and
    ``failed`` is told of it.
    """
    for trigger in fn.triggers:
        if trigger.event and trigger.event in names:
            try:
                if not trigger.expression or _truthy(fn, trigger.expression, event, now):
                    return True
            except EvaluationError as error:
                failed(fn, trigger.expression, error)
    return False


def holds(fn: Function, source: str, event: Event, now: int) -> bool:
    try:
        return not source or _truthy(fn, source, event, now)
    except EvaluationError:
        return False


def _truthy(fn: Function, source: str, event: Event, now: int) -> bool:
    return fn.expression(source).truthy({"event": event.value}, now)
