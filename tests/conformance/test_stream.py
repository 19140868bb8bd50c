"""Event streams: accepted means kept, each group gets everything until it is acknowledged, and no group waits
for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from streams import Restartable, take

from inngest.core.errors import StoreRefused
from inngest.core.policy import DELIVERY_BYTES
from inngest.ports.stream import Delivery, EventStream


def _bodies(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


async def _fetch(stream: EventStream, group: str = "runner", limit: int = 100) -> Delivery:
    delivery = await stream.fetch(group, limit, 10)
    assert delivery is not None
    return delivery


def _names(delivery: Delivery) -> list[str]:
    return [entry.body.decode() for entry in delivery.entries]


async def _all(stream: EventStream, count: int, group: str = "runner", limit: int = 100) -> list[str]:
    """The names of the next ``count`` entries, acknowledged."""
    names: list[str] = []
    while len(names) < count:
        delivery = await _fetch(stream, group, limit)
        names += _names(delivery)
        await stream.ack(group, delivery.token)
    return names


async def test_bytes_come_back_as_they_were_published(stream: EventStream) -> None:
    bodies = [b'{"a" : 1.0}', b"", b"\x00\xff\r\n", "é".encode(), b"x" * 100_000]
    await stream.publish(bodies)
    got: list[bytes] = []
    while len(got) < len(bodies):
        got += [entry.body for entry in (await _fetch(stream)).entries]
    assert got == bodies


async def test_entries_come_in_order(stream: EventStream) -> None:
    for n in range(0, 50, 5):
        await stream.publish(_bodies(*[str(m) for m in range(n, n + 5)]))
    assert await _all(stream, 50, limit=7) == [str(n) for n in range(50)]


async def test_a_delivery_has_at_most_so_many(stream: EventStream) -> None:
    await stream.publish(_bodies(*"abcde"))
    assert 1 <= len((await _fetch(stream, limit=2)).entries) <= 2


async def test_a_delivery_has_at_most_so_many_bytes(stream: EventStream) -> None:
    large = DELIVERY_BYTES // 3
    for n in range(8):
        await stream.publish([b"%d" % n * large])
    sizes = []
    while sum(sizes) < 8 * large:
        delivery = await _fetch(stream, limit=100)
        sizes.append(sum(len(entry.body) for entry in delivery.entries))
        await stream.ack("runner", delivery.token)
    # The first may be larger where the stream cannot know what is to come.
    assert max(sizes[1:], default=0) <= DELIVERY_BYTES + large


async def test_each_group_gets_everything(stream: EventStream) -> None:
    await stream.publish(_bodies(*"abc"))
    assert await _all(stream, 3, "runner") == list("abc")
    assert await _all(stream, 3, "indexer") == list("abc")


async def test_each_entry_goes_to_one_consumer_of_a_group(stream: EventStream) -> None:
    await stream.publish(_bodies(*[str(n) for n in range(40)]))
    seen: list[str] = []

    async def consume() -> None:
        while (delivery := await stream.fetch("runner", 3, 0.05)) is not None:
            seen.extend(_names(delivery))
            await stream.ack("runner", delivery.token)

    await asyncio.gather(*[consume() for _ in range(4)])
    assert sorted(seen, key=int) == [str(n) for n in range(40)]


async def test_nothing_is_none(stream: EventStream) -> None:
    assert await stream.fetch("runner", 10, 0.01) is None
    await stream.publish(_bodies("a"))
    assert await _all(stream, 1) == ["a"]
    assert await stream.fetch("runner", 10, 0.01) is None


async def test_what_arrives_wakes_who_waits(stream: EventStream) -> None:
    waiting = asyncio.create_task(_fetch(stream))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await stream.publish(_bodies("a"))
    assert _names(await asyncio.wait_for(waiting, 10)) == ["a"]


async def test_what_is_not_acknowledged_yet_is_not_delivered_twice(stream: EventStream) -> None:
    await stream.publish(_bodies("a"))
    first = await _fetch(stream)
    assert await stream.fetch("runner", 10, 0.01) is None
    await stream.ack("runner", first.token)


async def test_who_is_cancelled_while_waiting_loses_nothing(stream: EventStream) -> None:
    for name in "abcdefghij":
        waiting = asyncio.create_task(stream.fetch("runner", 10, 20))
        await asyncio.sleep(0.002)
        publishing = asyncio.create_task(stream.publish(_bodies(name)))
        await asyncio.sleep(0)
        waiting.cancel()
        (result,) = await asyncio.gather(waiting, return_exceptions=True)
        await publishing
        # Either it came in time, or it comes now.
        delivery = result if isinstance(result, Delivery) else await _fetch(stream)
        assert _names(delivery) == [name]
        await stream.ack("runner", delivery.token)
    assert await stream.backlog("runner") == 0


async def test_the_backlog_counts_what_is_not_acknowledged(stream: EventStream) -> None:
    assert await stream.backlog("runner") == 0
    await stream.publish(_bodies(*"abc"))
    assert await stream.backlog("runner") == 3
    delivery = await _fetch(stream, limit=2)
    assert await stream.backlog("runner") == 3
    await stream.ack("runner", delivery.token)
    assert await stream.backlog("runner") == 3 - len(delivery.entries)
    assert await stream.backlog("indexer") == 3


async def test_deliveries_are_acknowledged_one_by_one(stream: EventStream) -> None:
    await stream.publish(_bodies(*"ab"))
    first, second = await _fetch(stream, limit=1), await _fetch(stream, limit=1)
    await stream.ack("runner", second.token)
    assert await stream.backlog("runner") == 1
    await stream.ack("runner", first.token)
    assert await stream.backlog("runner") == 0


async def test_an_acknowledgement_may_be_repeated(stream: EventStream) -> None:
    await stream.publish(_bodies("a"))
    delivery = await _fetch(stream)
    await stream.ack("runner", delivery.token)
    await stream.ack("runner", delivery.token)
    await stream.ack("runner", object())
    assert await stream.backlog("runner") == 0


async def test_nothing_published_is_nothing(stream: EventStream) -> None:
    await stream.publish([])
    assert await stream.fetch("runner", 10, 0.01) is None


async def test_many_publishers_at_once(stream: EventStream) -> None:
    await asyncio.gather(*[stream.publish(_bodies(f"{n}-a", f"{n}-b")) for n in range(50)])
    names = await _all(stream, 100)
    assert sorted(names) == sorted(f"{n}-{x}" for n in range(50) for x in "ab")
    for n in range(50):
        assert names.index(f"{n}-a") < names.index(f"{n}-b")


async def test_what_is_too_large_is_refused_with_all_that_came_with_it(stream: EventStream) -> None:
    stream.largest = 1000  # what a backing system may say
    with pytest.raises(StoreRefused, match=r"1001 bytes.*takes 1000") as caught:
        await stream.publish([b"small", b"x" * 1001])
    assert (caught.value.facts["size"], caught.value.facts["largest"]) == (1001, 1000)
    await stream.publish([b"y" * 1000])
    assert _names(await _fetch(stream)) == ["y" * 1000]


# -- times --


async def test_entries_have_a_name_and_the_time_of_their_acceptance(stream: EventStream) -> None:
    await stream.publish(_bodies(*"ab"))
    await stream.publish(_bodies("c"))
    delivered = [(await _fetch(stream, limit=1)).entries[0] for _ in range(3)]
    times = [entry.at for entry in delivered]
    assert times == sorted(times)
    assert min(times) > 1_700_000_000_000, "milliseconds"
    assert len({entry.id for entry in delivered}) == 3
    others = [(await _fetch(stream, "indexer", limit=1)).entries[0] for _ in range(3)]
    assert [(entry.id, entry.at, entry.body) for entry in others] == [
        (entry.id, entry.at, entry.body) for entry in delivered
    ]


async def _apart(stream: EventStream, *names: str) -> None:
    """Publish at times that differ."""
    for name in names:
        await stream.publish(_bodies(name))
        await asyncio.sleep(0.003)


async def test_settled_is_the_time_before_which_all_is_acknowledged(stream: EventStream) -> None:
    assert await stream.settled("runner") == 0
    await _apart(stream, *"abcd")
    deliveries = [await _fetch(stream, limit=1) for _ in range(3)]
    a, b, c = (delivery.entries[0].at for delivery in deliveries)
    assert a < b < c
    assert await stream.settled("runner") == a
    await stream.ack("runner", deliveries[1].token)
    assert await stream.settled("runner") == a, (
        "one acknowledgement after another says nothing of those before"
    )
    await stream.ack("runner", deliveries[0].token)
    assert await stream.settled("runner") == c
    await stream.ack("runner", deliveries[2].token)
    d = (await _fetch(stream)).entries[0].at
    assert await stream.settled("runner") == d
    assert await stream.settled("indexer") <= a


async def test_settled_is_between_what_was_given_and_what_was_not(stream: EventStream) -> None:
    await _apart(stream, *"ab")
    delivery = await _fetch(stream, limit=1)
    await stream.ack("runner", delivery.token)
    between = await stream.settled("runner")
    last = await _fetch(stream)
    assert delivery.entries[0].at <= between <= last.entries[0].at
    await stream.ack("runner", last.token)
    assert await stream.settled("runner") == last.entries[0].at


# -- groups that lag --


async def test_a_group_that_does_not_read_stops_nobody(stream: EventStream) -> None:
    """A data store that is down for long: accepting and executing go on."""
    count, batch = 200_000, 2_000
    read = 0

    async def run() -> None:
        nonlocal read
        while read < count:
            delivery = await _fetch(stream, limit=500)
            read += len(delivery.entries)
            await stream.ack("runner", delivery.token)

    async with asyncio.timeout(100):
        running = asyncio.create_task(run())
        for n in range(0, count, batch):
            await stream.publish([b"%07d" % m for m in range(n, n + batch)])
        await running
    assert await stream.backlog("runner") == 0
    assert await stream.backlog("indexer") >= 10_000
    # All of it is there for the one that was away.
    expected = 0
    async with asyncio.timeout(100):
        while expected < count:
            delivery = await _fetch(stream, "indexer", limit=1000)
            assert [int(entry.body) for entry in delivery.entries] == [
                expected + n for n in range(len(delivery.entries))
            ]
            expected += len(delivery.entries)
            await stream.ack("indexer", delivery.token)
    assert await stream.dropped("indexer") == 0


# -- streams that end and begin --


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_accepted_entries_survive(durable_stream: Restartable, crash: bool) -> None:
    await durable_stream.stream.publish(_bodies(*"abc"))
    await durable_stream.restart(crash=crash)
    assert await _all(durable_stream.stream, 3) == list("abc")
    assert await _all(durable_stream.stream, 3, "indexer") == list("abc")


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_what_was_not_acknowledged_is_delivered_again(durable_stream: Restartable, crash: bool) -> None:
    await durable_stream.stream.publish(_bodies(*"abc"))
    first = await _fetch(durable_stream.stream, limit=1)
    second = await _fetch(durable_stream.stream, limit=1)
    await durable_stream.stream.ack("runner", first.token)
    await durable_stream.restart(crash=crash)
    seen: dict[str, Any] = {}
    while not {"b", "c"} <= seen.keys():
        delivery = await _fetch(durable_stream.stream, limit=1)
        seen[_names(delivery)[0]] = delivery.entries[0]
    again, before = seen["b"], second.entries[0]
    assert (again.id, again.at, again.body) == (before.id, before.at, before.body)


@pytest.mark.durable
async def test_what_was_acknowledged_is_gone_after_an_orderly_restart(durable_stream: Restartable) -> None:
    await durable_stream.stream.publish(_bodies(*"abc"))
    await _all(durable_stream.stream, 3)
    await durable_stream.restart(crash=False)
    assert await durable_stream.stream.fetch("runner", 10, 0.05) is None
    assert await durable_stream.stream.backlog("runner") == 0
    assert await _all(durable_stream.stream, 3, "indexer") == list("abc")


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_what_has_settled_never_comes_again(durable_stream: Restartable, crash: bool) -> None:
    await _apart(durable_stream.stream, *"abc")
    ats = {}
    for group in ("runner", "indexer"):
        for _ in range(2):
            delivery = await _fetch(durable_stream.stream, group, limit=1)
            ats[_names(delivery)[0]] = delivery.entries[0].at
            await durable_stream.stream.ack(group, delivery.token)
    settled = await durable_stream.stream.settled("runner")
    assert settled >= ats["b"] > ats["a"]
    await durable_stream.restart(crash=crash)
    assert await durable_stream.stream.settled("runner") >= settled
    seen = await _fetch(durable_stream.stream)
    assert all(entry.at >= settled for entry in seen.entries)


@pytest.mark.durable
async def test_time_does_not_go_back_over_a_restart(durable_stream: Restartable) -> None:
    await durable_stream.stream.publish(_bodies("a"))
    first = await _fetch(durable_stream.stream)
    for group in ("runner", "indexer"):
        await take(durable_stream.stream, group)
    await durable_stream.stream.ack("runner", first.token)
    settled = await durable_stream.stream.settled("runner")
    await durable_stream.restart(crash=True)
    assert await durable_stream.stream.settled("runner") == settled == first.entries[0].at
    await durable_stream.stream.publish(_bodies("b"))
    assert (await _fetch(durable_stream.stream)).entries[0].at >= settled


# -- several stores on the same data --


@pytest.fixture
async def two_streams(stream_place: Any) -> AsyncIterator[tuple[EventStream, EventStream]]:
    first, second = stream_place.store(), stream_place.store()
    await first.open()
    await second.open()
    yield first, second
    await first.close()
    await second.close()


@pytest.mark.shared
async def test_stores_of_a_group_share_the_entries(two_streams: tuple[EventStream, EventStream]) -> None:
    await asyncio.gather(
        *[stream.publish(_bodies(f"{n}-{m}")) for n, stream in enumerate(two_streams) for m in range(20)]
    )
    seen: list[str] = []

    async def consume(stream: EventStream) -> None:
        while len(seen) < 40:
            delivery = await stream.fetch("runner", 3, 0.05)
            if delivery is not None:
                seen.extend(_names(delivery))
                await stream.ack("runner", delivery.token)

    await asyncio.wait_for(asyncio.gather(*map(consume, two_streams)), 20)
    assert sorted(seen) == sorted(f"{n}-{m}" for n in range(2) for m in range(20))
    assert sorted(await _all(two_streams[0], 40, "indexer")) == sorted(seen)


@pytest.mark.shared
async def test_what_one_publishes_wakes_the_other(two_streams: tuple[EventStream, EventStream]) -> None:
    first, second = two_streams
    waiting = asyncio.create_task(_fetch(second))
    await asyncio.sleep(0.01)
    await first.publish(_bodies("a"))
    assert _names(await asyncio.wait_for(waiting, 10)) == ["a"]


@pytest.mark.shared
async def test_who_leaves_is_succeeded(two_streams: tuple[EventStream, EventStream]) -> None:
    first, second = two_streams
    await first.publish(_bodies(*"abc"))
    done, _ = await _fetch(first, limit=1), await _fetch(first, limit=1)
    await first.ack("runner", done.token)
    await first.close()
    assert sorted(await _all(second, 2)) == ["b", "c"]
    assert await second.backlog("runner") == 0


@pytest.mark.shared
async def test_every_store_tells_the_same(two_streams: Sequence[EventStream]) -> None:
    first = two_streams[0]
    await _apart(first, *"abc")
    delivery = await _fetch(first, limit=1)
    assert [await stream.backlog("runner") for stream in two_streams] == [3, 3]
    assert [await stream.settled("runner") for stream in two_streams] == [delivery.entries[0].at] * 2
    await first.ack("runner", delivery.token)
    assert [await stream.backlog("runner") for stream in two_streams] == [2, 2]
    assert [await stream.backlog("indexer") for stream in two_streams] == [3, 3]


@pytest.mark.shared
async def test_settled_waits_for_all_consumers(two_streams: tuple[EventStream, EventStream]) -> None:
    first, second = two_streams
    await _apart(first, *"ab")
    early, late = await _fetch(first, limit=1), await _fetch(second, limit=1)
    await second.ack("runner", late.token)
    assert await second.settled("runner") == early.entries[0].at
    await first.ack("runner", early.token)
    assert await second.settled("runner") == late.entries[0].at
