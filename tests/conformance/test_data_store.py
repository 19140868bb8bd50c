"""What `inngest.ports.data` says, asked of every data store."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from data_stores import STORES, T0, Story, event, name
from msgspec import Raw
from odd_json import Writer

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.core.errors import StoreUnavailable
from inngest.core.model.history import History, What
from inngest.core.model.runs import RunStatus
from inngest.core.sdk.responses import Reported, read
from inngest.ports.data import Cancellation, DataStore, EventFilter, RunFilter, TimeField, position

ALL = RunFilter()


@pytest.fixture(params=STORES)
async def data(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DataStore]:
    store = await STORES[request.param](tmp_path)
    await store.open()
    yield store
    await store.close()


async def test_events_keep_their_bytes_and_come_newest_first(data: DataStore) -> None:
    old, new = event(1, v="2", sessions={"a": "b"}), event(2)
    await data.put_events([new, old])
    assert await data.events(EventFilter(), limit=10) == [new, old]
    assert (await data.events_by_id([old.id]))[0].payload == old.payload


async def test_an_event_delivered_again_changes_nothing(data: DataStore) -> None:
    await data.put_events([event(1)])
    await data.put_events([event(1), event(2)])
    assert await data.count_events(EventFilter()) == 2
    assert [e.id for e in await data.events(EventFilter(), limit=10)] == [name(2), name(1)]


async def test_events_are_paged_by_id(data: DataStore) -> None:
    await data.put_events([event(at) for at in range(5)])
    page = await data.events(EventFilter(), limit=2)
    assert [e.id for e in page] == [name(4), name(3)]
    rest = await data.events(EventFilter(), after=page[-1].id, limit=9)
    assert [e.id for e in rest] == [name(2), name(1), name(0)]


async def test_events_are_filtered(data: DataStore) -> None:
    inner = event(3, "inngest/function.finished")
    await data.put_events([event(1), event(2, "app/y"), inner])

    async def ids(**where: object) -> list[str]:
        found = await data.events(EventFilter(**where), limit=9)  # type: ignore[arg-type]
        assert await data.count_events(EventFilter(**where)) == len(found)  # type: ignore[arg-type]
        return [e.id for e in found]

    assert await ids() == [name(2), name(1)]
    assert await ids(internal=True) == [name(3), name(2), name(1)]
    assert await ids(names=frozenset({"app/y"})) == [name(2)]
    assert await ids(names=frozenset({inner.name})) == [name(3)]
    assert await ids(since=T0 + 2) == [name(2)]
    assert await ids(until=T0 + 2) == [name(1)]


async def test_events_by_id_keep_the_order_asked_and_leave_out_the_unknown(data: DataStore) -> None:
    await data.put_events([event(at) for at in range(700)])
    ids = [name(at) for at in range(699, -1, -1)]
    found = await data.events_by_id([*ids[:9], name(5000), *ids[9:]])
    assert [e.id for e in found] == ids


async def test_a_record_follows_its_run(data: DataStore) -> None:
    story = Story(1, events=[name(0)])
    await data.put_history(story.entries)
    record = await data.run(story.id)
    assert record is not None
    assert (record.status, record.queued, record.started) == (RunStatus.QUEUED, T0 + 1, 0)
    assert (record.fn, record.slug, record.app, record.version) == ("fn-1", "app-fn-1", "app", 3)

    await data.put_history(story.start(2).entries[-1:])
    record = await data.run(story.id)
    assert record is not None
    assert (record.status, record.started, record.ended) == (RunStatus.RUNNING, T0 + 2, 0)

    await data.put_history(story.step(3, "s").end(4, RunStatus.FAILED, b'{"name":"E"}').entries[-2:])
    record = await data.run(story.id)
    assert record is not None
    assert (record.status, record.ended, record.output, record.failed) == (
        RunStatus.FAILED,
        T0 + 4,
        b'{"name":"E"}',
        True,
    )


async def test_history_delivered_again_changes_nothing(data: DataStore) -> None:
    story = Story(1).start(2).step(3, "a").step(3, "b", b"2").end(4)
    await data.put_history(story.entries[:3])
    await data.put_history(story.entries)
    await data.put_history(story.entries[:4])
    assert await data.history(story.id) == story.entries
    record = await data.run(story.id)
    assert record is not None
    assert (record.status, record.ended) == (RunStatus.COMPLETED, T0 + 4)
    assert await data.count_runs(ALL) == 1


async def test_the_first_end_of_a_run_stands(data: DataStore) -> None:
    story = Story(1).start(2).end(4)
    await data.put_history(story.entries)
    await data.put_history(story.end(5, RunStatus.CANCELLED, None).entries[-1:])
    record = await data.run(story.id)
    assert record is not None
    assert (record.status, record.output) == (RunStatus.COMPLETED, b'"done"')


async def test_a_skipped_run_is_over_and_says_why(data: DataStore) -> None:
    info = {"app": "app", "slug": "f", "events": [name(1)], "reason": "Singleton", "existing": "other"}
    await data.put_history([History(what=What.SKIPPED, run=name(2), fn="fn-1", at=T0 + 2, info=info)])
    record = await data.run(name(2))
    assert record is not None
    assert (record.status, record.ended) == (RunStatus.SKIPPED, T0 + 2)
    assert (record.reason, record.existing) == ("Singleton", "other")


async def test_a_cron_run_carries_its_event(data: DataStore) -> None:
    info = {"events": [name(1)], "cron": "* * * * *", "batch": "b", "original": "o"}
    await data.put_history(
        [History(what=What.SCHEDULED, run=name(2), fn="fn-1", at=T0, value=b'{"name":"tick"}', info=info)]
    )
    record = await data.run(name(2))
    assert record is not None
    assert (record.payload, record.cron) == (b'{"name":"tick"}', "* * * * *")
    assert (record.batch, record.original, record.output) == ("b", "o", None)


async def test_history_of_an_unknown_run_is_let_go(data: DataStore) -> None:
    story = Story(1).start(2).end(3)
    await data.put_history(story.entries[1:])
    assert await data.run(story.id) is None
    assert await data.history(story.id) == []


async def test_an_event_leads_to_its_runs_even_if_it_comes_later(data: DataStore) -> None:
    first, second = Story(2, events=[name(1)]), Story(3, events=[name(0), name(1)])
    await data.put_history([*second.entries, *first.entries])
    await data.put_events([event(1)])
    assert [run.id for run in await data.runs_of(name(1))] == [first.id, second.id]
    assert [run.id for run in await data.runs_of(name(0))] == [second.id]
    assert await data.runs_of(name(9)) == []


async def three_runs(data: DataStore) -> list[str]:
    """Queued in this order, started in the reverse one; the second goes on."""
    stories = [
        Story(1).start(30).end(31),
        Story(2, fn="fn-2", app="other").start(20),
        Story(3).start(10).end(40, RunStatus.FAILED),
    ]
    await data.put_history([entry for story in stories for entry in story.entries])
    return [story.id for story in stories]


async def test_runs_are_filtered(data: DataStore) -> None:
    a, b, c = await three_runs(data)

    async def ids(**where: object) -> list[str]:
        found = await data.runs(RunFilter(**where), limit=9)  # type: ignore[arg-type]
        assert await data.count_runs(RunFilter(**where)) == len(found)  # type: ignore[arg-type]
        return [run.id for run in found]

    assert await ids() == [c, b, a]
    assert await ids(statuses=frozenset({RunStatus.FAILED, RunStatus.RUNNING})) == [c, b]
    assert await ids(fns=frozenset({"fn-1"})) == [c, a]
    assert await ids(apps=frozenset({"other"})) == [b]
    assert await ids(since=T0 + 2) == [c, b]
    assert await ids(since=T0 + 1, until=T0 + 3) == [b, a]
    assert await ids(field=TimeField.STARTED, since=T0 + 20) == [b, a]
    assert await ids(field=TimeField.ENDED, since=T0 + 1, until=T0 + 40) == [a]


@pytest.mark.parametrize("order", TimeField)
@pytest.mark.parametrize("descending", [True, False])
async def test_runs_are_ordered_and_paged(data: DataStore, order: TimeField, descending: bool) -> None:
    a, b, c = await three_runs(data)
    ascending = {
        TimeField.QUEUED: [a, b, c],
        TimeField.STARTED: [c, b, a],
        TimeField.ENDED: [b, a, c],
    }[order]
    seen: list[str] = []
    after = None
    while page := await data.runs(ALL, order=order, descending=descending, after=after, limit=1):
        seen += [run.id for run in page]
        after = position(page[-1], order)
    assert seen == (ascending[::-1] if descending else ascending)


async def test_runs_queued_at_once_are_paged_without_loss(data: DataStore) -> None:
    stories = [Story(1) for _ in range(3)]
    for number, story in enumerate(stories):
        story.entries[0].run = name(1, number)
    await data.put_history([story.entries[0] for story in reversed(stories)])
    seen = []
    after = None
    while page := await data.runs(ALL, after=after, limit=2):
        seen += [run.id for run in page]
        after = position(page[-1], TimeField.QUEUED)
    assert seen == [name(1, 2), name(1, 1), name(1, 0)]


async def test_a_record_that_was_read_stays_as_it_was(data: DataStore) -> None:
    story = Story(1)
    await data.put_history(story.entries)
    (before,) = await data.runs(ALL, limit=1)
    await data.put_history(story.start(2).entries[1:])
    assert before.status is RunStatus.QUEUED


async def test_pruning_forgets_what_ended_and_spares_what_goes_on(data: DataStore) -> None:
    await data.put_events([event(0), event(1), event(2), event(50)])
    ended, going = Story(1, events=[name(0)]).start(1).end(5), Story(2, events=[name(1)]).start(3)
    late = Story(3, events=[name(2)]).start(3).end(20)
    await data.put_history([*ended.entries, *going.entries, *late.entries])

    removed = 0
    while count := await data.prune(T0 + 10, limit=1):
        removed += count
    assert removed == 3
    assert await data.run(ended.id) is None
    assert await data.history(ended.id) == []
    assert await data.runs_of(name(0)) == []
    assert [run.id for run in await data.runs(ALL, limit=9)] == [late.id, going.id]
    assert [e.id for e in await data.events(EventFilter(), limit=9)] == [name(50), name(1)]

    await data.put_history(going.end(60).entries[-1:])
    while await data.prune(T0 + 100):
        pass
    assert await data.count_runs(ALL) == 0
    assert await data.count_events(EventFilter()) == 0


async def test_cancellations_are_kept_until_deleted(data: DataStore) -> None:
    first, second = (
        Cancellation(id=name(at), fn="f", slug="s", app_id="a", created=T0 + at, started_before=T0)
        for at in (1, 2)
    )
    for each in (first, second, first):
        await data.put_cancellation(each)
    assert await data.cancellations() == [second, first]
    assert await data.delete_cancellation(first.id)
    assert not await data.delete_cancellation(first.id)
    assert await data.cancellations() == [second]


# -- what one of them promises beyond that --


async def test_memory_keeps_the_newest_events() -> None:
    store = MemoryDataStore(max_events=100)
    await store.put_events([event(at) for at in range(250)])
    kept = [e.id for e in await store.events(EventFilter(), limit=1000)]
    assert 90 <= len(kept) <= 100
    assert kept == [name(249 - place) for place in range(len(kept))]


async def test_memory_forgets_the_runs_that_ended_first_and_none_that_goes_on() -> None:
    store = MemoryDataStore(max_runs=10)
    going = Story(0, events=[name(0)]).start(0)
    await store.put_history(going.entries)
    for at in range(1, 51):
        await store.put_history(Story(at, events=[name(0)]).start(at).end(at).entries)
    kept = await store.runs(ALL, limit=99)
    assert 9 <= len(kept) <= 10
    assert kept[0].queued == T0 + 50
    assert kept[-1].id == going.id
    assert len(await store.runs_of(name(0))) == len(kept)


async def test_memory_is_bounded_in_bytes() -> None:
    store = MemoryDataStore(max_bytes=20_000)
    await store.put_events([event(at, data=Raw(b'{"a":"%b"}' % (b"x" * 1000))) for at in range(30)])
    assert 5 <= await store.count_events(EventFilter()) <= 10
    for at in range(30):
        await store.put_history(Story(at).start(at).end(at, value=b'"%b"' % (b"x" * 1000)).entries)
    assert 5 <= await store.count_runs(ALL) <= 10


async def test_sqlite_remembers_after_a_restart(tmp_path: Path) -> None:
    story = Story(1, events=[name(0)]).start(2).step(3, "s").end(4)
    first = SqliteDataStore(tmp_path / "history.db")
    await first.open()
    await first.put_events([event(0)])
    await first.put_history(story.entries)
    await first.close()
    second = SqliteDataStore(tmp_path / "history.db")
    await second.open()
    assert await second.history(story.id) == story.entries
    assert [run.id for run in await second.runs_of(name(0))] == [story.id]
    await second.close()


async def test_sqlite_refuses_a_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    store = SqliteDataStore(path)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, '')")
        connection.commit()
    store = SqliteDataStore(path)
    with pytest.raises(StoreUnavailable, match="schema version 99"):
        await store.open()
    await store.close()


async def test_sqlite_says_when_its_file_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = SqliteDataStore(tmp_path / "file" / "history.db")
    with pytest.raises(StoreUnavailable, match=r"history.db: .*file"):
        await store.open()
    await store.close()


async def test_sqlite_makes_the_folder_of_its_file(tmp_path: Path) -> None:
    store = SqliteDataStore(tmp_path / "data" / "of" / "history.db")
    await store.open()
    await store.put_events([event(1)])
    await store.close()


async def test_what_steps_report_is_kept_whatever_it_is(data: DataStore) -> None:
    """Of odd JSON, as far as it passes the border."""
    story = Story(1).start(2)
    for seed in range(40):
        op = Writer(seed)
        report = b'[{"id":"s%d","op":"StepRun","name":%b,"opts":{"input":[%b]},"data":%b,"timing":{"a":%b}}]'
        body = report % (seed, op.text(), op.any(), op.any(), op.scalar())
        answer = read(206, {"x-inngest-sdk": "x"}, body, T0)
        for step in answer.steps if isinstance(answer, Reported) else ():
            info = {"input": msgspec.json.encode(step.opts["input"]).decode()}
            story.step(3 + seed, step.id, step.data, info=info, started=step.started)
    assert len(story.entries) > 15
    await data.put_history(story.entries)
    assert await data.history(story.id) == story.entries
