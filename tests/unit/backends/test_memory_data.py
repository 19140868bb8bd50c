"""What the data store in memory holds, in bytes: about what it accounts for, and so about its bound."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from data_stores import Story, event, name
from msgspec import Raw

from inngest.backends.memory.data import MemoryDataStore
from inngest.core.model.events import accept, decode_event, parse_body
from inngest.core.model.history import What, decode_history, encode_history
from inngest.core.model.runs import RunStatus
from inngest.ports.data import EventFilter, RunFilter

FACTOR = 3
WIDE = msgspec.json.encode({f"k{key}": [key, {"a": key}] for key in range(100)})

Fill = Callable[[MemoryDataStore], Awaitable[None]]


async def held(fill: Fill, store: MemoryDataStore) -> int:
    """Bytes that are held when ``fill`` has filled the store and is forgotten."""
    gc.collect()
    tracemalloc.start()
    try:
        await fill(store)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def events(*, data: bytes = b"{}", title: str = "app/x", count: int = 1000) -> Fill:
    """As they come from the stream, with all that a runner makes of them."""

    async def fill(store: MemoryDataStore) -> None:
        for start in range(0, count, 100):
            made = [
                decode_event(event(at, f"{title}/{at % 7}", data=Raw(data)).encode())
                for at in range(start, start + 100)
            ]
            assert all(each.payload and each.value and each.key for each in made)
            await store.put_events(made)

    return fill


async def events_of_one_request(store: MemoryDataStore) -> None:
    """All of them point into one body of megabytes, of which most is ``data`` of none that is kept."""
    for start in range(0, 300, 10):
        large = msgspec.json.encode({"name": "large", "data": {"a": "x" * 100_000}})
        body = b"[%b]" % b",".join([large, *[b'{"name":"app/x","data":{"a":1}}'] * 10])
        accepted = [accept(one, name(start + at), 1, 1 << 20) for at, one in enumerate(parse_body(body)[1:])]
        await store.put_events(accepted)


def runs(make: Callable[[int], Story], count: int = 400) -> Fill:
    """Each of their entries as it comes from the outbox."""

    async def fill(store: MemoryDataStore) -> None:
        for at in range(count):
            await store.put_history([decode_history(encode_history(e)) for e in make(at).entries])

    return fill


def sequence(at: int) -> Story:
    story = Story(at, events=[name(at)]).start(at)
    for step in ("a", "b", "c"):
        story.step(at, step)
    return story.end(at + 1)


def inputs(at: int) -> Story:
    """What steps were called with is a tree of objects, until it is encoded."""
    info = {"type": "step.ai.wrap", "input": msgspec.json.decode(WIDE)}
    return Story(at, events=[name(at)]).step(at, "a", info=info).step(at, "b", info=info)


def skipped(at: int) -> Story:
    story = Story(at, events=[name(at)])
    story.entries[0].what = What.SKIPPED
    return story


SHAPES: dict[str, Fill] = {
    "events: empty": events(),
    "events: small": events(data=b'{"order":"A-1000","total":12.5}'),
    "events: wide": events(data=WIDE, count=500),
    "events: large": events(data=b'{"a":"%b"}' % (b"x" * 50_000), count=200),
    "events: long names": events(title="n" * 400),
    "events: of one request": events_of_one_request,
    "runs: queued": runs(lambda at: Story(at, events=[name(at)])),
    "runs: skipped": runs(skipped),
    "runs: of three steps": runs(sequence),
    "runs: of a hundred steps": runs(lambda at: _many(Story(at), 100), 50),
    "runs: with outputs": runs(lambda at: Story(at).end(at + 1, value=b'"%b"' % (b"x" * 20_000)), 200),
    "runs: failed": runs(lambda at: Story(at).end(at + 1, RunStatus.FAILED, b'{"name":"E"}')),
    "runs: with inputs": runs(inputs, 100),
    "runs: of batches": runs(lambda at: Story(at, events=[name(at, n) for n in range(100)]), 50),
    "runs: of one event": runs(lambda at: Story(at, events=[name(0)]), 500),
}


def _many(story: Story, steps: int) -> Story:
    for step in range(steps):
        story.step(step, f"step-{step}")
    return story


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_more_is_held_than_is_accounted_for(shape: str) -> None:
    await held(SHAPES[shape], MemoryDataStore())  # what is made once, and stays, is made
    store = MemoryDataStore()
    before = await held(_nothing, store)
    taken = await held(SHAPES[shape], store) - before
    assert store.accounted / FACTOR < taken < FACTOR * store.accounted


@pytest.mark.parametrize(
    "shape", ["events: wide", "events: large", "runs: of three steps", "runs: with outputs"]
)
async def test_what_is_above_the_bound_is_gone(shape: str) -> None:
    bound = 1 << 18
    await held(SHAPES[shape], MemoryDataStore())
    store = MemoryDataStore(max_bytes=bound)
    taken = await held(SHAPES[shape], store) - await held(_nothing, store)
    assert store.accounted <= bound
    assert taken < FACTOR * bound
    found = [*await store.runs(RunFilter(), limit=9999), *await store.events(EventFilter(), limit=9999)]
    assert found


async def _nothing(_: MemoryDataStore) -> None:
    pass
