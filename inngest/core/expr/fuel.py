"""What one evaluation may still do: elements visited, characters read, steps of patterns.

Each evaluation fills the tank; whatever loops over what an expression or an event holds burns before it does
so. A value that an expression has built by doubling is small, and endless to look through: looking burns for
every visit.

There is one tank, since an evaluation is never interrupted by another one of its thread, and filling it has
to cost nothing. Threads that evaluate at the same time share it: together they may burn less, or more.
"""

from __future__ import annotations

from typing import Final

from inngest.core.expr.errors import EvaluationError

FUEL: Final = 50_000
"""Some 10 to 20 ms; an honest expression burns some hundred."""
CHARACTERS: Final = 64
"""That are searched or copied for one unit."""

_tank: Final = [FUEL, 0]


def refill() -> None:
    """An evaluation begins."""
    _tank[0] = FUEL
    _tank[1] += 1


def evaluation() -> int:
    """A number of the one that has begun last. What costs only the first time costs it once in each
    evaluation: were it less for what earlier ones have left, one process would fail where another does not.
    """
    return _tank[1]


def left() -> int:
    return _tank[0]


def burn(units: int) -> None:
    """Raises EvaluationError if so much is not left."""
    _tank[0] -= units
    if _tank[0] < 0:
        raise EvaluationError("the expression takes too much work")


def burn_text(characters: int) -> None:
    burn(1 + characters // CHARACTERS)
