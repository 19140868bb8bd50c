"""Records that were kept and cannot be read any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

log = structlog.get_logger("inngest.damage")

T = TypeVar("T")
U = TypeVar("U")

_TOLD = 10_000
"""Records that are remembered as told of; beyond that some may be told of again."""


class Damage:
    """Counts how often such a record was met, and tells the log of each once. For any thread."""

    def __init__(self, system: str) -> None:
        self.count = 0
        self._system = system
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def read(self, what: str, key: str, decode: Callable[[U], T], raw: U) -> T | None:
        """The record, or None if it is damaged. ``what`` is its kind, ``key`` finds it in the system.

        Raises:
            MemoryError: there is not enough to read it, which is no fault of the record.

        """
        try:
            return decode(raw)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this record alone
            self.met(what, key, error)
            return None

    def met(self, what: str, key: str, error: Exception) -> None:
        """Such a record was met, for this reason."""
        with self._lock:
            self.count += 1
            if (what, key) in self._told:
                return
            if len(self._told) >= _TOLD:
                self._told.clear()
            self._told.add((what, key))
        log.error(
            "a record cannot be read and is left out",
            action="store.damaged",
            system=self._system,
            what=what,
            key=key,
            error=f"{type(error).__name__}: {error}",
        )
