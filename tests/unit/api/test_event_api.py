"""``POST /e/{key}``: what is accepted, what is refused, and what is kept (wire protocol 2.1 to 2.4)."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import FormData
from served import client_of
from streams import events_of
from structlog.testing import capture_logs

from inngest.api.events import SEED, EventApi
from inngest.backends.memory.stream import MemoryEventStream
from inngest.core.errors import StoreUnavailable
from inngest.core.model.events import Event
from inngest.core.model.ids import UlidFactory

NOW = 1_790_000_000_000
MAX_EVENT = 2_000
MAX_BODY = 20_000


class Entrance:
    """The event API on a stream in memory."""

    def __init__(
        self, *, keys: Sequence[str] = (), dev: bool = True, stream: MemoryEventStream | None = None
    ) -> None:
        self.stream = stream or MemoryEventStream(("runner",))
        ids = UlidFactory(clock=lambda: NOW, random_bytes=lambda count: bytes(count))
        self.api = EventApi(
            self.stream,
            clock=lambda: NOW,
            new_id=ids.new,
            keys=keys,
            dev=dev,
            max_event=MAX_EVENT,
            max_body=MAX_BODY,
        )
        self.client = client_of(self.api.routes(), max_body=MAX_BODY)

    async def post(self, body: Any, path: str = "/e/key", **headers: str) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.client.post(path, data=io.BytesIO(content), headers=headers) as answer:
            decoded = msgspec.json.decode(await answer.read())
            assert decoded["status"] == answer.status
            return answer.status, decoded

    async def kept(self) -> list[Event]:
        delivery = await self.stream.fetch("runner", 10_000, 0)
        return events_of(delivery) if delivery is not None else []


@pytest.fixture
async def entrance() -> AsyncIterator[Entrance]:
    made = Entrance()
    await made.client.start_server()
    yield made
    await made.client.close()


async def test_one_event_and_many(entrance: Entrance) -> None:
    status, one = await entrance.post({"name": "a", "data": {"n": 1}})
    assert (status, len(one["ids"])) == (200, 1)
    status, many = await entrance.post([{"name": "b"}, {"name": "c"}])
    assert (status, len(many["ids"])) == (200, 2)
    kept = await entrance.kept()
    assert [(event.id, event.name) for event in kept] == list(
        zip([*one["ids"], *many["ids"]], "abc", strict=True)
    )


async def test_the_same_seed_gives_the_same_ids(entrance: Entrance) -> None:
    headers = {SEED: f"{NOW},{base64.b64encode(b'0123456789').decode()}"}
    _, first = await entrance.post([{"name": "a"}, {"name": "b"}], **headers)
    _, second = await entrance.post([{"name": "a"}, {"name": "b"}], **headers)
    assert first["ids"] == second["ids"]
    assert len(set(first["ids"])) == 2


@pytest.mark.parametrize(
    "seed", ["", "x", "1,", f"{NOW},AAAA", "-1,eii2YKXRVTJPuA==", "1,eii2YKXRVTJPuA==,2"]
)
async def test_a_malformed_seed_is_ignored(entrance: Entrance, seed: str) -> None:
    status, answer = await entrance.post({"name": "a"}, **{SEED: seed})
    assert (status, len(answer["ids"])) == (200, 1)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "object or an array"),
        (b"   ", "object or an array"),
        (b"hello", "object or an array"),
        (b"1", "object or an array"),
        (b"null", "object or an array"),
        (b'"text"', "object or an array"),
        (b'{"name":', "truncated"),
        (b'{"name":"a",}', "malformed"),
        (b"[1]", "object"),
        (b"[[]]", "object"),
        (b'{"name":"\xff"}', "utf-8"),
        (b"{}", "event name is empty"),
        (b'{"name":""}', "event name is empty"),
        (b'{"name":7}', "name"),
        (b'{"name":"inngest/x"}', "reserved"),
        (b'{"name":"a","data":[]}', "data must be an object"),
        (b'{"name":"a","data":"x"}', "data must be an object"),
        (b'{"name":"a","user":[]}', "user must be an object"),
        (b'{"name":"a","ts":"now"}', "ts"),
        (b'{"name":"a","ts":1.5}', "ts"),
        (b'{"name":"a","ts":-1}', "ts"),
        (b'{"name":"a","ts":1e300}', "ts"),
        (b'{"name":"a","id":7}', "id"),
        (b'{"name":"a","data":{"x":"%b"}}' % (b"y" * MAX_EVENT), "over the max size"),
        (b'{"name":"' + b"n" * 600 + b'"}', "name"),
        (b'{"name":"a","data":{"x":%b}}' % (b"[" * 900 + b"]" * 900), "nested deeper"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_what_is_no_event_is_refused_by_name(entrance: Entrance, body: bytes, says: str) -> None:
    status, answer = await entrance.post(body)
    assert status == 400
    assert says in answer["error"], answer
    assert await entrance.kept() == []


async def test_events_before_the_first_bad_one_are_kept(entrance: Entrance) -> None:
    status, answer = await entrance.post([{"name": "a"}, {"name": "b"}, {"data": {}}, {"name": "c"}])
    assert (status, answer["error"]) == (400, "event name is empty")
    kept = await entrance.kept()
    assert [event.name for event in kept] == ["a", "b"]
    assert answer["ids"] == [event.id for event in kept]


async def test_too_many_events_are_refused_whole(entrance: Entrance) -> None:
    status, answer = await entrance.post(b"[" + b",".join([b"{}"] * 5001) + b"]")
    assert (status, answer["error"]) == (400, "Cannot have more than 5000 events in a batch")
    assert await entrance.kept() == []


async def test_a_body_that_is_too_large_is_refused(entrance: Entrance) -> None:
    status, answer = await entrance.post(b"[" + b" " * MAX_BODY + b"]")
    assert (status, answer["error"]) == (413, f"Request body is over the max size: {MAX_BODY} bytes allowed")
    assert await entrance.kept() == []


async def test_an_empty_array_is_nothing(entrance: Entrance) -> None:
    status, answer = await entrance.post(b"[]")
    assert (status, answer) == (200, {"ids": [], "status": 200})


async def test_what_senders_may_not_set_is_dropped(entrance: Entrance) -> None:
    await entrance.post({"name": "a", "data": {"_inngest": {"fn_id": "x"}, "n": 1}, "surplus": 1})
    (event,) = await entrance.kept()
    assert msgspec.json.decode(event.data) == {"n": 1}


async def test_webhooks_may_send_forms(entrance: Entrance) -> None:
    status, _ = await entrance.post(
        b"name=hook&data=1", **{"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert status == 400, "a form's values are lists, and no event has a list for its name"
    form = FormData(default_to_multipart=True)
    form.add_field("name", "hook")
    form.add_field("file", b"content", filename="f.txt")
    async with entrance.client.post("/e/key", data=form) as answer:
        assert answer.status == 400
        assert "name" in (await answer.json())["error"]
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    status, answered = await entrance.post(b"no form at all", **broken)
    assert (status, answered["ids"]) == (400, [])
    assert "form" in answered["error"]
    # What curl -d calls a form is JSON.
    status, _ = await entrance.post(
        b' {"name":"curl"}', **{"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert status == 200
    assert [event.name for event in await entrance.kept()] == ["curl"]


class _Down(MemoryEventStream):
    down = True

    async def publish(self, bodies: Sequence[bytes]) -> None:
        if self.down:
            raise StoreUnavailable("the disk is full")
        await super().publish(bodies)


async def test_what_the_stream_does_not_take_is_not_accepted() -> None:
    entrance = Entrance(stream=_Down())
    async with entrance.client:
        status, answer = await entrance.post({"name": "a"})
        async with entrance.client.post("/e/key", json={"name": "a"}) as response:
            assert response.headers["Retry-After"] == "1"
    assert (status, answer["ids"]) == (503, [])
    assert "try again" in answer["error"]
    assert "disk" not in answer["error"], "what is wrong inside is for the log"


class _Narrow(MemoryEventStream):
    largest = 200


@pytest.mark.parametrize("before", [[], [{"name": "small"}]])
async def test_what_is_too_large_for_the_stream_is_refused_whole(before: list[Any]) -> None:
    entrance = Entrance(stream=_Narrow(("runner",)))
    async with entrance.client:
        status, answer = await entrance.post([*before, {"name": "large", "id": "i" * 200}])
        assert (status, answer["ids"]) == (413, [])
        (size,) = re.findall(r"is over the max size: (\d+) bytes as it is stored", answer["error"])
        assert int(size) > 300
        assert "takes 200" in answer["error"]
        assert await entrance.kept() == []
        assert entrance.api.intake.refused["size"] == 1
        assert entrance.api.intake.events == 0
        status, _ = await entrance.post({"name": "small"})
        assert status == 200


async def test_that_events_are_not_accepted_is_told_when_it_begins_and_when_it_ends() -> None:
    stream = _Down()
    entrance = Entrance(stream=stream)
    async with entrance.client:
        with capture_logs() as logs:
            for _ in range(5):
                await entrance.post({"name": "a"})
            stream.down = False
            for _ in range(2):
                assert (await entrance.post({"name": "a"}))[0] == 200
    assert [(line["event"], line.get("requests")) for line in logs] == [
        ("events are not accepted", None),
        ("events are accepted again", 5),
    ]
    assert logs[0]["error"] == "the disk is full"


@pytest.mark.parametrize(
    ("keys", "dev", "path", "status", "says"),
    [
        ((), True, "/e/any", 200, ""),
        ((), True, "/e/", 401, "Event key is required"),
        ((), True, "/e", 401, "Event key is required"),
        ((), False, "/e/any", 503, "Event keys are required"),
        (("one", "two"), False, "/e/two", 200, ""),
        (("one", "two"), True, "/e/three", 401, "Event key not found"),
        (("one", "two"), False, "/e/on", 401, "Event key not found"),
        (("one",), False, "/e/", 401, "Event key is required"),
        (("schlüssel",), False, "/e/schl%C3%BCssel", 200, ""),
        (("one",), False, "/e/%FF", 401, "Event key not found"),
    ],
)
async def test_keys(keys: Sequence[str], dev: bool, path: str, status: int, says: str) -> None:
    entrance = Entrance(keys=keys, dev=dev)
    async with entrance.client:
        answered, answer = await entrance.post({"name": "a"}, path)
        assert (answered, len(await entrance.kept())) == (status, int(status == 200))
    assert says in answer.get("error", "")


async def test_browsers_may_send_events(entrance: Entrance) -> None:
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-anything",
    }
    async with entrance.client.options("/e/key", headers=headers) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Allow-Headers"] == "x-anything"
        assert "Access-Control-Allow-Credentials" not in answer.headers
