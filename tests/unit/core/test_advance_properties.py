"""Whatever happens to executors, replies and leases: each run ends, no step runs twice under a lease."""

from __future__ import annotations

import pytest
from engine_sim import LEASE, SWEEP, Flaky, Hand, Leaf, Par, Program, Seq, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inngest.core.sdk.responses import Op

OPS = [Op.RUN] * 7 + [Op.SLEEP, Op.WAIT, Op.GATEWAY, Op.INVOKE, Op.SIGNAL]


class _Names:
    """Step ids, in the order in which the steps stand."""

    def __init__(self) -> None:
        self.used = 0

    def next(self) -> str:
        self.used += 1
        return f"s{self.used}"


@st.composite
def _seq(draw: st.DrawFn, names: _Names, depth: int, *, races: bool, least: int = 0) -> Seq:
    nodes: list[Leaf | Par | Flaky] = []
    for _ in range(draw(st.integers(least, 3))):
        kind = draw(st.integers(0, 9))
        if kind >= 7 and depth:
            race = races and draw(st.booleans())
            count = draw(st.integers(2, 3))
            inner = [draw(_seq(names, depth - 1, races=races, least=1)) for _ in range(count)]
            nodes.append(Par(tuple(inner), race))
        elif kind == 6 and depth == 2:
            nodes.append(Flaky(draw(st.integers(1, 2))))
        else:
            op = draw(st.sampled_from(OPS))
            ok = op is not Op.RUN or draw(st.integers(0, 7)) < 7
            errors = draw(st.sampled_from([0, 0, 0, 1, 2])) if op is Op.RUN else 0
            nodes.append(Leaf(names.next(), op, errors, ok, caught=draw(st.integers(0, 3)) < 3))
    return Seq(tuple(nodes))


@st.composite
def programs(draw: st.DrawFn, *, races: bool = True) -> Program:
    return Program(
        draw(_seq(_Names(), 2, races=races)),
        version=draw(st.sampled_from([2, 1])),
        checkpoint=draw(st.sampled_from([0, 1, 2, 5])),
        buffer=draw(st.booleans()),
        retries=draw(st.sampled_from([2, 1, 0])),
    )


def _happen(world: World, choice: int) -> None:
    """One thing that can happen now; 0 is the most ordinary one."""
    hands = world.hands
    hand: Hand | None = hands[choice // 20 % len(hands)] if hands else None
    match choice % 20:
        case 0 | 1 | 2 | 3 | 4 | 5 if hand is not None:
            if hand.transition is None:
                world.decide(hand)
            else:
                world.finish(hand, take=choice % 3 == 0)
        case 6 if hand is not None and hand.transition is not None:
            world.finish(hand, reply_lost=True, take=choice % 40 < 20)
        case 7 if hand is not None:
            world.crash(hand)
        case 8 if hand is not None:
            world.hand_back(hand)
        case 9:
            world.extend()
        case 10:
            world.advance(LEASE + SWEEP)
        case 11 | 12:
            world.to_next_due()
        case 13 | 14:
            pauses = world.pauses()
            if pauses:
                world.wake(pauses[choice // 20 % len(pauses)])
        case 15 | 16 if world.resumes:
            world.resume(choice // 20 % len(world.resumes), twice=choice % 20 == 16 and choice // 20 % 2 == 0)
        case 17:
            world.start(list(world.functions)[choice // 20 % len(world.functions)])
        case 18 if choice // 20 % 4 == 3 and world.state.runs:
            world.cancel(sorted(world.state.runs)[choice // 80 % len(world.state.runs)])
        case _:
            world.lease(1 + choice // 20 % 3)


def _live(world: World, choices: list[int]) -> None:
    for fn in world.functions:
        world.start(fn)
    for choice in choices:
        _happen(world, choice)
    world.drain()


CHOICES = st.lists(st.integers(0, 799), max_size=120)
COMMON = {
    "deadline": None,
    "suppress_health_check": [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
}


@settings(max_examples=500, **COMMON)
@given(program=programs(races=False), choices=CHOICES)
def test_one_function(program: Program, choices: list[int]) -> None:
    _live(World([program]), choices)


@settings(max_examples=500, **COMMON)
@given(program=programs(), choices=CHOICES)
def test_one_function_with_races(program: Program, choices: list[int]) -> None:
    _live(World([program]), choices)


@settings(max_examples=300, **COMMON)
@given(
    several=st.lists(programs(), min_size=1, max_size=3),
    choices=CHOICES,
    limit=st.sampled_from([1, 2, 0]),
    run_limit=st.sampled_from([0, 1, 2]),
)
def test_several_functions_within_limits(
    several: list[Program], choices: list[int], limit: int, run_limit: int
) -> None:
    _live(World(several, limit=limit, run_limit=run_limit), choices)


@pytest.mark.slow
@settings(max_examples=5_000, **COMMON)
@given(
    several=st.lists(programs(), min_size=1, max_size=3),
    choices=st.lists(st.integers(0, 799), max_size=400),
    limit=st.sampled_from([1, 2, 0]),
    run_limit=st.sampled_from([0, 1, 2]),
)
@pytest.mark.timeout(900)
def test_for_long(several: list[Program], choices: list[int], limit: int, run_limit: int) -> None:
    _live(World(several, limit=limit, run_limit=run_limit), choices)
