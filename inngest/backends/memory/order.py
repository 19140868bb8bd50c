"""Things by their ids, in order, for those who read them a page at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Order:
    """The ids of a mapping, sorted once somebody reads in order, and kept so from then on.

    Ids that are gone are passed over, and dropped when they are as many as the others.
    """

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: list[str] | None = None

    def add(self, id_: str) -> None:
        ids = self._ids
        if ids is not None:
            place = bisect_left(ids, id_)
            if place == len(ids) or ids[place] != id_:
                ids.insert(place, id_)

    def removed(self, left: int) -> None:
        """One is gone, and so many are left."""
        if self._ids is not None and len(self._ids) > 2 * left:
            self._ids = None

    def after(self, cursor: str, things: Mapping[str, T]) -> Iterator[T]:
        """Those of ``things`` whose ids follow. Not to be gone on with after a change."""
        ids = self._ids
        if ids is None:
            ids = self._ids = sorted(things)
        for place in range(bisect_right(ids, cursor), len(ids)):
            thing = things.get(ids[place])
            if thing is not None:
                yield thing
