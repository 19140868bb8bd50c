"""Dead letters over HTTP."""

from __future__ import annotations

import pytest
from api_world import World
from streams import take

from inngest.core.policy import MAX_LETTER_IDS, MAX_LETTER_SHOWN
from inngest.core.timing.times import rfc3339
from inngest.ports.stream import Entry

PATH = "/v1/dead-letters"


async def _bury(world: World, *bodies: bytes, kind: str = "event") -> list[str]:
    for body in bodies:
        await world.stream.bury("runner", [Entry(body, 0)], "it is bad", kind=kind)
    return [letter.id for letter in (await world.stream.letters(limit=1000))[-len(bodies) :]]


async def test_letters_are_listed_oldest_first_and_paged(world: World) -> None:
    ids = await _bury(world, *[b"%d" % n for n in range(25)])
    (first, *_) = await world.stream.letters(limit=1)
    status, answer = await world.ask("GET", PATH)
    assert status == 200
    assert [letter["id"] for letter in answer["data"]] == ids[:20]
    assert answer["data"][0] == {
        "id": ids[0],
        "kind": "event",
        "group": "runner",
        "reason": "it is bad",
        "buried_at": rfc3339(first.at),
        "bytes": 1,
        "body": "0",
        "truncated": False,
    }
    _, answer = await world.ask("GET", f"{PATH}?after={ids[19]}&limit=3")
    assert [letter["body"] for letter in answer["data"]] == ["20", "21", "22"]


async def test_a_body_is_cut_in_a_list_and_whole_alone(world: World) -> None:
    body = b"\xff" + b"x" * MAX_LETTER_SHOWN
    (name,) = await _bury(world, body)
    _, answer = await world.ask("GET", PATH)
    (shown,) = answer["data"]
    assert (shown["body"], shown["truncated"]) == ("\\xff" + "x" * (MAX_LETTER_SHOWN - 1), True)
    status, answer = await world.ask("GET", f"{PATH}/{name}")
    assert (status, answer["data"]["truncated"]) == (200, False)
    assert answer["data"]["body"] == "\\xff" + "x" * MAX_LETTER_SHOWN
    assert (await world.ask("GET", f"{PATH}/4711"))[0] == 404


async def test_letters_are_requeued(world: World) -> None:
    (event,) = await _bury(world, b"a")
    (item,) = await _bury(world, b"b", kind="item")
    status, answer = await world.ask("POST", f"{PATH}/requeue", {"ids": [item, event, "4711", event]})
    assert (status, answer["data"]) == (200, {"requeued": [event], "left": [item, "4711"]})
    assert await take(world.stream, "runner") == [b"a"]
    assert await take(world.stream, "indexer") == []
    _, answer = await world.ask("GET", PATH)
    assert [letter["id"] for letter in answer["data"]] == [item]


async def test_letters_are_discarded(world: World) -> None:
    ids = await _bury(world, b"a", b"b")
    status, answer = await world.ask("DELETE", PATH, {"ids": [ids[1], "nonsense"]})
    assert (status, answer["data"]) == (200, {"discarded": [ids[1]], "unknown": ["nonsense"]})
    assert [letter.id for letter in await world.stream.letters(limit=10)] == ids[:1]


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("GET", f"{PATH}?after=nonsense", None, "Invalid after: 'nonsense' is no id of a dead letter"),
        ("GET", f"{PATH}?limit=0", None, "limit"),
        ("DELETE", PATH, {}, "ids"),
        ("DELETE", PATH, {"ids": []}, "1 to 1000"),
        ("DELETE", PATH, {"ids": [1]}, "ids"),
        ("POST", f"{PATH}/requeue", {"ids": "all"}, "ids"),
        ("POST", f"{PATH}/requeue", b"{", "Invalid request body"),
        ("POST", f"{PATH}/requeue", {"ids": [str(n) for n in range(MAX_LETTER_IDS + 1)]}, "not 1001"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    world: World, method: str, path: str, body: object, says: str
) -> None:
    status, answer = await world.ask(method, path, body)
    assert status == 400
    assert says in answer["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PATH), ("GET", f"{PATH}/1"), ("POST", f"{PATH}/requeue"), ("DELETE", PATH)],
)
async def test_only_who_has_a_key_may(method: str, path: str) -> None:
    key = "00ff" * 16
    world = World(signing_keys=(key,))
    await world.open()
    (name,) = await _bury(world, b"a")
    assert (await world.ask(method, path, {"ids": [name]}))[0] == 401
    assert len(await world.stream.letters(limit=10)) == 1
    status, _ = await world.ask(method, path, {"ids": [name]}, Authorization=f"Bearer {key}")
    assert status == 200
    await world.close()
