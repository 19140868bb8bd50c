"""The one timer of a connection, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from http_wire import TARGET, Nobody, Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from inngest.drivers.http import HttpResponse, HttpTimeout
from inngest.drivers.http.connection import Connection

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
IDLE = 60


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """As much of a loop as a connection uses."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_future = loop.create_future
        self.now = 0.0
        self.set = 0
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.set += 1
        timer = Timer(when, callback)
        self._timers.append(timer)
        return timer

    def move_to(self, now: float) -> None:
        while due := [t for t in self._timers if not t.cancelled and t.when <= now]:
            first = min(due, key=lambda t: t.when)
            self._timers.remove(first)
            self.now = max(self.now, first.when)
            first.callback()
        self.now = now

    @property
    def pending(self) -> int:
        return sum(not t.cancelled for t in self._timers)


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def start(loop: asyncio.AbstractEventLoop) -> tuple[Clock, Wire, Connection]:
    clock, wire = Clock(loop), Wire()
    connection = Connection(clock, Nobody(), "app:80", max_body=100, idle_seconds=IDLE)  # type: ignore[arg-type]
    connection.connection_made(wire)
    return clock, wire, connection


def send(connection: Connection, clock: Clock, timeout: float) -> asyncio.Future[HttpResponse]:
    deadline = clock.now + timeout
    return connection.send(b"", b"", TARGET, head_only=False, deadline=deadline, seconds=timeout)


@settings(deadline=None)
@given(
    exchanges=st.lists(
        st.tuples(st.integers(1, 300), st.integers(0, 299), st.integers(0, IDLE - 1)), max_size=8
    ),
    last=st.integers(1, 300),
)
def test_each_request_ends_at_its_own_deadline(
    loop, exchanges: list[tuple[int, int, int]], last: int
) -> None:
    """(time-out, time to the response, idle time) of each request; the last one gets no response."""
    clock, wire, connection = start(loop)
    for timeout, taken, idle in exchanges:
        future = send(connection, clock, timeout)
        clock.move_to(clock.now + min(taken, timeout - 1))
        connection.data_received(ANSWER)
        assert future.result().status == 200
        connection.park()
        clock.move_to(clock.now + idle)
        assert connection.ready
        assert clock.pending == 1
    future = send(connection, clock, last)
    sent = clock.now
    clock.move_to(sent + last - 0.5)
    assert not future.done()
    clock.move_to(sent + last)
    error = future.exception()
    assert isinstance(error, HttpTimeout)
    assert error.seconds == last
    assert wire.closed


def test_an_idle_connection_closes_when_its_time_is_over(loop) -> None:
    clock, wire, connection = start(loop)
    send(connection, clock, 7200)
    connection.data_received(ANSWER)
    connection.park()
    clock.move_to(IDLE - 1)
    assert not wire.closed
    clock.move_to(IDLE)
    assert wire.closed
    assert not connection.ready


def test_a_quick_exchange_sets_no_timer(loop) -> None:
    clock, _, connection = start(loop)
    for _ in range(1000):
        send(connection, clock, 7200)
        connection.data_received(ANSWER)
        connection.park()
    # One for the first deadline, one for the first idle limit, which is earlier.
    assert clock.set == 2


def test_a_lost_connection_leaves_no_timer(loop) -> None:
    clock, _, connection = start(loop)
    send(connection, clock, 7200)
    connection.data_received(ANSWER)
    connection.park()
    connection.connection_lost(None)
    assert clock.pending == 0
