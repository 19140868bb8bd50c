"""Calls of the log: one that cannot be made hides what it was to tell, and fails its caller."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import inngest

PACKAGE = Path(inngest.__file__).parent

METHODS = {"debug", "info", "warning", "error", "critical", "exception"}
TAKEN = {"event", "self"}
"""Names of what the methods of structlog are called with by place."""


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in METHODS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            yield node


def test_no_fact_has_the_name_of_the_text() -> None:
    seen = 0
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for call in _calls(ast.parse(path.read_text())):
            seen += 1
            if any(keyword.arg in TAKEN for keyword in call.keywords):
                wrong.append(f"{path.relative_to(PACKAGE)}:{call.lineno}")
    assert wrong == []
    assert seen > 30, "the calls are not found"
