"""Bells on a bus in memory: who goes when they ring, and who stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from inngest.backends.memory.bus import MemoryBus
from inngest.backends.redis import bell as bells
from inngest.backends.redis.bell import Bell

QUEUE, NEWS = "queue", "news"
LONG = 600.0
PATIENCE = 60


class Waiting:
    """Somebody who waits for the queue again and again, and looks when it is time."""

    def __init__(self, bell: Bell, bus: MemoryBus, name: str) -> None:
        self.bell = bell
        self._bus = bus
        self._name = name
        self.task: asyncio.Task[None] | None = None

    def wait(self, seconds: float = LONG) -> None:
        self.task = asyncio.create_task(self.bell.wait(QUEUE, seconds))

    @property
    def goes(self) -> bool:
        return self.task is not None and self.task.done()

    def look(self, *, found: bool) -> None:
        """A look, as of `lease`: its result comes back before what it says on the channel."""
        self.bell.events[QUEUE].clear()
        self.bell.looked(QUEUE, found=found)

    async def say(self, due: str = "-") -> None:
        await self._bus.publish(QUEUE, f"={due} {self._name}".encode())


Make = Callable[..., Awaitable[Waiting]]


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus()
    await bus.open()
    yield bus
    await bus.close()


@pytest.fixture
async def make(bus: MemoryBus) -> AsyncIterator[Make]:
    made: list[Waiting] = []

    async def one(name: str, patience: float = LONG) -> Waiting:
        bell = Bell([NEWS], [QUEUE], name=name, patience=lambda: patience)
        await bell.open(bus)
        made.append(Waiting(bell, bus, name))
        return made[-1]

    yield one
    for each in made:
        if each.task is not None:
            each.task.cancel()
            await asyncio.gather(each.task, return_exceptions=True)
        await each.bell.close()


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def _ends(waiting: Waiting) -> None:
    assert waiting.task is not None
    async with asyncio.timeout(PATIENCE):
        await waiting.task


async def _rival(make: Make, bus: MemoryBus) -> tuple[Waiting, Waiting]:
    """Two, of which the first goes at once, and the second is patient."""
    quick, patient = await make("quick"), await make("patient")
    for each in (quick, patient):
        each.wait()
    await bus.publish(QUEUE, b"0")
    await _ends(quick)
    await _ends(patient)  # they do not know each other yet
    for each in (quick, patient):
        each.bell.events[QUEUE].clear()
    quick.bell.looked(QUEUE, found=True)
    await quick.say()
    await _settle()
    patient.bell.looked(QUEUE, found=False)
    return quick, patient


async def test_who_was_late_leaves_it_to_the_other(make: Make, bus: MemoryBus) -> None:
    quick, patient = await _rival(make, bus)
    for _ in range(3):
        quick.wait()
        patient.wait()
        await bus.publish(QUEUE, b"0")
        await _ends(quick)
        assert not patient.goes
        quick.look(found=True)
        await quick.say()
        await _settle()
        assert not patient.goes


async def test_patience_ends(make: Make, bus: MemoryBus) -> None:
    """The other says nothing: it is busy, or hangs, or is dead. Whoever is there then is the quick one."""
    quick, _ = await _rival(make, bus)
    heir = await make("heir", 0.02)
    heir.wait()
    await bus.publish(QUEUE, b"0")
    await _ends(heir)
    heir.bell.events[QUEUE].clear()
    await quick.say()
    await _settle()
    heir.bell.looked(QUEUE, found=False)
    quick.wait()
    heir.wait()
    await bus.publish(QUEUE, b"0")
    await _settle()
    assert quick.goes
    assert not heir.goes
    await _ends(heir)
    heir.look(found=True)
    heir.wait()
    await bus.publish(QUEUE, b"0")
    await _settle()
    assert heir.goes


async def test_who_is_alone_is_never_patient(make: Make, bus: MemoryBus) -> None:
    """Looks that find nothing do not make one so."""
    alone = await make("alone")
    for found in (False, True, False, False, True):
        alone.wait()
        await bus.publish(QUEUE, b"0")
        await _ends(alone)
        alone.look(found=found)
        await alone.say()
        await _settle()


@pytest.mark.parametrize("body", [b"", b"0", b"what?", b"-5"])
async def test_what_means_now(make: Make, bus: MemoryBus, body: bytes) -> None:
    one = await make("one")
    one.wait()
    await _settle()
    assert not one.goes
    await bus.publish(QUEUE, body)
    await _settle()
    assert one.goes


async def test_what_is_due_later_is_waited_for_until_then(make: Make, bus: MemoryBus) -> None:
    one = await make("one")
    one.wait()
    await bus.publish(QUEUE, b"600000")
    await _settle()
    assert not one.goes
    await bus.publish(QUEUE, b"20")
    await bus.publish(QUEUE, b"600000")  # it does not put off what was said before
    await _settle()
    assert not one.goes
    await _ends(one)


async def test_who_has_looked_replaces_what_was_said_before(make: Make, bus: MemoryBus) -> None:
    one = await make("one", LONG)
    one.wait(0.05)
    await _settle()
    await bus.publish(QUEUE, b"30")
    await bus.publish(QUEUE, b"=- other")
    await asyncio.sleep(0.1)
    assert not one.goes, "neither for what was said, nor for what it waits for"
    await bus.publish(QUEUE, b"=20 other")
    await _ends(one)


async def test_what_one_has_said_oneself_does_not_put_off_what_one_waits_for(
    make: Make, bus: MemoryBus
) -> None:
    one = await make("one")
    one.wait(0.05)
    await _settle()
    await one.say()
    await _ends(one)


async def test_somebody_looks_now_and_then(
    make: Make, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "WAKE_IDLE", 20)
    one = await make("one")
    one.wait()
    await bus.publish(QUEUE, b"=- other")
    await _ends(one)


async def test_a_gap_may_have_been_anything(make: Make, bus: MemoryBus) -> None:
    one = await make("one")
    one.wait()
    news = asyncio.create_task(one.bell.wait(NEWS, LONG))
    await _settle()
    bus.interrupt()
    await _ends(one)
    async with asyncio.timeout(PATIENCE):
        await news


async def test_what_is_said_to_all_is_heard_by_all_at_once(make: Make, bus: MemoryBus) -> None:
    bells_ = [(await make(name)).bell for name in "ab"]
    waiting = [asyncio.create_task(bell.wait(NEWS, LONG)) for bell in bells_]
    await _settle()
    await bus.publish(NEWS, b"=- somebody")
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*waiting)


async def test_what_has_rung_is_not_waited_for(make: Make, bus: MemoryBus) -> None:
    one = await make("one")
    one.bell.ring_all()
    for channel in (QUEUE, NEWS):
        async with asyncio.timeout(PATIENCE):
            await one.bell.wait(channel, LONG)
        one.bell.events[channel].clear()
        await one.bell.wait(channel, 0.001)
