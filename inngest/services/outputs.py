"""Step outputs in the log, for those who want them there. They may be personal data."""

from __future__ import annotations

import structlog

from inngest.core.model.history import Outcome, What
from inngest.core.model.transition import Committed, Record, Transition

log = structlog.get_logger("inngest.outputs")

MAX_CHARACTERS = 10_000
"""Of one output; the rest is cut off."""


def log_outputs(transition: Transition, committed: Committed) -> None:
    """Log the results of steps and functions that a transition has saved: a `runtime.Observer`."""
    for effect, won in zip(transition.effects, committed.won, strict=True):
        if not won or not isinstance(effect, Record):
            continue
        entry = effect.entry
        if entry.what is What.ATTEMPT and entry.outcome == Outcome.OK and entry.value is not None:
            output = entry.value.decode("utf-8", "replace")
            log.info(
                "step output",
                action="step.output",
                run=entry.run,
                fn=entry.fn,
                step=entry.name or entry.step,
                output=output[:MAX_CHARACTERS],
                bytes=len(entry.value),
            )
