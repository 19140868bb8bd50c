"""What is registered, by the names of events."""

from __future__ import annotations

import builders
import pytest

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.functions import App, Function, Trigger
from inngest.core.policy import MAX_NAME
from inngest.services import registry
from inngest.services.registry import RegistryCache

APP = App(id="a", name="a", url="http://a")


def function(slug: str, *events: str) -> Function:
    triggers = [Trigger(event=event) for event in events]
    return Function(id=slug, slug=slug, name=slug, app="a", app_id="a", url="http://a", triggers=triggers)


@pytest.fixture
async def known() -> RegistryCache:
    engine = MemoryEngineStore()
    await engine.put_app(
        APP, [function("one", "a/b.c"), function("two", "a/*", "x"), function("three", "a/b.*")]
    )
    cache = RegistryCache(engine)
    await cache.refresh()
    return cache


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("a/b.c", ["a/b.c", "a/*", "a/b.*"], ["one", "two", "three"]),
        ("a/z", ["a/*"], ["two"]),
        ("x", ["x"], ["two"]),
        ("y", [], []),
    ],
)
async def test_functions_by_event(
    known: RegistryCache, name: str, names: list[str], found: list[str]
) -> None:
    for _ in range(2):
        triggers, functions = known.triggered(builders.event(name))
        assert (triggers, [fn.slug for fn in functions]) == (names, found)


async def test_names_that_nobody_has_take_no_memory(
    known: RegistryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_MAX_NAMES", 10)
    for number in range(35):
        known.triggered(builders.event(f"{number}" + "/" * (MAX_NAME - 2)))
    assert len(known._names) <= 10
    assert sum(map(len, known._names.values())) == 0


async def test_what_is_registered_later_is_found(known: RegistryCache) -> None:
    event = builders.event("y/z")
    assert known.triggered(event) == ([], [])
    await known._engine.put_app(App(id="b", name="b", url="http://b"), [function("four", "y/*")])
    await known.refresh()
    assert [fn.slug for fn in known.triggered(event)[1]] == ["four"]
