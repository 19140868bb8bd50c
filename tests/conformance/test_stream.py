"""Event streams: accepted means kept, each group gets everything, in order, until it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from inngest.core.model.events import Event
from inngest.ports.stream import Delivery, EventStream


def _events(*names: str) -> list[Event]:
    return [
        Event(
            id=f"id-{name}",
            name=name,
            ts=5,
            received=7,
            data=Raw(b'{"a" : 1.0}'),
            external_id=f"x-{name}",
            v="1",
            user=Raw(b'{"u":"\xc3\xa9"}'),
            sessions={"k": "v"},
        )
        for name in names
    ]


async def _fetch(stream: EventStream, group: str = "runner", limit: int = 100) -> Delivery:
    delivery = await stream.fetch(group, limit, 10)
    assert delivery is not None
    return delivery


async def _all(stream: EventStream, count: int, group: str = "runner", limit: int = 100) -> list[str]:
    """The names of the next ``count`` events, acknowledged."""
    names: list[str] = []
    while len(names) < count:
        delivery = await _fetch(stream, group, limit)
        names += [event.name for event in delivery.events]
        await stream.ack(group, delivery.token)
    return names


async def test_events_come_back_as_they_were_published(stream: EventStream) -> None:
    await stream.publish(_events("a"))
    delivery = await _fetch(stream)
    assert delivery.events == _events("a")
    assert bytes(delivery.events[0].data) == b'{"a" : 1.0}'


async def test_events_come_in_order(stream: EventStream) -> None:
    for n in range(0, 50, 5):
        await stream.publish(_events(*[str(m) for m in range(n, n + 5)]))
    assert await _all(stream, 50, limit=7) == [str(n) for n in range(50)]


async def test_a_delivery_has_at_most_so_many(stream: EventStream) -> None:
    await stream.publish(_events(*"abcde"))
    assert 1 <= len((await _fetch(stream, limit=2)).events) <= 2


async def test_each_group_gets_everything(stream: EventStream) -> None:
    await stream.publish(_events(*"abc"))
    assert await _all(stream, 3, "runner") == list("abc")
    assert await _all(stream, 3, "indexer") == list("abc")


async def test_each_event_goes_to_one_consumer_of_a_group(stream: EventStream) -> None:
    await stream.publish(_events(*[str(n) for n in range(40)]))
    seen: list[str] = []

    async def consume() -> None:
        while (delivery := await stream.fetch("runner", 3, 0.05)) is not None:
            seen.extend(event.name for event in delivery.events)
            await stream.ack("runner", delivery.token)

    await asyncio.gather(*[consume() for _ in range(4)])
    assert sorted(seen, key=int) == [str(n) for n in range(40)]


async def test_nothing_is_none(stream: EventStream) -> None:
    assert await stream.fetch("runner", 10, 0.01) is None
    await stream.publish(_events("a"))
    assert await _all(stream, 1) == ["a"]
    assert await stream.fetch("runner", 10, 0.01) is None


async def test_what_arrives_wakes_who_waits(stream: EventStream) -> None:
    waiting = asyncio.create_task(_fetch(stream))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await stream.publish(_events("a"))
    assert [event.name for event in (await asyncio.wait_for(waiting, 10)).events] == ["a"]


async def test_what_is_not_acknowledged_yet_is_not_delivered_twice(stream: EventStream) -> None:
    await stream.publish(_events("a"))
    first = await _fetch(stream)
    assert await stream.fetch("runner", 10, 0.01) is None
    await stream.ack("runner", first.token)


async def test_the_backlog_counts_what_is_not_acknowledged(stream: EventStream) -> None:
    assert await stream.backlog("runner") == 0
    await stream.publish(_events(*"abc"))
    assert await stream.backlog("runner") == 3
    delivery = await _fetch(stream, limit=2)
    assert await stream.backlog("runner") == 3
    await stream.ack("runner", delivery.token)
    assert await stream.backlog("runner") == 3 - len(delivery.events)
    assert await stream.backlog("indexer") == 3


async def test_deliveries_are_acknowledged_one_by_one(stream: EventStream) -> None:
    await stream.publish(_events(*"ab"))
    first, second = await _fetch(stream, limit=1), await _fetch(stream, limit=1)
    await stream.ack("runner", second.token)
    assert await stream.backlog("runner") == 1
    await stream.ack("runner", first.token)
    assert await stream.backlog("runner") == 0


async def test_an_acknowledgement_may_be_repeated(stream: EventStream) -> None:
    await stream.publish(_events("a"))
    delivery = await _fetch(stream)
    await stream.ack("runner", delivery.token)
    await stream.ack("runner", delivery.token)
    assert await stream.backlog("runner") == 0


async def test_nothing_published_is_nothing(stream: EventStream) -> None:
    await stream.publish([])
    assert await stream.fetch("runner", 10, 0.01) is None


async def test_many_publishers_at_once(stream: EventStream) -> None:
    await asyncio.gather(*[stream.publish(_events(f"{n}-a", f"{n}-b")) for n in range(50)])
    names = await _all(stream, 100)
    assert sorted(names) == sorted(f"{n}-{x}" for n in range(50) for x in "ab")
    for n in range(50):
        assert names.index(f"{n}-a") < names.index(f"{n}-b")


class Restartable:
    """A stream with a way to restart it."""

    def __init__(self, place: Any) -> None:
        self.place = place

    async def start(self) -> None:
        self.stream = self.place.store()
        await self.stream.open()

    async def restart(self, *, crash: bool) -> None:
        if crash:
            await self.place.crash()
        else:
            await self.stream.close()
        await self.start()


@pytest.fixture
async def durable_stream(stream_place: Any) -> AsyncIterator[Restartable]:
    restartable = Restartable(stream_place)
    await restartable.start()
    yield restartable
    await restartable.stream.close()


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_accepted_events_survive(durable_stream: Restartable, crash: bool) -> None:
    await durable_stream.stream.publish(_events(*"abc"))
    await durable_stream.restart(crash=crash)
    assert await _all(durable_stream.stream, 3) == list("abc")
    assert await _all(durable_stream.stream, 3, "indexer") == list("abc")


@pytest.mark.durable
@pytest.mark.parametrize("crash", [False, True])
async def test_what_was_not_acknowledged_is_delivered_again(durable_stream: Restartable, crash: bool) -> None:
    await durable_stream.stream.publish(_events(*"abc"))
    first = await _fetch(durable_stream.stream, limit=1)
    await _fetch(durable_stream.stream, limit=1)
    await durable_stream.stream.ack("runner", first.token)
    await durable_stream.restart(crash=crash)
    seen: set[str] = set()
    while not {"b", "c"} <= seen:
        seen |= set(await _all(durable_stream.stream, 1))


@pytest.mark.durable
async def test_what_was_acknowledged_is_gone_after_an_orderly_restart(durable_stream: Restartable) -> None:
    await durable_stream.stream.publish(_events(*"abc"))
    await _all(durable_stream.stream, 3)
    await durable_stream.restart(crash=False)
    assert await durable_stream.stream.fetch("runner", 10, 0.05) is None
    assert await durable_stream.stream.backlog("runner") == 0
    assert await _all(durable_stream.stream, 3, "indexer") == list("abc")


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
async def test_stores_of_a_group_share_the_events(two_streams: tuple[EventStream, EventStream]) -> None:
    await asyncio.gather(
        *[stream.publish(_events(f"{n}-{m}")) for n, stream in enumerate(two_streams) for m in range(20)]
    )
    seen: list[str] = []

    async def consume(stream: EventStream) -> None:
        while len(seen) < 40:
            delivery = await stream.fetch("runner", 3, 0.05)
            if delivery is not None:
                seen.extend(event.name for event in delivery.events)
                await stream.ack("runner", delivery.token)

    await asyncio.wait_for(asyncio.gather(*map(consume, two_streams)), 20)
    assert sorted(seen) == sorted(f"{n}-{m}" for n in range(2) for m in range(20))
    assert sorted(await _all(two_streams[0], 40, "indexer")) == sorted(seen)


@pytest.mark.shared
async def test_what_one_publishes_wakes_the_other(two_streams: tuple[EventStream, EventStream]) -> None:
    first, second = two_streams
    waiting = asyncio.create_task(_fetch(second))
    await asyncio.sleep(0.01)
    await first.publish(_events("a"))
    assert [event.name for event in (await asyncio.wait_for(waiting, 10)).events] == ["a"]


@pytest.mark.shared
async def test_who_leaves_is_succeeded(two_streams: tuple[EventStream, EventStream]) -> None:
    first, second = two_streams
    await first.publish(_events(*"abc"))
    done, _ = await _fetch(first, limit=1), await _fetch(first, limit=1)
    await first.ack("runner", done.token)
    await first.close()
    assert sorted(await _all(second, 2)) == ["b", "c"]
    assert await second.backlog("runner") == 0


@pytest.mark.shared
async def test_every_store_tells_the_same_backlog(two_streams: tuple[EventStream, EventStream]) -> None:
    first = two_streams[0]
    await first.publish(_events(*"abc"))
    delivery = await _fetch(first, limit=1)
    assert [await stream.backlog("runner") for stream in two_streams] == [3, 3]
    await first.ack("runner", delivery.token)
    assert [await stream.backlog("runner") for stream in two_streams] == [2, 2]
    assert [await stream.backlog("indexer") for stream in two_streams] == [3, 3]
