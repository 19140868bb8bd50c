"""What only a stream on a server has: consumers that die, replies that are lost, servers that refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis_places import DEAD_AFTER, kill, redis_stream, server
from streams import take

from inngest.backends.redis import stream as redis_stream_module
from inngest.backends.redis.scripts import STREAM_CLAIM, STREAM_TRIM
from inngest.backends.redis.stream import RedisEventStream
from inngest.core.errors import StoreUnavailable
from inngest.core.model.events import Event
from inngest.core.policy import DELIVERY_BYTES
from inngest.ports.stream import Delivery
from inngest.services.loop import Loop
from inngest.services.reader import Reader

KEY = "inngest:{stream}"
Open = Callable[[], Awaitable[RedisEventStream]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens streams on one server."""
    streams: list[RedisEventStream] = []

    async with redis_stream(tmp_path) as place:

        async def open_() -> RedisEventStream:
            streams.append(place.store())
            await streams[-1].open()
            return streams[-1]

        yield open_
        for stream in streams:
            await stream.close()


@pytest.fixture
async def stream(opened: Open) -> RedisEventStream:
    return await opened()


@pytest.fixture
def client() -> Iterator[Any]:
    with Redis.from_url(server(), decode_responses=True) as client:
        yield client


def _bodies(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


def _event(n: int) -> bytes:
    return Event(id=str(n), name="a", ts=1, received=1).encode()


async def _fetch(stream: RedisEventStream, group: str = "runner", limit: int = 100) -> Delivery:
    delivery = await stream.fetch(group, limit, 60)
    assert delivery is not None
    return delivery


def _names(delivery: Delivery) -> list[str]:
    return [entry.body.decode() for entry in delivery.entries]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


# -- consumers --


async def test_who_dies_is_succeeded(opened: Open) -> None:
    dying, survivor = await opened(), await opened()
    await dying.publish(_bodies(*"abc"))
    await _fetch(dying, limit=2)
    waiting = asyncio.create_task(_fetch(survivor, limit=1))
    assert _names(await waiting) == ["c"]
    waiting = asyncio.create_task(_fetch(survivor))
    await kill(dying)
    assert _names(await asyncio.wait_for(waiting, 60)) == ["a", "b"]


async def test_more_than_a_delivery_is_taken_over(opened: Open) -> None:
    dying, survivor = await opened(), await opened()
    await dying.publish(_bodies(*"abcde"))
    await _fetch(dying)
    await kill(dying)
    names: list[str] = []
    while len(names) < 5:
        names += _names(await _fetch(survivor, limit=2))
    assert names == list("abcde")


@pytest.mark.parametrize("memory", [0, 1], ids=["", "full"])
async def test_who_is_slow_keeps_its_deliveries(opened: Open, client: Any, memory: int) -> None:
    slow, other = await opened(), await opened()
    await slow.publish(_bodies("a"))
    delivery = await _fetch(slow)
    client.config_set("maxmemory", memory)
    try:
        assert await other.fetch("runner", 10, 4 * DEAD_AFTER) is None
    finally:
        client.config_set("maxmemory", 0)
    await slow.ack("runner", delivery.token)
    assert await slow.backlog("runner") == 0


async def test_a_dead_consumer_is_forgotten(opened: Open, client: Any) -> None:
    dying, survivor = await opened(), await opened()
    await dying.publish(_bodies(*"ab"))
    await _fetch(dying, limit=1)
    await kill(dying)
    taken = [await _fetch(survivor, limit=1), await _fetch(survivor, limit=1)]
    assert sorted(name for delivery in taken for name in _names(delivery)) == ["a", "b"]
    assert [consumer["name"] for consumer in client.xinfo_consumers(KEY, "runner")] == [survivor._name]


async def test_a_group_that_comes_later_gets_what_is_left(stream: RedisEventStream) -> None:
    await stream.publish(_bodies(*"ab"))
    later = RedisEventStream(server(), groups=("audit",))
    await later.open()
    try:
        assert _names(await _fetch(later, "audit")) == ["a", "b"]
    finally:
        await later.close()


# -- what a broken connection does --


async def test_a_reply_that_was_lost_is_asked_for_again(
    stream: RedisEventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stream.publish(_bodies(*"abc"))
    held = await _fetch(stream, limit=1)
    block = stream._link.block

    async def lose(command: Any, seconds: float) -> Any:
        await block(command, seconds)
        raise StoreUnavailable("the connection broke")

    monkeypatch.setattr(stream._link, "block", lose)
    with pytest.raises(StoreUnavailable):
        await stream.fetch("runner", 1, 1)
    monkeypatch.undo()
    assert _names(await _fetch(stream, limit=1)) == ["b"]
    assert _names(await _fetch(stream, limit=1)) == ["c"]
    await stream.ack("runner", held.token)
    assert await stream.backlog("runner") == 2


async def test_broken_connections_are_made_anew(stream: RedisEventStream, client: Any) -> None:
    waiting = asyncio.create_task(stream.fetch("runner", 10, 20))
    await _until(lambda: any(each["cmd"] == "xreadgroup" for each in client.client_list()))
    client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable):
        await waiting
    await stream.publish(_bodies("a"))
    assert _names(await _fetch(stream)) == ["a"]


async def test_a_server_that_has_lost_its_data_begins_anew(stream: RedisEventStream, client: Any) -> None:
    await stream.publish(_bodies("a"))
    delivery = await _fetch(stream)
    client.flushall()
    with pytest.raises(StoreUnavailable, match="it has lost its data"):
        await stream.fetch("runner", 10, 1)
    await stream.ack("runner", delivery.token)
    await stream.publish(_bodies("b"))
    assert _names(await _fetch(stream)) == ["b"]
    await stream.fetch("indexer", 1, 1)
    assert await stream.backlog("indexer") == 1


# -- what the server refuses, and what it holds --


async def test_a_full_server_takes_nothing(stream: RedisEventStream, client: Any) -> None:
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="its memory is full"):
            await stream.publish(_bodies("a"))
    finally:
        client.config_set("maxmemory", 0)
    await stream.publish(_bodies("b"))
    assert _names(await _fetch(stream)) == ["b"]


async def test_publishes_at_the_same_time_share_round_trips(stream: RedisEventStream) -> None:
    before = stream._link.round_trips
    await asyncio.gather(*[stream.publish(_bodies(str(n))) for n in range(50)])
    assert stream._link.round_trips - before < 10


async def test_what_all_have_acknowledged_is_dropped(stream: RedisEventStream, client: Any) -> None:
    await stream.publish(_bodies(*"abcd"))
    first, second = await _fetch(stream, limit=2), await _fetch(stream)
    await stream.ack("runner", second.token)
    await stream.ack("indexer", (await _fetch(stream, "indexer", limit=3)).token)
    # The runner has yet to acknowledge the first two, the indexer to be given the last.
    await stream._drop()
    assert client.xlen(KEY) == 4
    await stream.ack("runner", first.token)
    await _until(lambda: client.xlen(KEY) == 1)
    assert await stream.backlog("indexer") == 1
    await stream.ack("indexer", (await _fetch(stream, "indexer")).token)
    await _until(lambda: client.xlen(KEY) == 0)
    assert [await stream.backlog(group) for group in ("runner", "indexer")] == [0, 0]
    await stream.publish(_bodies("e"))
    assert _names(await _fetch(stream)) == ["e"]


async def test_the_backlog_is_counted_where_the_server_cannot_tell(
    stream: RedisEventStream, client: Any
) -> None:
    await stream.publish(_bodies(*"abcd"))
    await _fetch(stream, limit=1)
    client.xdel(KEY, client.xrange(KEY)[2][0])
    assert client.xinfo_groups(KEY)[1]["lag"] is None
    assert await stream.backlog("runner") == 3


async def test_counting_stops_at_a_bound(
    stream: RedisEventStream, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_stream_module, "COUNTED", 50)
    await stream.publish(_bodies(*map(str, range(500))))
    client.xdel(KEY, client.xrange(KEY, count=3)[2][0])
    assert client.xinfo_groups(KEY)[1]["lag"] is None
    assert 50 <= await stream.backlog("runner") < 100


# -- what somebody else has put there, or taken away --


async def test_what_others_have_put_into_the_stream_is_delivered(
    stream: RedisEventStream, client: Any
) -> None:
    client.xadd(KEY, {"what": "ever"})
    client.xadd(KEY, {"a": "1", "b": "2", "c": "3"})
    delivery = await _fetch(stream)
    assert [entry.body for entry in delivery.entries] == [b"ever", b"1"]


async def test_what_others_have_deleted_stops_nobody(opened: Open, client: Any) -> None:
    dying, survivor = await opened(), await opened()
    await dying.publish(_bodies(*"abcd"))
    delivery = await _fetch(dying, limit=3)
    client.xdel(KEY, delivery.entries[1].id)
    await kill(dying)
    names: list[str] = []
    while sorted(names) != ["a", "c", "d"]:
        taken = await _fetch(survivor)
        names += _names(taken)
        await survivor.ack("runner", taken.token)
    assert await survivor.backlog("runner") == 0


# -- trimming --


async def test_trimming_goes_on_past_what_was_buried(stream: RedisEventStream, client: Any) -> None:
    async def work() -> None:
        for group in ("runner", "indexer"):
            reader = Reader(stream, group, 500)
            while await stream.backlog(group):
                await reader.read(Loop("test", reader_is_called), ignore)

    async def reader_is_called() -> None:
        raise AssertionError("by hand")

    async def ignore(_: Sequence[Event]) -> None:
        pass

    await stream.publish([_event(n) for n in range(1000)])
    client.xadd(KEY, {"event": '{"id":1}'})
    await stream.publish([_event(n) for n in range(1000)])
    await work()
    await _until(lambda: client.xlen(KEY) == 0)
    assert [(letter.group, letter.body) for letter in await stream.letters(limit=10)] == [
        ("runner", b'{"id":1}'),
        ("indexer", b'{"id":1}'),
    ]
    await stream.publish([_event(n) for n in range(1000)])
    await work()
    await _until(lambda: client.xlen(KEY) == 0)


async def test_a_call_of_trimming_is_bounded(stream: RedisEventStream, client: Any) -> None:
    await stream.publish(_bodies(*map(str, range(20_000))))
    for group in ("runner", "indexer"):
        await take(stream, group)
    counts = []
    while not counts or counts[-1]:
        counts.append((await stream._link.script(STREAM_TRIM, KEY, 1 << 40))[0])
    assert max(counts) <= 1000
    assert client.xlen(KEY) == 0


async def test_a_full_server_is_trimmed_and_read(stream: RedisEventStream, client: Any) -> None:
    """Else it would stay full."""
    await stream.publish([b"x" * 1000 for _ in range(1000)])
    client.config_set("maxmemory", 1)
    try:
        for group in ("runner", "indexer"):
            assert len(await take(stream, group)) == 1000
        await _until(lambda: client.xlen(KEY) == 0)
    finally:
        client.config_set("maxmemory", 0)


async def test_a_stream_that_grows_too_large_loses_what_only_lossy_groups_lack(
    opened: Open, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await opened()
    stream._lag = 1_000_000
    await stream.publish([b"%04d" % n * 250 for n in range(3000)])
    await _until(lambda: client.xlen(KEY) == 3000)
    held = await _fetch(stream, limit=10)
    seen = await _fetch(stream, "indexer", limit=10)
    await stream.ack("indexer", seen.token)
    await stream._drop()
    assert client.xlen(KEY) >= 2990, "the runner needs it"
    assert await stream.dropped("indexer") == 0
    rest = await take(stream, "runner")
    await stream.ack("runner", held.token)
    assert len(rest) == 2990
    await _until(lambda: client.memory_usage(KEY) <= 1_000_000)
    lost = await stream.dropped("indexer")
    assert 1000 < lost < 2990
    assert await stream.dropped("runner") == 0
    assert await stream.backlog("indexer") == 2990 - lost
    # The oldest are gone, and nothing else.
    assert await take(stream, "indexer") == [b"%04d" % n * 250 for n in range(10 + lost, 3000)]
    assert await stream.backlog("indexer") == 0
    assert sum("lags too far behind" in record.message for record in caplog.records) == 1


async def test_trimming_goes_on_behind_the_last_number_of_a_millisecond(opened: Open, client: Any) -> None:
    """Which is where a group stands that was made to pass over the rest of it."""
    stream = await opened()
    await stream.publish([b"a"])
    for group in ("runner", "indexer"):
        client.xgroup_setid(KEY, group, "5-18446744073709551615")
    await stream._drop()
    assert client.xlen(KEY) == 1


# -- many at once --


async def test_a_claim_is_bounded(opened: Open) -> None:
    dying, survivor = await opened(), await opened()
    large = DELIVERY_BYTES // 4
    for n in range(9):
        await dying.publish([b"%d" % n * large])
    for _ in range(9):
        await _fetch(dying, limit=1)
    await kill(dying)
    claimed = await _fetch(survivor)
    assert sum(len(entry.body) for entry in claimed.entries) <= DELIVERY_BYTES + large
    seen = len(claimed.entries)
    while seen < 9:
        seen += len((await _fetch(survivor)).entries)


async def test_many_dead_consumers_are_buried_page_by_page(opened: Open, client: Any) -> None:
    stream = await opened()
    await stream.publish(_bodies(*map(str, range(250))))
    for n in range(250):
        client.xreadgroup("runner", f"dead:{n}", {KEY: ">"}, count=1)
    entries, silent = await stream._link.script(
        STREAM_CLAIM,
        KEY,
        stream._signs,
        "runner",
        stream._name,
        1000,
        1 << 30,
        *(f"dead:{n}" for n in range(250)),
    )
    assert (len(entries), len(silent)) == (100, 150)
    assert await stream.backlog("runner") == 250


async def test_a_heart_goes_on_beating(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = await opened()
    beats = 0

    async def fail(*_: Any) -> Any:
        nonlocal beats
        beats += 1
        raise RuntimeError("a defect")

    monkeypatch.setattr(stream, "_drop", fail)
    stream._trim = True
    await _until(lambda: beats == 1)
    stream._trim = True
    await _until(lambda: beats == 2)
