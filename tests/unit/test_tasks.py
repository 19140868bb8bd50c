"""Every task that the package creates: who hears of it when it fails. None dies silently."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import inngest

PACKAGE = Path(inngest.__file__).parent

MAKERS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}
"""What starts something that nobody need await."""

HEARD = {
    # -- loops and services
    "loops/background.py Watched.start": "`forever`, which only a cancellation ends",
    "services/supervisor.py Supervisor._start": "the supervisor, which ends the process then",
    "services/supervisor.py Supervisor._prepare": "the supervisor waits for it",
    "services/supervisor.py Supervisor._watch": "the supervisor waits for it",
    "services/supervisor.py Supervisor._end": "the supervisor waits for it",
    "services/task.py Task.run": "its caller, which the supervisor watches",
    "services/connect.py Connections._until_required": "prepare, and later run, by way of `_watch`",
    "services/connect.py Connections.run": "its task group, and so the supervisor",
    "services/runner.py Runner._set_aside": "its task group, and so the supervisor",
    "services/runner.py Runner.run": "its task group, and so the supervisor; each is a `Loop`",
    "services/indexer.py Indexer.run": "its task group, and so the supervisor; each is a `Loop`",
    "services/sync.py AppSync.run": "its task group, and so the supervisor",
    "services/executor.py Executor._start": "`_done`, which logs what it failed of",
    # -- backing systems
    "backends/sqlite/journal.py Journal._begin": "`_break`: who waits, and `died`, which ends the process",
    "backends/redis/link.py Link.open": "callers, by their futures; the lane goes on after any error",
    "backends/redis/stream.py RedisEventStream.open": "nobody yet: to be a `Watched`",
    "backends/redis/bus.py RedisBus.open": "the bus logs any error, and goes on",
    "backends/mailbox.py Answers.work": "who has asked, by the lack of an answer; it is logged",
    # -- APIs
    "api/loader.py Loader._start": "all who wait for the read",
    "api/nodes.py connection.count": "the resolvers that wait for it",
    "backends/redis/bell.py Bell.open": "nobody yet: to be `forever`",
    # -- calls
    "drivers/http/dial.py Dialer._resolve": "all who wait for the look-up",
    "drivers/http/dial.py _connect_first": "its caller waits for all of them",
}


def _sites(node: ast.AST, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The places where tasks are made, by the function that makes them."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        path = (*path, node.name)
    elif (
        isinstance(node, ast.Call)
        and _name(node.func) in MAKERS
        and not (node.args and _is_forever(node.args[0]))
    ):
        yield ".".join(path)
    for child in ast.iter_child_nodes(node):
        yield from _sites(child, path)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_forever(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) == "forever"


def _made() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield from (f"{path.relative_to(PACKAGE)} {site}" for site in _sites(ast.parse(path.read_text())))


def test_somebody_hears_of_every_task_that_fails() -> None:
    unknown = sorted(set(_made()) - HEARD.keys())
    assert unknown == [], "use `Watched` or `forever`, or say here who hears of it"


@pytest.mark.parametrize(
    ("source", "sites"),
    [
        ("def f():\n    asyncio.create_task(g())", ["f"]),
        ("class A:\n    async def f(self):\n        group.create_task(self.g())", ["A.f"]),
        ("async def f():\n    asyncio.create_task(forever('a', g))", []),
        ("x = asyncio.ensure_future(g)", [""]),
    ],
)
def test_the_places_are_found(source: str, sites: list[str]) -> None:
    assert list(_sites(ast.parse(source))) == sites
