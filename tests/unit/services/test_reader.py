"""Reading the stream: a bad event is found and kept aside, and keeps no other waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from msgspec import Raw
from structlog.testing import capture_logs

from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.errors import StoreDefect, StoreRefused, StoreUnavailable, StoreUnusable
from inngest.core.model.events import Event
from inngest.loops import trouble
from inngest.ports.stream import Letter
from inngest.services import reader
from inngest.services.loop import Loop, Stopped
from inngest.services.reader import Reader, sift

NOW = 1_790_000_000_000


def _event(name: str = "a", **fields: Any) -> Event:
    return Event(**{"id": name, "name": name, "ts": 1, "received": 1, **fields})


# -- sifting --


class Picky:
    """Works on items, unless one of them is bad."""

    def __init__(self, *bad: int, error: Callable[[str], Exception] = StoreRefused) -> None:
        self.bad = set(bad)
        self.error = error
        self.done: list[int] = []
        self.calls = 0
        self.refused: list[int] = []

    async def work(self, items: Sequence[int]) -> None:
        self.calls += 1
        if self.bad & set(items):
            raise self.error(f"{sorted(self.bad & set(items))}")
        self.done += items

    async def refuse(self, item: int, error: Exception) -> None:
        assert str(error) == f"[{item}]"
        self.refused.append(item)


@pytest.mark.parametrize("bad", [[], [0], [99], [50], [3, 4], [0, 33, 34, 99], [*range(100)]])
async def test_the_bad_are_found_and_the_others_done_in_order(bad: list[int]) -> None:
    picky = Picky(*bad)
    await sift(range(100), picky.work, picky.refuse)
    assert picky.refused == bad
    assert picky.done == [n for n in range(100) if n not in bad]
    assert picky.calls <= 1 + 14 * len(bad)


async def test_of_one_bad_item_few_calls_come() -> None:
    picky = Picky(500)
    await sift(range(1000), picky.work, picky.refuse)
    assert picky.calls <= 2 * 10 + 1


async def test_nothing_is_no_work() -> None:
    picky = Picky()
    await sift([], picky.work, picky.refuse)
    assert picky.calls == 0


@pytest.mark.parametrize("error", [StoreUnavailable, Stopped])
async def test_what_is_no_items_fault_passes(error: Callable[[str], Exception]) -> None:
    picky = Picky(3, error=error)
    with pytest.raises((StoreUnavailable, Stopped)):
        await sift(range(10), picky.work, picky.refuse)
    assert (picky.refused, picky.calls) == ([], 1)


async def test_only_errors_that_are_asked_for_are_an_items_fault() -> None:
    picky = Picky(3, error=RuntimeError)
    with pytest.raises(RuntimeError):
        await sift(range(10), picky.work, picky.refuse, on=StoreRefused)
    assert picky.refused == []
    await sift(range(10), picky.work, picky.refuse)
    assert picky.refused == [3]


async def test_items_that_fail_only_together_are_all_done() -> None:
    class Crowded(Picky):
        async def work(self, items: Sequence[int]) -> None:
            if len(items) > 3:
                raise RuntimeError("too many")
            await super().work(items)

    crowded = Crowded()
    await sift(range(20), crowded.work, crowded.refuse)
    assert (crowded.done, crowded.refused) == ([*range(20)], [])


# -- the reader --


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Waits are told, and short."""
    waits: list[int] = []

    async def backoff(failures: int, most: float = 0.0) -> None:
        waits.append(failures)
        await asyncio.sleep(0)

    monkeypatch.setattr(reader, "backoff", backoff)
    monkeypatch.setattr(trouble, "backoff", backoff)
    return waits


@pytest.fixture
def waits(_impatient: list[int]) -> list[int]:
    return _impatient


class World:
    def __init__(self) -> None:
        self.now = NOW
        self.stream = MemoryEventStream(clock=lambda: self.now)
        self.reader = Reader(self.stream, "runner", 100)
        self.got: list[Event] = []
        self.fails: Callable[[Sequence[Event]], Exception | None] = lambda _: None
        self.loop = Loop("test", self._never)

    async def _never(self) -> None:
        raise AssertionError("read by hand")

    async def publish(self, *bodies: Event | bytes) -> None:
        await self.stream.publish([body if isinstance(body, bytes) else body.encode() for body in bodies])

    async def work(self, events: Sequence[Event]) -> None:
        if (error := self.fails(events)) is not None:
            raise error
        self.got += events

    async def read(self) -> None:
        await self.reader.read(self.loop, self.work)

    async def letters(self) -> list[Letter]:
        return await self.stream.letters(limit=1000)

    @property
    def counts(self) -> tuple[int, int, int]:
        counts = self.reader.counts
        return counts.undecodable, counts.refused, counts.lost


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    assert await made.stream.backlog("runner") == 0, "all is acknowledged"


def _bad(*names: str, error: Callable[[str], Exception]) -> Callable[[Sequence[Event]], Exception | None]:
    def fails(events: Sequence[Event]) -> Exception | None:
        found = [event.name for event in events if event.name in names]
        return error(f"{found} are bad") if found else None

    return fails


async def test_events_come_with_the_time_of_the_stream(world: World) -> None:
    sent = _event(data=Raw(b'{"n": 1.0}'), ts=NOW - 500, received=NOW - 100, external_id="mine")
    undated = _event("b", ts=NOW - 100, received=NOW - 100)
    await world.publish(sent, undated)
    await world.read()
    one, other = world.got
    assert (one.received, one.ts, bytes(one.data), one.external_id) == (NOW, NOW - 500, b'{"n": 1.0}', "mine")
    assert (other.received, other.ts) == (NOW, NOW), "its sender did not say when it happened"
    assert b'"ts":%d' % NOW in other.payload
    assert world.counts == (0, 0, 0)


async def test_nothing_is_no_work_either(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_IDLE_SECONDS", 0.0)
    world.fails = lambda _: AssertionError("there is none")
    await world.read()
    assert world.got == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'{"id":1}',
        b'{"id":"x","name":"n","ts":1e400,"received":1}',
        b'{"id":"x","name":"\xff","ts":1,"received":1}',
        b'{"id":"x","name":"n","ts":1,"received":1,"data":%b}' % (b"[" * 100_000 + b"]" * 100_000),
        b"\x00\xff\xfe",
    ],
    ids=lambda body: repr(body)[:30],
)
async def test_what_is_no_event_is_buried_and_keeps_nobody_waiting(world: World, body: bytes) -> None:
    await world.publish(_event("a"), body, _event("b"))
    await world.read()
    assert [event.name for event in world.got] == ["a", "b"]
    (letter,) = await world.letters()
    assert (letter.kind, letter.group, letter.body) == ("event", "runner", body)
    assert letter.reason.partition(":")[0] in {
        "DecodeError",
        "ValidationError",
        "RecursionError",
        "UnicodeDecodeError",
    }
    assert world.counts == (1, 0, 0)


async def test_a_delivery_of_nothing_but_rubbish_is_done_with(world: World) -> None:
    await world.publish(*[b"%d" % n for n in range(50)])
    world.fails = lambda _: AssertionError("there is no event")
    await world.read()
    assert len(await world.letters()) == 50


async def test_an_event_that_is_refused_is_buried_alone(world: World, waits: list[int]) -> None:
    await world.publish(*[_event(f"{n}") for n in range(100)])
    world.fails = _bad("17", "64", error=StoreRefused)
    await world.read()
    assert [event.name for event in world.got] == [f"{n}" for n in range(100) if n not in {17, 64}]
    assert [(letter.body, letter.reason) for letter in await world.letters()] == [
        (_event(name).encode(), f"StoreRefused: ['{name}'] are bad") for name in ("17", "64")
    ]
    assert waits == [], "a refusal is final"
    assert world.counts == (0, 2, 0)


@pytest.mark.parametrize("error", [RuntimeError, StoreDefect, ZeroDivisionError, TypeError])
async def test_an_event_that_fails_otherwise_is_tried_some_times(
    world: World, waits: list[int], error: Callable[[str], Exception]
) -> None:
    await world.publish(*[_event(f"{n}") for n in range(10)])
    world.fails = _bad("7", error=error)
    await world.read()
    assert len(world.got) == 9
    assert len(await world.letters()) == 1
    assert waits == [1, 2]


async def test_an_event_that_fails_for_a_while_is_done(world: World) -> None:
    tries = 0

    def fails(_: Sequence[Event]) -> Exception | None:
        nonlocal tries
        tries += 1
        return RuntimeError("not yet") if tries < 3 else None

    await world.publish(_event())
    world.fails = fails
    await world.read()
    assert len(world.got) == 1
    assert await world.letters() == []


async def test_the_more_fail_in_a_row_the_slower_they_go(world: World, waits: list[int]) -> None:
    """Then it is hardly their fault."""
    await world.publish(*[_event(f"{n}") for n in range(8)])
    world.fails = lambda _: RuntimeError("nothing works")
    await world.read()
    assert waits == [each for n in range(8) for each in (n + 1, n + 2)]
    assert len(await world.letters()) == 8
    world.fails = lambda _: None
    await world.publish(_event("good"))
    await world.read()
    waits.clear()
    world.fails = _bad("bad", error=RuntimeError)
    await world.publish(_event("bad"))
    await world.read()
    assert waits == [1, 2]


async def test_a_store_that_is_away_is_waited_for(world: World, waits: list[int]) -> None:
    tries = 0

    def fails(_: Sequence[Event]) -> Exception | None:
        nonlocal tries
        tries += 1
        return StoreUnavailable("away") if tries < 20 else None

    await world.publish(_event("a"), _event("b"))
    world.fails = fails
    with capture_logs() as lines:
        await world.read()
    assert len(world.got) == 2
    assert waits == [*range(1, 20)]
    assert await world.letters() == []
    assert [(line["log_level"], line["action"]) for line in lines] == [
        ("warning", "runner.events"),  # once, however often it is tried
        ("info", "runner.events"),
    ]


async def test_a_stream_that_is_away_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = {"ack": 3, "bury": 3}

    def flaky(name: str) -> None:
        real = getattr(world.stream, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            failures[name] -= 1
            if failures[name] >= 0:
                raise StoreUnavailable("away")
            return await real(*arguments, **options)

        monkeypatch.setattr(world.stream, name, call)

    flaky("ack")
    flaky("bury")
    await world.publish(_event("a"), b"{")
    await world.read()
    assert len(world.got) == 1
    assert len(await world.letters()) == 1


async def test_what_can_nowhere_be_kept_is_told_and_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bury(*_: Any) -> None:
        raise StoreRefused("no room for it")

    monkeypatch.setattr(world.stream, "bury", bury)
    await world.publish(b"{", _event("a"))
    await world.read()
    assert len(world.got) == 1
    assert world.counts == (1, 0, 1)


async def test_who_is_stopped_acknowledges_nothing() -> None:
    world = World()
    await world.publish(_event("a"))

    def fails(_: Sequence[Event]) -> Exception | None:
        world.loop.stopping = True
        return StoreUnavailable("away")

    world.fails = fails
    with pytest.raises(Stopped):
        await world.read()
    assert await world.stream.backlog("runner") == 1
    assert await world.letters() == []


async def test_what_is_buried_is_acknowledged_after_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("bury", "ack"):
        real = getattr(world.stream, name)

        async def call(*arguments: Any, name: str = name, real: Any = real) -> None:
            order.append(name)
            await real(*arguments)

        monkeypatch.setattr(world.stream, name, call)
    await world.publish(b"{", _event("bad"))
    world.fails = _bad("bad", error=StoreRefused)
    await world.read()
    assert order == ["bury", "bury", "ack"]


async def test_a_store_that_somebody_has_to_mend_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def ack(group: str, entries: Sequence[Any]) -> None:
        raise StoreUnusable("no password")

    monkeypatch.setattr(world.stream, "ack", ack)
    await world.publish(_event())
    with pytest.raises(StoreUnusable):
        await world.read()
