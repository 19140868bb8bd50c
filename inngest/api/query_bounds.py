"""What a GraphQL query may cost: its text before it is parsed, its shape before it is validated, its work as
it is executed.

Validation compares each two fields of a name, so that fields are counted first. What execution costs depends
on how long the lists are that it finds, so that each field it resolves is counted, wherever it nests.
"""

from __future__ import annotations

from typing import Any

from graphql import (
    DocumentNode,
    ExecutionContext,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    SelectionSetNode,
    Undefined,
)

MAX_TEXT = 32 * 1024
"""Bytes."""
MAX_TOKENS = 10_000
MAX_FIELDS = 300
"""As written, in all operations and fragments."""
MAX_DEPTH = 20
"""Fields within fields; tools that ask for the schema need 15."""
MAX_RESOLVED = 50_000
"""Fields of one answer."""
MAX_SEARCHES = 5
"""Lists with conditions, in one query; each may be counted, too."""
QUERY_SECONDS = 30.0


class Work:
    """What one execution has done, as its context."""

    def __init__(self) -> None:
        self.resolved = 0
        self._searches = 0

    def search(self) -> bool:
        """Whether there may be one more search."""
        self._searches += 1
        return self._searches <= MAX_SEARCHES

    @property
    def over(self) -> bool:
        """Whether it was cut short, so that its result is none."""
        return self.resolved > MAX_RESOLVED


class BoundedExecution(ExecutionContext):
    """Counts the fields that it resolves, and resolves no more than it may."""

    context_value: Work

    def execute_field(self, *args: Any, **kwargs: Any) -> Any:
        self.context_value.resolved += 1
        return Undefined if self.context_value.over else super().execute_field(*args, **kwargs)


def check_shape(document: DocumentNode) -> None:
    """Raises GraphQLError for a query of too many fields, or too deep."""
    shape = _Shape(document)
    if shape.fields > MAX_FIELDS:
        raise GraphQLError(f"The query has {shape.fields} fields; {MAX_FIELDS} are allowed")
    if shape.depth > MAX_DEPTH:
        raise GraphQLError(f"The query nests {shape.depth} levels deep; {MAX_DEPTH} are allowed")


class _Shape:
    def __init__(self, document: DocumentNode) -> None:
        self.fields = 0
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }
        self._depths: dict[str, int] = {}
        sets = [getattr(each, "selection_set", None) for each in document.definitions]
        for each in sets:
            self._count(each)
        self.depth = max((self._depth(each) for each in sets), default=0) if self.fields <= MAX_FIELDS else 0

    def _count(self, selections: SelectionSetNode | None) -> None:
        # The parser has bounded how deep this goes.
        for each in selections.selections if selections is not None else ():
            self.fields += isinstance(each, FieldNode)
            self._count(getattr(each, "selection_set", None))

    def _depth(self, selections: SelectionSetNode | None) -> int:
        deepest = 0
        for each in selections.selections if selections is not None else ():
            if isinstance(each, FragmentSpreadNode):
                depth = self._fragment(each.name.value)
            else:
                depth = self._depth(getattr(each, "selection_set", None)) + isinstance(each, FieldNode)
            deepest = max(deepest, depth)
        return deepest

    def _fragment(self, name: str) -> int:
        if name not in self._depths:
            self._depths[name] = 0  # one that spreads itself is refused later, by validation
            fragment = self._fragments.get(name)
            self._depths[name] = self._depth(fragment.selection_set) if fragment is not None else 0
        return self._depths[name]
