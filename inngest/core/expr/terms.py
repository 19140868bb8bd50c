"""The equalities that a pause expression insists on, so that a store finds the waits an event may match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from inngest.core.expr.tree import Binary, Literal, Logic, Node, constant_path
from inngest.core.expr.values import UNKNOWN, is_number, number_text


def term_value(value: Any) -> str | None:
    """The text under which a scalar is indexed: equal under the dialect's ``==`` means equal text, and the
    reverse.

    The first letter tells the type: ``s`` string, ``n`` number, ``b`` boolean. None for what equals no such
    scalar: null, unknown, lists, maps, NaN.
    """
    if isinstance(value, str):
        return f"s:{value}"
    if value.__class__ is bool:
        return "b:true" if value else "b:false"
    if is_number(value) and value == value:  # not NaN, which is not equal to itself
        return f"n:{number_text(value)}"
    return None


def value_at(event: Mapping[str, Any], path: str) -> Any:
    """The value of an event at a term's path, such as ``data.order.id``; None if there is none."""
    value: Any = event
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


def find_terms(tree: Node) -> tuple[tuple[str, str], ...]:
    """The (path, text) of each ``async.<path> == <scalar>`` that must hold for a folded tree to be true."""
    operands = tree.operands if isinstance(tree, Logic) and tree.operator == "&&" else (tree,)
    return tuple(dict.fromkeys(term for node in operands for term in _terms(node)))


def _terms(node: Node) -> Iterator[tuple[str, str]]:
    match node:
        case Binary("==", Literal(value), other) | Binary("==", other, Literal(value)):
            text = None if value is UNKNOWN else term_value(value)
            steps = constant_path(other)
            # A step that is empty or has a dot in it would be lost in a dotted path.
            if text is None or steps is None or len(steps) < 2 or steps[0] != "async":
                return
            if all(step and "." not in step for step in steps):
                yield ".".join(steps[1:]), text
