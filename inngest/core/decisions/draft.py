"""Parts that the decisions about a run share: a transition under construction, and what bounds a run."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.json import Encoder

from inngest.core.decisions.finish import end
from inngest.core.decisions.moment import Moment
from inngest.core.model.functions import Function
from inngest.core.model.history import History, What
from inngest.core.model.runs import Item, Kind, Run, RunStatus, discover_job, score
from inngest.core.model.transition import Complete, Effect, Record, Transition, lease_of
from inngest.core.policy import Policy
from inngest.core.sdk.responses import Step

_encode = Encoder().encode


class Call(Struct, gc=False):
    """When a call was made, for history, and how many steps had their results then: the view of the run may
    have more by now.
    """

    started: int
    ended: int
    seen: int = 0


class Draft:
    """A transition under construction."""

    __slots__ = ("at", "effects", "fn", "item", "policy", "run")

    def __init__(self, run: Run, fn: Function, item: Item, at: Moment, policy: Policy) -> None:
        self.run = run
        self.fn = fn
        self.item = item
        self.at = at
        self.policy = policy
        self.effects: list[Effect] = []

    def add(self, effect: Effect) -> int:
        """Append; the effect's place is returned."""
        self.effects.append(effect)
        return len(self.effects) - 1

    def finish(self) -> Transition:
        return Transition(fn=self.run.fn, run=self.run.id, effects=self.effects, lease=lease_of(self.item))

    def done(self) -> Transition:
        self.effects.append(Complete())
        return self.finish()

    def record(self, what: What, *, when: int = -1, unless: int = -1, **fields: Any) -> None:
        entry = History(
            id=self.at.new_id(), what=what, run=self.run.id, fn=self.run.fn, at=self.at.now, **fields
        )
        self.effects.append(Record(entry=entry, when=when, unless=unless))

    def discovery(self, outgoing: str, *, race: bool, coalesce: str, job: str = "") -> Item:
        """The item that calls the function again after ``outgoing`` got its result."""
        now = self.at.now
        by = coalesce if coalesce and not race else outgoing
        return Item(
            job=job or discover_job(self.run.id, by),
            kind=Kind.DISCOVER,
            fn=self.run.fn,
            run=self.run.id,
            due=now,
            score=score(now, self.run.priority),
            partition=self.run.work.id,
            max_attempts=self.fn.max_attempts,
            outgoing=outgoing,
            race=race,
            queued=now,
        )

    def end(
        self,
        status: RunStatus,
        *,
        output: bytes | None = None,
        error: bytes | None = None,
        shown: bytes | None = None,
        reason: str = "",
        when: int = -1,
    ) -> None:
        self.effects += end(
            self.run,
            status,
            self.at.now,
            self.at.new_id,
            output=output,
            error=error,
            shown=shown,
            reason=reason,
            place=len(self.effects),
            when=when,
        )

    def fail(self, name: str, message: str) -> None:
        self.end(RunStatus.FAILED, error=error_json(name, message))


def error_json(name: str, message: str) -> bytes:
    return _encode(
        {"error": f"{name}: {message}" if name != "Error" else message, "name": name, "message": message}
    )


class RunFails(Exception):
    """An op that cannot be carried out ends the run."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


def is_race(step: Step, item: Item) -> bool:
    return item.race or step.opts.get("parallelMode") == "race"


def pause_id(run: str, step: str) -> str:
    return f"{run}:{step}"
