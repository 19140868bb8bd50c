"""Partial evaluation: what does not depend on a missing variable or on the clock becomes a literal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inngest.core.expr.compiler import boolean, compile_tree, total
from inngest.core.expr.errors import BEYOND_PYTHON, EvaluationError
from inngest.core.expr.functions import FUNCTIONS
from inngest.core.expr.tree import Call, Conditional, Literal, Logic, Macro, Name, Node, flatten
from inngest.core.expr.values import truthy


def fold(node: Node, values: Mapping[str, Any]) -> Node:
    """``node`` with the variables of ``values`` replaced and every constant part evaluated.

    The result has the same value and fails in the same cases. A constant part that fails is left to fail at
    run time.
    """
    match node:
        case Literal():
            return node
        case Name(name):
            return Literal(values[name], position=node.position) if name in values else node
        case Logic(operator, operands):
            folded = flatten(operator, [fold(operand, values) for operand in operands])
            kept = _fold_and(folded) if operator == "&&" else _fold_or(folded)
            return kept[0] if len(kept) == 1 else Logic(operator, tuple(kept), position=node.position)
        case Conditional(condition, then, otherwise):
            chosen = fold(condition, values)
            if isinstance(chosen, Literal):
                return fold(then if truthy(chosen.value) else otherwise, values)
            return node.rebuild([chosen, fold(then, values), fold(otherwise, values)])
    folded = tuple(fold(child, values) for child in node.children())
    node = node.rebuild(list(folded))
    return _evaluated(node) if _constant(node) else node


def _constant(node: Node) -> bool:
    if isinstance(node, Call) and FUNCTIONS[node.function].needs_clock:
        return False
    if isinstance(node, Macro):
        return isinstance(node.range, Literal) and all(_closed(body, {node.variable}) for body in node.bodies)
    return all(isinstance(child, Literal) for child in node.children())


def _closed(node: Node, bound: set[str]) -> bool:
    """Whether a node needs nothing but the ``bound`` names."""
    match node:
        case Name(name):
            return name in bound
        case Call(function) if FUNCTIONS[function].needs_clock:
            return False
        case Macro(_, range_, variable, bodies):
            return _closed(range_, bound) and all(_closed(body, bound | {variable}) for body in bodies)
    return all(_closed(child, bound) for child in node.children())


def _evaluated(node: Node) -> Node:
    try:
        return Literal(compile_tree(node)({}), position=node.position)
    except (EvaluationError, *BEYOND_PYTHON):
        return node


def _fold_and(operands: tuple[Node, ...]) -> list[Node]:
    kept: list[Node] = []
    for index, node in enumerate(operands):
        if not isinstance(node, Literal):
            kept.append(node)
        elif not truthy(node.value):
            # An operand before it that fails or is false gives false as well.
            return [node] if node.value is False and all(map(boolean, kept)) else [*kept, node]
        elif index == len(operands) - 1 and not (kept and node.value is True and boolean(kept[-1])):
            kept.append(node)
    return kept


def _fold_or(operands: tuple[Node, ...]) -> list[Node]:
    kept: list[Node] = []
    for index, node in enumerate(operands):
        if not isinstance(node, Literal):
            kept.append(node)
        elif truthy(node.value):
            return [node] if node.value is True and all(map(boolean, kept)) else [*kept, node]
        elif index == len(operands) - 1 and not (
            kept and node.value is False and boolean(kept[-1]) and total(kept[-1])
        ):
            kept.append(node)
    return kept
