"""``POST /v0/gql`` (wire protocol section 6.5)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.resources import files
from inspect import isawaitable
from typing import Any

import structlog
from aiohttp import web
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    build_schema,
    execute,
    parse,
    validate,
)
from msgspec import Raw, Struct

from inngest.api.answers import ApiError, answer, passed
from inngest.api.bodies import read_json
from inngest.api.context import ApiContext
from inngest.api.mutations import Mutations
from inngest.api.queries import Queries
from inngest.api.query_bounds import (
    MAX_RESOLVED,
    MAX_TEXT,
    MAX_TOKENS,
    QUERY_SECONDS,
    BoundedExecution,
    Work,
    check_shape,
)
from inngest.core.errors import StoreUnavailable
from inngest.core.json import border
from inngest.core.sdk.options import kind as kind_of

log = structlog.get_logger("inngest.graphql")

_KNOWN_TEXT = 8 * 1024
"""Bytes of a query that is remembered when it was checked."""


class _Request(Struct):
    query: str
    variables: Raw = Raw(b"{}")
    operationName: str | None = None  # noqa: N815 (as on the wire)


@cache
def schema() -> GraphQLSchema:
    """The schema of ``schema.graphql``; resolvers get arguments in snake case."""
    built = build_schema(files("inngest.api").joinpath("schema.graphql").read_text("utf-8"))
    for kind in built.type_map.values():
        if isinstance(kind, GraphQLScalarType) and kind.name in _SCALARS:
            kind.parse_value = _typed(kind.name, _SCALARS[kind.name])  # type: ignore[assignment, method-assign]
        # Those that tell of the schema are every schema's, and not ours to change.
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for each in kind.fields.values():
                for name, argument in each.args.items():
                    argument.out_name = _snake_case(name)
    return built


_SCALARS: dict[str, type] = {"Time": str, "ULID": str, "UUID": str, "Bytes": str, "Map": dict}
"""Scalars of the schema that are arguments, and what JSON has for them."""


def _typed(name: str, of: type) -> Callable[[Any], Any]:
    def parse_value(value: Any) -> Any:
        if not isinstance(value, of):
            raise GraphQLError(f"{name} cannot represent {kind_of(value)}")
        return value

    return parse_value


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z]+)", r"_\1", name).lower()


_TOO_DEEP = GraphQLError("The query nests too deep")


def _checked(query: str) -> DocumentNode | tuple[GraphQLError, ...]:
    """The parsed query, or what is wrong with it. Tools ask the same few queries over and over."""
    size = len(query) if query.isascii() else len(query.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT:
        return (GraphQLError(f"The query has {size} bytes; {MAX_TEXT} are allowed"),)
    return _known(query) if size <= _KNOWN_TEXT else _check(query)


def _check(query: str) -> DocumentNode | tuple[GraphQLError, ...]:
    try:
        document = parse(query, max_tokens=MAX_TOKENS)
        check_shape(document)
        errors = validate(schema(), document)
    except GraphQLError as error:
        return (error,)
    except RecursionError:
        return (_TOO_DEEP,)
    return tuple(errors) if errors else document


_known = lru_cache(maxsize=64)(_check)


class GraphQLApi:
    def __init__(self, ctx: ApiContext) -> None:
        self._root = {**Queries(ctx).fields(), **Mutations(ctx).fields()}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v0/gql", self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        asked = await read_json(request, _Request)
        document = _checked(asked.query)
        if not isinstance(document, DocumentNode):
            return answer({"data": None, "errors": [error.formatted for error in document]})
        variables = passed(asked.variables, "variables", around=border.ENVELOPE)
        if not isinstance(variables, dict | None):
            raise ApiError(400, "Invalid request body: variables: must be an object")
        work = Work()
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                result = execute(
                    schema(),
                    document,
                    root_value=self._root,
                    context_value=work,
                    variable_values=variables,
                    operation_name=asked.operationName,
                    execution_context_class=BoundedExecution,
                )
                if isawaitable(result):
                    result = await result
        except TimeoutError:
            return _refused(f"The query takes longer than {QUERY_SECONDS:.0f} s: ask for less")
        if work.over:
            return _refused(f"The query asks for more than {MAX_RESOLVED} fields: ask for fewer, or for less")
        assert isinstance(result, ExecutionResult)
        body: dict[str, Any] = {"data": result.data}
        if result.errors:
            body["errors"] = [_told(error) for error in result.errors]
        return answer(body)


def _refused(message: str) -> web.Response:
    return answer(
        {"data": None, "errors": [{"message": message, "extensions": {"code": "query_too_costly"}}]}
    )


def _told(error: GraphQLError) -> dict[str, Any]:
    """The error as the client sees it: what was not meant for it goes to the log."""
    formatted: dict[str, Any] = dict(error.formatted)
    cause = error.original_error
    if isinstance(cause, ApiError):
        formatted["message"] = cause.message
        formatted["extensions"] = {"status": cause.status, **({"code": cause.code} if cause.code else {})}
    elif isinstance(cause, StoreUnavailable):
        log.error("a backing system does not answer", action="graphql.unavailable", error=str(cause))
        formatted["message"] = "A backing system of the server does not answer; try again"
    elif cause is not None and not isinstance(cause, GraphQLError):
        log.error("query failed", action="graphql.failed", path=error.path, exc_info=cause)
        formatted["message"] = "Internal server error"
    return formatted
