"""Room that many share."""

from __future__ import annotations

from inngest.loops.room import Room


class Asker:
    def __init__(self, room: Room, size: int) -> None:
        self.has = room.ask(size, self.granted)

    def granted(self) -> None:
        assert not self.has
        self.has = True


def test_who_comes_first_is_first() -> None:
    room = Room(10)
    first, second, third, fourth = (Asker(room, size) for size in (6, 6, 1, 3))
    assert [each.has for each in (first, second, third, fourth)] == [True, False, False, False]
    room.give(6)
    assert [each.has for each in (second, third, fourth)] == [True, True, True]
    assert room.taken == 10


def test_one_alone_may_be_larger() -> None:
    room = Room(10)
    assert Asker(room, 25).has
    waiting = Asker(room, 30)
    assert not waiting.has
    room.give(25)
    assert waiting.has


def test_what_is_here_is_counted_at_once() -> None:
    room = Room(10)
    room.take(25)
    waiting = Asker(room, 1)
    room.give(15)
    assert not waiting.has
    room.give(1)
    assert waiting.has
    assert room.taken == 10


def test_who_is_gone_keeps_nobody_waiting() -> None:
    room = Room(10)
    room.take(8)
    large, small = Asker(room, 5), Asker(room, 2)
    room.forget(large.granted)
    assert (large.has, small.has) == (False, True)
    room.forget(small.granted)
    assert room.taken == 10
