"""What `inngest.ports.data` says, asked of every data store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from data_stores import STORES, T0, Story, event, name
from msgspec import Raw
from msgspec.structs import replace
from odd_json import Writer

from inngest.backends.memory.data import MemoryDataStore
from inngest.backends.sqlite.data import SqliteDataStore
from inngest.core.errors import StoreUnavailable
from inngest.core.model.history import History, What
from inngest.core.model.records import RunRecord
from inngest.core.model.runs import RunStatus
from inngest.core.sdk.responses import Reported, read
from inngest.core.timing.times import YEAR
from inngest.ports.data import Count, DataStore, EventFilter, RunFilter, TimeField, position

ALL = RunFilter()


async def history_of(data: DataStore, run_id: str) -> list[History]:
    return (await data.history([run_id]))[run_id]


async def runs_of(data: DataStore, event_id: str) -> list[RunRecord]:
    return (await data.runs_of([event_id]))[event_id]


async def test_events_keep_their_bytes_and_come_newest_first(data: DataStore) -> None:
    old, new = event(1, v="2", sessions={"a": "b"}), event(2)
    await data.put_events([new, old])
    assert await data.events(EventFilter(), limit=10) == [new, old]
    assert (await data.events_by_id([old.id]))[0].payload == old.payload


async def test_an_event_delivered_again_changes_nothing(data: DataStore) -> None:
    await data.put_events([event(1)])
    await data.put_events([event(1), event(2)])
    assert await data.count_events(EventFilter(), most=999) == Count(2)
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
        assert await data.count_events(EventFilter(**where), most=9) == Count(len(found))  # type: ignore[arg-type]
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
    assert await history_of(data, story.id) == story.entries
    record = await data.run(story.id)
    assert record is not None
    assert (record.status, record.ended) == (RunStatus.COMPLETED, T0 + 4)
    assert await data.count_runs(ALL, most=999) == Count(1)


async def test_an_entry_is_known_by_its_id_alone(data: DataStore) -> None:
    story = Story(1).start(2).step(3, "a").step(3, "a")
    first, second = story.entries[2:]
    assert replace(first, id=second.id) == second
    await data.put_history(story.entries)
    assert await history_of(data, story.id) == story.entries
    await data.put_history([replace(first, name="other", value=b"2")])
    assert await history_of(data, story.id) == story.entries


async def test_entries_of_two_runs_may_have_the_same_id(data: DataStore) -> None:
    stories = [Story(1), Story(2)]
    for story in stories:
        story.entries[0].id = "same"
    await data.put_history([story.entries[0] for story in stories])
    for story in stories:
        assert await history_of(data, story.id) == story.entries


async def test_history_of_many_runs_is_read_at_once(data: DataStore) -> None:
    stories = [Story(at).start(at).step(at, "s") for at in range(700)]
    # Run by run in turns: what is kept in between is of others.
    await data.put_history(
        [entry for turn in zip(*(s.entries for s in stories), strict=True) for entry in turn]
    )
    ids = [story.id for story in stories]
    found = await data.history([*ids, name(999)])
    assert found == {story.id: story.entries for story in stories} | {name(999): []}
    assert await data.history([]) == {}


async def test_the_first_end_of_a_run_stands(data: DataStore) -> None:
    story = Story(1).start(2).end(4)
    await data.put_history(story.entries)
    await data.put_history(story.end(5, RunStatus.CANCELLED, None).entries[-1:])
    record = await data.run(story.id)
    assert record is not None
    assert (record.status, record.output) == (RunStatus.COMPLETED, b'"done"')


async def test_lists_of_runs_come_without_outputs_which_are_read_by_id(data: DataStore) -> None:
    ended, failed = Story(1, events=[name(0)]).end(2), Story(2).end(3, RunStatus.FAILED, b'{"name":"E"}')
    going, cancelled = Story(3).start(4), Story(4).end(5, RunStatus.CANCELLED, None)
    await data.put_history([e for each in (ended, failed, going, cancelled) for e in each.entries])
    listed = [*await data.runs(ALL, limit=9), *await runs_of(data, name(0))]
    assert [record.output for record in listed] == [None] * 5
    ids = [ended.id, failed.id, going.id, cancelled.id, name(999)]
    assert await data.outputs(ids) == {ended.id: b'"done"', failed.id: b'{"name":"E"}'}
    assert await data.outputs([]) == {}


async def test_a_skipped_run_is_over_and_says_why(data: DataStore) -> None:
    info = {"app": "app", "slug": "f", "events": [name(1)], "reason": "Singleton", "existing": "other"}
    await data.put_history([History(id="1", what=What.SKIPPED, run=name(2), fn="fn-1", at=T0 + 2, info=info)])
    record = await data.run(name(2))
    assert record is not None
    assert (record.status, record.ended) == (RunStatus.SKIPPED, T0 + 2)
    assert (record.reason, record.existing) == ("Singleton", "other")


async def test_a_cron_run_carries_its_event(data: DataStore) -> None:
    info = {"events": [name(1)], "cron": "* * * * *", "batch": "b", "original": "o"}
    await data.put_history(
        [
            History(
                id="1",
                what=What.SCHEDULED,
                run=name(2),
                fn="fn-1",
                at=T0,
                value=b'{"name":"tick"}',
                info=info,
            )
        ]
    )
    record = await data.run(name(2))
    assert record is not None
    assert (record.payload, record.cron) == (b'{"name":"tick"}', "* * * * *")
    assert (record.batch, record.original, record.output) == ("b", "o", None)


async def test_history_of_an_unknown_run_is_let_go(data: DataStore) -> None:
    story = Story(1).start(2).end(3)
    await data.put_history(story.entries[1:])
    assert await data.run(story.id) is None
    assert await history_of(data, story.id) == []


async def test_an_event_leads_to_its_runs_even_if_it_comes_later(data: DataStore) -> None:
    first, second = Story(2, events=[name(1)]), Story(3, events=[name(0), name(1)])
    await data.put_history([*second.entries, *first.entries])
    await data.put_events([event(1)])
    assert [run.id for run in await runs_of(data, name(1))] == [first.id, second.id]
    assert [run.id for run in await runs_of(data, name(0))] == [second.id]
    assert await runs_of(data, name(9)) == []


async def test_the_runs_of_many_events_are_read_at_once(data: DataStore) -> None:
    stories = [Story(at, events=[name(at), name(at + 1)]) for at in range(700)]
    await data.put_history([story.entries[0] for story in stories])
    ids = [name(at) for at in range(702)]
    found = {event: [run.id for run in runs] for event, runs in (await data.runs_of(ids)).items()}
    runs = [story.id for story in stories]
    assert found == {event: runs[max(at - 1, 0) : at + 1] for at, event in enumerate(ids)}
    assert await data.runs_of([]) == {}


async def test_counting_may_stop_at_a_bound_and_says_so(data: DataStore) -> None:
    await data.put_events([event(at) for at in range(5)])
    await data.put_history([Story(at).entries[0] for at in range(5)])
    for most, exact in ((4, False), (5, True), (6, True)):
        for count in (
            await data.count_runs(ALL, most=most),
            await data.count_events(EventFilter(), most=most),
        ):
            assert count.exact is exact
            assert count.number >= min(most, 5)
            assert not exact or count.number == 5


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
        assert await data.count_runs(RunFilter(**where), most=9) == Count(len(found))  # type: ignore[arg-type]
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


async def one_of_each_age(data: DataStore) -> tuple[Story, Story, Story]:
    """Of T0 + 10 an old run, one that goes on, and one that ended later, with their events."""
    ended, going = Story(1, events=[name(0)]).start(1).end(5), Story(2, events=[name(1)]).start(3)
    late = Story(3, events=[name(2)]).start(3).step(4, "s").end(20)
    await data.put_events([event(0), event(1), event(2), event(50)])
    await data.put_history([*ended.entries, *going.entries, *late.entries])
    return ended, going, late


async def test_pruning_spares_what_is_young_and_all_of_what_goes_on(data: DataStore) -> None:
    _, going, late = await one_of_each_age(data)
    while await data.prune(T0 + 10):
        pass
    assert [run.id for run in await data.runs(ALL, limit=9)][:2] == [late.id, going.id]
    assert await data.history([late.id, going.id]) == {late.id: late.entries, going.id: going.entries}
    assert await data.outputs([late.id]) == {late.id: b'"done"'}
    while await data.prune(T0 + YEAR):
        pass
    assert [run.id for run in await data.runs(ALL, limit=9)] == [going.id]
    assert await history_of(data, going.id) == going.entries
    assert [run.id for run in await runs_of(data, name(1))] == [going.id]
    assert [e.id for e in await data.events(EventFilter(), limit=9)] == [name(1)]


async def test_pruning_forgets_in_the_end(data: DataStore) -> None:
    ended, going, late = await one_of_each_age(data)
    await data.put_history(going.end(60).entries[-1:])
    while await data.prune(T0 + YEAR):
        pass
    assert await data.count_runs(ALL, most=9) == Count(0)
    assert await data.count_events(EventFilter(), most=9) == Count(0)
    ids = [ended.id, going.id, late.id]
    assert await data.history(ids) == {run: [] for run in ids}
    assert await data.outputs(ids) == {}
    assert await data.runs_of([name(0), name(1)]) == {name(0): [], name(1): []}


# -- what one of them promises beyond that --


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_they_forget_one_by_one_what_is_old_enough(kind: str, tmp_path: Path) -> None:
    store = await STORES[kind](tmp_path)
    await store.open()
    ended, going, late = await one_of_each_age(store)
    counts = []
    while count := await store.prune(T0 + 10, limit=1):
        counts.append(count)
    assert counts == [2, 1]
    assert await store.run(ended.id) is None
    assert await history_of(store, ended.id) == []
    assert [run.id for run in await store.runs(ALL, limit=9)] == [late.id, going.id]
    assert [e.id for e in await store.events(EventFilter(), limit=9)] == [name(50), name(1)]
    await store.close()


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
    assert len(await runs_of(store, name(0))) == len(kept)


async def test_memory_is_bounded_in_bytes() -> None:
    store = MemoryDataStore(max_bytes=30_000)
    await store.put_events([event(at, data=Raw(b'{"a":"%b"}' % (b"x" * 1000))) for at in range(30)])
    assert 5 <= (await store.count_events(EventFilter(), most=99)).number <= 10
    for at in range(30):
        await store.put_history(Story(at).start(at).end(at, value=b'"%b"' % (b"x" * 1000)).entries)
    assert 5 <= (await store.count_runs(ALL, most=99)).number <= 10


async def test_sqlite_remembers_after_a_restart(tmp_path: Path) -> None:
    story = Story(1, events=[name(0)]).start(2).step(3, "s").end(4)
    first = SqliteDataStore(tmp_path / "history.db")
    await first.open()
    await first.put_events([event(0)])
    await first.put_history(story.entries)
    await first.close()
    second = SqliteDataStore(tmp_path / "history.db")
    await second.open()
    assert await history_of(second, story.id) == story.entries
    assert [run.id for run in await runs_of(second, name(0))] == [story.id]
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
    assert (await data.history([story.id]))[story.id] == story.entries
