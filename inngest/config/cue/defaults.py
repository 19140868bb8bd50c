"""Which ways to choose among disjuncts are the default (specification, "Default values")."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from inngest.config.cue.vertex import Decision, DisjunctId


class Status(Enum):
    """Whether a choice is a default; ``MAYBE`` where nothing says so either way."""

    DEFAULT = "default"
    MAYBE = "maybe"
    NOT = "not"


class Defaults:
    """Follows the defaults of a vertex while its disjunctions are worked off one after the other.

    Defaults that no choice is left of count no more: ``(*1 | 2 | 3) & (*2 | 3)`` has the default 2. But where
    the disjunctions so far and the next each have defaults left and none in common, there is no default from
    then on.
    """

    def __init__(self) -> None:
        self._contradicted = False
        self.statuses: list[Status] = [Status.MAYBE]

    def step(self, outermost: int, origins: list[int], choices: list[list[Decision]]) -> None:
        """Take in the choices that remain after one more disjunction.

        ``origins`` says for each of them which of the choices so far it continues.
        """
        before = _settled([self.statuses[origin] for origin in origins])
        after = _statuses_in(outermost, choices)
        self.statuses = [_combined(pair) for pair in zip(before, after, strict=True)]
        shared = Status.DEFAULT in self.statuses
        self._contradicted |= Status.DEFAULT in before and Status.DEFAULT in after and not shared
        if self._contradicted:
            self.statuses = [Status.NOT] * len(choices)


def _statuses_in(outermost: int, choices: list[list[Decision]]) -> list[Status]:
    """The status that one disjunction and those nested in it give to each of the remaining ``choices``.

    A mark on the disjunct decides; an unmarked disjunct among marked ones is no default, a marked one keeps
    the defaults inside it, and without any marks only those inside count.
    """
    decisions = [{d.disjunct: d for d in made if d.disjunct[0][0] == outermost} for made in choices]
    statuses: list[dict[DisjunctId, Status]] = [{} for _ in choices]
    disjunctions = {_disjunction(d) for made in decisions for d in made}
    for disjunction in sorted(disjunctions, key=len, reverse=True):  # nested ones first
        members = [
            (number, disjunct)
            for number, made in enumerate(decisions)
            for disjunct in made
            if _disjunction(disjunct) == disjunction
        ]
        raw = [_status(decisions[n][disjunct], statuses[n]) for n, disjunct in members]
        for (number, disjunct), status in zip(members, _settled(raw), strict=True):
            statuses[number][disjunct] = status
    return [_combined(s for d, s in known.items() if len(d) == 1) for known in statuses]


def _settled(statuses: list[Status]) -> list[Status]:
    if Status.DEFAULT not in statuses:
        return [Status.MAYBE] * len(statuses)
    return [Status.NOT if s is Status.MAYBE else s for s in statuses]


def _disjunction(disjunct: DisjunctId) -> DisjunctId:
    """The disjunction a disjunct is one of: its number in place of the disjunct's."""
    return (*disjunct[:-1], (disjunct[-1][0], -1))


def _status(decision: Decision, known: dict[DisjunctId, Status]) -> Status:
    here = decision.disjunct
    nested = _combined(s for d, s in known.items() if len(d) == len(here) + 1 and d[:-1] == here)
    if decision.marked is None:
        return nested
    return Status.DEFAULT if decision.marked and nested is not Status.NOT else Status.NOT


def _combined(statuses: Iterable[Status]) -> Status:
    found = set(statuses)
    return next((s for s in (Status.NOT, Status.DEFAULT) if s in found), Status.MAYBE)
