"""Prints how many expressions a second one core evaluates, and how fast pauses are bound and read back."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

from inngest.core.expr import bind, compile_bound, compile_expression

EVENT: dict[str, Any] = {
    "name": "shop/order.created",
    "data": {"a": "x", "n": 5, "b": "present", "tags": ["new", "eu"], "user": {"id": "u1", "plan": "pro"}},
    "ts": 1_700_000_000_000,
}
EXPRESSIONS = {
    "three clauses": 'event.data.a == "x" && event.data.n > 3 && event.data.b != null',
    "three clauses, a path missing": 'event.data.a == "x" && event.data.n > 3 && event.data.none.b == null',
    "key of two parts": 'event.data.user.id + "-" + event.data.a',
    "truthy or": "event.data.none || event.data.user.plan",
    "in": 'event.data.user.plan in ["pro", "team"]',
    "comprehension": 'event.data.tags.exists(t, t == "eu")',
    "matches": 'event.data.user.id.matches("^u[0-9]+$")',
}
CONDITION = "event.data.user.id == async.data.user.id && async.data.n > event.data.n"


def rate(run: Callable[[], object]) -> float:
    """Calls a second: the best of five rounds."""
    timer = timeit.Timer(run)
    count, _ = timer.autorange()
    return count / min(timer.repeat(5, count))


def main() -> None:
    variables = {"event": EVENT}
    for name, source in EXPRESSIONS.items():
        evaluate = partial(compile_expression(source).truthy, variables)
        print(f"{name:32}{rate(evaluate):>12,.0f} evaluations/s")
    three = EXPRESSIONS["three clauses"]
    bound = bind(CONDITION, EVENT)
    incoming = {"async": EVENT}
    others: dict[str, Callable[[], object]] = {
        "compile and evaluate once": lambda: compile_expression(three).truthy(variables),
        "bind": lambda: bind(CONDITION, EVENT),
        "read a bound condition": lambda: compile_bound(bound.source).constant,
        "bound condition": lambda: bound.is_true(incoming),
    }
    for name, run in others.items():
        print(f"{name:32}{rate(run):>12,.0f} /s")


if __name__ == "__main__":
    main()
