"""Which connections are kept, and which go, when there are too many or they say nothing."""

from __future__ import annotations

import resource

import pytest
from structlog.testing import capture_logs

from inngest.services import admission
from inngest.services.admission import Admission, Bounds, bounds_for, origin_of, raise_file_limit

BOUNDS = Bounds(total=4, each=3, spare=2)


class Visitor:
    """A connection that a test moves."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answering = False
        self.begun = False
        self.spare = False
        self.since = 0.0
        self.pending = 0
        self.unsent = 0
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


class Hall:
    """An admission, its clock, and who has come."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.time = 100.0
        self.admission = Admission(bounds, clock=lambda: self.time)
        self.visitors: list[Visitor] = []

    def come(self, address: str = "a", *, answering: bool = False) -> Visitor:
        visitor = Visitor(address)
        if not self.admission.enter(visitor):
            visitor.dropped = True
        elif answering:
            self.admission.answer(visitor)
        self.visitors.append(visitor)
        return visitor

    def after(self, seconds: float) -> None:
        self.time += seconds
        self.admission.sweep()


def test_an_address_has_a_share_and_its_longest_silent_one_makes_way() -> None:
    hall = Hall()
    first, second, third = (hall.come() for _ in range(3))
    other = hall.come("b")
    fourth = hall.come()
    assert [each.dropped for each in (first, second, third, fourth, other)] == [True, *[False] * 4]
    assert not fourth.spare
    hall.admission.answer(second)
    hall.admission.answered(second)
    hall.come()
    assert (third.dropped, second.dropped) == (True, False), "who was answered last has been silent least"


def test_a_newcomer_of_another_address_takes_the_place_of_the_longest_silent() -> None:
    hall = Hall()
    crowd = [hall.come("a"), hall.come("a"), hall.come("b"), hall.come("b")]
    newcomer = hall.come("c")
    assert [each.dropped for each in crowd] == [True, False, False, False]
    assert not newcomer.spare
    assert hall.admission.count == 4


def test_a_request_that_is_answered_is_not_disturbed_and_newcomers_are_spared() -> None:
    hall = Hall()
    busy = [hall.come(address, answering=True) for address in "abcd"]
    spares = [hall.come("e"), hall.come("e"), hall.come("f")]
    assert not any(each.dropped for each in busy)
    assert all(each.spare for each in spares)
    assert [each.dropped for each in spares] == [True, False, False]
    for each in spares[1:]:
        hall.admission.answer(each)
    assert hall.come("g").dropped, "the spare places are answering too"
    hall.admission.answered(busy[0])
    assert not hall.come("g").spare
    assert busy[0].dropped


def test_what_is_unsent_of_an_answer_is_not_cut_off() -> None:
    hall = Hall()
    crowd = [hall.come(address) for address in "abcd"]
    crowd[0].unsent = 10
    hall.come("e")
    assert [each.dropped for each in crowd] == [False, True, False, False]


def test_silence_is_over_after_a_while() -> None:
    hall = Hall()
    head, idle, busy = hall.come(), hall.come(), hall.come("b", answering=True)
    hall.admission.answer(idle)
    hall.admission.answered(idle)
    hall.after(19.9)
    assert not head.dropped
    hall.after(0.1)
    assert (head.dropped, idle.dropped) == (True, False)
    hall.after(54.9)
    assert not idle.dropped
    hall.after(0.1)
    assert (idle.dropped, busy.dropped) == (True, False)
    assert hall.admission.count == 1


def test_a_head_that_comes_byte_by_byte_has_no_more_time() -> None:
    hall = Hall()
    slow = hall.come()
    hall.admission.answer(slow)
    hall.admission.answered(slow)
    hall.after(50)
    slow.begun, slow.since = True, hall.time  # as the connection does at the first byte
    hall.after(20)
    assert slow.dropped


def test_who_takes_nothing_of_an_answer_is_closed() -> None:
    hall = Hall()
    reader, sleeper = hall.come(), hall.come()
    for each in (reader, sleeper):
        hall.admission.answer(each)
        hall.admission.answered(each)
        each.unsent = 1000
    for left in range(900, 0, -100):
        reader.unsent = left
        hall.after(30)
    assert (reader.dropped, sleeper.dropped) == (False, True)


def test_a_spare_place_is_for_a_moment() -> None:
    hall = Hall()
    for address in "abcd":
        hall.come(address, answering=True)
    spare = hall.come("e")
    hall.after(5)
    assert spare.dropped
    assert hall.admission.count == 4


def test_nothing_is_left_of_those_who_went() -> None:
    hall = Hall()
    for _ in range(50):
        for address in "abc":
            hall.come(address)
    for each in hall.visitors:
        hall.admission.leave(each)
        hall.admission.leave(each)
        hall.admission.answered(each)
    assert hall.admission.count == 0
    assert not hall.admission._crowds
    assert not hall.admission._silent


def test_the_log_tells_when_it_begins_and_when_it_is_over() -> None:
    hall = Hall()
    with capture_logs() as lines:
        for _ in range(20):
            hall.come()
        hall.after(1)
        for each in hall.visitors:
            hall.admission.leave(each)
        hall.after(29)
        hall.after(1)
    assert [(line["action"], line.get("refused")) for line in lines] == [("web.full", None), ("web.full", 17)]
    assert hall.admission.refused == 17


@pytest.mark.parametrize("files", [64, 256, 1024, 20_000, 1 << 20])
def test_bounds_are_far_below_what_may_be_open(files: int) -> None:
    bounds = bounds_for(files)
    assert bounds.total + bounds.spare <= files * 0.6
    assert bounds.each <= bounds.total // 2


def test_the_limit_of_files_is_raised_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (256, 4096)}

    def put(_: int, new: tuple[int, int]) -> None:
        limits["now"] = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", put)
    assert raise_file_limit() == 4096
    assert limits["now"] == (4096, 4096)
    limits["now"] = (1024, resource.RLIM_INFINITY)
    assert raise_file_limit() == admission.MAX_FILES
    limits["now"] = (1 << 20, 1 << 20)
    assert raise_file_limit() == 1 << 20, "nothing is taken away"

    def refuse(_: int, new: tuple[int, int]) -> None:
        raise ValueError

    limits["now"] = (256, 4096)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 256


@pytest.mark.parametrize(
    ("peer", "origin"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
        (("nonsense", 1), ""),
    ],
)
def test_whom_a_connection_counts_for(peer: object, origin: str) -> None:
    assert origin_of(peer) == origin
