"""Wake-ups: one subscription a store, from the bus to local events.

**One wake-up wakes one worker.** Where several wait for the same, as executors do for a queue, all of them
hear the bell, and leave it to those that are quicker: each has a patience, after which it looks by itself.
Who looks and leaves nothing says so, and when something falls due again; then the others go on waiting, and
have done nothing. Who finds something has no patience the next time; who looks, finds nothing, and knows
that another has looked meanwhile, has some again. So after a few wake-ups one of them goes at once, and the
others a few milliseconds later, if it did not: because it is busy, or slow, or dead. Nobody has to know who
there is, and no wake-up is in anybody's hands.

What is said on such a channel: in how many milliseconds there is something to do (nothing means now); or by
one who has looked, ``=``, the same or ``-`` for never, a space, and its name.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence

import structlog

from inngest.core.policy import WAKE_IDLE, WAKE_LEAST, WAKE_MOST
from inngest.ports.bus import Bus, Gap, Message, Subscription

log = structlog.get_logger("inngest.redis")


def _patience() -> float:
    return random.uniform(WAKE_LEAST, WAKE_MOST) / 1000  # noqa: S311 -- nobody gains by guessing it


class Bell:
    """An event for each channel. After a gap in the subscription all of them ring: anything may have been
    missed.

    Args:
        channels: on which one says something to all.
        shared: those of which several wait for the same, see above.
        name: in what is said, of who waits here.
        patience: draws one, in seconds.

    """

    def __init__(
        self,
        channels: Sequence[str],
        shared: Sequence[str] = (),
        *,
        name: str = "",
        patience: Callable[[], float] = _patience,
    ) -> None:
        turns = {channel: Turn(name, patience) for channel in shared}
        self.events: dict[str, asyncio.Event] = {
            **{channel: asyncio.Event() for channel in channels},
            **turns,
        }
        self._turns = turns
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, bus: Bus) -> None:
        """Returns when what is published from now on will be heard. Raises `StoreUnavailable`."""
        self._subscription = await bus.subscribe(*self.events)
        self._task = asyncio.create_task(self._listen(self._subscription))

    async def close(self) -> None:
        task, self._task = self._task, None
        subscription, self._subscription = self._subscription, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if subscription is not None:
            await subscription.close()
        for turn in self._turns.values():
            turn.clear()

    def ring_all(self) -> None:
        for event in self.events.values():
            event.set()

    async def wait(self, channel: str, seconds: float) -> None:
        """Return when the channel has rung since its event was cleared, at the latest after ``seconds``. On a
        shared one that may be later, if another has said since that there was nothing.
        """
        event = self.events[channel]
        if event.is_set():
            return
        turn = self._turns.get(channel)
        if turn is not None:
            await turn.wait_for(max(seconds, 0))
            return
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await event.wait()
        except TimeoutError:
            return

    def looked(self, channel: str, *, found: bool) -> None:
        """Whether there was anything, when one looked since the event of a shared channel was cleared."""
        self._turns[channel].looked(found=found)

    async def _listen(self, subscription: Subscription) -> None:
        async for heard in subscription:
            try:
                self._ring(heard)
            except Exception as error:
                log.error("unexpected error", action="redis.bell", exc_info=error)
                self.ring_all()

    def _ring(self, heard: Message | Gap) -> None:
        if isinstance(heard, Gap):
            for channel, event in self.events.items():
                if channel not in self._turns:
                    event.set()
            for turn in self._turns.values():
                turn.hear(b"")
        elif heard.channel in self._turns:
            self._turns[heard.channel].hear(heard.body)
        else:
            self.events[heard.channel].set()


class Turn(asyncio.Event):
    """The event of a shared channel: set when it is time to look.

    What is heard is exact, since it comes in the order in which it was said: a message by one who has looked
    replaces all before it. Replies to one's own questions come another way, and so replace nothing.
    """

    def __init__(self, name: str, patience: Callable[[], float]) -> None:
        super().__init__()
        self._name = name.encode()
        self._draw = patience
        self._patience = 0.0
        self._due = math.inf  # as heard; on the loop's clock, like all times here
        self._until = math.inf  # as the one that waits has it
        self._timer: asyncio.TimerHandle | None = None
        self._called = False  # the look under way is for what was heard
        self._rival = False  # another has looked since the last look

    def clear(self) -> None:
        """To be called before one looks."""
        self._called = self.is_set()
        super().clear()
        self._due = math.inf
        self._arm()

    def looked(self, *, found: bool) -> None:
        if found:
            self._patience = 0.0
        elif self._called and self._rival:
            self._patience = self._draw()
        self._rival = False

    def hear(self, body: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if not body.startswith(b"="):
            self._due = min(self._due, now + _seconds(body))
        else:
            due, _, who = body[1:].partition(b" ")
            self._due = now + min(_seconds(due), WAKE_IDLE / 1000)
            if who != self._name:
                self._rival = True
                self._until = math.inf  # what it was for has been seen to
        self._arm()

    async def wait_for(self, seconds: float) -> None:
        self._until = asyncio.get_running_loop().time() + seconds
        self._arm()
        try:
            await self.wait()
        finally:
            self._until = math.inf

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min(self._due, self._until) + self._patience
        if due == math.inf or self.is_set():
            return
        loop = asyncio.get_running_loop()
        if due <= loop.time():
            self.set()
        else:
            self._timer = loop.call_at(due, self.set)


def _seconds(text: bytes) -> float:
    """What is no number means now: somebody looks, and finds out."""
    if text == b"-":
        return math.inf
    return int(text) / 1000 if text.isdigit() else 0.0
