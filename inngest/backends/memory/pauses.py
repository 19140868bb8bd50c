"""Open pauses, found by event name and by one equality that each matching event must fulfil.

An event meets only the waits it can match: a million waits on other values cost it one dictionary lookup.
"""

from __future__ import annotations

from inngest.core.expr import term_value, value_at
from inngest.core.model.events import Event
from inngest.core.model.runs import Pause

Bucket = dict[str, Pause]


class _Name:
    """The pauses on one event name: by path and value of their first term, or plain."""

    __slots__ = ("paths", "plain")

    def __init__(self) -> None:
        self.plain: Bucket = {}
        self.paths: dict[str, dict[str, Bucket]] = {}


class PauseIndex:
    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, pause: Pause) -> None:
        name = self._names.setdefault(pause.event, _Name())
        if pause.terms:
            path, value = pause.terms[0]
            bucket = name.paths.setdefault(path, {}).setdefault(value, {})
        else:
            bucket = name.plain
        self._size += pause.id not in bucket
        bucket[pause.id] = pause

    def remove(self, pause: Pause) -> None:
        name = self._names.get(pause.event)
        if name is None:
            return
        if not pause.terms:
            self._size -= name.plain.pop(pause.id, None) is not None
        else:
            path, value = pause.terms[0]
            values = name.paths.get(path, {})
            bucket = values.get(value, {})
            self._size -= bucket.pop(pause.id, None) is not None
            if not bucket:
                values.pop(value, None)
            if not values:
                name.paths.pop(path, None)
        if not name.plain and not name.paths:
            del self._names[pause.event]

    def candidates(self, event: Event) -> list[Pause]:
        name = self._names.get(event.name)
        if name is None:
            return []
        found = list(name.plain.values())
        for path, values in name.paths.items():
            text = term_value(value_at(event.value, path))
            if text is not None and (bucket := values.get(text)):
                found += bucket.values()
        return found

    def plain(self, event: str) -> list[Pause]:
        """The pauses without terms."""
        name = self._names.get(event)
        return list(name.plain.values()) if name is not None else []
