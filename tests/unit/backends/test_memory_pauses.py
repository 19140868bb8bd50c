"""The index of pauses in memory: what a page costs, and what it holds while pauses come and go."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from inngest.backends.memory.pauses import PauseIndex
from inngest.core.model.events import Event
from inngest.core.model.runs import Pause, PauseKind
from inngest.ports.engine import Page

EVENT = Event(id="e", name="app/x", ts=1, received=1)


class Counted(str):
    """An id that counts how often it is looked at."""

    __slots__ = ()
    looks = 0

    def __lt__(self, other: str) -> bool:
        Counted.looks += 1
        return str.__lt__(self, other)

    def __gt__(self, other: str) -> bool:
        Counted.looks += 1
        return str.__gt__(self, other)

    def __hash__(self) -> int:
        Counted.looks += 1
        return str.__hash__(self)


def pause(pause_id: str) -> Pause:
    return Pause(id=pause_id, kind=PauseKind.EVENT, fn="f", run="r", event=EVENT.name)


def pages(index: PauseIndex, limit: int) -> Iterator[Page[Pause]]:
    page = index.page(EVENT, "", limit)
    yield page
    while page.cursor:
        page = index.page(EVENT, page.cursor, limit)
        yield page


def test_a_page_costs_what_is_on_it() -> None:
    index, count, limit = PauseIndex(), 5000, 10
    for number in range(count):
        index.add(pause(Counted(f"{number:05}")))
    Counted.looks = 0
    found = [each.id for page in pages(index, limit) for each in page.found]
    assert found == [f"{number:05}" for number in range(count)]
    assert Counted.looks < 20 * count, "each page looked at all of them"


def test_what_is_ended_page_by_page_costs_as_little() -> None:
    index, count, limit = PauseIndex(), 5000, 10
    for number in range(count):
        index.add(pause(Counted(f"{number:05}")))
    Counted.looks = 0
    for page in pages(index, limit):
        for each in page.found:
            index.remove(each)
    assert len(index) == 0
    assert Counted.looks < 40 * count, "each page looked at all of them"


IDS = st.integers(0, 30).map("{:02}".format)


@given(
    st.sets(IDS),
    st.integers(1, 5),
    st.lists(st.lists(st.tuples(st.booleans(), IDS), max_size=8), max_size=8),
)
def test_those_that_last_are_found_in_order_whatever_comes_and_goes_between_pages(
    first: set[str], limit: int, changes: list[list[tuple[bool, str]]]
) -> None:
    index, there = PauseIndex(), set(first)
    for each in first:
        index.add(pause(each))
    lasting, seen = set(first), []
    page = index.page(EVENT, "", limit)
    while True:
        seen += [each.id for each in page.found]
        assert {each.id for each in page.found} <= there
        if not page.cursor:
            break
        for coming, each in changes.pop() if changes else ():
            (index.add if coming else index.remove)(pause(each))
            (there.add if coming else there.discard)(each)
            lasting &= there
        assert len(index) == len(there)
        page = index.page(EVENT, page.cursor, limit)
    assert lasting <= set(seen)
    assert len(seen) == len(set(seen))
    if len(first) > limit:
        assert seen == sorted(seen)
