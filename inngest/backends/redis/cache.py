"""Known states of runs, so that a continuation does not bring all step results again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from inngest.core.model.runs import Run
from inngest.core.model.transition import Await, CreateRun, SaveStep, Transition

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of events and step results that are kept; one run alone may be larger."""


class RunCache:
    """The least recently used go first. Runs are never changed once they are in here: workers read them."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: str) -> Run | None:
        run = self._runs.get(run_id)
        if run is not None:
            self._runs.move_to_end(run_id)
        return run

    def put(self, run: Run) -> None:
        """Keep the state, unless a newer one is known."""
        known = self._runs.get(run.id)
        if known is not None:
            if known.revision > run.revision:
                return
            self._bytes -= known.weight()
        self._runs[run.id] = run
        self._runs.move_to_end(run.id)
        self._bytes += run.weight()
        while self._bytes > self._max_bytes and len(self._runs) > 1:
            _, gone = self._runs.popitem(last=False)
            self._bytes -= gone.weight()

    def drop(self, run_id: str) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None:
            self._bytes -= run.weight()

    def clear(self) -> None:
        self._runs.clear()
        self._bytes = 0


def advanced(run: Run, transition: Transition, won: Sequence[bool]) -> Run:
    """The state after a transition of which is known what it won, but for its head (see `set_head`)."""
    after = run.copy()
    for effect, win in zip(transition.effects, won, strict=True):
        if isinstance(effect, SaveStep):
            if win:
                after.save_step(effect.step, effect.value)
        elif isinstance(effect, Await) and _happened(effect, won):
            after.await_steps(effect.steps)  # even when it loses
    return after


def created(transition: Transition, won: Sequence[bool]) -> Run | None:
    """The run that a transition has created."""
    for effect, win in zip(transition.effects, won, strict=True):
        if win and isinstance(effect, CreateRun):
            return effect.run
    return None


def _happened(effect: Await, won: Sequence[bool]) -> bool:
    return not ((effect.when >= 0 and not won[effect.when]) or (effect.unless >= 0 and won[effect.unless]))
