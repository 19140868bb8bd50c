"""Open pauses, found by event name and by one equality that each matching event must fulfil.

An event meets only the waits it can match: a million waits on other values cost it one dictionary lookup.
"""

from __future__ import annotations

import heapq

from inngest.core.expr import term_value, value_at
from inngest.core.model.events import Event
from inngest.core.model.runs import Pause
from inngest.ports.engine import Page

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

    def page(self, event: Event, cursor: str, limit: int) -> Page[Pause]:
        """The pauses that the event can match, bucket by bucket, and within one by id: all of a bucket that
        fits, or the ids after the cursor.
        """
        name = self._names.get(event.name)
        if name is None:
            return Page(found=[])
        buckets = [name.plain]
        for path, values in name.paths.items():
            text = term_value(value_at(event.value, path))
            if text is not None and (bucket := values.get(text)):
                buckets.append(bucket)
        total = sum(map(len, buckets))
        if not cursor and total <= limit:
            return Page(found=[pause for bucket in buckets for pause in bucket.values()])
        chosen = heapq.nsmallest(limit + 1, (id_ for bucket in buckets for id_ in bucket if id_ > cursor))
        more = len(chosen) > limit
        known = {id_: pause for bucket in buckets for id_, pause in bucket.items()} if chosen else {}
        found = [known[id_] for id_ in chosen[:limit]]
        return Page(found=found, cursor=found[-1].id if more else "")

    def plain(self, event: str) -> list[Pause]:
        """The pauses without terms."""
        name = self._names.get(event)
        return list(name.plain.values()) if name is not None else []
