"""A run once more: from its start, or from one of its steps with the results of those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from inngest.core.decisions.moment import Moment
from inngest.core.decisions.starting import new_run, run_key, start
from inngest.core.model.events import Event
from inngest.core.model.functions import Function
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.transition import CreateRun, Effect, Record, SaveStep, Transition


class Kept(Struct, frozen=True):
    """A step's result that a new run begins with: its memoised value (wire protocol section 3.4), and what
    history told of it.
    """

    step: str
    value: bytes
    entries: tuple[History, ...]


def results_before(history: Sequence[History], step: str) -> list[Kept]:
    """The results that a run had when ``step``, a hashed id, first came up, in the order of their completion.

    Raises ValueError if it never did.
    """
    kept: dict[str, Kept] = {}
    waits: dict[str, History] = {}
    for entry in history:
        if entry.step == step:
            return list(kept.values())
        if entry.what is What.WAITING:
            waits[entry.step] = entry
        value = _memoised(entry)
        if value is not None and entry.step not in kept:
            entries = (waits[entry.step], entry) if entry.step in waits else (entry,)
            kept[entry.step] = Kept(entry.step, value, entries)
    raise ValueError(f"the run has no step {step!r}")


def _memoised(entry: History) -> bytes | None:
    if not entry.step:
        return None
    if entry.what is What.RESUMED:
        return entry.value or b"null"
    if entry.what is What.ATTEMPT and entry.outcome == Outcome.OK:
        return b'{"data":%b}' % (entry.value or b"null")
    if entry.what is What.ATTEMPT and entry.outcome == Outcome.FAILED:
        return b'{"error":%b}' % (entry.value or b"null")
    return None


def rerun(
    fn: Function,
    events: Sequence[Event],
    at: Moment,
    *,
    original: str,
    cron: str = "",
    batch: str = "",
    kept: Sequence[Kept] = (),
) -> Transition:
    """Start a run for the events of ``original``, by the function's present configuration. Being asked for,
    it is no duplicate of that run.
    """
    key = run_key(fn, f"rerun\x1f{original}\x1f{at.new_id()}")
    run = new_run(fn, events, at, key=key, cron=cron, batch=batch, original=original)
    effects: list[Effect] = []
    start(fn, run, events, at, effects)
    created = next(place for place, effect in enumerate(effects) if isinstance(effect, CreateRun))
    effects += _restored(run.id, kept, created, at)
    return Transition(fn=fn.id, run=run.id, effects=effects)


def _restored(run: str, kept: Sequence[Kept], created: int, at: Moment) -> Iterator[Effect]:
    now = at.now
    for each in kept:
        yield SaveStep(step=each.step, value=each.value, when=created)
        for entry in each.entries:
            restored = replace(entry, id=at.new_id(), run=run, at=now, queued=now, started=now)
            yield Record(entry=restored, when=created)
