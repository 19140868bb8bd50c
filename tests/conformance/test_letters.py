"""Dead letters: kept, bounded, given back to those who could not use them, thrown away."""

from __future__ import annotations

import time
from typing import Any

import pytest
from streams import Restartable, take

from inngest.core.errors import StoreRefused
from inngest.core.policy import MAX_REASON
from inngest.ports.stream import EVENT, Delivery, Entry, EventStream, Letter


async def _fetch(stream: EventStream, group: str = "runner", limit: int = 100) -> Delivery:
    delivery = await stream.fetch(group, limit, 10)
    assert delivery is not None
    return delivery


async def _buried(stream: EventStream, *bodies: bytes, group: str = "runner") -> list[str]:
    """Letters of entries that came, and were acknowledged; their ids."""
    await stream.publish(bodies)
    left = len(bodies)
    while left:
        delivery = await _fetch(stream, group)
        await stream.bury(group, delivery.entries, "it is bad")
        await stream.ack(group, delivery.token)
        left -= len(delivery.entries)
    return [letter.id for letter in (await stream.letters(limit=1000))[-len(bodies) :]]


async def _listed(stream: EventStream) -> list[bytes]:
    return [letter.body for letter in await stream.letters(limit=1000)]


async def test_a_letter_says_what_whose_why_and_when(stream: EventStream) -> None:
    before = time.time() * 1000 - 1000
    (name,) = await _buried(stream, b"\x00\xff")
    (letter,) = await stream.letters(limit=10)
    assert letter == Letter(
        id=name, kind=EVENT, group="runner", body=b"\x00\xff", reason="it is bad", at=letter.at
    )
    assert before < letter.at < time.time() * 1000 + 1000
    assert await stream.letter(name) == letter
    dead = await stream.dead()
    assert (dead.letters, dead.bytes, dead.dropped) == (1, 2, 0)
    assert await stream.backlog("runner") == 0
    assert await take(stream, "indexer") == [b"\x00\xff"], "another group may know what to do with it"


async def test_there_are_none_at_first(stream: EventStream) -> None:
    assert await stream.letters(limit=10) == []
    assert (await stream.dead()).letters == 0
    await stream.bury("runner", [], "nothing")
    assert await stream.letters(limit=10) == []


async def test_letters_come_in_pages(stream: EventStream) -> None:
    ids = await _buried(stream, *[b"%d" % n for n in range(7)])
    pages, after = [], ""
    while page := await stream.letters(after, limit=3):
        pages.append([letter.id for letter in page])
        after = page[-1].id
    assert pages == [ids[:3], ids[3:6], ids[6:]]
    # The one that was seen last may be gone.
    await stream.discard([ids[2]])
    assert [letter.id for letter in await stream.letters(ids[2], limit=2)] == ids[3:5]


@pytest.mark.parametrize("nonsense", ["nonsense", "-1", "1-2-3", "é", "9" * 40, "\ud800"])
async def test_what_is_no_id_is_refused_as_a_place_and_else_not_there(
    stream: EventStream, nonsense: str
) -> None:
    (known,) = await _buried(stream, b"a")
    with pytest.raises(StoreRefused, match="no id of a dead letter"):
        await stream.letters(nonsense, limit=1)
    assert await stream.letter(nonsense) is None
    assert await stream.revive([nonsense]) == []
    assert await stream.discard([nonsense, known]) == [known]


async def test_an_entry_is_buried_once(stream: EventStream) -> None:
    await stream.publish([b"a", b"b"])
    delivery = await _fetch(stream)
    for reason in ("first", "second"):
        await stream.bury("runner", delivery.entries, reason)
    assert await _listed(stream) == [b"a", b"b"]
    assert (await stream.dead()).letters == 2
    # By another group, or as another thing, it is another.
    await stream.bury("indexer", delivery.entries, "third")
    await stream.bury("runner", delivery.entries, "fourth", kind="item")
    assert [letter.reason for letter in await stream.letters(limit=10)] == [
        each for reason in ("first", "third", "fourth") for each in (reason, reason)
    ]
    # When its letter is gone it may have one again.
    await stream.discard([letter.id for letter in await stream.letters(limit=10)])
    await stream.bury("runner", [delivery.entries[0], delivery.entries[0]], "fifth")
    assert await _listed(stream) == [b"a"]


async def test_entries_without_a_name_are_all_buried(stream: EventStream) -> None:
    for _ in range(2):
        await stream.bury("runner", [Entry(b"x", 0), Entry(b"x", 0)], "they look alike", kind="item")
    assert await _listed(stream) == [b"x"] * 4


async def test_a_reason_is_cut_and_can_always_be_kept(stream: EventStream) -> None:
    await stream.bury("runner", [Entry(b"x", 0)], "\ud800" + "é" * 2 * MAX_REASON)
    (letter,) = await stream.letters(limit=1)
    assert letter.reason.startswith("\\ud800é")
    assert len(letter.reason) < MAX_REASON + 10


async def test_letters_are_discarded(stream: EventStream) -> None:
    ids = await _buried(stream, *b"a b c".split())
    assert sorted(await stream.discard([ids[0], ids[2], "4711"])) == sorted([ids[0], ids[2]])
    assert await stream.discard(ids[:1]) == []
    assert await _listed(stream) == [b"b"]
    dead = await stream.dead()
    assert (dead.letters, dead.bytes, dead.dropped) == (1, 1, 0)
    (new,) = await _buried(stream, b"d")
    assert new not in ids, "an id never comes to mean another letter"


async def test_a_revived_entry_goes_to_its_group_alone(stream: EventStream) -> None:
    ids = await _buried(stream, b"a", b"b")
    first = (await stream.letter(ids[1])).at  # type: ignore[union-attr]
    assert await stream.revive([ids[1]]) == [ids[1]]
    assert await stream.revive([ids[1]]) == []
    delivery = await _fetch(stream)
    (entry,) = delivery.entries
    assert entry.body == b"b"
    assert entry.at >= first, "it is accepted now"
    await stream.ack("runner", delivery.token)
    assert await take(stream, "runner") == []
    await stream.publish([b"after"])
    assert await take(stream, "indexer") == [b"a", b"b", b"after"], "each once"
    assert await stream.backlog("indexer") == 0
    assert await _listed(stream) == [b"a"]


async def test_what_another_group_revives_holds_nobody_up(stream: EventStream) -> None:
    """Not the backlog, not the time that has settled, not what comes after it."""
    ids = await _buried(stream, *[b"%d" % n for n in range(30)], group="indexer")
    assert await take(stream, "runner", 7) == [b"%d" % n for n in range(30)]
    assert sorted(await stream.revive(ids)) == sorted(ids)
    assert await take(stream, "runner") == []
    assert await stream.backlog("runner") == 0
    await stream.publish([b"x"])
    delivery = await _fetch(stream)
    assert [entry.body for entry in delivery.entries] == [b"x"]
    await stream.ack("runner", delivery.token)
    assert await stream.settled("runner") == delivery.entries[0].at
    assert await take(stream, "indexer") == [*[b"%d" % n for n in range(30)], b"x"]
    assert (await stream.dead()).bytes == 0


async def test_a_revived_entry_may_be_buried_again(stream: EventStream) -> None:
    ids = await _buried(stream, b"a")
    for _ in range(3):
        assert await stream.revive(ids) == ids
        delivery = await _fetch(stream)
        await stream.bury("runner", delivery.entries, "still bad")
        await stream.ack("runner", delivery.token)
        ids = [letter.id for letter in await stream.letters(limit=10)]
        assert len(ids) == 1


async def test_only_events_that_fit_and_have_a_reader_are_revived(stream: EventStream) -> None:
    stream.largest = 1000
    await stream.bury("runner", [Entry(b"job", 0, "j1")], "nobody can do it", kind="item")
    await stream.bury("runner", [Entry(b"x" * 1001, 0, "e1")], "it was too large for the stream")
    await stream.bury("auditor", [Entry(b"x", 0, "e2")], "there is no such group any more")
    ids = [letter.id for letter in await stream.letters(limit=10)]
    assert await stream.revive(ids) == []
    assert [letter.id for letter in await stream.letters(limit=10)] == ids
    assert await stream.discard(ids) == ids


async def test_the_oldest_go_when_there_are_too_many(stream: Any) -> None:
    stream._letters._most = 5
    await _buried(stream, *[b"%d" % n for n in range(4)])
    await _buried(stream, *[b"%d" % n for n in range(4, 8)])
    assert await _listed(stream) == [b"3", b"4", b"5", b"6", b"7"]
    dead = await stream.dead()
    assert (dead.letters, dead.bytes, dead.dropped) == (5, 5, 3)


async def test_the_oldest_go_when_they_are_too_large(stream: Any) -> None:
    stream._letters._most_bytes = 1000
    for n in range(1, 5):
        await _buried(stream, b"%d" % n * 300)
    assert [body[:1] for body in await _listed(stream)] == [b"2", b"3", b"4"]
    # The newest stays, whatever it takes.
    await _buried(stream, b"5" * 5000)
    assert await _listed(stream) == [b"5" * 5000]
    await _buried(stream, b"6")
    assert await _listed(stream) == [b"6"]
    dead = await stream.dead()
    assert (dead.letters, dead.bytes, dead.dropped) == (1, 1, 5)


async def test_many_are_dropped_page_by_page(stream: Any) -> None:
    await stream.bury("runner", [Entry(b"%d" % n, 0, str(n)) for n in range(2500)], "bad")
    assert (await stream.dead()).letters == 2500
    stream._letters._most = 10
    await stream.bury("runner", [Entry(b"last", 0, "last")], "bad")
    assert await _listed(stream) == [*[b"%d" % n for n in range(2491, 2500)], b"last"]
    assert (await stream.dead()).dropped == 2491
    await stream.bury("runner", [Entry(b"0", 0, "0")], "bad")
    assert (await _listed(stream))[-1] == b"0", "what was dropped is forgotten"


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_letters_survive(durable_stream: Restartable, crash: bool) -> None:
    stream: Any = durable_stream.stream
    stream._letters._most = 3
    ids = await _buried(stream, *b"a b c d e".split())  # of the last three
    await stream.discard(ids[2:])
    await stream.revive(ids[1:2])
    before = await stream.letters(limit=10), await stream.dead()
    assert before[1].dropped == 2
    await durable_stream.restart(crash=crash)
    stream = durable_stream.stream
    assert (await stream.letters(limit=10), await stream.dead()) == before
    assert await take(stream, "runner") == [b"d"]
    assert await take(stream, "indexer") == b"a b c d e".split()
    (new,) = await _buried(stream, b"f")
    assert new not in ids


@pytest.mark.durable
async def test_what_was_revived_stays_its_groups_own(durable_stream: Restartable) -> None:
    ids = await _buried(durable_stream.stream, b"a", b"b", b"c")
    assert await take(durable_stream.stream, "indexer") == [b"a", b"b", b"c"]
    await durable_stream.stream.revive(ids)
    await durable_stream.restart(crash=True)
    assert await take(durable_stream.stream, "indexer") == []
    assert await durable_stream.stream.backlog("indexer") == 0
    assert await take(durable_stream.stream, "runner") == [b"a", b"b", b"c"]
