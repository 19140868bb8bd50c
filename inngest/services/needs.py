"""Which service needs which backing system."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class System(StrEnum):
    """A backing system, by what it is for."""

    ENGINE = "engine store"
    STREAM = "event stream"
    DATA = "data store"


@dataclass(frozen=True)
class Needs:
    """``required``: without it the service is not ready. ``wanted``: without it the service is degraded, that
    is it works, but not in full.
    """

    required: tuple[System, ...]
    wanted: tuple[System, ...] = ()


NEEDS = {
    "event-api": Needs(required=(System.STREAM,)),
    # Without the data store there is nothing to look at, but applications register and calls go on; without
    # the stream nothing new is started from here.
    "core-api": Needs(required=(System.ENGINE,), wanted=(System.STREAM, System.DATA)),
    "runner": Needs(required=(System.ENGINE, System.STREAM)),
    "executor": Needs(required=(System.ENGINE,)),
}
"""Nothing but the core API has to do with the data store: accepting outranks observing."""


def required(services: Iterable[str]) -> set[System]:
    """What a process of these services waits for before it starts them."""
    return {system for name in services for system in NEEDS[name].required}


def used(services: Iterable[str]) -> set[System]:
    """What a process of these services opens."""
    return required(services) | {system for name in services for system in NEEDS[name].wanted}
