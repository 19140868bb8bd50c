"""Open pauses, found by event name and by one equality that each matching event must fulfil.

An event meets only the waits it can match: a million waits on other values cost it one dictionary lookup.
A page costs what is on it, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice

from inngest.backends.memory.order import Order
from inngest.core.expr import term_value, value_at
from inngest.core.model.events import Event
from inngest.core.model.runs import Pause
from inngest.ports.engine import Page


class _Bucket:
    """Pauses by id; once they are paged, also in its order."""

    __slots__ = ("_order", "pauses")

    def __init__(self) -> None:
        self.pauses: dict[str, Pause] = {}
        self._order = Order()

    def add(self, pause: Pause) -> bool:
        """Whether it is new."""
        known = pause.id in self.pauses
        self.pauses[pause.id] = pause
        self._order.add(pause.id)
        return not known

    def remove(self, pause_id: str) -> bool:
        """Whether it was there."""
        known = self.pauses.pop(pause_id, None) is not None
        self._order.removed(len(self.pauses))
        return known

    def after(self, cursor: str) -> Iterator[Pause]:
        """Those whose ids follow, by id. Not to be gone on with after a change."""
        return self._order.after(cursor, self.pauses)


class _Name:
    """The pauses on one event name: by path and value of their first term, or plain.

    Most values are waited for by one pause, which then stands in the place of a bucket.
    """

    __slots__ = ("paths", "plain")

    def __init__(self) -> None:
        self.plain = _Bucket()
        self.paths: dict[str, dict[str, Pause | _Bucket]] = {}


class PauseIndex:
    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, pause: Pause) -> None:
        name = self._names.get(pause.event)
        if name is None:
            name = self._names[pause.event] = _Name()
        if not pause.terms:
            self._size += name.plain.add(pause)
            return
        path, value = pause.terms[0]
        values = name.paths.setdefault(path, {})
        found = values.get(value)
        if found is None or (isinstance(found, Pause) and found.id == pause.id):
            self._size += found is None
            values[value] = pause
            return
        bucket = values[value] = _bucket(found)
        self._size += bucket.add(pause)

    def remove(self, pause: Pause) -> None:
        name = self._names.get(pause.event)
        if name is None:
            return
        if not pause.terms:
            self._size -= name.plain.remove(pause.id)
        else:
            path, value = pause.terms[0]
            values = name.paths.get(path, {})
            found = values.get(value)
            if isinstance(found, Pause):
                if found.id == pause.id:
                    self._size -= 1
                    del values[value]
            elif found is not None:
                self._size -= found.remove(pause.id)
                if not found.pauses:
                    del values[value]
            if not values:
                name.paths.pop(path, None)
        if not name.plain.pauses and not name.paths:
            del self._names[pause.event]

    def page(self, event: Event, cursor: str, limit: int) -> Page[Pause]:
        """The pauses that the event can match: all of them bucket by bucket, if they fit, or the next ones
        by id. The cursor is the id of the last one.
        """
        name = self._names.get(event.name)
        if name is None:
            return Page(found=[])
        buckets = [name.plain]
        for path, values in name.paths.items():
            text = term_value(value_at(event.value, path))
            if text is not None and (found := values.get(text)):
                buckets.append(_bucket(found))
        if not cursor and sum(len(bucket.pauses) for bucket in buckets) <= limit:
            return Page(found=[pause for bucket in buckets for pause in bucket.pauses.values()])
        following = merge(*(bucket.after(cursor) for bucket in buckets), key=_id)
        some = list(islice(following, limit + 1))
        if len(some) <= limit:
            return Page(found=some)
        return Page(found=some[:limit], cursor=some[limit - 1].id)

    def plain(self, event: str) -> list[Pause]:
        """The pauses without terms."""
        name = self._names.get(event)
        return list(name.plain.pauses.values()) if name is not None else []


def _bucket(found: Pause | _Bucket) -> _Bucket:
    if isinstance(found, _Bucket):
        return found
    bucket = _Bucket()
    bucket.add(found)
    return bucket


def _id(pause: Pause) -> str:
    return pause.id
