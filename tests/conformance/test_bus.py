"""What every bus is held to: the words of `inngest.ports.bus`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis_servers import redis_server, until

from inngest.backends.memory.bus import MemoryBus
from inngest.backends.redis.bus import RedisBus
from inngest.backends.redis.link import Link
from inngest.core.errors import NobodyListens, RequestFailed, StoreRefused, StoreUnavailable
from inngest.core.policy import BUS_ANSWERS, BUS_BODY, BUS_BYTES, BUS_MESSAGES
from inngest.ports.bus import Bus, Gap, Message, Subscription

PATIENCE = 60


class Place:
    """Buses of several processes on one system. ``cut`` breaks what they hear by."""

    def __init__(self, make: Callable[[], Bus], cut: Callable[[], Awaitable[None]]) -> None:
        self.make = make
        self.cut = cut
        self._stack = AsyncExitStack()

    async def bus(self) -> Any:
        bus = self.make()
        await bus.open()
        self._stack.push_async_callback(bus.close)
        return bus

    async def end(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def _memory(_: Path) -> AsyncIterator[Place]:
    bus = MemoryBus()

    async def cut() -> None:
        bus.interrupt()

    yield Place(lambda: bus, cut)


@asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[Place]:
    async with redis_server(folder / "redis") as server:

        async def cut() -> None:
            server.client.client_kill_filter(_type="pubsub")

        yield Place(lambda: RedisBus(Link(server.url), prefix="test:", owns=True), cut)


@pytest.fixture(params=["memory", "redis"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with {"memory": _memory, "redis": _redis}[request.param](tmp_path) as place:
        yield place
        await place.end()


@pytest.fixture
async def bus(place: Place) -> Any:
    return await place.bus()


@pytest.fixture
async def other(place: Place) -> Any:
    """Of another process."""
    return await place.bus()


async def _next(subscription: Subscription) -> Message | Gap:
    async with asyncio.timeout(PATIENCE):
        return await anext(subscription)


async def _up_to(bus: Bus, subscription: Subscription, channel: str) -> list[Message | Gap]:
    """All that is heard before something that is published now."""
    await bus.publish(channel, b"end")
    heard: list[Message | Gap] = []
    while (one := await _next(subscription)) != Message(channel, b"end"):
        heard.append(one)
    return heard


# -- publish and subscribe --


async def test_what_is_published_is_heard_by_all_in_order(bus: Bus, other: Bus) -> None:
    subscriptions = [
        await bus.subscribe("a", "b"),
        await other.subscribe("b", "a"),
        await other.subscribe("a"),
    ]
    for number in range(100):
        await bus.publish("a", b"%d" % number)
    expected = [Message("a", b"%d" % number) for number in range(100)]
    for subscription in subscriptions:
        assert await _up_to(other, subscription, "a") == expected


async def test_a_channel_is_heard_from_the_moment_of_subscribing(bus: Bus, other: Bus) -> None:
    for number in range(50):
        channel = f"channel {number}"
        subscription = await bus.subscribe(channel)
        await other.publish(channel, b"x")
        assert await _next(subscription) == Message(channel, b"x")


async def test_what_came_before_is_not_heard(bus: Bus) -> None:
    await bus.publish("a", b"before")
    subscription = await bus.subscribe("a")
    assert await _up_to(bus, subscription, "a") == []


async def test_one_hears_only_what_one_has_subscribed_to(bus: Bus, other: Bus) -> None:
    subscription = await bus.subscribe("a", "a")
    await other.publish("b", b"no")
    await other.publish("a", b"yes")
    assert await _up_to(other, subscription, "a") == [Message("a", b"yes")]


@pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n", b"x" * BUS_BODY])
async def test_bodies_are_bytes(bus: Bus, other: Bus, body: bytes) -> None:
    subscription = await bus.subscribe("ü/*?:{}")
    await other.publish("ü/*?:{}", body)
    assert await _next(subscription) == Message("ü/*?:{}", body)


async def test_what_is_too_large_is_refused(bus: Bus) -> None:
    with pytest.raises(StoreRefused, match="too large") as caught:
        await bus.publish("a", b"x" * (BUS_BODY + 1))
    assert caught.value.facts["largest"] == BUS_BODY
    with pytest.raises(StoreRefused, match="too large"):
        await bus.request("a", b"x" * (BUS_BODY + 1), 1)


async def test_who_has_left_hears_nothing_and_the_others_do(bus: Bus, other: Bus) -> None:
    leaving, staying = await bus.subscribe("a"), await bus.subscribe("a")
    await other.publish("a", b"1")
    assert await _next(staying) == Message("a", b"1")
    await leaving.close()
    await leaving.close()
    with pytest.raises(StopAsyncIteration):
        await _next(leaving)
    await other.publish("a", b"2")
    assert await _next(staying) == Message("a", b"2")


async def test_a_channel_is_left_and_joined_again_and_again(bus: Bus, other: Bus) -> None:
    """What the system is told of it comes in the right order."""
    for number in range(30):
        first = asyncio.ensure_future(bus.subscribe("a"))
        await asyncio.sleep(0)
        if number % 2:
            first.cancel()
        else:
            await (await first).close()
        await asyncio.gather(first, return_exceptions=True)
        subscription = await bus.subscribe("a")
        await other.publish("a", b"%d" % number)
        assert await _next(subscription) == Message("a", b"%d" % number)
        await subscription.close()


async def test_who_is_cut_off_is_told_and_hears_again(place: Place, bus: Bus, other: Bus) -> None:
    subscriptions = [await bus.subscribe("a"), await bus.subscribe("b"), await other.subscribe("a")]
    await place.cut()
    for subscription in subscriptions:
        assert await _next(subscription) == Gap(0)
    await other.publish("a", b"1")
    await bus.publish("b", b"2")
    expected = [Message("a", b"1"), Message("b", b"2"), Message("a", b"1")]
    assert [await _next(subscription) for subscription in subscriptions] == expected


@pytest.mark.parametrize(
    ("body", "fit"), [(b"x", BUS_MESSAGES), (b"x" * (BUS_BODY - 1000), BUS_BYTES // BUS_BODY)]
)
async def test_who_is_too_slow_misses_some_and_is_told_where(
    bus: Bus, other: Bus, body: bytes, fit: int
) -> None:
    slow, quick = await bus.subscribe("a"), await bus.subscribe("a")
    for _ in range(fit + 3):
        await other.publish("a", body)
        assert await _next(quick) == Message("a", body)
    assert (slow.dropped, quick.dropped) == (3, 0)
    heard = [await _next(slow) for _ in range(fit)]
    await other.publish("a", b"after")
    heard += [await _next(slow), await _next(slow)]
    assert heard == [Message("a", body)] * fit + [Gap(3), Message("a", b"after")]


async def test_what_does_not_fit_between_gaps_is_one_gap(place: Place, bus: Bus, other: Bus) -> None:
    slow, quick = await bus.subscribe("a"), await bus.subscribe("a")
    for _ in range(BUS_MESSAGES + 1):
        await other.publish("a", b"x")
        await _next(quick)
    await place.cut()
    assert await _next(quick) == Gap(0)
    await other.publish("a", b"x")
    await _next(quick)
    for _ in range(BUS_MESSAGES):
        await _next(slow)
    assert await _next(slow) == Gap(2)


async def test_a_bus_that_is_closed_ends_its_subscriptions(place: Place) -> None:
    bus = place.make()
    await bus.open()
    subscription = await bus.subscribe("a")
    hearing = asyncio.ensure_future(_all(subscription))
    await asyncio.sleep(0)
    await bus.close()
    async with asyncio.timeout(PATIENCE):
        assert await hearing == []
    with pytest.raises(StoreUnavailable):
        await bus.publish("a", b"")
    with pytest.raises(StoreUnavailable):
        await bus.subscribe("a")
    with pytest.raises(StoreUnavailable):
        await bus.request("a", b"", 1)


async def _all(subscription: Subscription) -> list[Message | Gap]:
    return [heard async for heard in subscription]


# -- request and reply --


async def test_a_request_is_answered(bus: Bus, other: Bus) -> None:
    async def reverse(body: bytes) -> bytes:
        return body[::-1]

    await other.answer("reverse", reverse)
    replies = await asyncio.gather(*[bus.request("reverse", b"%03d" % n, PATIENCE) for n in range(50)])
    assert replies == [(b"%03d" % n)[::-1] for n in range(50)]
    assert await other.request("reverse", b"ab", PATIENCE) == b"ba", "its own, too"


async def test_nobody_listens(bus: Bus, other: Bus) -> None:
    with pytest.raises(NobodyListens):
        await bus.request("a", b"", PATIENCE)
    subscription = await other.subscribe("a")
    with pytest.raises(NobodyListens):
        await bus.request("a", b"", PATIENCE)
    answering = await other.answer("a", _echo)
    assert await bus.request("a", b"x", PATIENCE) == b"x"
    await answering.close()
    with pytest.raises(NobodyListens):
        await bus.request("a", b"", PATIENCE)
    assert await _up_to(bus, subscription, "a") == [], "requests are not heard by subscribers"


async def _echo(body: bytes) -> bytes:
    return body


async def test_who_does_not_answer_in_time_is_not_waited_for(bus: Bus, other: Bus) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def late(body: bytes) -> bytes:
        asked.set()
        await go.wait()
        return body

    await other.answer("a", late)
    with pytest.raises(TimeoutError):
        await bus.request("a", b"", 0.01)
    async with asyncio.timeout(PATIENCE):
        await asked.wait()
    go.set()
    assert await bus.request("a", b"x", PATIENCE) == b"x", "a late reply answers nothing else"


async def test_the_first_of_several_answers_counts(bus: Bus, other: Bus) -> None:
    hold = asyncio.Event()

    async def slow(_: bytes) -> bytes:
        await hold.wait()
        return b"slow"

    async def quick(_: bytes) -> bytes:
        return b"quick"

    await bus.answer("a", slow)
    await other.answer("a", quick)
    assert await bus.request("a", b"", PATIENCE) == b"quick"
    hold.set()
    assert await bus.request("a", b"", PATIENCE) in {b"quick", b"slow"}


async def test_who_cannot_answer_says_so(bus: Bus, other: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(body: bytes) -> bytes:
        raise ValueError("in the handler")

    await other.answer("a", broken)
    with pytest.raises(RequestFailed):
        await bus.request("a", b"", PATIENCE)
    assert "in the handler" in capsys.readouterr().out


async def test_more_requests_than_one_works_on_are_left_unanswered(bus: Bus, other: Bus) -> None:
    busy, go = 0, asyncio.Event()

    async def slow(body: bytes) -> bytes:
        nonlocal busy
        busy += 1
        await go.wait()
        return body

    await other.answer("a", slow)
    waiting = [asyncio.ensure_future(bus.request("a", b"", PATIENCE)) for _ in range(BUS_ANSWERS)]
    await until(lambda: busy == BUS_ANSWERS)
    with pytest.raises(TimeoutError):
        await bus.request("a", b"", 0.05)
    go.set()
    await asyncio.gather(*waiting)
    assert busy == BUS_ANSWERS
    assert await bus.request("a", b"x", PATIENCE) == b"x"


async def test_who_answers_goes_on_after_a_gap(place: Place, bus: Bus, other: Bus) -> None:
    await other.answer("a", _echo)
    told = await other.subscribe("told")
    assert await bus.request("a", b"1", PATIENCE) == b"1"
    await place.cut()
    assert await _next(told) == Gap(0)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                assert await bus.request("a", b"2", PATIENCE) == b"2"
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)


async def test_who_closes_breaks_off_what_it_works_on(place: Place, bus: Bus) -> None:
    started, broken = asyncio.Event(), asyncio.Event()

    async def endless(body: bytes) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            broken.set()
        return body

    answering = await bus.answer("a", endless)
    asking = asyncio.ensure_future(bus.request("a", b"", PATIENCE))
    await started.wait()
    await answering.close()
    assert broken.is_set()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
