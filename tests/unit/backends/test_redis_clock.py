"""The server's time as it is known here: never ahead of the server's own, and with its slack never behind."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from inngest.backends.redis.clock import DRIFT, ServerClock

WALL = 1_700_000_000_000
LONGEST = 5_000.0
"""Of a round trip."""

delays = st.floats(0, LONGEST / 2)
exchanges = st.tuples(st.floats(0, 600_000), delays, delays, st.floats(0, 60_000))
"""Ms until a request is sent, until it is answered, until the reply is here, and until somebody asks."""
rates = st.floats(1 - DRIFT, 1 + DRIFT)


class Server:
    """Two clocks: ours, and the server's, which runs at another rate and may be set."""

    def __init__(self, offset: float) -> None:
        self.ours = 0.0
        self.theirs = WALL + offset

    def elapsed(self) -> float:
        return self.ours

    def pass_time(self, ms: float, rate: float) -> None:
        self.ours += ms
        self.theirs += ms * rate

    def exchange(self, clock: ServerClock, there: float, back: float, rate: float) -> None:
        sent = clock.start()
        self.pass_time(there, rate)
        told = math.floor(self.theirs)
        self.pass_time(back, rate)
        clock.tell(sent, told)

    def check(self, clock: ServerClock) -> None:
        grain = 0.01  # what floats of this size cannot tell apart
        assert clock.now() <= self.theirs + grain
        assert clock.now() + clock.slack() >= self.theirs - grain


@given(st.floats(-1e9, 1e9), st.lists(st.tuples(exchanges, rates), min_size=1, max_size=20))
def test_it_is_within_its_bounds(offset: float, lives: list[tuple[tuple[float, ...], float]]) -> None:
    server = Server(offset)
    clock = ServerClock(server.elapsed)
    for (before, there, back, after), rate in lives:
        server.pass_time(before, rate)
        server.exchange(clock, there, back, rate)
        server.check(clock)
        server.pass_time(after, rate)
        server.check(clock)


@given(
    st.lists(st.tuples(exchanges, rates), min_size=1, max_size=5),
    st.floats(2 * LONGEST, 1e9) | st.floats(-1e9, -2 * LONGEST),
    st.lists(st.tuples(exchanges, rates), min_size=1, max_size=5),
)
def test_a_server_whose_clock_is_set(
    before: list[tuple[tuple[float, ...], float]],
    jump: float,
    after: list[tuple[tuple[float, ...], float]],
) -> None:
    """By more than a round trip: its first word is believed, and not what it said earlier."""
    server = Server(0)
    clock = ServerClock(server.elapsed)
    for (wait, there, back, _), rate in before:
        server.pass_time(min(wait, 1000), rate)
        server.exchange(clock, there, back, rate)
    server.theirs += jump
    for (wait, there, back, later), rate in after:
        server.pass_time(min(wait, 1000), rate)
        server.exchange(clock, there, back, rate)
        server.check(clock)
        server.pass_time(later, rate)
        server.check(clock)


@given(st.lists(st.tuples(exchanges, rates), min_size=2, max_size=10))
def test_a_quick_reply_makes_it_exact(lives: list[tuple[tuple[float, ...], float]]) -> None:
    """Slow ones before it do no harm."""
    server = Server(0)
    clock = ServerClock(server.elapsed)
    for (wait, there, back, _), rate in lives:
        server.pass_time(wait, rate)
        server.exchange(clock, there, back, rate)
    server.exchange(clock, 0, 0, 1)
    assert clock.slack() <= 3
