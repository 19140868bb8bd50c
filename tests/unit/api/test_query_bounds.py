"""What a GraphQL query may cost, measured by what is done and not by time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_world import APP, ORDER, World
from graphql import get_introspection_query, parse

from inngest.api import graphql, query_bounds
from inngest.api.query_bounds import MAX_DEPTH, MAX_FIELDS, MAX_TEXT, check_shape


class Counted:
    """How many fields an execution resolves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fields = 0
        resolve = query_bounds.ExecutionContext.execute_field

        def counted(context: Any, *args: Any, **kwargs: Any) -> Any:
            self.fields += 1
            return resolve(context, *args, **kwargs)

        monkeypatch.setattr(query_bounds.ExecutionContext, "execute_field", counted)


async def _functions(world: World, count: int) -> None:
    slugs = [f"shop-f{number}" for number in range(count)]
    await world.engine.put_app(APP, [replace_slug(slug) for slug in slugs])
    await world.registry.refresh()


def replace_slug(slug: str) -> Any:
    from msgspec.structs import replace as changed

    return changed(ORDER, id=slug, slug=slug)


async def test_lists_within_lists_end_at_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_bounds, "MAX_RESOLVED", 500)
    monkeypatch.setattr(graphql, "MAX_RESOLVED", 500)
    counted = Counted(monkeypatch)
    await _functions(world, 20)
    assert len((await world.query("{functions{slug app{functions{id}}}}"))["functions"]) == 20
    assert counted.fields == 1 + 20 * (2 + 1 + 20)
    counted.fields = 0
    for query in (
        "{functions{app{functions{app{functions{app{functions{slug}}}}}}}}",
        "{" + " ".join(f"a{number}:functions{{slug id}}" for number in range(60)) + "}",
    ):
        status, body = await world.ask("POST", "/v0/gql", {"query": query})
        assert (status, body["data"]) == (200, None)
        (error,) = body["errors"]
        assert error["message"].startswith("The query asks for more than 500 fields")
        assert error["extensions"] == {"code": "query_too_costly"}
        assert counted.fields <= 500
        counted.fields = 0


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("{" + "__typename " * (MAX_FIELDS + 1) + "}", f"{MAX_FIELDS} are allowed"),
        ("{" + "functions{slug} " * MAX_FIELDS + "}", f"{MAX_FIELDS} are allowed"),
        ("{functions" + "{app{functions" * 10 + "{slug}" + "}}" * 10 + "}", f"{MAX_DEPTH} are allowed"),
        (
            "{functions{...F}} fragment F on Function" + "{app{functions" * 10 + "{slug}" + "}}" * 10,
            f"{MAX_DEPTH} are allowed",
        ),
        ("{apps{id}} #" + "x" * MAX_TEXT, f"{MAX_TEXT} are allowed"),
        ("{apps{id}} #" + "é" * (MAX_TEXT // 2), f"{MAX_TEXT} are allowed"),
        ("{functions{...F}} fragment F on Function{...F}", "Cannot spread fragment"),
    ],
)
async def test_the_shape_of_a_query_is_bounded_before_it_is_validated(
    world: World, query: str, told: str
) -> None:
    assert told in await world.error(query)


def test_what_a_tool_asks_for_passes() -> None:
    check_shape(parse(get_introspection_query()))


async def test_the_schema_can_be_asked_for(world: World) -> None:
    assert (await world.query(get_introspection_query()))["__schema"]["queryType"]["name"] == "Query"


async def test_long_queries_are_not_remembered(world: World) -> None:
    before = graphql._known.cache_info().currsize
    await world.query("{apps{id}} #" + "x" * graphql._KNOWN_TEXT)
    assert graphql._known.cache_info().currsize == before


async def test_a_query_that_takes_too_long_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(graphql, "QUERY_SECONDS", 0.01)
    monkeypatch.setattr(world.data, "runs", hang)
    query = '{runs(filter:{from:"2020-01-01T00:00:00Z"},orderBy:[]){edges{node{id}}}}'
    assert "longer than 0 s" in await world.error(query)
