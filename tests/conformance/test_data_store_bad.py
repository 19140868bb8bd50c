"""One bad record keeps no other from its place: asked of every data store."""

from __future__ import annotations

from typing import Any

import pytest
from data_stores import Story, event
from msgspec import Raw

from inngest.core.errors import StoreRefused
from inngest.core.model.events import Event
from inngest.core.model.history import History, What
from inngest.core.model.runs import RunStatus
from inngest.ports.data import DataStore, EventFilter, Refusal, RunFilter

HUGE = 2**70
HALF = "\ud83d"  # of an emoji
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


EVENTS = {
    "received": {"received": HUGE},
    "negative": {"received": -HUGE},
    "ts": {"ts": HUGE},
    "name": {"title": f"app/{HALF}"},
    "key": {"external_id": HALF},
    "nul": {"title": "app/\x00x", "external_id": "\x00", "v": "\x00"},
    "integer": {"data": Raw(b'{"a":%d}' % 10**400)},
    "no JSON": {"data": Raw(b"{")},
    "no UTF-8": {"data": Raw(b'{"a":"\xff"}')},
    "deep": {"data": Raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")},
}


def bad_event(fields: dict[str, Any]) -> Event:
    made = event(2, fields.get("title", "app/x"))
    for key, value in fields.items():
        if key != "title":
            setattr(made, key, value)
    return made


@pytest.mark.parametrize("kind", EVENTS)
async def test_a_bad_event_keeps_no_other_from_its_place(data: DataStore, kind: str) -> None:
    bad = bad_event(EVENTS[kind])
    good = [event(1), event(3)]
    refusals = await _refused(data.put_events([good[0], bad, good[1]]))
    read = await data.events(EventFilter(internal=True), limit=9)
    assert [e for e in read if e.id != bad.id] == good[::-1]
    _check(refusals, 1, bad.id, kept=bad in read, damaged=data.damaged)
    # And so it is when all comes again.
    assert await _refused(data.put_events([bad, *good])) == [
        Refusal(0, each.id, each.reason) for each in refusals
    ]
    assert await data.events_by_id([event(1).id, event(3).id]) == good


def _story(**bad: Any) -> tuple[Story, History]:
    """A run with a bad attempt in the middle."""
    story = Story(1).start(2).step(3, "a").step(4, "b").end(5)
    return story, _spoilt(story.entries[2], bad)


def _spoilt(entry: History, fields: dict[str, Any]) -> History:
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry


def _opening(**bad: Any) -> tuple[Story, History]:
    story = Story(1)
    return story, _spoilt(story.entries[0], bad)


def _ending(**bad: Any) -> tuple[Story, History]:
    story = Story(1).start(2).end(5)
    return story, _spoilt(story.entries[-1], bad)


HISTORY = {
    "attempt.queued": lambda: _story(queued=HUGE),
    "attempt.attempt": lambda: _story(attempt=-HUGE),
    "attempt.name": lambda: _story(name=HALF),
    "attempt.nul": lambda: _story(name="\x00"),
    "attempt.value": lambda: _story(value=b"\xff{"),
    "attempt.info.deep": lambda: _story(info={"input": DEEP}),
    "attempt.info.text": lambda: _story(info={"type": HALF}),
    "attempt.info.key": lambda: _story(info={HALF: 1}),
    "attempt.info.digits": lambda: _story(info={"input": [10**5000]}),
    "opening.at": lambda: _opening(at=HUGE),
    "opening.fn": lambda: _opening(fn=HALF),
    "opening.info.slug": lambda: _opening(info={"slug": 1}),
    "opening.info.events": lambda: _opening(info={"events": "e"}),
    "opening.info.event": lambda: _opening(info={"events": [HALF]}),
    "opening.info.version": lambda: _opening(info={"version": HUGE}),
    "opening.info.deep": lambda: _opening(info={"more": DEEP}),
    "ending.at": lambda: _ending(at=HUGE),
    "ending.outcome": lambda: _ending(outcome="Exploded"),
    "ending.value": lambda: _ending(value=b"\xff"),
}


@pytest.mark.parametrize("kind", HISTORY)
async def test_a_bad_entry_keeps_no_other_from_its_place(data: DataStore, kind: str) -> None:
    story, bad = HISTORY[kind]()
    before, after = Story(11).start(12).end(13), Story(21).start(22)
    entries = [*before.entries, *story.entries, *after.entries]
    refusals = await _refused(data.put_history(entries))
    found = await data.history([before.id, story.id, after.id])
    assert found[before.id] == before.entries
    assert found[after.id] == after.entries
    _check(refusals, entries.index(bad), bad.id, kept=bad in found[story.id], damaged=data.damaged)
    if bad.what is not What.SCHEDULED:  # else nobody knows the run
        rest = [entry for entry in story.entries if entry is not bad]
        assert [entry for entry in found[story.id] if entry.id != bad.id] == rest
        record = await data.run(story.id)
        assert record is not None
        assert record.status is (
            RunStatus.RUNNING if bad.what is What.ENDED and refusals else RunStatus.COMPLETED
        )
    listed = [record.id for record in await data.runs(RunFilter(), limit=9)]
    assert [run for run in listed if run != story.id] == [after.id, before.id]
    assert [each.id for each in await _refused(data.put_history(entries))] == [each.id for each in refusals]


async def test_integers_of_a_step_beyond_64_bits_are_kept_as_doubles_or_text(data: DataStore) -> None:
    story = Story(1).step(2, "s", info={"input": [HUGE, {"a": -HUGE}, 10**400], "type": "x"})
    await data.put_history(story.entries)
    (_, entry) = (await data.history([story.id]))[story.id]
    assert entry.info == {"input": [float(HUGE), {"a": -float(HUGE)}, str(10**400)], "type": "x"}


async def test_what_is_refused_is_named(data: DataStore) -> None:
    events = [event(0), *(event(at, f"app/{HALF}") for at in range(1, 11))]
    named = f"cannot keep event '{events[1].id}' at 1: UnicodeEncodeError: .*; and 7 more"
    with pytest.raises(StoreRefused, match=named) as caught:
        await data.put_events(events)
    assert caught.value.facts["what"] == "event"
    assert caught.value.system


async def _refused(put: Any) -> list[Refusal]:
    try:
        await put
    except StoreRefused as error:
        refusals = error.facts["refusals"]
        assert isinstance(refusals, tuple)
        return list(refusals)
    return []


def _check(refusals: list[Refusal], place: int, bad: str, *, kept: bool, damaged: int) -> None:
    """It is refused by name, or read as it was given, or left out and counted: never lost silently."""
    if refusals:
        assert [(each.place, each.id) for each in refusals] == [(place, bad)]
        assert not kept
        assert damaged == 0
    else:
        assert kept is (damaged == 0)
