"""Functions as trees of steps, and how an SDK answers a call of one (wire protocol sections 3.5 to 3.7).

A program is drawn from a seed. What a step gives is made by the application (see `application`), which
records it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

RUN, SLEEP, WAIT, INVOKE, SIGNAL, FETCH = "run", "sleep", "wait", "invoke", "signal", "fetch"


@dataclass(frozen=True)
class Leaf:
    """One step. ``errors``: how many attempts fail before it ends, ``ok`` or not; ``caught``: a failed one is
    caught by the function's code.
    """

    id: str
    op: str = RUN
    errors: int = 0
    ok: bool = True
    caught: bool = True
    seconds: int = 0  # of a sleep; of the timeout of a wait
    target: str = ""  # the function that is invoked
    exclusive: str = "replace"


@dataclass(frozen=True)
class Par:
    """Branches at once: all of them, or with ``race`` until the first is done."""

    branches: tuple[Seq, ...]
    race: bool = False


@dataclass(frozen=True)
class Flaky:
    """The function's own code fails in the first so many attempts of a call that comes here."""

    errors: int


@dataclass(frozen=True)
class Seq:
    nodes: tuple[Leaf | Par | Flaky, ...]


@dataclass(frozen=True)
class Program:
    body: Seq
    version: int = 2  # the SDK's request version
    checkpoint: int = 0  # steps that one call may run before it ends; 0: none but a single one
    buffer: bool = False  # they are reported with the answer, and not while the call goes on
    retries: int = 2


class Fails(Exception):
    """The function's code throws."""

    def __init__(self, *, retryable: bool) -> None:
        self.retryable = retryable


@dataclass
class View:
    """What one call can see: the memoised steps (decoded), and those that it has run itself."""

    steps: dict[str, Any]
    attempt: int
    ran: list[dict[str, Any]] = field(default_factory=list)


def explore(node: Seq, view: View) -> tuple[bool, list[tuple[Leaf, bool]]]:
    """Whether the sequence is done, and the steps that it has come to and that have no result yet.

    Raises `Fails`.
    """
    found: list[tuple[Leaf, bool]] = []
    for child in node.nodes:
        match child:
            case Flaky(errors):
                if view.attempt < errors:
                    raise Fails(retryable=True)
                done = True
            case Leaf():
                done = child.id in view.steps
                if not done:
                    found.append((child, False))
                elif not child.caught and is_error(view.steps[child.id]):
                    raise Fails(retryable=False)
            case Par(branches, race):
                ends = []
                for branch in branches:
                    end, more = explore(branch, view)
                    ends.append(end)
                    found += [(leaf, race or in_race) for leaf, in_race in more]
                done = any(ends) if race else all(ends)
        if not done:
            return False, found
    return True, found


def is_error(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"error"}


def leaves(node: Seq) -> Iterator[Leaf]:
    for child in node.nodes:
        if isinstance(child, Leaf):
            yield child
        elif isinstance(child, Par):
            for branch in child.branches:
                yield from leaves(branch)


def can_fail(node: Seq, retries: int) -> bool:
    """Whether a run of the program may end with an error by its own doing."""
    for child in node.nodes:
        match child:
            case Flaky(errors) if errors > retries:
                return True
            case Leaf() if child.op == SIGNAL and child.exclusive == "fail":
                return True
            case Leaf(caught=False) if child.op == INVOKE or not child.ok or child.errors > retries:
                return True
            case Par(branches) if any(can_fail(branch, retries) for branch in branches):
                return True
    return False


def has_race(node: Seq) -> bool:
    return any(
        isinstance(child, Par) and (child.race or any(has_race(branch) for branch in child.branches))
        for child in node.nodes
    )


# -- drawing --


class Draw:
    """Draws programs.

    Args:
        targets: slugs of functions that may be invoked.
        ops: kinds of steps, each as often as it is wanted.

    """

    def __init__(self, random: Random, *, targets: list[str], ops: list[str]) -> None:
        self._random = random
        self._targets = targets
        self._ops = ops
        self._count = 0

    def program(self, *, most: int = 4) -> Program:
        random = self._random
        self._count = 0
        retries = random.choice((0, 1, 2, 2, 3))
        return Program(
            body=self._seq(random.randint(1, most), 2, retries),
            version=random.choice((1, 2, 2)),
            checkpoint=random.choice((0, 0, 2, 5)),
            buffer=random.random() < 0.3,
            retries=retries,
        )

    def _seq(self, length: int, depth: int, retries: int) -> Seq:
        random = self._random
        nodes: list[Leaf | Par | Flaky] = []
        for _ in range(length):
            chance = random.random()
            if depth and chance < 0.22:
                branches = tuple(
                    self._seq(random.randint(1, 2), depth - 1, retries) for _ in range(random.randint(2, 3))
                )
                nodes.append(Par(branches, race=random.random() < 0.3))
            elif chance < 0.27:
                nodes.append(Flaky(random.randint(1, retries + 1)))
            else:
                nodes.append(self._leaf(retries))
        return Seq(tuple(nodes))

    def _leaf(self, retries: int) -> Leaf:
        random = self._random
        self._count += 1
        name = f"s{self._count}"
        op = random.choice(self._ops)
        if op == INVOKE and not self._targets:
            op = RUN
        match op:
            case "sleep":
                return Leaf(name, SLEEP, seconds=random.choice((0, 1, 2, 5, 20, 60)))
            case "wait":
                return Leaf(name, WAIT, seconds=random.choice((2, 5, 10, 30)))
            case "invoke":
                return Leaf(
                    name,
                    INVOKE,
                    seconds=random.choice((5, 60, 300)),
                    target=random.choice(self._targets),
                    caught=random.random() < 0.7,
                )
            case "signal":
                return Leaf(
                    name,
                    SIGNAL,
                    seconds=random.choice((5, 10, 30)),
                    exclusive=random.choice(("replace", "replace", "fail")),
                )
            case "fetch":
                return Leaf(name, FETCH)
        failing = random.random() < 0.25
        return Leaf(
            name,
            errors=random.randint(1, retries + 1) if failing else 0,
            ok=random.random() < 0.93,
            caught=random.random() < 0.7,
        )


# -- reporting --


def op_of(leaf: Leaf, kind: str, *, race: bool = False, key: str = "", **fields: Any) -> dict[str, Any]:
    """An op as it goes over the wire. ``key`` is what waits and signals of this run are known by."""
    opts: dict[str, Any] = {"parallelMode": "race"} if race else {}
    name = leaf.id
    match kind:
        case "Sleep":
            name = f"{leaf.seconds}s"
        case "WaitForEvent":
            # Half of them cannot be answered by an index.
            wanted = f'"{key}/{leaf.id}"'
            condition = f"== {wanted}" if leaf.seconds in {2, 10} else f"in [{wanted}]"
            opts |= {"event": "sim/go", "timeout": f"{leaf.seconds}s", "if": f"async.data.go {condition}"}
        case "InvokeFunction":
            payload = {"data": {"n": -1, "key": "i", "from": f"{key}/{leaf.id}"}}
            opts |= {"function_id": leaf.target, "payload": payload, "timeout": f"{leaf.seconds}s"}
        case "WaitForSignal":
            opts |= {
                "signal": f"signal/{leaf.id}",
                "timeout": f"{leaf.seconds}s",
                "conflict": leaf.exclusive,
            }
        case "Gateway":
            opts |= {"url": f"http://elsewhere.test/{key}/{leaf.id}", "method": "GET"}
    return {"id": leaf.id, "op": kind, "name": name, "displayName": leaf.id, "opts": opts, **fields}


LATER = {
    RUN: "StepPlanned",
    SLEEP: "Sleep",
    WAIT: "WaitForEvent",
    INVOKE: "InvokeFunction",
    SIGNAL: "WaitForSignal",
    FETCH: "Gateway",
}
